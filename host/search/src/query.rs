//! The query language, and which single values a term of it matches.
//!
//! In: a text. Out: a [`Query`], or where and why it is none. A query knows nothing of an index: a field
//! that no document has matches nothing, as on AWS, also when its name is a slip of the pen.
//!
//! | Query | Matches |
//! |---|---|
//! | `field:value` | a value that is `value`, or has it among its words |
//! | `field:"two words"` | a value that has these words in a row |
//! | `field:pre*`, `field:a?c` | a value, or a word of it, by wildcards; not with one in front |
//! | `field:*` | documents that have the field, or one below it |
//! | `field:[1 TO 5]`, `{1 TO 5}`, `[1 TO *}` | numbers when the bounds are numbers, else text |
//! | `field>5`, `>=`, `<`, `<=` | the same, with one bound |
//! | `field:(a OR b)` | terms of one field |
//! | `value` | any field but those of connectivity and versions |
//! | `*` | everything |
//! | `a b`, `a AND b`, `a OR b`, `NOT a`, `-a`, `(…)` | NOT binds closer than AND, AND closer than OR |
//!
//! A backslash makes the next character an ordinary one. Names of fields are case-sensitive, values are
//! not. Text that reads as a number is one in ranges; otherwise `1.10` is not `1.1`, because that may be
//! a version of firmware.

mod parser;
mod pattern;

use crate::value::{Value, fold, parse_number};
pub(crate) use pattern::Pattern;
use std::borrow::Borrow;

/// Longest query in bytes.
pub const LENGTH_MAX: usize = 1_000;

/// Most terms of a query.
pub const TERMS_MAX: usize = 12;

/// Most parentheses inside each other.
pub const NESTING_MAX: usize = 16;

/// A query that can be asked; see [`crate::Index::search`].
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub(crate) root: Node,
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// [`QueryError`] says what is wrong, where, and what would be right.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        parser::parse(text).map(|root| Self { root })
    }
}

/// Why a text is no query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (at character {position})")]
pub struct QueryError {
    /// Where, in characters from 1.
    pub position: usize,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing but white space.
    #[error("the query is empty; `*` matches everything")]
    Empty,
    /// Beyond [`LENGTH_MAX`].
    #[error("the query is longer than {LENGTH_MAX} bytes")]
    TooLong,
    /// Beyond [`TERMS_MAX`].
    #[error("the query has more than {TERMS_MAX} terms")]
    TooManyTerms,
    /// Beyond [`NESTING_MAX`].
    #[error("parentheses are nested deeper than {NESTING_MAX}")]
    TooDeep,
    /// An operator or a parenthesis where a term has to be.
    #[error("a term is missing here; a word AND, OR or NOT that is a value has to be in quotes")]
    TermExpected,
    /// `(` without `)`.
    #[error("this parenthesis is not closed")]
    OpenParenthesis,
    /// `)` without `(`.
    #[error("this parenthesis closes nothing; a backslash in front makes it part of a value")]
    StrayParenthesis,
    /// `"` without `"`.
    #[error("this quotation mark is not closed")]
    OpenQuote,
    /// A backslash in front of nothing.
    #[error("a character has to follow the backslash; two backslashes stand for one")]
    StrayBackslash,
    /// A colon or a comparison with nothing behind it.
    #[error("a value has to follow the field, without white space between")]
    ValueExpected,
    /// A colon, a comparison or a range with nothing in front of it.
    #[error("the name of a field has to stand in front, as in `attributes.line:[1 TO 5]`")]
    FieldExpected,
    /// A wildcard in the name of a field.
    #[error("the name of a field cannot have a wildcard")]
    WildcardInField,
    /// `*x` or `?x`.
    #[error("a value cannot begin with a wildcard; `field:*` matches whatever has the field")]
    LeadingWildcard,
    /// `[` or `{` without two bounds, TO, and `]` or `}`.
    #[error("a range is written `[low TO high]` or `{{low TO high}}`, with `*` for no bound")]
    Range,
    /// A wildcard in a bound.
    #[error("the bound of a range cannot have a wildcard")]
    WildcardInRange,
    /// `~` or `^`.
    #[error("fuzzy search, proximity and boosts do not exist; a backslash makes ~ and ^ ordinary")]
    Unavailable,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// Every document.
    All,
    Term(Term),
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    /// `None`: any field that is searched without being named.
    pub(crate) field: Option<String>,
    pub(crate) test: Test,
}

