//! Wildcards: `*` is any text, `?` is exactly one character.

use crate::value::fold;

/// One part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Char(char),
    /// `?`
    One,
    /// `*`
    Any,
}

/// One step along the bytes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Byte(u8),
    /// A character, however many bytes it has.
    One,
}

/// Begins with a character, and has a wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// What stands in front of the first wildcard, folded.
    pub(crate) prefix: String,
    /// From the first wildcard to the last, folded and cut at each `*`.
    parts: Vec<Vec<Step>>,
    /// The bytes in `parts`: tried next, in a loop whose branches can be foreseen.
    needed: u64,
    /// What stands behind the last wildcard, folded: tried first, since most values fail there.
    suffix: String,
}

impl Pattern {
    pub(crate) fn new(pieces: &[Piece]) -> Self {
        let is_wildcard = |piece: &Piece| !matches!(piece, Piece::Char(_));
        let first = pieces.iter().position(is_wildcard).unwrap_or(pieces.len());
        let behind = pieces.iter().rposition(is_wildcard).map_or(pieces.len(), |last| last + 1);
        let steps = |piece: &Piece| match piece {
            Piece::Char(c) => {
                let folded: String = c.to_lowercase().collect();
                folded.bytes().map(Step::Byte).collect()
            }
            _ => vec![Step::One],
        };
        let parts = pieces[first..behind].split(|piece| *piece == Piece::Any);
        let parts: Vec<Vec<Step>> =
            parts.map(|part| part.iter().flat_map(steps).collect()).collect();
        let bytes = parts.iter().flatten().filter_map(|step| match step {
            Step::Byte(byte) => Some(*byte),
            Step::One => None,
        });
        Self {
            prefix: fold(&text_of(&pieces[..first])),
            needed: set_of(bytes),
            parts,
            suffix: fold(&text_of(&pieces[behind..])),
        }
    }

    /// True when every text with the prefix matches.
    pub(crate) fn is_prefix(&self) -> bool {
        self.suffix.is_empty() && self.parts == [[], []]
    }

    /// Whether a folded text matches; it is UTF-8.
    ///
    /// The first part and the last stand at the ends, each other one where it fits first: at most as many
    /// steps as pattern times text is long. A `*` may end within a character: no byte of the pattern fits
    /// there, and `?` takes what is left of it.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let mut inner = text.strip_prefix(self.prefix.as_bytes());
        // To compare nothing with the pointer of an empty text takes some processors 80 ns: it points
        // nowhere, and the instruction without a length has to recover from that.
        if !self.suffix.is_empty() {
            inner = inner.and_then(|text| text.strip_suffix(self.suffix.as_bytes()));
        }
        let (Some(inner), [first, rest @ ..]) = (inner, self.parts.as_slice()) else {
            return false;
        };
        if self.needed & !set_of(inner.iter().copied()) != 0 {
            return false;
        }
        let Some(mut inner) = behind(first, inner) else { return false };
        let [middle @ .., last] = rest else { return inner.is_empty() };
        for part in middle {
            let Some(rest) = behind_first(part, inner) else { return false };
            inner = rest;
        }
        is_end(last, inner)
    }
}

/// A set that has at least these bytes; folded letters, and digits, each have a place of their own.
fn set_of(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0, |set, byte| set | 1 << (byte & 31 | byte >> 1 & 32))
}

/// What is left of a text behind a part that it begins with.
fn behind<'t>(part: &[Step], mut text: &'t [u8]) -> Option<&'t [u8]> {
    for step in part {
        let (found, rest) = text.split_first()?;
        text = match step {
            Step::Byte(wanted) if wanted == found => rest,
            Step::Byte(_) => return None,
            Step::One => &rest[rest.iter().take_while(|byte| is_inside(**byte)).count()..],
        };
    }
    Some(text)
}

/// What is left of a text behind the first place that has the part.
fn behind_first<'t>(part: &[Step], mut text: &'t [u8]) -> Option<&'t [u8]> {
    loop {
        if let Some(Step::Byte(wanted)) = part.first() {
            text = &text[text.iter().position(|byte| byte == wanted)?..];
        }
        if let Some(rest) = behind(part, text) {
            return Some(rest);
        }
        text = text.split_first()?.1;
    }
}

/// True when a text ends with the part.
fn is_end(part: &[Step], mut text: &[u8]) -> bool {
    for step in part.iter().rev() {
        let Some((found, rest)) = text.split_last() else { return false };
        text = match step {
            Step::Byte(wanted) if wanted == found => rest,
            Step::Byte(_) => return false,
            Step::One => {
                let lead = text.iter().rposition(|byte| !is_inside(*byte));
                &text[..lead.unwrap_or(0)]
            }
        };
    }
    true
}

/// True for the second and later bytes of a character.
fn is_inside(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// The characters, without wildcards.
pub(crate) fn text_of(pieces: &[Piece]) -> String {
    let chars = pieces.iter().filter_map(|piece| match piece {
        Piece::Char(c) => Some(*c),
        _ => None,
    });
    chars.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word by word; exponential, for short texts only.
    fn model(pieces: &[Piece], text: &[char]) -> bool {
        match (pieces.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((Piece::Any, rest)), _) => {
                model(rest, text) || !text.is_empty() && model(pieces, &text[1..])
            }
            (Some((Piece::One, pieces)), Some((_, text))) => model(pieces, text),
            (Some((Piece::Char(a), pieces)), Some((b, text))) => a == b && model(pieces, text),
            _ => false,
        }
    }

    fn check(wild: &str, text: &str) -> bool {
        let piece = |c| match c {
            '*' => Piece::Any,
            '?' => Piece::One,
            c => Piece::Char(c),
        };
        let pieces: Vec<Piece> = wild.chars().map(piece).collect();
        let expected = model(&pieces, &text.chars().collect::<Vec<_>>());
        assert_eq!(Pattern::new(&pieces).matches(text.as_bytes()), expected, "{wild} {text}");
        expected
    }

    #[test]
    fn a_question_mark_is_a_character_of_any_length() {
        for c in ["a", "é", "€", "𝄞"] {
            for wild in ["a?b", "a?*b", "a*?b", "a*x?*b", "a*x?b", "a?x*b", "a*?x*b"] {
                let (front, back) = (format!("a{c}b"), format!("ax{c}b"));
                assert!(
                    check(wild, &front) || check(wild, &back) || check(wild, &format!("a{c}xb"))
                );
                check(&wild.replace('?', "??"), &front);
                check(&wild.replace('?', "??"), &back);
                check(wild, &front[1..]);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn the_matcher_agrees_with_the_definition(
            // Characters of one to four bytes, some of which share bytes; short, so that many match.
            wild in "[aé€𝄞*?]{0,6}",
            text in "[aé€𝄞]{0,6}",
        ) {
            check(&wild, &text);
        }

        #[test]
        fn a_pattern_of_many_parts_agrees_too(wild in "[ab*?]{0,14}", text in "[ab]{0,14}") {
            check(&wild, &text);
        }
    }
}
