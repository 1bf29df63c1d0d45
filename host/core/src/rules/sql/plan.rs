//! The plan: a syntax tree with its paths resolved to slots and its names to functions.
//!
//! In: a [`Tree`]. Out: [`Plan::evaluate`]. WHERE and SELECT read the payload apart, because
//! most messages do not pass and SELECT may need far more of it; a SELECT that needs nothing more
//! takes what WHERE has read. SET belongs to WHERE.
//! Reading order: `Plan` (a statement), `Compiler` (tree to nodes), [`Node`] (an expression),
//! [`Frame`] (what an evaluation may use up).

use super::ast::{Binary, Expr, Item, Kind, Query, Select, SyntaxError, Tree, Type, Unary};
use super::document::{Document, Paths};
use super::external::{Callee, Datum, ExternalCall};
use super::functions::{self, Function, Needs};
use super::output::{self, Output};
use super::pattern::PatternCall;
use super::value::{Object, Value};
use super::{
    EVALUATION_BYTES_MAX, EVALUATION_STEPS_MAX, EvaluationError, Input, JSON_DEPTH_MAX, Version,
    operators,
};
use bytes::Bytes;
use std::borrow::Cow;
use std::cell::Cell;

#[derive(Debug)]
pub(super) struct Plan {
    version: Version,
    first: Clause<First>,
    selected: Selected,
    /// What SELECT reads; `None`: WHERE has read it.
    selected_paths: Option<Paths>,
    /// Names of the variables, for templates.
    variables: Vec<String>,
    /// Functions that the host does not have itself, and where they are called.
    custom: Vec<(String, usize)>,
}

/// Expressions and what they read.
#[derive(Debug)]
struct Clause<T> {
    paths: Paths,
    body: T,
}

/// What is evaluated for every message.
#[derive(Debug)]
struct First {
    variables: Vec<Node>,
    condition: Option<Node>,
}

#[derive(Debug)]
enum Selected {
    /// `SELECT *` alone: the payload as it came.
    Untouched,
    Columns(Vec<Column>),
    Value(Node),
}

#[derive(Debug)]
enum Column {
    /// `*`; of a message the slot holds the whole payload.
    Payload(usize),
    Expr(Node, Vec<String>),
}

/// A single expression with the variables of a statement: a part of a template.
#[derive(Debug)]
pub(super) struct Single(Clause<Node>);

#[derive(Debug)]
pub(super) enum Node {
    Constant(Value),
    /// The value of a slot, then members of it.
    Field(usize, Vec<String>),
    /// The payload as a value; as bytes when it is no JSON.
    Payload(usize),
    /// The payload as bytes.
    Raw,
    /// Members of the present element of a nested SELECT.
    Element(Vec<String>),
    Variable(usize),
    Member(Box<Node>, String),
    Unary(Unary, Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    Call(&'static Function, Vec<Node>),
    Pattern(Box<PatternCall>),
    External(Callee, Vec<Node>),
    /// `get_or_default(expr, default)`
    OrDefault(Box<Node>, Option<Box<Node>>),
    Cast(Box<Node>, Type),
    Case(Box<CaseNode>),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
    Nested(Box<QueryNode>),
    Exists(Box<QueryNode>),
}

#[derive(Debug)]
pub(super) struct CaseNode {
    subject: Option<Node>,
    arms: Vec<(Node, Node)>,
    otherwise: Option<Node>,
}

#[derive(Debug)]
pub(super) struct QueryNode {
    select: QuerySelect,
    source: Node,
    condition: Option<Node>,
    /// Parts that are evaluated for each element, roughly.
    steps: u32,
}

#[derive(Debug)]
enum QuerySelect {
    Columns(Vec<Column>),
    Value(Node),
}

/// What the expressions of one clause may read and use up.
pub(super) struct Frame<'a> {
    pub input: &'a Input<'a>,
    pub version: Version,
    document: Document,
    bytes_left: Cell<usize>,
    steps_left: Cell<u32>,
}

/// Where an expression is evaluated.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub frame: &'a Frame<'a>,
    variables: &'a [Value],
    /// Of the innermost nested SELECT; Undefined outside.
    element: &'a Value,
}

