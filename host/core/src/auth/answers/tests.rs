//! How long an answer is kept, and what goes when there are too many.

use super::*;
use crate::policy::Permissions;
use std::time::Duration;

fn identity(principal: usize) -> Identity {
    Identity {
        principal: Some(crate::ids::Principal::new(&principal.to_string())),
        predecessor: None,
        thing: None,
        is_exclusive: false,
        permissions: Permissions::default(),
        payload_schema: None,
        propagated: None,
        disconnect_after: None,
    }
}

fn key(n: usize) -> Key {
    Key(Sha256::digest(n.to_le_bytes()).into())
}

#[test]
#[allow(clippy::disallowed_methods, reason = "an instant to count from; no test waits for it")]
fn answers_end_and_the_oldest_goes_when_there_are_too_many() {
    let start = Instant::now();
    let later = start + Duration::from_secs(1);
    let mut answers = Answers::default();
    let principal = |answers: &Answers, n, now| {
        answers.get(&key(n), now).map(|it| it.principal.unwrap().to_string())
    };
    for n in 0..ANSWERS_MAX {
        answers.insert(key(n), identity(n), later);
    }
    assert_eq!(principal(&answers, 0, start).as_deref(), Some("0"));
    assert_eq!(principal(&answers, 0, later), None);
    // A newer answer to the same takes no place of another.
    answers.insert(key(1), identity(7), later + Duration::from_secs(1));
    assert_eq!(principal(&answers, 1, later).as_deref(), Some("7"));
    assert_eq!(principal(&answers, 0, start).as_deref(), Some("0"));
    answers.insert(key(ANSWERS_MAX), identity(1), later);
    assert_eq!(principal(&answers, 0, start), None);
    assert_eq!(principal(&answers, 2, start).as_deref(), Some("2"));
    assert_eq!((answers.by_key.len(), answers.order.len()), (ANSWERS_MAX, ANSWERS_MAX));
}
