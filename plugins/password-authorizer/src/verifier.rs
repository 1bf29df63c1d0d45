//! What is kept of a password: salt and hash of Argon2id in PHC string format (RFC 9106).

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use std::fmt;
use std::ops::RangeInclusive;
use subtle::ConstantTimeEq;

/// What new hashes should cost, with 16 random bytes of salt and 32 bytes of hash. One of those
/// that OWASP's Password Storage Cheat Sheet calls equally strong; the others take more than the
/// 16 MiB that a plugin has by default, or less memory and more time.
pub const RECOMMENDED: Cost = Cost { memory_kib: 9_216, passes: 4, lanes: 1 };

/// The least that OWASP recommends; more than the most would take a small machine's memory with
/// four instances of the plugin.
const MEMORY_KIB: RangeInclusive<u32> = 7_168..=65_536;

const PASSES: RangeInclusive<u32> = 1..=16;

/// They run one after the other here.
const LANES: RangeInclusive<u32> = 1..=4;

/// KiB times passes: 160 ms of a server's core, measured as WebAssembly. No file can make a login
/// cost seconds.
const WORK_KIB_MAX: u32 = 131_072;

/// RFC 9106, 3.1 has 8 as the least.
const SALT_BYTES: RangeInclusive<usize> = 8..=64;

/// Fewer than 128 bits can be guessed.
const HASH_BYTES: RangeInclusive<usize> = 16..=64;

const SHAPE: &str = "behind the user name there must be $argon2id$v=19$m=…,t=…,p=…$salt$hash";

/// Argon2's parameters; nothing in [`Cost`] says what it hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

/// Salt and hash of one password.
#[derive(Clone)]
pub struct Verifier {
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

/// Makes hashes of one cost, always in the same memory: what is given back could not be had again
/// in one piece.
pub struct Hasher {
    argon2: Argon2<'static>,
    memory: Vec<Block>,
}

impl Verifier {
    /// Both parts of `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
    ///
    /// # Errors
    /// A text without any part of the hash.
    pub fn parse(text: &str) -> Result<(Cost, Self), String> {
        let parts: Vec<_> = text.split('$').collect();
        let ["", "argon2id", "v=19", cost, salt, hash] = parts[..] else {
            return Err(SHAPE.into());
        };
        let bytes = |text: &str, range: RangeInclusive<usize>, what: &str| {
            let bytes = BASE64_STANDARD_NO_PAD.decode(text).ok();
            bytes
                .filter(|bytes| range.contains(&bytes.len()))
                .map(Vec::into_boxed_slice)
                .ok_or_else(|| {
                    let (least, most) = range.into_inner();
                    format!("the {what} is not {least} to {most} bytes in base64 without padding")
                })
        };
        let cost = Cost::parse(cost)?;
        let salt = bytes(salt, SALT_BYTES, "salt")?;
        Ok((cost, Self { salt, hash: bytes(hash, HASH_BYTES, "hash")? }))
    }
}

impl Cost {
    /// From `m=…,t=…,p=…`.
    fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split(',').collect();
        let [memory, passes, lanes] = parts[..] else { return Err(SHAPE.into()) };
        let number = |part: &str, prefix: &str, range: RangeInclusive<u32>| {
            let digits = part.strip_prefix(prefix).ok_or(SHAPE)?;
            // What is no number at all could be the hash: it is not repeated.
            let is_number = digits.len() <= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
            let number = digits.parse().ok().filter(|_| is_number);
            number.filter(|number| range.contains(number)).ok_or_else(|| {
                let (least, most) = range.into_inner();
                format!("{prefix} must be {least} to {most}; {RECOMMENDED} is recommended")
            })
        };
        let cost = Self {
            memory_kib: number(memory, "m=", MEMORY_KIB)?,
            passes: number(passes, "t=", PASSES)?,
            lanes: number(lanes, "p=", LANES)?,
        };
        if cost.memory_kib * cost.passes > WORK_KIB_MAX {
            return Err(format!(
                "m times t may be {WORK_KIB_MAX} at most; {RECOMMENDED} is recommended"
            ));
        }
        Ok(cost)
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={},t={},p={}", self.memory_kib, self.passes, self.lanes)
    }
}

impl Hasher {
    /// # Errors
    /// There is too little memory for the cost.
    pub fn new(cost: Cost) -> Result<Self, String> {
        let Cost { memory_kib, passes, lanes } = cost;
        let params =
            Params::new(memory_kib, passes, lanes, None).map_err(|e| format!("{cost}: {e}"))?;
        let mut memory = Vec::new();
        let blocks = params.block_count();
        memory.try_reserve_exact(blocks).map_err(|_| {
            let mib = memory_kib.div_ceil(1_024) + 4;
            format!("{cost} takes more memory than there is; say limits.memory_mib = {mib}")
        })?;
        memory.resize(blocks, Block::new());
        Ok(Self { argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params), memory })
    }

    /// Whether this is the password. Whatever it is, the cost is the same.
    pub fn verify(&mut self, password: &[u8], verifier: &Verifier) -> bool {
        let mut hash = vec![0; verifier.hash.len()];
        self.argon2
            .hash_password_into_with_memory(password, &verifier.salt, &mut hash, &mut self.memory)
            .is_ok_and(|()| hash.ct_eq(&verifier.hash).into())
    }
}