impl Plan {
    pub fn compile(tree: &Tree, version: Version) -> Result<Self, SyntaxError> {
        let mut custom = Vec::new();
        let variables: Vec<_> = tree.variables.iter().map(|(name, _)| name.clone()).collect();
        let mut paths = Vec::new();
        for (_, expr) in &tree.variables {
            collect_paths(expr, &mut paths)?;
        }
        tree.condition.iter().try_for_each(|condition| collect_paths(condition, &mut paths))?;
        let paths = Paths::new(paths);
        let mut compiler = Compiler {
            paths: &paths,
            variables: &[],
            version,
            is_nested: false,
            custom: &mut custom,
        };
        let mut body = First { variables: Vec::new(), condition: None };
        for (at, (_, expr)) in tree.variables.iter().enumerate() {
            // A variable sees those before it.
            compiler.variables = &variables[..at];
            body.variables.push(compiler.node(expr)?);
        }
        compiler.variables = &variables;
        body.condition = tree.condition.as_ref().map(|it| compiler.node(it)).transpose()?;
        let own_paths = Self::selected_paths(&tree.select)?;
        let selected_paths = (!paths.cover(&own_paths)).then(|| Paths::new(own_paths));
        compiler.paths = selected_paths.as_ref().unwrap_or(&paths);
        let selected = match &tree.select {
            Select::Items(items) if matches!(items.as_slice(), [Item::Payload]) => {
                Selected::Untouched
            }
            Select::Items(items) => Selected::Columns(compiler.columns(items)?),
            Select::Value(expr) => Selected::Value(compiler.node(expr)?),
        };
        let first = Clause { paths, body };
        Ok(Self { version, first, selected, selected_paths, variables, custom })
    }

    fn selected_paths(select: &Select) -> Result<Vec<Vec<String>>, SyntaxError> {
        let mut paths = Vec::new();
        match select {
            Select::Items(items) => {
                for item in items {
                    match item {
                        Item::Payload => paths.push(Vec::new()),
                        Item::Column { expr, .. } => collect_paths(expr, &mut paths)?,
                    }
                }
            }
            Select::Value(expr) => collect_paths(expr, &mut paths)?,
        }
        Ok(paths)
    }

    /// Compiles an expression that sees the statement's variables.
    pub fn compile_single(
        &self,
        expr: &Expr,
    ) -> Result<(Single, Vec<(String, usize)>), SyntaxError> {
        let mut paths = Vec::new();
        collect_paths(expr, &mut paths)?;
        let paths = Paths::new(paths);
        let mut custom = Vec::new();
        let body = Compiler {
            paths: &paths,
            variables: &self.variables,
            version: self.version,
            is_nested: false,
            custom: &mut custom,
        }
        .node(expr)?;
        Ok((Single(Clause { paths, body }), custom))
    }

    /// Functions that the statement calls and the host does not have, with the bytes of the text
    /// where they stand.
    pub fn custom(&self) -> &[(String, usize)] {
        &self.custom
    }

    pub fn evaluate(&self, input: &Input<'_>) -> Result<Option<Bytes>, EvaluationError> {
        let First { variables, condition } = &self.first.body;
        let mut first = None;
        let mut values = Vec::new();
        if !variables.is_empty() || condition.is_some() {
            let frame = first.insert(Frame::new(input, &self.first.paths, self.version)?);
            values = self.variables(frame)?;
            if let Some(condition) = condition
                && !condition.holds(Scope::new(frame, &values))?
            {
                return Ok(None);
            }
        }
        if matches!(self.selected, Selected::Untouched) {
            return Ok(Some(input.message.payload.clone()));
        }
        let frame = match (first, &self.selected_paths) {
            (Some(first), None) => first,
            (_, paths) => {
                Frame::new(input, paths.as_ref().unwrap_or(&self.first.paths), self.version)?
            }
        };
        let scope = Scope::new(&frame, &values);
        match &self.selected {
            Selected::Untouched => Ok(Some(input.message.payload.clone())),
            Selected::Columns(columns) => {
                let mut output = Output::default();
                for column in columns {
                    match column {
                        Column::Payload(slot) => {
                            let payload = frame.document.value(*slot);
                            output.add_payload(payload, &input.message.payload);
                        }
                        Column::Expr(node, path) => output.add(path, node.evaluate(scope)?),
                    }
                }
                output.to_json().map(Some)
            }
            Selected::Value(node) => output::bare(&*node.evaluate(scope)?).map(Some),
        }
    }

