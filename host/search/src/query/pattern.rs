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

/// Begins with a character, and has a wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// What stands in front of the first wildcard, folded.
    pub(crate) prefix: String,
    /// From the first wildcard to the last.
    rest: Vec<Piece>,
    /// What stands behind the last wildcard, folded: tried first, since most values fail there.
    suffix: String,
}

impl Pattern {
    pub(crate) fn new(pieces: &[Piece]) -> Self {
        let is_wildcard = |piece: &Piece| !matches!(piece, Piece::Char(_));
        let first = pieces.iter().position(is_wildcard).unwrap_or(pieces.len());
        let behind = pieces.iter().rposition(is_wildcard).map_or(pieces.len(), |last| last + 1);
        let folded = |piece: &Piece| match piece {
            Piece::Char(c) => c.to_lowercase().map(Piece::Char).collect(),
            piece => vec![*piece],
        };
        Self {
            prefix: fold(&text_of(&pieces[..first])),
            rest: pieces[first..behind].iter().flat_map(folded).collect(),
            suffix: fold(&text_of(&pieces[behind..])),
        }
    }

    /// True when every text with the prefix matches.
    pub(crate) fn is_prefix(&self) -> bool {
        self.suffix.is_empty() && self.rest == [Piece::Any]
    }

    /// Only the last `*` is ever tried again: at most as many steps as pattern times text is long.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let inner = text.strip_prefix(self.prefix.as_str());
        let inner = inner.and_then(|text| text.strip_suffix(self.suffix.as_str()));
        let Some(mut text) = inner else { return false };
        let mut pieces = self.rest.as_slice();
        // Where to go on when the rest fails: behind the last star, and one character further.
        let mut retry: Option<(&[Piece], &str)> = None;
        loop {
            let mut chars = text.chars();
            match (pieces.split_first(), chars.next()) {
                (Some((Piece::Any, [])), _) | (None, None) => return true,
                (Some((Piece::Any, behind)), _) => {
                    pieces = behind;
                    retry = Some((behind, text));
                    continue;
                }
                (Some((Piece::One, behind)), Some(_)) => {
                    (pieces, text) = (behind, chars.as_str());
                    continue;
                }
                (Some((Piece::Char(wanted), behind)), Some(found)) if *wanted == found => {
                    (pieces, text) = (behind, chars.as_str());
                    continue;
                }
                _ => {}
            }
            let Some((behind, from)) = retry else { return false };
            let mut chars = from.chars();
            if chars.next().is_none() {
                return false;
            }
            retry = Some((behind, chars.as_str()));
            (pieces, text) = (behind, chars.as_str());
        }
    }
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

    proptest! {
        #[test]
        fn the_matcher_agrees_with_the_definition(
            wild in "[abé*?]{0,10}",
            text in "[abé]{0,10}",
        ) {
            let piece = |c| match c {
                '*' => Piece::Any,
                '?' => Piece::One,
                c => Piece::Char(c),
            };
            let pieces: Vec<Piece> = wild.chars().map(piece).collect();
            let expected = model(&pieces, &text.chars().collect::<Vec<_>>());
            prop_assert_eq!(Pattern::new(&pieces).matches(&text), expected);
        }
    }
}
