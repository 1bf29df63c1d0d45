//! Text to tokens. Not here: what a word means; keywords are words that `parser` asks for.

use super::ast::SyntaxError;
use super::value::{INT_DIGITS_MAX, Value};
use std::borrow::Cow;
use std::fmt;

/// A token, the byte where it begins and the one behind it.
#[derive(Clone, Debug)]
pub(super) struct Lexeme<'a> {
    pub token: Token<'a>,
    pub at: usize,
    pub end: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// A keyword or a name.
    Word(&'a str),
    /// A literal, without sign.
    Number(Value),
    /// A literal in either kind of quotes.
    Text(Cow<'a, str>),
    Symbol(&'static str),
    End,
}

impl fmt::Display for Token<'_> {
    /// For "found …"; the text of a literal is not echoed, a long word is cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(word) if word.chars().count() > 40 => f.write_str("a long name"),
            Token::Word(word) => write!(f, "`{word}`"),
            Token::Number(_) => f.write_str("a number"),
            Token::Text(_) => f.write_str("a string"),
            Token::Symbol(symbol) => write!(f, "`{symbol}`"),
            Token::End => f.write_str("the end of the statement"),
        }
    }
}

/// Longest first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 23] = [
    "<>", "<=", ">=", "!=", "<", ">", "=", "*", ",", ".", "(", ")", "+", "-", "/", "%", "[", "]",
    "{", "}", ":", "@", ";",
];

/// All tokens; the last one is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Lexeme<'_>>, SyntaxError> {
    let mut lexemes = Vec::new();
    let mut at = 0;
    loop {
        let rest = text[at..].trim_start();
        at = text.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            lexemes.push(Lexeme { token: Token::End, at, end: at });
            return Ok(lexemes);
        };
        let (token, len) = match first {
            '\'' | '"' => string(rest, first).ok_or_else(|| {
                SyntaxError::new(at, format!("this string is not closed; expected another {first}"))
            })?,
            '0'..='9' => number(rest, at)?,
            c if c == '_' || c.is_alphabetic() => {
                let end = rest.find(|c: char| c != '_' && !c.is_alphanumeric());
                let word = &rest[..end.unwrap_or(rest.len())];
                (Token::Word(word), word.len())
            }
            c => match SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
                Some(symbol) => (Token::Symbol(symbol), symbol.len()),
                None => return Err(SyntaxError::new(at, format!("unexpected character {c:?}"))),
            },
        };
        lexemes.push(Lexeme { token, at, end: at + len });
        at += len;
    }
}

/// A string up to its closing quote; a doubled quote stands for itself, a backslash too.
fn string(rest: &str, quote: char) -> Option<(Token<'_>, usize)> {
    let mut doubled = false;
    let mut end = 1;
    loop {
        end += rest[end..].find(quote)?;
        if !rest[end + 1..].starts_with(quote) {
            break;
        }
        doubled = true;
        end += 2;
    }
    let inside = &rest[1..end];
    let text = if doubled {
        let quote = quote.to_string();
        Cow::Owned(inside.replace(&quote.repeat(2), &quote))
    } else {
        Cow::Borrowed(inside)
    };
    Some((Token::Text(text), end + 1))
}

/// `digits[.digits][e[+-]digits]`
fn number(rest: &str, at: usize) -> Result<(Token<'static>, usize), SyntaxError> {
    let digits = |from: usize| rest[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(0);
    let mut is_int = end <= INT_DIGITS_MAX;
    if rest[end..].starts_with('.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
        is_int = false;
    }
    if rest[end..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
            is_int = false;
        }
    }
    if rest[end..].starts_with(|c: char| c == '_' || c.is_alphanumeric()) {
        let hint = "a name cannot begin with a digit; read such a member with get(object, 'name')";
        return Err(SyntaxError::new(at, hint));
    }
    let value = if is_int { rest[..end].parse().map(Value::Int).ok() } else { None };
    let value = value.or_else(|| {
        let decimal: f64 = rest[..end].parse().ok()?;
        decimal.is_finite().then_some(Value::Decimal(decimal))
    });
    match value {
        Some(value) => Ok((Token::Number(value), end)),
        None => Err(SyntaxError::new(at, "this number is out of range; at most 1.7E308")),
    }
}