    /// The values of SET.
    fn variables(&self, frame: &Frame<'_>) -> Result<Vec<Value>, EvaluationError> {
        let mut values = Vec::new();
        for node in &self.first.body.variables {
            let value = node.evaluate(Scope::new(frame, &values))?;
            let value = frame.own(value)?;
            values.push(value);
        }
        Ok(values)
    }

    /// The value of an expression that was compiled for this plan.
    pub fn evaluate_single(
        &self,
        single: &Single,
        input: &Input<'_>,
    ) -> Result<Value, EvaluationError> {
        let values = if self.first.body.variables.is_empty() {
            Vec::new()
        } else {
            self.variables(&Frame::new(input, &self.first.paths, self.version)?)?
        };
        let Clause { paths, body } = &single.0;
        let frame = Frame::new(input, paths, self.version)?;
        let value = body.evaluate(Scope::new(&frame, &values))?;
        frame.own(value)
    }
}

/// The path that an expression consists of, if it is one; the empty one is the payload.
fn path(expr: &Expr) -> Option<Vec<String>> {
    match &expr.kind {
        Kind::Payload => Some(Vec::new()),
        Kind::Name(name) => Some(vec![name.clone()]),
        Kind::Member(object, name) => {
            let mut path = path(object)?;
            path.push(name.clone());
            Some(path)
        }
        _ => None,
    }
}

/// Everything of the payload that an expression reads; nested SELECTs read their source only.
fn collect_paths(expr: &Expr, paths: &mut Vec<Vec<String>>) -> Result<(), SyntaxError> {
    if let Some(path) = path(expr) {
        if path.len() > JSON_DEPTH_MAX {
            let message = format!("a path has at most {JSON_DEPTH_MAX} names");
            return Err(SyntaxError::new(expr.span.start, message));
        }
        paths.push(path);
        return Ok(());
    }
    let mut result = Ok(());
    expr.parts(&mut |part| {
        if result.is_ok() {
            result = collect_paths(part, paths);
        }
    });
    result
}

struct Compiler<'c> {
    /// All paths of the message that the expressions read.
    paths: &'c Paths,
    variables: &'c [String],
    version: Version,
    /// Names are members of an element.
    is_nested: bool,
    custom: &'c mut Vec<(String, usize)>,
}

