//! The syntax tree: what was written, and where. Made by `parser`, compiled by `plan`.

use super::value::Value;
use crate::topic::TopicFilter;

/// What is wrong at which byte of the text.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub at: usize,
    pub message: String,
}

impl SyntaxError {
    pub fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// A whole statement.
#[derive(Debug)]
pub(super) struct Select {
    pub items: Vec<Item>,
    pub filter: Option<TopicFilter>,
    pub condition: Option<Expr>,
}

/// One item of the SELECT list.
#[derive(Debug)]
pub(super) enum Item {
    /// `*`
    Payload,
    /// `expr AS a.b`; `path` is never empty.
    Column { expr: Expr, path: Vec<String> },
}

/// An expression, and where it begins.
#[derive(Debug)]
pub(super) struct Expr {
    pub kind: Kind,
    pub at: usize,
    /// Levels below and including this one; at most `EXPRESSION_DEPTH_MAX`.
    pub depth: u32,
}

#[derive(Debug)]
pub(super) enum Kind {
    Literal(Value),
    /// A member of the payload.
    Name(String),
    /// `expr.name`
    Member(Box<Expr>, String),
    Unary(Unary, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Call(String, Vec<Expr>),
    /// `cast(expr AS type)`
    Cast(Box<Expr>, Type),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Unary {
    Not,
    Negate,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Binary {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// The target of a `cast`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    String,
    Int,
    Decimal,
    Boolean,
}
