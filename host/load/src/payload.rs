//! What a payload says about its message: who sent it in which run, its number and its time.
//!
//! ```text
//! 0..2 run   2..5 publisher   5..10 sequence   10..16 microseconds since the run began
//! ```
//! A payload below 16 bytes has no time. All numbers are big-endian.

/// Payloads are at least this long: a message without its number could not be missed.
pub const BYTES_MIN: usize = 10;

/// From here on payloads carry the time as well.
pub const BYTES_WITH_TIME: usize = 16;

/// The time of a message that carries none.
pub const NO_TIME: u64 = u64::MAX;

/// The header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Tells messages of this run from retained or foreign ones.
    pub run: u16,
    /// Below 2^24; a run has at most a million.
    pub publisher: u32,
    /// Below 2^40; counts from 0 for each publisher.
    pub sequence: u64,
    /// Below 2^48, or [`NO_TIME`].
    pub micros: u64,
}

/// Writes the header to the beginning of a payload of at least [`BYTES_MIN`] bytes.
pub fn write(header: &Header, payload: &mut [u8]) {
    payload[..2].copy_from_slice(&header.run.to_be_bytes());
    payload[2..5].copy_from_slice(&header.publisher.to_be_bytes()[1..]);
    payload[5..10].copy_from_slice(&header.sequence.to_be_bytes()[3..]);
    if let Some(time) = payload.get_mut(10..16) {
        time.copy_from_slice(&header.micros.to_be_bytes()[2..]);
    }
}

/// Reads the header of a payload; none when it is too short to have one.
pub fn read(payload: &[u8]) -> Option<Header> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let run = u16::from_be_bytes(*payload.first_chunk()?);
    let publisher = u32::try_from(number(payload.get(2..5)?)).expect("three bytes");
    let sequence = number(payload.get(5..10)?);
    let micros = payload.get(10..16).map_or(NO_TIME, number);
    Some(Header { run, publisher, sequence, micros })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_short_payloads_have_no_time() {
        let header =
            Header { run: 7, publisher: 0xab_cdef, sequence: 1 << 39, micros: (1 << 48) - 1 };
        let mut payload = [b'x'; 20];
        write(&header, &mut payload);
        assert_eq!((read(&payload), payload[16]), (Some(header), b'x'));
        write(&header, &mut payload[..BYTES_MIN]);
        assert_eq!(read(&payload[..BYTES_MIN]), Some(Header { micros: NO_TIME, ..header }));
        assert_eq!(read(&payload[..9]), None);
    }
}