impl Compiler<'_> {
    fn columns(&mut self, items: &[Item]) -> Result<Vec<Column>, SyntaxError> {
        let column = |item: &Item| match item {
            // The empty path sorts before all others.
            Item::Payload => Ok(Column::Payload(0)),
            Item::Column { expr, path } => Ok(Column::Expr(self.node(expr)?, path.clone())),
        };
        items.iter().map(column).collect()
    }

    fn boxed(&mut self, expr: &Expr) -> Result<Box<Node>, SyntaxError> {
        self.node(expr).map(Box::new)
    }

    fn nodes(&mut self, exprs: &[Expr]) -> Result<Vec<Node>, SyntaxError> {
        exprs.iter().map(|expr| self.node(expr)).collect()
    }

    /// Compiles an expression whose paths are all in `paths`.
    fn node(&mut self, expr: &Expr) -> Result<Node, SyntaxError> {
        if let Some(path) = path(expr) {
            return Ok(self.path(path));
        }
        Ok(match &expr.kind {
            Kind::Literal(Value::Decimal(decimal)) => {
                Node::Constant(Value::decimal(*decimal, self.version))
            }
            Kind::Literal(value) => Node::Constant(value.clone()),
            // All of these are paths, and a path that is none of the statement reads nothing.
            Kind::Payload | Kind::Name(_) => Node::Constant(Value::Undefined),
            Kind::Variable(name) => match self.variables.iter().position(|known| known == name) {
                Some(index) => Node::Variable(index),
                None => {
                    let message = format!("@{name:.64} is not set; set it before SELECT by SET");
                    return Err(SyntaxError::new(expr.span.start, message));
                }
            },
            Kind::Member(object, name) => Node::Member(self.boxed(object)?, name.clone()),
            Kind::Unary(operator, operand) => Node::Unary(*operator, self.boxed(operand)?),
            Kind::Binary(operator, left, right) => {
                Node::Binary(*operator, self.boxed(left)?, self.boxed(right)?)
            }
            Kind::Cast(value, to) => Node::Cast(self.boxed(value)?, *to),
            Kind::Call(name, arguments) => return self.call(expr, name, arguments),
            Kind::Case(case) => {
                let subject = case.subject.as_ref().map(|it| self.node(it)).transpose()?;
                let arms = case.arms.iter();
                let arms = arms.map(|(when, then)| Ok((self.node(when)?, self.node(then)?)));
                let arms = arms.collect::<Result<_, _>>()?;
                let otherwise = case.otherwise.as_ref().map(|it| self.node(it)).transpose()?;
                Node::Case(Box::new(CaseNode { subject, arms, otherwise }))
            }
            Kind::Array(elements) => {
                self.since_2016("an array literal", expr)?;
                Node::Array(self.nodes(elements)?)
            }
            Kind::Object(members) => {
                self.since_2016("an object literal", expr)?;
                let member = |(name, value): &(String, Expr)| Ok((name.clone(), self.node(value)?));
                Node::Object(members.iter().map(member).collect::<Result<_, _>>()?)
            }
            Kind::Nested(query) => {
                self.since_2016("a nested SELECT", expr)?;
                Node::Nested(Box::new(self.query(query)?))
            }
            Kind::Exists(query) => {
                self.since_2016("a nested SELECT", expr)?;
                Node::Exists(Box::new(self.query(query)?))
            }
        })
    }

    fn path(&self, path: Vec<String>) -> Node {
        if self.is_nested {
            return Node::Element(path);
        }
        match self.paths.slot(&path) {
            Some((slot, _)) if path.is_empty() => Node::Payload(slot),
            Some((slot, used)) => Node::Field(slot, path[used..].to_vec()),
            None => Node::Constant(Value::Undefined),
        }
    }

    fn since_2016(&self, what: &str, expr: &Expr) -> Result<(), SyntaxError> {
        self.since(Version::V2016, what, expr)
    }

    fn since(&self, since: Version, what: &str, expr: &Expr) -> Result<(), SyntaxError> {
        if self.version >= since {
            return Ok(());
        }
        let message = format!("{what} needs awsIotSqlVersion {}", since.as_str());
        Err(SyntaxError::new(expr.span.start, message))
    }

    fn call(&mut self, expr: &Expr, name: &str, arguments: &[Expr]) -> Result<Node, SyntaxError> {
        let Some(function) = functions::find(name) else {
            self.custom.push((name.to_owned(), expr.span.start));
            return Ok(Node::External(Callee::Custom(name.to_owned()), self.nodes(arguments)?));
        };
        self.since(function.since, &format!("`{}`", function.name), expr)?;
        // AWS: a call with a wrong number of arguments is Undefined, not an error.
        let is_undefined = !function.arity.contains(&arguments.len());
        let mut nodes = self.nodes(arguments)?;
        if is_undefined {
            return Ok(Node::Constant(Value::Undefined));
        }
        Ok(match &function.needs {
            Needs::Values => Node::Call(function, nodes),
            Needs::Bytes => {
                for node in &mut nodes {
                    if matches!(node, Node::Payload(_)) {
                        *node = Node::Raw;
                    }
                }
                match nodes.len() {
                    // `decode(bytes, 'proto', bucket, key, file, message)`
                    3.. => Node::External(Callee::Proto, nodes),
                    _ => Node::Call(function, nodes),
                }
            }
            Needs::Pattern(of) => Node::Pattern(Box::new(PatternCall::new(*of, nodes))),
            Needs::Default => {
                let mut nodes = nodes.into_iter().map(Box::new);
                match nodes.next() {
                    Some(value) => Node::OrDefault(value, nodes.next()),
                    None => Node::Constant(Value::Undefined),
                }
            }
            Needs::Host(callee) => Node::External(callee.clone(), nodes),
        })
    }

    fn query(&mut self, query: &Query) -> Result<QueryNode, SyntaxError> {
        let source = self.node(&query.source)?;
        let outside = std::mem::replace(&mut self.is_nested, true);
        let select = match &query.select {
            Select::Items(items) => self.columns(items).map(QuerySelect::Columns),
            Select::Value(expr) => self.node(expr).map(QuerySelect::Value),
        };
        let condition = query.condition.as_ref().map(|it| self.node(it)).transpose();
        self.is_nested = outside;
        let mut steps = 1;
        match &query.select {
            Select::Items(items) => {
                for item in items {
                    steps += match item {
                        Item::Payload => 1,
                        Item::Column { expr, .. } => count_parts(expr),
                    };
                }
            }
            Select::Value(expr) => steps += count_parts(expr),
        }
        steps += query.condition.as_ref().map_or(0, count_parts);
        Ok(QueryNode { select: select?, source, condition: condition?, steps })
    }
}

