//! The syntax tree: what was written, and where. Made by `parser`, compiled by `plan`.

use super::value::Value;
use crate::topic::TopicFilter;
use std::ops::Range;

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
pub(super) struct Tree {
    /// `SET @name = expr`, in order.
    pub variables: Vec<(String, Expr)>,
    pub select: Select,
    pub filter: Option<TopicFilter>,
    pub condition: Option<Expr>,
}

/// What follows SELECT.
#[derive(Debug)]
pub(super) enum Select {
    Items(Vec<Item>),
    /// `VALUE expr`
    Value(Box<Expr>),
}

/// One item of the SELECT list.
#[derive(Debug)]
pub(super) enum Item {
    /// `*`
    Payload,
    /// `expr AS a.b`; `path` is never empty.
    Column { expr: Expr, path: Vec<String> },
}

/// `SELECT … FROM expr WHERE …` inside an expression: over the elements of an array, or one object.
#[derive(Debug)]
pub(super) struct Query {
    pub select: Select,
    pub source: Expr,
    pub condition: Option<Expr>,
}

/// An expression, and where it stands in the text.
#[derive(Debug)]
pub(super) struct Expr {
    pub kind: Kind,
    pub span: Range<usize>,
    /// Levels below and including this one; at most `EXPRESSION_DEPTH_MAX`.
    pub depth: u32,
}

#[derive(Debug)]
pub(super) enum Kind {
    Literal(Value),
    /// `*`: the payload, or the present element of a nested SELECT.
    Payload,
    /// A member of the payload, or of the present element.
    Name(String),
    /// `@name`
    Variable(String),
    /// `expr.name`
    Member(Box<Expr>, String),
    Unary(Unary, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Call(String, Vec<Expr>),
    /// `cast(expr AS type)`
    Cast(Box<Expr>, Type),
    Case(Box<Case>),
    /// `[a, b]`
    Array(Vec<Expr>),
    /// `{'a': b}`
    Object(Vec<(String, Expr)>),
    /// `(SELECT …)`
    Nested(Box<Query>),
    /// `EXISTS (SELECT …)`
    Exists(Box<Query>),
}

/// `CASE subject WHEN a THEN b … ELSE c END`; without subject each WHEN is a condition.
#[derive(Debug)]
pub(super) struct Case {
    pub subject: Option<Expr>,
    pub arms: Vec<(Expr, Expr)>,
    pub otherwise: Option<Expr>,
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
    In,
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

impl Expr {
    /// Calls `each` with every part directly below, except those inside a nested SELECT, which
    /// see another payload.
    pub fn parts<'a>(&'a self, each: &mut dyn FnMut(&'a Self)) {
        match &self.kind {
            Kind::Literal(_) | Kind::Payload | Kind::Name(_) | Kind::Variable(_) => {}
            Kind::Member(below, _) | Kind::Unary(_, below) | Kind::Cast(below, _) => each(below),
            Kind::Binary(_, left, right) => {
                each(left);
                each(right);
            }
            Kind::Call(_, parts) | Kind::Array(parts) => parts.iter().for_each(each),
            Kind::Object(members) => members.iter().for_each(|(_, value)| each(value)),
            Kind::Case(case) => {
                case.subject.iter().for_each(&mut *each);
                for (when, then) in &case.arms {
                    each(when);
                    each(then);
                }
                case.otherwise.iter().for_each(each);
            }
            Kind::Nested(query) | Kind::Exists(query) => each(&query.source),
        }
    }
}
