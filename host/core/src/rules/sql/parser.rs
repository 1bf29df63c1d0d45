//! Tokens to syntax tree: a Pratt parser, one function per construct of the grammar.
//!
//! In: the text. Out: [`Tree`], or the first byte that does not fit and what was expected.
//! Bounded: expressions by depth and by number of parts, so that whoever walks the tree may
//! recurse. Not here: whether a function exists and what the version allows (`plan`).

use super::ast::{Binary, Case, Expr, Item, Kind, Query, Select, SyntaxError, Tree, Type, Unary};
use super::lexer::{self, Lexeme, Token};
use super::value::Value;
use super::{
    EXPRESSION_DEPTH_MAX, EXPRESSION_NESTING_MAX, EXPRESSION_PARTS_MAX, VARIABLE_NAME_CHARS_MAX,
    VARIABLES_MAX,
};
use crate::topic::TopicFilter;

/// Words that cannot be a name on their own; after a dot and after AS they can.
const KEYWORDS: [&str; 16] = [
    "SELECT", "FROM", "WHERE", "AS", "AND", "OR", "NOT", "IN", "TRUE", "FALSE", "NULL", "CASE",
    "WHEN", "THEN", "ELSE", "END",
];

/// Binding powers; a higher one binds tighter.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARE: u8 = 4;
const ADD: u8 = 5;
const MULTIPLY: u8 = 6;
const NEGATE: u8 = 7;

/// What may follow an expression of the SELECT list.
const AFTER_ITEM: &str = "`,`, AS, an operator, FROM, WHERE or the end of the statement";

/// Parses a whole statement.
pub(super) fn parse(text: &str) -> Result<Tree, SyntaxError> {
    let mut parser = Parser::new(text)?;
    let tree = parser.statement()?;
    parser.end(match (&tree.filter, &tree.condition) {
        (_, Some(_)) => "an operator, AND, OR or the end of the statement",
        (Some(_), None) => "WHERE or the end of the statement",
        (None, None) => AFTER_ITEM,
    })?;
    Ok(tree)
}

/// Parses an expression on its own: what stands in a substitution template.
pub(super) fn parse_expression(text: &str) -> Result<Expr, SyntaxError> {
    let mut parser = Parser::new(text)?;
    let expr = parser.expression(0)?;
    parser.end("an operator or the end of the template")?;
    Ok(expr)
}

