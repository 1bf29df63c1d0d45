//! The plan: a syntax tree with its paths resolved to slots and its names to functions.
//!
//! In: a [`Select`]. Out: [`Plan::evaluate`]. WHERE and SELECT read the payload apart, because
//! most messages do not pass and SELECT may need far more of it.

use super::ast::{Binary, Expr, Item, Kind, Select, SyntaxError, Type, Unary};
use super::document::{Document, Paths};
use super::functions::{self, Function};
use super::operators;
use super::output::Output;
use super::value::Value;
use super::{EVALUATION_BYTES_MAX, EvaluationError, Input, JSON_DEPTH_MAX, Version};
use bytes::Bytes;
use std::borrow::Cow;
use std::cell::Cell;

#[derive(Debug)]
pub(super) struct Plan {
    version: Version,
    condition: Option<Clause<Node>>,
    /// `None` is `SELECT *` alone: the payload as it came.
    columns: Option<Clause<Vec<Column>>>,
}

/// Expressions and what they read.
#[derive(Debug)]
struct Clause<T> {
    paths: Paths,
    body: T,
}

#[derive(Debug)]
enum Column {
    /// `*`; the slot holds the whole payload.
    Payload(usize),
    Expr(Node, Vec<String>),
}

#[derive(Debug)]
enum Node {
    Constant(Value),
    /// The value of a slot, then members of it.
    Field(usize, Vec<String>),
    Member(Box<Node>, String),
    Unary(Unary, Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    Call(&'static Function, Vec<Node>),
    Cast(Box<Node>, Type),
}

/// What the expressions of one clause see.
pub(super) struct Frame<'a> {
    pub input: &'a Input<'a>,
    pub version: Version,
    document: Document,
    bytes_left: Cell<usize>,
}

impl Plan {
    pub fn compile(select: &Select, version: Version) -> Result<Self, SyntaxError> {
        let condition = select.condition.as_ref().map(|condition| {
            let mut paths = Vec::new();
            collect_paths(condition, &mut paths)?;
            let paths = Paths::new(paths);
            let body = node(condition, &paths, version)?;
            Ok(Clause { paths, body })
        });
        let columns = match select.items.as_slice() {
            [Item::Payload] => None,
            items => Some(columns(items, version)?),
        };
        Ok(Self { version, condition: condition.transpose()?, columns })
    }

