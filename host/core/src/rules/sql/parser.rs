//! Tokens to syntax tree: a Pratt parser, one function per construct of the grammar.
//!
//! In: the text. Out: [`Select`], or the first byte that does not fit and what was expected.
//! Bounded: expressions by depth and by number of parts, so that whoever walks the tree may
//! recurse. Not here: whether a function exists and what the version allows (`plan`).

use super::ast::{Binary, Expr, Item, Kind, Select, SyntaxError, Type, Unary};
use super::lexer::{self, Lexeme, Token};
use super::value::Value;
use super::{EXPRESSION_DEPTH_MAX, EXPRESSION_PARTS_MAX};
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

/// Parses a whole statement.
pub(super) fn parse(text: &str) -> Result<Select, SyntaxError> {
    let mut parser = Parser { lexemes: lexer::tokens(text)?, next: 0, depth: 0, parts: 0 };
    let select = parser.select()?;
    match parser.peek() {
        Token::End => Ok(select),
        _ => {
            let expected = match (&select.filter, &select.condition) {
                (_, Some(_)) => "an operator, AND, OR or the end of the statement",
                (Some(_), None) => "WHERE or the end of the statement",
                (None, None) => "`,`, AS, an operator, FROM, WHERE or the end of the statement",
            };
            Err(parser.expected(expected))
        }
    }
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
    fn select(&mut self) -> Result<Select, SyntaxError> {
        if self.is_word("SET") {
            return Err(self.unsupported("SET"));
        }
        if !self.take_word("SELECT") {
            return Err(self.expected("SELECT"));
        }
        self.refuse_select_value()?;
        let mut items = vec![self.item()?];
        while self.take_symbol(",") {
            items.push(self.item()?);
        }
        let filter = if self.take_word("FROM") { Some(self.filter()?) } else { None };
        let condition = if self.take_word("WHERE") { Some(self.expression(0)?) } else { None };
        Ok(Select { items, filter, condition })
    }

    /// `SELECT value` reads a member of that name; `SELECT VALUE expr` is another construct.
    fn refuse_select_value(&self) -> Result<(), SyntaxError> {
        let begins_expression = match self.peek_at(1) {
            Token::Word(word) => !["FROM", "WHERE", "AS", "AND", "OR", "IN"]
                .iter()
                .any(|keyword| keyword.eq_ignore_ascii_case(word)),
            Token::Number(_) | Token::Text(_) | Token::Symbol("{" | "[") => true,
            _ => false,
        };
        if self.is_word("VALUE") && begins_expression {
            return Err(self.unsupported("SELECT VALUE"));
        }
        Ok(())
    }

    fn item(&mut self) -> Result<Item, SyntaxError> {
        if self.take_symbol("*") {
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
        if self.depth > EXPRESSION_DEPTH_MAX {
            return Err(too_deep(self.at()));
        }
        let mut left = self.prefix(power)?;
        while let Some((operator, binds)) = self.infix()
            && binds >= power
        {
            self.next += 1;
            let right = self.expression(binds + 1)?;
            let (at, depth) = (left.at, left.depth.max(right.depth));
            left = self.part(Kind::Binary(operator, left.into(), right.into()), at, depth)?;
        }
        self.depth -= 1;
        Ok(left)
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
        while self.take_symbol(".") {
            let name = self.name("a name after `.`")?;
            let depth = expr.depth;
            expr = self.part(Kind::Member(expr.into(), name), at, depth)?;
        }
        Ok(expr)
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
            Token::Symbol("[") => return Err(self.unsupported("an array literal")),
            Token::Symbol("{") => return Err(self.unsupported("an object literal")),
            Token::Symbol("@") => return Err(self.unsupported("a variable")),
            Token::Symbol("*") => return Err(self.unsupported("`*` inside an expression")),
            Token::Word(_) if self.is_word("TRUE") => Kind::Literal(Value::Bool(true)),
            Token::Word(_) if self.is_word("FALSE") => Kind::Literal(Value::Bool(false)),
            Token::Word(_) if self.is_word("NULL") => Kind::Literal(Value::Null),
            Token::Word(_) if self.is_word("CASE") => return Err(self.unsupported("CASE")),
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

    fn parenthesized(&mut self) -> Result<Expr, SyntaxError> {
        self.next += 1;
        if self.is_word("SELECT") {
            return Err(self.unsupported("a nested SELECT"));
        }
        let expr = self.expression(0)?;
        self.symbol(")", "an operator or `)`")?;
        Ok(expr)
    }

    /// `name(arguments)`; the present token is the name.
    fn call(&mut self, name: &str) -> Result<Expr, SyntaxError> {
        let at = self.at();
        self.next += 2;
        if name.eq_ignore_ascii_case("cast") {
            return self.cast(at);
        }
        let mut arguments = Vec::new();
        let mut depth = 0;
        if !self.take_symbol(")") {
            loop {
                let argument = self.expression(0)?;
                depth = depth.max(argument.depth);
                arguments.push(argument);
                if !self.take_symbol(",") {
                    break;
                }
            }
            self.symbol(")", "an operator, `,` or `)`")?;
        }
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
            return Err(too_deep(at));
        }
        Ok(Expr { kind, at, depth })
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
        matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
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

    fn unsupported(&self, what: &str) -> SyntaxError {
        SyntaxError::new(self.at(), format!("{what} is not supported yet"))
    }
}

fn too_deep(at: usize) -> SyntaxError {
    let message = format!("the expression is nested deeper than {EXPRESSION_DEPTH_MAX} levels");
    SyntaxError::new(at, message)
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

/// Name of a column without AS: the last segment of a path, or the function's name.
fn default_name(expr: &Expr) -> Result<String, SyntaxError> {
    match &expr.kind {
        Kind::Name(name) | Kind::Member(_, name) | Kind::Call(name, _) => Ok(name.clone()),
        Kind::Cast(..) => Ok("cast".to_owned()),
        Kind::Literal(_) | Kind::Unary(..) | Kind::Binary(..) => {
            Err(SyntaxError::new(expr.at, "this column has no name; add AS and a name"))
        }
    }
}
