//! Records: one step of rustls' unbuffered connection, without I/O.
//!
//! In: ciphertext that came, and what is to be sent. Out: plaintext, record by record, and
//! ciphertext. What the input holds of an unfinished record is to be given again, with its rest.

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use std::ops::ControlFlow;

/// Plaintext of a record at most (RFC 8446, 5.1).
const RECORD_BYTES_MAX: usize = 16 * 1_024;

/// What one record adds to its plaintext, rounded up: header, nonce, content type, tag.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// What to do once rustls has nothing else to do.
#[derive(Clone, Copy)]
pub(super) enum Action<'a> {
    None,
    Write(&'a [u8]),
    /// Send `close_notify`.
    Close,
}

/// How far it got.
pub(super) struct Ran {
    /// Bytes of the input that are not needed any more.
    pub(super) used: usize,
    pub(super) outcome: Result<Outcome, rustls::Error>,
}

/// Whether more can come.
pub(super) enum Outcome {
    Open,
    /// `close_notify` came.
    Closed,
}

/// Runs rustls over the whole records of the input, which it decrypts in place, then the action.
pub(super) fn run(
    tls: &mut UnbufferedServerConnection,
    input: &mut [u8],
    output: &mut Vec<u8>,
    action: Action<'_>,
    take: &mut impl FnMut(&[u8]),
) -> Ran {
    let mut used = 0;
    let mut outcome = Outcome::Open;
    loop {
        let UnbufferedStatus { mut discard, state } = tls.process_tls_records(&mut input[used..]);
        let step = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                let mut step = Ok(ControlFlow::Continue(()));
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            discard += record.discard;
                            take(record.payload);
                        }
                        Err(error) => step = Err(error),
                    }
                }
                step
            }
            Ok(ConnectionState::EncodeTlsData(data)) => {
                encode(data, output).map(|()| ControlFlow::Continue(()))
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(ControlFlow::Continue(()))
            }
            Ok(ConnectionState::PeerClosed) => {
                outcome = Outcome::Closed;
                Ok(ControlFlow::Continue(()))
            }
            Ok(ConnectionState::WriteTraffic(traffic)) => {
                act(traffic, action, output).map(|()| ControlFlow::Break(()))
            }
            // `BlockedHandshake` and `Closed`; early data is not offered.
            Ok(_) => Ok(ControlFlow::Break(())),
            Err(error) => Err(error),
        };
        used += discard;
        match step {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return Ran { used, outcome: Ok(outcome) },
            Err(error) => {
                take_alert(tls, output);
                return Ran { used, outcome: Err(error) };
            }
        }
    }
}

fn act(
    mut traffic: WriteTraffic<'_, ServerConnectionData>,
    action: Action<'_>,
    output: &mut Vec<u8>,
) -> Result<(), rustls::Error> {
    let start = output.len();
    let length = match action {
        Action::None => return Ok(()),
        Action::Write(bytes) => bytes.len(),
        Action::Close => 0,
    };
    let records = length.div_ceil(RECORD_BYTES_MAX) + 1;
    let mut room = length + records * RECORD_OVERHEAD_BYTES;
    loop {
        output.resize(start + room, 0);
        let encrypted = match action {
            Action::None => Ok(0),
            Action::Write(bytes) => traffic.encrypt(bytes, &mut output[start..]),
            Action::Close => traffic.queue_close_notify(&mut output[start..]),
        };
        match encrypted {
            Ok(length) => {
                output.truncate(start + length);
                return Ok(());
            }
            // More waits to go first than we knew of, e.g. a key update.
            Err(EncryptError::InsufficientSize(needed)) if needed.required_size > room => {
                room = needed.required_size;
            }
            Err(error) => {
                output.truncate(start);
                return Err(rustls::Error::General(error.to_string()));
            }
        }
    }
}

fn encode(
    mut data: EncodeTlsData<'_, ServerConnectionData>,
    output: &mut Vec<u8>,
) -> Result<(), rustls::Error> {
    let start = output.len();
    let encoded = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(needed)) => {
            output.resize(start + needed.required_size, 0);
            data.encode(&mut output[start..])
        }
        encoded => encoded,
    };
    encoded.map(|_| ()).map_err(|error| rustls::Error::General(error.to_string()))
}

/// After an error: what the peer is to be told.
fn take_alert(tls: &mut UnbufferedServerConnection, output: &mut Vec<u8>) {
    while tls.wants_write()
        && let Ok(ConnectionState::EncodeTlsData(data)) = tls.process_tls_records(&mut []).state
        && encode(data, output).is_ok()
    {}
}