    pub fn evaluate(&self, input: &Input<'_>) -> Result<Option<Bytes>, EvaluationError> {
        if let Some(Clause { paths, body }) = &self.condition {
            let frame = Frame::new(input, paths, self.version)?;
            if body.evaluate(&frame)?.to_bool() != Some(true) {
                return Ok(None);
            }
        }
        let Some(Clause { paths, body }) = &self.columns else {
            return Ok(Some(input.message.payload.clone()));
        };
        let frame = Frame::new(input, paths, self.version)?;
        let mut output = Output::default();
        for column in body {
            match column {
                Column::Payload(slot) => {
                    output.add_payload(frame.document.value(*slot), &input.message.payload);
                }
                Column::Expr(node, path) => output.add(path, node.evaluate(&frame)?),
            }
        }
        output.to_json().map(Some)
    }
}

fn columns(items: &[Item], version: Version) -> Result<Clause<Vec<Column>>, SyntaxError> {
    let mut paths = Vec::new();
    for item in items {
        match item {
            Item::Payload => paths.push(Vec::new()),
            Item::Column { expr, .. } => collect_paths(expr, &mut paths)?,
        }
    }
    let paths = Paths::new(paths);
    let column = |item: &Item| match item {
        // The empty path sorts before all others.
        Item::Payload => Ok(Column::Payload(0)),
        Item::Column { expr, path } => Ok(Column::Expr(node(expr, &paths, version)?, path.clone())),
    };
    let body = items.iter().map(column).collect::<Result<_, _>>()?;
    Ok(Clause { paths, body })
}

/// The path that an expression consists of, if it is one.
fn path(expr: &Expr) -> Option<Vec<String>> {
    match &expr.kind {
        Kind::Name(name) => Some(vec![name.clone()]),
        Kind::Member(object, name) => {
            let mut path = path(object)?;
            path.push(name.clone());
            Some(path)
        }
        _ => None,
    }
}

fn collect_paths(expr: &Expr, paths: &mut Vec<Vec<String>>) -> Result<(), SyntaxError> {
    if let Some(path) = path(expr) {
        if path.len() > JSON_DEPTH_MAX {
            let message = format!("a path has at most {JSON_DEPTH_MAX} names");
            return Err(SyntaxError::new(expr.at, message));
        }
        paths.push(path);
        return Ok(());
    }
    match &expr.kind {
        Kind::Literal(_) | Kind::Name(_) => Ok(()),
        Kind::Member(below, _) | Kind::Unary(_, below) | Kind::Cast(below, _) => {
            collect_paths(below, paths)
        }
        Kind::Binary(_, left, right) => {
            collect_paths(left, paths)?;
            collect_paths(right, paths)
        }
        Kind::Call(_, arguments) => {
            arguments.iter().try_for_each(|argument| collect_paths(argument, paths))
        }
    }
}

/// Compiles an expression whose paths are all in `paths`.
fn node(expr: &Expr, paths: &Paths, version: Version) -> Result<Node, SyntaxError> {
    if let Some(path) = path(expr)
        && let Some((slot, used)) = paths.slot(&path)
    {
        return Ok(Node::Field(slot, path[used..].to_vec()));
    }
    let boxed = |expr| node(expr, paths, version).map(Box::new);
    Ok(match &expr.kind {
        Kind::Literal(Value::Decimal(decimal)) => Node::Constant(Value::decimal(*decimal, version)),
        Kind::Literal(value) => Node::Constant(value.clone()),
        Kind::Name(_) => Node::Constant(Value::Undefined),
        Kind::Member(object, name) => Node::Member(boxed(object)?, name.clone()),
        Kind::Unary(operator, operand) => Node::Unary(*operator, boxed(operand)?),
        Kind::Binary(operator, left, right) => Node::Binary(*operator, boxed(left)?, boxed(right)?),
        Kind::Cast(value, to) => Node::Cast(boxed(value)?, *to),
        Kind::Call(name, arguments) => {
            let function = functions::find(name).ok_or_else(|| {
                SyntaxError::new(expr.at, format!("there is no function `{name}`"))
            })?;
            if version < function.since {
                let (name, since) = (function.name, function.since.as_str());
                let message = format!("`{name}` needs awsIotSqlVersion {since}");
                return Err(SyntaxError::new(expr.at, message));
            }
            let compile = |argument| node(argument, paths, version);
            let arguments = arguments.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
            // AWS: a call with a wrong number of arguments is Undefined, not an error.
            if function.arity.contains(&arguments.len()) {
                Node::Call(function, arguments)
            } else {
                Node::Constant(Value::Undefined)
            }
        }
    })
}

impl Node {
    fn evaluate<'a>(&'a self, frame: &'a Frame<'_>) -> Result<Cow<'a, Value>, EvaluationError> {
        let value = match self {
            Self::Constant(value) => return Ok(Cow::Borrowed(value)),
            Self::Field(slot, rest) => {
                let whole = frame.document.value(*slot);
                let member = rest.iter().fold(whole, |value, name| value.member(name));
                return Ok(Cow::Borrowed(member));
            }
            Self::Member(object, name) => match object.evaluate(frame)? {
                Cow::Borrowed(object) => return Ok(Cow::Borrowed(object.member(name))),
                Cow::Owned(object) => frame.copy(object.member(name))?,
            },
            Self::Unary(operator, operand) => {
                operators::unary(*operator, &*operand.evaluate(frame)?, frame.version)
            }
            Self::Binary(operator, left, right) => {
                let (left, right) = (left.evaluate(frame)?, right.evaluate(frame)?);
                operators::binary(*operator, &left, &right, frame)?
            }
            Self::Cast(value, to) => operators::cast(&*value.evaluate(frame)?, *to, frame)?,
            Self::Call(function, arguments) => {
                let arguments = arguments
                    .iter()
                    .map(|argument| argument.evaluate(frame))
                    .collect::<Result<Vec<_>, _>>()?;
                function.call(frame, &arguments)?
            }
        };
        Ok(Cow::Owned(value))
    }
}

impl<'a> Frame<'a> {
    fn new(input: &'a Input<'a>, paths: &Paths, version: Version) -> Result<Self, EvaluationError> {
        let document = Document::read(paths, &input.message.payload, version)?;
        Ok(Self { input, version, document, bytes_left: Cell::new(EVALUATION_BYTES_MAX) })
    }

    /// A text that the evaluation made: counted, so that no statement multiplies its payload.
    pub fn text(&self, text: impl Into<String>) -> Result<Value, EvaluationError> {
        let text = text.into();
        self.charge(text.len())?;
        Ok(Value::Text(text))
    }

    /// A value apart from where it came from; counted as a text is.
    pub fn copy(&self, value: &Value) -> Result<Value, EvaluationError> {
        self.charge(value.memory_bytes())?;
        Ok(value.clone())
    }

    /// Takes `bytes` from what the evaluation may still make.
    pub fn charge(&self, bytes: usize) -> Result<(), EvaluationError> {
        let left = self.bytes_left.get().checked_sub(bytes);
        self.bytes_left.set(left.ok_or(EvaluationError::TooLarge)?);
        Ok(())
    }
}
