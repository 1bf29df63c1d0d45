//! Signatures of the tokens that clients of custom authorizers present.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use gnomon_core::auth::SignatureVerifier;

/// Checks them: RSA PKCS #1 v1.5 with SHA-256.
pub struct TokenSignatures;

impl SignatureVerifier for TokenSignatures {
    fn is_signed(&self, message: &[u8], signature: &[u8], public_key: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public_key)
            .verify(message, signature)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};

    #[test]
    fn only_the_key_and_the_message_of_a_signature_fit_it() {
        let [own, other] = [(), ()].map(|()| KeyPair::generate(KeySize::Rsa2048).unwrap());
        let mut signature = vec![0; own.public_modulus_len()];
        own.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"token", &mut signature).unwrap();
        let [own, other] = [&own, &other].map(|pair| pair.public_key().as_ref());
        let mut wrong = signature.clone();
        wrong[7] ^= 1;
        for (message, signature, key, expected) in [
            (&b"token"[..], &signature[..], own, true),
            (b"Token", &signature, own, false),
            (b"token", &signature, other, false),
            (b"token", &wrong, own, false),
            (b"token", &signature[1..], own, false),
            (b"token", b"", own, false),
            (b"token", &signature, b"no key", false),
            (b"token", &signature, b"", false),
        ] {
            let is_signed = TokenSignatures.is_signed(message, signature, key);
            assert_eq!(is_signed, expected, "{message:?} {signature:?}");
        }
    }
}
