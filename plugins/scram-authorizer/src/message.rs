//! The client's two messages (RFC 5802, 7), and what is remembered between them.

use crate::verifier::{Hash, bytes};

/// Bytes of a message: a name, a nonce, a proof.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// `n,,n=user,r=nonce`.
pub struct ClientFirst<'m> {
    /// `n` or `y`: no channel binding.
    pub header: u8,
    /// Without the header.
    pub bare: &'m str,
    /// The user, unescaped.
    pub name: String,
    /// The client's part.
    pub nonce: &'m str,
}

impl<'m> ClientFirst<'m> {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(message: &'m str) -> Result<Self, String> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err("the first message is too long".into());
        }
        let (header, bare) = match message.split_at_checked(3) {
            Some(("n,,", bare)) => (b'n', bare),
            Some(("y,,", bare)) => (b'y', bare),
            _ => {
                return Err(
                    "the first message wants channel binding or to act for somebody else, \
                            or is none of SCRAM"
                        .into(),
                );
            }
        };
        let nonce = bare.split(',').nth(1).and_then(|part| part.strip_prefix("r="));
        let nonce =
            nonce.filter(|nonce| !nonce.is_empty()).ok_or("the first message has no nonce")?;
        if !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the nonce is not printable".into());
        }
        Ok(Self { header, bare, name: Self::name(bare)?, nonce })
    }

    /// The user of a message without its header.
    ///
    /// # Errors
    /// None is there, or a mandatory extension comes first.
    pub fn name(bare: &str) -> Result<String, String> {
        let name = bare.split(',').next().and_then(|part| part.strip_prefix("n="));
        let name = name.filter(|name| !name.is_empty()).ok_or("the first message names no user")?;
        let mut parts = name.split('=');
        let mut plain = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (character, rest) = match part.split_at_checked(2) {
                Some(("2C", rest)) => (',', rest),
                Some(("3D", rest)) => ('=', rest),
                _ => return Err("the user's name is escaped wrongly".into()),
            };
            plain.push(character);
            plain.push_str(rest);
        }
        Ok(plain)
    }
}

/// `c=biws,r=nonce,p=proof`.
pub struct ClientFinal<'m> {
    /// What the proof signs of it.
    pub without_proof: &'m str,
    /// The proof.
    pub proof: Hash,
}

impl<'m> ClientFinal<'m> {
    /// # Errors
    /// What is wrong with it, e.g. another nonce.
    pub fn parse(message: &'m str, state: &State<'_>) -> Result<Self, String> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err("the final message is too long".into());
        }
        let (without_proof, proof) =
            message.rsplit_once(",p=").ok_or("the final message has no proof")?;
        let mut parts = without_proof.split(',');
        // Base64 of the header.
        let binding = if state.header == b'y' { "c=eSws" } else { "c=biws" };
        if parts.next() != Some(binding) {
            return Err("the final message has another channel binding".into());
        }
        if parts.next() != state.server_first.split(',').next() {
            return Err("the final message has another nonce".into());
        }
        let proof = bytes(proof).ok_or("the proof is not 32 bytes in base64")?;
        Ok(Self { without_proof, proof })
    }
}

/// Kept by the host between the two.
pub struct State<'s> {
    /// Of the first message.
    pub header: u8,
    /// The first message without its header.
    pub bare: &'s str,
    /// The answer to it.
    pub server_first: &'s str,
}

impl<'s> State<'s> {
    /// Header, answer, NUL, message: only the message may have a NUL.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.header];
        bytes.extend_from_slice(self.server_first.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(self.bare.as_bytes());
        bytes
    }

    /// # Errors
    /// Not what [`State::bytes`] made.
    pub fn parse(bytes: &'s [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).ok().and_then(|text| text.split_at_checked(1));
        let (header, rest) = text.ok_or("the state is not this plugin's")?;
        let (server_first, bare) = rest.split_once('\0').ok_or("the state is not this plugin's")?;
        Ok(Self { header: header.as_bytes()[0], bare, server_first })
    }
}