fn count_parts(expr: &Expr) -> u32 {
    let mut count = 1;
    expr.parts(&mut |part| count += count_parts(part));
    count
}

static UNDEFINED: Value = Value::Undefined;

impl Node {
    /// Whether it is true. Other than in `evaluate`, what follows an AND that cannot become true
    /// any more is left out: false and Undefined are the same to WHERE.
    fn holds(&self, scope: Scope<'_>) -> Result<bool, EvaluationError> {
        match self {
            Self::Binary(Binary::And, left, right) => Ok(left.holds(scope)? && right.holds(scope)?),
            _ => Ok(self.evaluate(scope)?.to_bool() == Some(true)),
        }
    }

    pub fn evaluate<'a>(&'a self, scope: Scope<'a>) -> Result<Cow<'a, Value>, EvaluationError> {
        let frame = scope.frame;
        let value = match self {
            Self::Constant(value) => return Ok(Cow::Borrowed(value)),
            Self::Field(slot, rest) => {
                return Ok(Cow::Borrowed(frame.document.value(*slot).at(rest)));
            }
            Self::Element(path) => return Ok(Cow::Borrowed(scope.element.at(path))),
            Self::Variable(index) => return Ok(Cow::Borrowed(&scope.variables[*index])),
            Self::Payload(slot) => match frame.document.value(*slot) {
                Value::Undefined => Value::Bytes(frame.input.message.payload.clone()),
                value => return Ok(Cow::Borrowed(value)),
            },
            Self::Raw => Value::Bytes(frame.input.message.payload.clone()),
            Self::Member(object, name) => match object.evaluate(scope)? {
                Cow::Borrowed(object) => return Ok(Cow::Borrowed(object.member(name))),
                Cow::Owned(object) => object.into_member(name),
            },
            Self::Unary(operator, operand) => {
                operators::unary(*operator, &*operand.evaluate(scope)?, frame.version)
            }
            Self::Binary(operator, left, right) => {
                let (left, right) = (left.evaluate(scope)?, right.evaluate(scope)?);
                operators::binary(*operator, &left, &right, frame)?
            }
            Self::Cast(value, to) => operators::cast(&*value.evaluate(scope)?, *to, frame)?,
            Self::Call(function, arguments) => {
                let arguments = evaluate_all(arguments, scope)?;
                function.call(frame, &arguments)?
            }
            Self::Pattern(call) => call.evaluate(scope)?,
            Self::External(callee, arguments) => {
                let arguments = evaluate_all(arguments, scope)?;
                let arguments = arguments.iter().map(|argument| Datum::of(argument)).collect();
                let call = ExternalCall { callee: callee.clone(), arguments };
                return frame.input.answers.find(call).map(Cow::Borrowed);
            }
            Self::OrDefault(value, default) => match value.evaluate(scope) {
                Ok(value) if !value.is_undefined() => return Ok(value),
                Ok(_) | Err(EvaluationError::Function { .. }) => match default {
                    Some(default) => return default.evaluate(scope),
                    None => Value::Undefined,
                },
                Err(error) => return Err(error),
            },
            Self::Case(case) => return case.evaluate(scope),
            Self::Array(elements) => {
                frame.charge(elements.len() * size_of::<Value>())?;
                let owned = elements.iter().map(|element| frame.own(element.evaluate(scope)?));
                Value::Array(owned.collect::<Result<_, _>>()?)
            }
            Self::Object(members) => {
                let mut object = Object::default();
                for (name, value) in members {
                    frame.charge(name.len() + size_of::<Value>())?;
                    let value = frame.own(value.evaluate(scope)?)?;
                    object.insert(name.clone(), value);
                }
                Value::Object(object)
            }
            Self::Nested(query) => match query.evaluate(scope, usize::MAX)? {
                Some(values) => Value::Array(values),
                None => Value::Undefined,
            },
            Self::Exists(query) => match query.evaluate(scope, 1)? {
                Some(values) => Value::Bool(!values.is_empty()),
                None => Value::Undefined,
            },
        };
        Ok(Cow::Owned(value))
    }
}

fn evaluate_all<'a>(
    nodes: &'a [Node],
    scope: Scope<'a>,
) -> Result<Vec<Cow<'a, Value>>, EvaluationError> {
    nodes.iter().map(|node| node.evaluate(scope)).collect()
}

