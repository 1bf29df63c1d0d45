//! Wildcard patterns of policies: `*` is any text, `/` included, `?` is exactly one character.
//!
//! A pattern is the UTF-8 of its text in which two bytes that UTF-8 never uses stand for the
//! wildcards, so that text which was filled in for a variable can hold `*` and mean it.
//! MQTT's `+` and `#` are ordinary characters here.

/// Any number of any characters.
pub(super) const STAR: u8 = 0xff;

/// Exactly one character.
pub(super) const ONE: u8 = 0xfe;

/// True when the pattern matches the whole text, which is UTF-8, or the end of such.
///
/// Only the last `*` is ever tried again: at most `pattern.len() * text.len()` steps.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when the rest fails: behind the last star, and where the text was then.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match pattern.get(p) {
            Some(&STAR) => {
                p += 1;
                let Some(&next) = pattern.get(p) else { return true };
                match candidate(next, text, t) {
                    Some(at) => t = at,
                    None => return false,
                }
                retry = Some((p, t));
                continue;
            }
            Some(&ONE) if t < text.len() => {
                p += 1;
                t = next_character(text, t);
                continue;
            }
            Some(byte) if text.get(t) == Some(byte) => {
                p += 1;
                t += 1;
                continue;
            }
            None if t == text.len() => return true,
            _ => {}
        }
        let Some((after_star, last)) = retry else { return false };
        match candidate(pattern[after_star], text, last + 1) {
            Some(at) => {
                retry = Some((after_star, at));
                (p, t) = (after_star, at);
            }
            None => return false,
        }
    }
}

/// The first place from `at` on where a pattern that begins with this byte may match.
fn candidate(first: u8, text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    match first {
        STAR | ONE => Some(at),
        _ => rest.iter().position(|byte| *byte == first).map(|skipped| at + skipped),
    }
}

/// How much of the pattern stands before its first wildcard.
pub(super) fn literal_len(pattern: &[u8]) -> usize {
    pattern.iter().position(|byte| matches!(*byte, STAR | ONE)).unwrap_or(pattern.len())
}

/// The positions in the pattern from which it may go on after it matched all of `prefix`, from one
/// of the `starts`.
///
/// Lets the constant front of ARNs be matched once, when permissions are made.
pub(super) fn positions_after(pattern: &[u8], starts: &[usize], prefix: &str) -> Vec<usize> {
    let (mut positions, mut rest) = (starts.to_vec(), prefix);
    if let [start] = starts {
        // Up to the first wildcard there is one position, or none.
        let ahead = pattern[*start..].iter().zip(prefix.as_bytes());
        let literal = ahead.take_while(|(wanted, byte)| wanted == byte).count();
        let is_over = literal == prefix.len();
        if !is_over && !matches!(pattern.get(start + literal), Some(&(STAR | ONE))) {
            return Vec::new();
        }
        positions = vec![start + literal];
        rest = &prefix[literal..];
    }
    for character in rest.chars() {
        let mut utf8 = [0; 4];
        let bytes = character.encode_utf8(&mut utf8).as_bytes();
        let mut next = Vec::new();
        for &start in &positions {
            let mut at = start;
            // A star may take the character, or end before it.
            while pattern.get(at) == Some(&STAR) {
                push_new(&mut next, at);
                at += 1;
            }
            if pattern.get(at) == Some(&ONE) {
                push_new(&mut next, at + 1);
            } else if pattern[at..].starts_with(bytes) {
                push_new(&mut next, at + bytes.len());
            }
        }
        positions = next;
    }
    positions
}

fn push_new(positions: &mut Vec<usize>, position: usize) {
    if !positions.contains(&position) {
        positions.push(position);
    }
}

fn next_character(text: &[u8], at: usize) -> usize {
    let rest = &text[at + 1..];
    // Continuation bytes of UTF-8 are 0b10xx_xxxx.
    at + 1 + rest.iter().take_while(|&&byte| byte & 0b1100_0000 == 0b1000_0000).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Vec<u8> {
        let code = |c: char| match c {
            '*' => vec![STAR],
            '?' => vec![ONE],
            c => c.to_string().into_bytes(),
        };
        text.chars().flat_map(code).collect()
    }

    /// The definition, word by word; exponential, for short texts only.
    fn model(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((&'*', rest)), _) => {
                model(rest, text) || !text.is_empty() && model(pattern, &text[1..])
            }
            (Some((&'?', pattern)), Some((_, text))) => model(pattern, text),
            (Some((a, pattern)), Some((b, text))) => a == b && model(pattern, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_matcher_agrees_with_the_definition(
            wild in "[ab/é*?]{0,10}",
            text in "[ab/é]{0,10}",
        ) {
            let expected =
                model(&wild.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>());
            prop_assert_eq!(matches(&pattern(&wild), text.as_bytes()), expected);
        }

        #[test]
        fn matching_the_front_first_changes_nothing(
            wild in "[ab/é*?]{0,10}",
            front in "[ab/é]{0,5}",
            rest in "[ab/é]{0,5}",
        ) {
            let pattern = pattern(&wild);
            let whole = format!("{front}{rest}");
            let matches_rest = |start: usize| {
                let (literal, rest_of) = pattern[start..].split_at(literal_len(&pattern[start..]));
                let behind = rest.as_bytes().strip_prefix(literal);
                behind.is_some_and(|behind| matches(rest_of, behind))
            };
            let middle = front.char_indices().nth(front.chars().count() / 2);
            let middle = middle.map_or(0, |(at, _)| at);
            let behind_half = positions_after(&pattern, &[0], &front[..middle]);
            for positions in [
                positions_after(&pattern, &[0], &front),
                positions_after(&pattern, &behind_half, &front[middle..]),
            ] {
                let split = positions.into_iter().any(matches_rest);
                prop_assert_eq!(split, matches(&pattern, whole.as_bytes()));
            }
        }
    }

    #[test]
    fn many_stars_do_not_blow_up() {
        let wild = pattern(&"*a".repeat(1_000));
        let text = "a".repeat(999) + "b";
        assert!(!matches(&wild, text.as_bytes()));
    }
}
