//! A value on disk: version byte, revision (8 bytes, big endian), the owner's bytes.
//!
//! Nothing of redb's type system is on disk: a later redb, or another engine, reads the same.

use bytes::Bytes;
use gnomon_core::storage::Revision;

/// The only version so far.
const VERSION: u8 = 1;

/// Version byte and revision.
pub(crate) const HEADER_BYTES: usize = 9;

/// Why a stored value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvelopeError {
    /// A newer host wrote it, or the file is damaged.
    #[error("stored value has encoding version {0}; this host knows version {VERSION}")]
    Version(u8),
    /// The file is damaged.
    #[error("stored value is cut off after {0} bytes")]
    CutOff(usize),
}

pub(crate) fn encode(revision: Revision, value: &[u8], buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.push(VERSION);
    buffer.extend_from_slice(&revision.0.to_be_bytes());
    buffer.extend_from_slice(value);
}

pub(crate) fn decode(stored: &[u8]) -> Result<(Revision, Bytes), EnvelopeError> {
    let revision = revision(stored)?;
    Ok((revision, Bytes::copy_from_slice(&stored[HEADER_BYTES..])))
}

pub(crate) fn revision(stored: &[u8]) -> Result<Revision, EnvelopeError> {
    let (header, _) =
        stored.split_first_chunk::<HEADER_BYTES>().ok_or(EnvelopeError::CutOff(stored.len()))?;
    let [version, revision @ ..] = *header;
    if version != VERSION {
        return Err(EnvelopeError::Version(version));
    }
    Ok(Revision(u64::from_be_bytes(revision)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_and_damage_is_told() {
        let mut stored = Vec::new();
        encode(Revision(258), b"abc", &mut stored);
        assert_eq!(stored, b"\x01\0\0\0\0\0\0\x01\x02abc");
        assert_eq!(decode(&stored), Ok((Revision(258), Bytes::from_static(b"abc"))));
        assert_eq!(decode(&stored[..8]), Err(EnvelopeError::CutOff(8)));
        stored[0] = 2;
        assert_eq!(decode(&stored), Err(EnvelopeError::Version(2)));
    }
}