impl CaseNode {
    fn evaluate<'a>(&'a self, scope: Scope<'a>) -> Result<Cow<'a, Value>, EvaluationError> {
        let subject = self.subject.as_ref().map(|it| it.evaluate(scope)).transpose()?;
        if subject.as_ref().is_some_and(|subject| subject.is_undefined()) {
            return Ok(Cow::Borrowed(&UNDEFINED));
        }
        for (when, then) in &self.arms {
            let when = when.evaluate(scope)?;
            let is_it = match &subject {
                Some(subject) => !when.is_undefined() && subject.equals(&when),
                None => when.to_bool() == Some(true),
            };
            if is_it {
                return then.evaluate(scope);
            }
        }
        match &self.otherwise {
            Some(otherwise) => otherwise.evaluate(scope),
            None => Ok(Cow::Borrowed(&UNDEFINED)),
        }
    }
}

impl QueryNode {
    /// What is selected from the first elements that pass, at most `max`; `None` when the source
    /// is neither array nor object.
    fn evaluate(
        &self,
        scope: Scope<'_>,
        max: usize,
    ) -> Result<Option<Vec<Value>>, EvaluationError> {
        let frame = scope.frame;
        let source = self.source.evaluate(scope)?;
        let elements = match &*source {
            Value::Array(elements) => elements.as_slice(),
            object @ Value::Object(_) => std::slice::from_ref(object),
            _ => return Ok(None),
        };
        let mut selected = Vec::new();
        for element in elements {
            frame.step(self.steps)?;
            let scope = Scope { element, ..scope };
            if let Some(condition) = &self.condition
                && !condition.holds(scope)?
            {
                continue;
            }
            let value = self.select.evaluate(scope)?;
            // Like a member, what is Undefined is left out.
            if !value.is_undefined() {
                frame.charge(size_of::<Value>())?;
                selected.push(value);
            }
            if selected.len() >= max {
                break;
            }
        }
        Ok(Some(selected))
    }
}

impl QuerySelect {
    fn evaluate(&self, scope: Scope<'_>) -> Result<Value, EvaluationError> {
        let frame = scope.frame;
        let columns = match self {
            Self::Value(node) => return frame.own(node.evaluate(scope)?),
            Self::Columns(columns) => columns,
        };
        if let [Column::Payload(_)] = columns.as_slice() {
            return frame.copy(scope.element);
        }
        let mut object = Object::default();
        for column in columns {
            match column {
                Column::Payload(_) => {
                    if let Value::Object(members) = frame.copy(scope.element)? {
                        object.extend(members);
                    }
                }
                Column::Expr(node, path) => {
                    let value = frame.own(node.evaluate(scope)?)?;
                    frame.charge(path.iter().map(|name| name.len() + size_of::<Value>()).sum())?;
                    output::add(&mut object, path, value);
                }
            }
        }
        Ok(Value::Object(object))
    }
}

impl<'a> Scope<'a> {
    fn new(frame: &'a Frame<'a>, variables: &'a [Value]) -> Self {
        Self { frame, variables, element: &UNDEFINED }
    }
}

impl<'a> Frame<'a> {
    fn new(input: &'a Input<'a>, paths: &Paths, version: Version) -> Result<Self, EvaluationError> {
        let document = Document::read(paths, &input.message.payload, version)?;
        let bytes_left = Cell::new(EVALUATION_BYTES_MAX);
        let steps_left = Cell::new(EVALUATION_STEPS_MAX);
        Ok(Self { input, version, document, bytes_left, steps_left })
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

    /// As [`Frame::copy`], for what may be owned already.
    pub fn own(&self, value: Cow<'_, Value>) -> Result<Value, EvaluationError> {
        match value {
            Cow::Borrowed(value) => self.copy(value),
            Cow::Owned(value) => Ok(value),
        }
    }

    /// Takes `bytes` from what the evaluation may still make.
    pub fn charge(&self, bytes: usize) -> Result<(), EvaluationError> {
        let left = self.bytes_left.get().checked_sub(bytes);
        self.bytes_left.set(left.ok_or(EvaluationError::TooLarge)?);
        Ok(())
    }

    /// Takes `steps` from what the evaluation may still do.
    pub fn step(&self, steps: u32) -> Result<(), EvaluationError> {
        let left = self.steps_left.get().checked_sub(steps);
        self.steps_left.set(left.ok_or(EvaluationError::TooLong)?);
        Ok(())
    }
}
