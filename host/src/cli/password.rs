//! `gnomon password hash`: lines for the users file of the plugin `password-authorizer`.

use super::Result;
use crate::terminal::show_text;
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use clap::{Args, Subcommand};
use std::io::Read as _;
use std::process::ExitCode;

/// Longest password in bytes: what one MQTT field of that plugin takes.
const PASSWORD_BYTES_MAX: u64 = 1_024;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

#[derive(Subcommand)]
pub enum Command {
    /// Read a password from standard input, up to the end of its first line, and print what is kept of
    /// it: `USER:$argon2id$…`, a line for the users file. All lines of a file need the same costs.
    Hash(Hash),
}

#[derive(Args)]
pub struct Hash {
    /// Whose password; without it only the hash is printed.
    user: Option<String>,
    /// Memory in KiB, 7,168 to 65,536. More than the default needs a plugin with more than 16 MiB.
    #[arg(long, default_value_t = 9_216, value_parser = clap::value_parser!(u32).range(7_168..=65_536))]
    memory_kib: u32,
    /// Passes, 1 to 16.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    passes: u32,
}

pub fn run(command: &Command) -> Result<ExitCode> {
    let Command::Hash(options) = command;
    let mut text = String::new();
    std::io::stdin().take(PASSWORD_BYTES_MAX + 2).read_to_string(&mut text)?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() || password.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(format!("give a password of 1 to {PASSWORD_BYTES_MAX} bytes").into());
    }
    if let Some(user) = &options.user {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_.@|=~-".contains(c);
        if !(1..=128).contains(&user.len()) || !user.chars().all(fits) {
            return Err("a user's name has 1 to 128 of [a-zA-Z0-9_.@|=~-]".into());
        }
    }
    let mut salt = [0; SALT_BYTES];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| "this machine has no randomness")?;
    let hash = hash(password.as_bytes(), &salt, options)?;
    show_text(&match &options.user {
        Some(user) => format!("{user}:{hash}"),
        None => hash,
    });
    Ok(ExitCode::SUCCESS)
}

/// PHC string format. Source: RFC 9106.
fn hash(password: &[u8], salt: &[u8], options: &Hash) -> Result<String> {
    let Hash { memory_kib, passes, .. } = options;
    let params = Params::new(*memory_kib, *passes, 1, Some(HASH_BYTES))
        .map_err(|error| error.to_string())?;
    let mut hash = [0; HASH_BYTES];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, salt, &mut hash)
        .map_err(|error| error.to_string())?;
    let [salt, hash] = [salt, &hash].map(|bytes| BASE64_STANDARD_NO_PAD.encode(bytes));
    Ok(format!("$argon2id$v=19$m={memory_kib},t={passes},p=1${salt}${hash}"))
}
