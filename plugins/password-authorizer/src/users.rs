//! The operator's file of users.

use crate::verifier::{Cost, Hasher, Verifier};
use gnomon_sdk::authorizer::is_safe_in_policy;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// With a hash of 32 bytes a line has about 100, and a secret can have 1 MiB.
const USERS_MAX: usize = 5_000;

/// All users, and what their passwords are checked with.
pub struct Users {
    by_name: BTreeMap<String, Verifier>,
    /// For users that do not exist: checking costs the same, and no password of it is let in.
    nobody: Verifier,
    hasher: Hasher,
}

impl Users {
    /// Reads the file; `check_name` says what else names must be.
    ///
    /// # Errors
    /// What is wrong in which line, with nothing of the line in it.
    pub fn parse(
        file: &[u8],
        check_name: impl Fn(&str) -> Result<(), &'static str>,
    ) -> Result<Self, String> {
        let mut by_name = BTreeMap::new();
        let mut first: Option<(usize, Cost, Verifier)> = None;
        for (number, line) in (1..).zip(file.split(|byte| *byte == b'\n')) {
            let at_line = |error: String| format!("line {number}: {error}");
            let line = std::str::from_utf8(line).map_err(|_| at_line("not UTF-8".into()))?.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, cost, verifier) = parse_line(line, &check_name).map_err(at_line)?;
            let (first_line, first_cost, _) =
                first.get_or_insert_with(|| (number, cost, verifier.clone()));
            // Another cost would tell who exists.
            if cost != *first_cost {
                return Err(at_line(format!(
                    "the cost is {cost}, in line {first_line} {first_cost}; all users must have \
                     the same"
                )));
            }
            if by_name.len() == USERS_MAX {
                return Err(at_line(format!("more than {USERS_MAX} users")));
            }
            match by_name.entry(name) {
                Entry::Vacant(entry) => entry.insert(verifier),
                Entry::Occupied(_) => return Err(at_line("the user is there twice".into())),
            };
        }
        let (_, cost, nobody) = first.ok_or("the file has no users")?;
        Ok(Self { by_name, nobody, hasher: Hasher::new(cost)? })
    }

    /// Whether there is such a user with this password; the answer takes the same time whether
    /// there is one or not.
    pub fn has(&mut self, name: &str, password: &[u8]) -> bool {
        let user = self.by_name.get(name);
        self.hasher.verify(password, user.unwrap_or(&self.nobody)) && user.is_some()
    }
}

fn parse_line(
    line: &str,
    check_name: &impl Fn(&str) -> Result<(), &'static str>,
) -> Result<(String, Cost, Verifier), String> {
    let (name, hash) = line.split_once(':').ok_or("there is no colon behind a user name")?;
    // A colon would be the end of the name.
    if !is_safe_in_policy(name) {
        return Err("a user name has 1 to 128 of [a-zA-Z0-9_.@|=~-]".into());
    }
    check_name(name)?;
    let (cost, verifier) = Verifier::parse(hash)?;
    Ok((name.into(), cost, verifier))
}