/// What a value of the field has to be. All text is folded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    Exists,
    Words(Words),
    Pattern(Pattern),
    Numbers(Range<f64>),
    Texts(Range<String>),
}

/// Words in a row, joined by one space each.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Words {
    pub(crate) text: String,
    pub(crate) number: Option<f64>,
}

/// A bound and whether it belongs to the range; none is no bound.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Range<T> {
    pub(crate) low: Option<(T, bool)>,
    pub(crate) high: Option<(T, bool)>,
}

impl Test {
    fn words(text: &str) -> Self {
        let folded = fold(text);
        let mut text = folded.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            text = folded;
        }
        Self::Words(Words { number: parse_number(text.as_bytes()), text })
    }

    /// A range of numbers when all of its bounds are numbers.
    fn range(low: Option<(String, bool)>, high: Option<(String, bool)>) -> Self {
        let number = |bound: &Option<(String, bool)>| match bound {
            None => Some(None),
            Some((text, inclusive)) => {
                parse_number(text.as_bytes()).map(|number| Some((number, *inclusive)))
            }
        };
        if low.is_none() && high.is_none() {
            return Self::Exists;
        }
        if let (Some(low), Some(high)) = (number(&low), number(&high)) {
            return Self::Numbers(Range { low, high });
        }
        let folded =
            |bound: Option<(String, bool)>| bound.map(|(text, is_in)| (fold(&text), is_in));
        Self::Texts(Range { low: folded(low), high: folded(high) })
    }

    /// What the language says about one whole value; the index must come to the same.
    pub(crate) fn matches(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Exists, _) => true,
            (Self::Words(words), Value::Number(number)) => words.number == Some(*number),
            (Self::Words(words), Value::Text(text)) => words.are_in(text.as_str()),
            (Self::Pattern(pattern), value) => {
                let text = value.as_text();
                pattern.matches(text.as_bytes())
                    || text.contains(char::is_whitespace)
                        && text.split_whitespace().any(|word| pattern.matches(word.as_bytes()))
            }
            (Self::Numbers(range), value) => {
                value.number().is_some_and(|number| range.contains(&number))
            }
            (Self::Texts(range), value) => range.contains(&*value.as_text()),
        }
    }
}

impl Words {
    /// True when there are several, so that the index has no list for them.
    pub(crate) fn are_several(&self) -> bool {
        self.text.contains(char::is_whitespace)
    }

    fn are_in(&self, text: &str) -> bool {
        if self.text == text {
            return true;
        }
        if !text.contains(char::is_whitespace) {
            return false;
        }
        let wanted: Vec<&str> = self.text.split_whitespace().collect();
        let words: Vec<&str> = text.split_whitespace().collect();
        !wanted.is_empty() && words.windows(wanted.len()).any(|words| words == wanted)
    }
}

impl<T> Range<T> {
    pub(crate) fn is_below<Q: PartialOrd + ?Sized>(&self, value: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.low.as_ref().is_some_and(|(low, is_in)| {
            let low = low.borrow();
            value < low || !is_in && value == low
        })
    }

    pub(crate) fn is_above<Q: PartialOrd + ?Sized>(&self, value: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.high.as_ref().is_some_and(|(high, is_in)| {
            let high = high.borrow();
            value > high || !is_in && value == high
        })
    }

    pub(crate) fn contains<Q: PartialOrd + ?Sized>(&self, value: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        !self.is_below(value) && !self.is_above(value)
    }
}