struct Parser<'a> {
    /// Never empty; the last one is [`Token::End`].
    lexemes: Vec<Lexeme<'a>>,
    next: usize,
    /// Calls of `expression` and prefix operators that are open.
    depth: u32,
    parts: u32,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, SyntaxError> {
        Ok(Self { lexemes: lexer::tokens(text)?, next: 0, depth: 0, parts: 0 })
    }

    fn end(&self, expected: &str) -> Result<(), SyntaxError> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.expected(expected)) }
    }

    fn statement(&mut self) -> Result<Tree, SyntaxError> {
        let variables = if self.take_word("SET") { self.variables()? } else { Vec::new() };
        if !self.take_word("SELECT") {
            let expected = if variables.is_empty() { "SELECT" } else { "`,` or SELECT" };
            return Err(self.expected(expected));
        }
        let select = self.select()?;
        let filter = if self.take_word("FROM") { Some(self.filter()?) } else { None };
        let condition = if self.take_word("WHERE") { Some(self.expression(0)?) } else { None };
        Ok(Tree { variables, select, filter, condition })
    }

    /// `@a = expr, @b = expr`
    fn variables(&mut self) -> Result<Vec<(String, Expr)>, SyntaxError> {
        let mut variables: Vec<(String, Expr)> = Vec::new();
        loop {
            let at = self.at();
            self.symbol("@", "a variable (`@name`) after SET")?;
            let name = self.name("a name after `@`")?;
            if name.chars().count() > VARIABLE_NAME_CHARS_MAX {
                let message = format!(
                    "the name of a variable has at most {VARIABLE_NAME_CHARS_MAX} characters"
                );
                return Err(SyntaxError::new(at, message));
            }
            if variables.iter().any(|(known, _)| *known == name) {
                return Err(SyntaxError::new(at, format!("@{name:.64} is set twice")));
            }
            if variables.len() == VARIABLES_MAX {
                let message = format!("a statement sets at most {VARIABLES_MAX} variables");
                return Err(SyntaxError::new(at, message));
            }
            self.symbol("=", "`=` after the variable")?;
            variables.push((name, self.expression(0)?));
            if !self.take_symbol(",") {
                return Ok(variables);
            }
        }
    }

    /// What follows SELECT.
    fn select(&mut self) -> Result<Select, SyntaxError> {
        if self.is_select_value() {
            self.next += 1;
            return Ok(Select::Value(Box::new(self.expression(0)?)));
        }
        let mut items = vec![self.item()?];
        while self.take_symbol(",") {
            items.push(self.item()?);
        }
        Ok(Select::Items(items))
    }

    /// `SELECT value` reads a member of that name; `SELECT VALUE expr` is another construct.
    fn is_select_value(&self) -> bool {
        let begins_expression = match self.peek_at(1) {
            Token::Word(word) => !["FROM", "WHERE", "AS", "AND", "OR", "IN"]
                .iter()
                .any(|keyword| keyword.eq_ignore_ascii_case(word)),
            Token::Number(_) | Token::Text(_) | Token::Symbol("{" | "@") => true,
            // `value * 2`, `value(…)` and `value[0]` are about a member or function; what AWS
            // documents after VALUE is a name, a literal, a nested SELECT or the payload.
            Token::Symbol("[") => true,
            Token::Symbol("*") => !self.begins_operand(2),
            Token::Symbol("(") => self.is_word_at(2, "SELECT"),
            _ => false,
        };
        self.is_word("VALUE") && begins_expression
    }

    /// Whether an operand could begin `ahead` tokens from here.
    fn begins_operand(&self, ahead: usize) -> bool {
        match self.peek_at(ahead) {
            Token::Word(word) => !is_keyword(word) || word.eq_ignore_ascii_case("CASE"),
            Token::Number(_) | Token::Text(_) => true,
            Token::Symbol(symbol) => ["(", "[", "{", "@", "-"].contains(symbol),
            Token::End => false,
        }
    }

    fn item(&mut self) -> Result<Item, SyntaxError> {
        let ends_item = match self.peek_at(1) {
            Token::Symbol(symbol) => [",", ")"].contains(symbol),
            Token::End => true,
            _ => self.is_word_at(1, "FROM") || self.is_word_at(1, "WHERE"),
        };
        if ends_item && self.take_symbol("*") {
            return Ok(Item::Payload);
        }
        let expr = self.expression(0)?;
        let path = if self.take_word("AS") {
            let mut path = vec![self.name("a name after AS")?];
            while self.take_symbol(".") {
                path.push(self.name("a name after `.`")?);
            }
            path
        } else {
            vec![default_name(&expr)?]
        };
        Ok(Item::Column { expr, path })
    }

    fn filter(&mut self) -> Result<TopicFilter, SyntaxError> {
        let at = self.at();
        let Token::Text(text) = self.peek() else {
            return Err(self.expected("a topic filter in quotes after FROM"));
        };
        let filter =
            TopicFilter::parse(text).map_err(|error| SyntaxError::new(at, error.to_string()))?;
        if filter.share_group().is_some() {
            return Err(SyntaxError::new(at, "a rule cannot use a shared subscription"));
        }
        if filter.pattern().starts_with("$aws/rules/") {
            let message =
                "a rule cannot read $aws/rules/…; those messages go to the rule they name";
            return Err(SyntaxError::new(at, message));
        }
        self.next += 1;
        Ok(filter)
    }

    /// An expression whose operators bind at least as tight as `power`.
    fn expression(&mut self, power: u8) -> Result<Expr, SyntaxError> {
        self.depth += 1;
        if self.depth > EXPRESSION_NESTING_MAX {
            let message =
                format!("the expression is nested deeper than {EXPRESSION_NESTING_MAX} levels");
            return Err(SyntaxError::new(self.at(), message));
        }
        let mut left = self.prefix(power)?;
        while let Some((operator, binds)) = self.infix()
            && binds >= power
        {
            left = if self.is_word("NOT") {
                // `a NOT IN b`
                self.next += 2;
                let right = self.expression(binds + 1)?;
                let inside = self.binary(operator, left, right)?;
                let (at, depth) = (inside.span.start, inside.depth);
                self.part(Kind::Unary(Unary::Not, inside.into()), at, depth)?
            } else {
                self.next += 1;
                let right = self.expression(binds + 1)?;
                self.binary(operator, left, right)?
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn binary(&mut self, operator: Binary, left: Expr, right: Expr) -> Result<Expr, SyntaxError> {
        let (at, depth) = (left.span.start, left.depth.max(right.depth));
        self.part(Kind::Binary(operator, left.into(), right.into()), at, depth)
    }

    fn prefix(&mut self, power: u8) -> Result<Expr, SyntaxError> {
        let at = self.at();
        if power <= NOT && self.take_word("NOT") {
            let operand = self.expression(NOT)?;
            let depth = operand.depth;
            return self.part(Kind::Unary(Unary::Not, operand.into()), at, depth);
        }
        if self.take_symbol("-") {
            let operand = self.expression(NEGATE)?;
            let depth = operand.depth;
            return self.part(Kind::Unary(Unary::Negate, operand.into()), at, depth);
        }
        let mut expr = self.primary()?;
        loop {
            if self.take_symbol(".") {
                let name = self.name("a name after `.`")?;
                let depth = expr.depth;
                expr = self.part(Kind::Member(expr.into(), name), at, depth)?;
            } else if self.take_symbol("[") {
                // `array[0]` is `get(array, 0)`.
                let index = self.expression(0)?;
                self.symbol("]", "an operator or `]`")?;
                let depth = expr.depth.max(index.depth);
                expr = self.part(Kind::Call("get".to_owned(), vec![expr, index]), at, depth)?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn infix(&self) -> Option<(Binary, u8)> {
        Some(match self.peek() {
            Token::Symbol("=") => (Binary::Equal, COMPARE),
            Token::Symbol("<>" | "!=") => (Binary::NotEqual, COMPARE),
            Token::Symbol("<") => (Binary::Less, COMPARE),
            Token::Symbol("<=") => (Binary::LessEqual, COMPARE),
            Token::Symbol(">") => (Binary::Greater, COMPARE),
            Token::Symbol(">=") => (Binary::GreaterEqual, COMPARE),
            Token::Symbol("+") => (Binary::Add, ADD),
            Token::Symbol("-") => (Binary::Subtract, ADD),
            Token::Symbol("*") => (Binary::Multiply, MULTIPLY),
            Token::Symbol("/") => (Binary::Divide, MULTIPLY),
            Token::Symbol("%") => (Binary::Remainder, MULTIPLY),
            _ if self.is_word("IN") => (Binary::In, COMPARE),
            _ if self.is_word("NOT") && self.is_word_at(1, "IN") => (Binary::In, COMPARE),
            _ if self.is_word("AND") => (Binary::And, AND),
            _ if self.is_word("OR") => (Binary::Or, OR),
            _ => return None,
        })
    }

    fn primary(&mut self) -> Result<Expr, SyntaxError> {
        let at = self.at();
        let kind = match self.peek().clone() {
            Token::Number(value) => Kind::Literal(value),
            Token::Text(text) => Kind::Literal(Value::Text(text.into_owned())),
            Token::Symbol("(") => return self.parenthesized(),
            Token::Symbol("[") => return self.array(),
            Token::Symbol("{") => return self.object(),
            Token::Symbol("*") => Kind::Payload,
            Token::Symbol("@") => {
                self.next += 1;
                let name = self.name("a name after `@`")?;
                return self.part(Kind::Variable(name), at, 0);
            }
            Token::Word(_) if self.is_word("TRUE") => Kind::Literal(Value::Bool(true)),
            Token::Word(_) if self.is_word("FALSE") => Kind::Literal(Value::Bool(false)),
            Token::Word(_) if self.is_word("NULL") => Kind::Literal(Value::Null),
            Token::Word(_) if self.is_word("CASE") => return self.case(),
            Token::Word(_) if self.is_word("EXISTS") && *self.peek_at(1) == Token::Symbol("(") => {
                return self.exists();
            }
            Token::Word(word) if !is_keyword(word) => {
                if *self.peek_at(1) == Token::Symbol("(") {
                    return self.call(word);
                }
                Kind::Name(word.to_owned())
            }
            _ => return Err(self.expected("a value, a name or a function")),
        };
        self.next += 1;
        self.part(kind, at, 0)
    }

    /// `(expr)`, `(SELECT …)`, or after IN `(a, b)`; the present token is the parenthesis.
    fn parenthesized(&mut self) -> Result<Expr, SyntaxError> {
        let at = self.at();
        self.next += 1;
        if self.is_word("SELECT") {
            let (query, depth) = self.query()?;
            self.symbol(")", "an operator, WHERE or `)`")?;
            return self.part(Kind::Nested(query), at, depth);
        }
        let first = self.expression(0)?;
        if *self.peek() == Token::Symbol(",") {
            self.next += 1;
            let (mut elements, mut depth) = self.list(")", "an operator, `,` or `)`")?;
            depth = depth.max(first.depth);
            elements.insert(0, first);
            return self.part(Kind::Array(elements), at, depth);
        }
        self.symbol(")", "an operator or `)`")?;
        Ok(first)
    }

    /// `SELECT … FROM expr WHERE …`, and how deep it is; the present token is SELECT.
    fn query(&mut self) -> Result<(Box<Query>, u32), SyntaxError> {
        self.next += 1;
        let select = self.select()?;
        if !self.take_word("FROM") {
            return Err(self.expected("an operator, `,` or FROM; a nested SELECT needs a FROM"));
        }
        let source = self.expression(0)?;
        let condition = if self.take_word("WHERE") { Some(self.expression(0)?) } else { None };
        let selected = match &select {
            Select::Value(expr) => expr.depth,
            Select::Items(items) => {
                let depth = |item: &Item| match item {
                    Item::Payload => 0,
                    Item::Column { expr, .. } => expr.depth,
                };
                items.iter().map(depth).max().unwrap_or(0)
            }
        };
        let depth = selected.max(source.depth).max(condition.as_ref().map_or(0, |it| it.depth));
        Ok((Box::new(Query { select, source, condition }), depth))
    }

    /// `EXISTS (SELECT …)`; the present token is EXISTS.
    fn exists(&mut self) -> Result<Expr, SyntaxError> {
        let at = self.at();
        self.next += 2;
        if !self.is_word("SELECT") {
            return Err(self.expected("SELECT after EXISTS("));
        }
        let (query, depth) = self.query()?;
        self.symbol(")", "an operator, WHERE or `)`")?;
        self.part(Kind::Exists(query), at, depth)
    }

    /// `CASE subject WHEN a THEN b ELSE c END`; the present token is CASE.
    fn case(&mut self) -> Result<Expr, SyntaxError> {
        let at = self.at();
        self.next += 1;
        let subject = if self.is_word("WHEN") { None } else { Some(self.expression(0)?) };
        let mut depth = subject.as_ref().map_or(0, |it| it.depth);
        let mut arms = Vec::new();
        while self.take_word("WHEN") {
            let when = self.expression(0)?;
            if !self.take_word("THEN") {
                return Err(self.expected("an operator or THEN"));
            }
            let then = self.expression(0)?;
            depth = depth.max(when.depth).max(then.depth);
            arms.push((when, then));
        }
        if arms.is_empty() {
            return Err(self.expected("an operator or WHEN"));
        }
        let otherwise = if self.take_word("ELSE") { Some(self.expression(0)?) } else { None };
        depth = depth.max(otherwise.as_ref().map_or(0, |it| it.depth));
        if !self.take_word("END") {
            let expected = match otherwise {
                Some(_) => "an operator or END",
                None => "an operator, WHEN, ELSE or END",
            };
            return Err(self.expected(expected));
        }
        self.part(Kind::Case(Box::new(Case { subject, arms, otherwise })), at, depth)
    }

    /// `[a, b]`; the present token is the bracket.
    fn array(&mut self) -> Result<Expr, SyntaxError> {
        let at = self.at();
        self.next += 1;
        let (elements, depth) = self.list("]", "an operator, `,` or `]`")?;
        self.part(Kind::Array(elements), at, depth)
    }

    /// Expressions up to the closing symbol, perhaps none, and how deep the deepest is.
    fn list(&mut self, close: &str, expected: &str) -> Result<(Vec<Expr>, u32), SyntaxError> {
        let mut elements = Vec::new();
        let mut depth = 0;
        if !self.take_symbol(close) {
            loop {
                let element = self.expression(0)?;
                depth = depth.max(element.depth);
                elements.push(element);
                if !self.take_symbol(",") {
                    break;
                }
            }
            self.symbol(close, expected)?;
        }
        Ok((elements, depth))
    }

    /// `{'a': b}`; the present token is the brace.
    fn object(&mut self) -> Result<Expr, SyntaxError> {
        let at = self.at();
        self.next += 1;
        let mut members = Vec::new();
        let mut depth = 0;
        if !self.take_symbol("}") {
            loop {
                let name = match self.peek() {
                    Token::Text(text) => text.clone().into_owned(),
                    Token::Word(word) => (*word).to_owned(),
                    _ => return Err(self.expected("the name of a member, in quotes")),
                };
                self.next += 1;
                self.symbol(":", "`:` after the name of a member")?;
                let value = self.expression(0)?;
                depth = depth.max(value.depth);
                members.push((name, value));
                if !self.take_symbol(",") {
                    break;
                }
            }
            self.symbol("}", "an operator, `,` or `}`")?;
        }
        self.part(Kind::Object(members), at, depth)
    }

    /// `name(arguments)`; the present token is the name.
    fn call(&mut self, name: &str) -> Result<Expr, SyntaxError> {
        let at = self.at();
        self.next += 2;
        if name.eq_ignore_ascii_case("cast") {
            return self.cast(at);
        }
        let (arguments, depth) = self.list(")", "an operator, `,` or `)`")?;
        self.part(Kind::Call(name.to_owned(), arguments), at, depth)
    }

    /// What follows `cast(`.
    fn cast(&mut self, at: usize) -> Result<Expr, SyntaxError> {
        let value = self.expression(0)?;
        if !self.take_word("AS") {
            return Err(self.expected("AS and a type"));
        }
        let expected = "String, Int, Double, Decimal or Boolean";
        let to = match self.name(expected)?.to_ascii_lowercase().as_str() {
            "string" | "nvarchar" | "text" | "ntext" | "varchar" => Type::String,
            "int" | "integer" => Type::Int,
            "double" | "decimal" => Type::Decimal,
            "bool" | "boolean" => Type::Boolean,
            _ => {
                self.next -= 1;
                return Err(self.expected(expected));
            }
        };
        self.symbol(")", "`)`")?;
        let depth = value.depth;
        self.part(Kind::Cast(value.into(), to), at, depth)
    }

    /// A new part above parts of the given depth.
    fn part(&mut self, kind: Kind, at: usize, below: u32) -> Result<Expr, SyntaxError> {
        self.parts += 1;
        if self.parts > EXPRESSION_PARTS_MAX {
            let message = format!(
                "the statement has more than {EXPRESSION_PARTS_MAX} names, literals, operators \
                 and calls; split the rule"
            );
            return Err(SyntaxError::new(at, message));
        }
        let depth = below + 1;
        if depth > EXPRESSION_DEPTH_MAX {
            let message = format!(
                "the expression joins more than {EXPRESSION_DEPTH_MAX} parts in a row; use IN, \
                 concat or parentheses"
            );
            return Err(SyntaxError::new(at, message));
        }
        let last = &self.lexemes[self.next.saturating_sub(1)];
        Ok(Expr { kind, span: at..last.end, depth })
    }

    fn name(&mut self, expected: &str) -> Result<String, SyntaxError> {
        let Token::Word(word) = self.peek() else {
            return Err(self.expected(expected));
        };
        let name = (*word).to_owned();
        self.next += 1;
        Ok(name)
    }

    fn symbol(&mut self, symbol: &str, expected: &str) -> Result<(), SyntaxError> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.expected(expected)) }
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let is_here = matches!(self.peek(), Token::Symbol(found) if *found == symbol);
        self.next += usize::from(is_here);
        is_here
    }

    fn take_word(&mut self, keyword: &str) -> bool {
        let is_here = self.is_word(keyword);
        self.next += usize::from(is_here);
        is_here
    }

    fn is_word(&self, keyword: &str) -> bool {
        self.is_word_at(0, keyword)
    }

    fn is_word_at(&self, ahead: usize, keyword: &str) -> bool {
        matches!(self.peek_at(ahead), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn peek(&self) -> &Token<'a> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> &Token<'a> {
        let last = self.lexemes.len() - 1;
        &self.lexemes[(self.next + ahead).min(last)].token
    }

    fn at(&self) -> usize {
        self.lexemes[self.next].at
    }

    fn expected(&self, what: &str) -> SyntaxError {
        SyntaxError::new(self.at(), format!("expected {what}, found {}", self.peek()))
    }
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

/// Name of a column without AS: the last segment of a path, or the function's name.
fn default_name(expr: &Expr) -> Result<String, SyntaxError> {
    match &expr.kind {
        Kind::Name(name) | Kind::Member(_, name) | Kind::Call(name, _) | Kind::Variable(name) => {
            Ok(name.clone())
        }
        Kind::Cast(..) => Ok("cast".to_owned()),
        _ => Err(SyntaxError::new(expr.span.start, "this column has no name; add AS and a name")),
    }
}
