//! From text to [`Node`]s: recursive descent, with a bound on depth, terms and length.

use super::pattern::{Pattern, Piece, text_of};
use super::{LENGTH_MAX, NESTING_MAX, Node, QueryError, Reason, TERMS_MAX, Term, Test};

pub(super) fn parse(text: &str) -> Result<Node, QueryError> {
    if text.len() > LENGTH_MAX {
        return Err(QueryError { position: 1, reason: Reason::TooLong });
    }
    let mut parser = Parser { chars: text.chars().collect(), at: 0, terms: 0 };
    parser.skip_space();
    if parser.peek().is_none() {
        return Err(parser.error(Reason::Empty));
    }
    let node = parser.any_of(None, 0)?;
    match parser.peek() {
        None => Ok(node),
        // Everything else that can follow a term begins another one.
        Some(_) => Err(parser.error(Reason::StrayParenthesis)),
    }
}

/// Characters that were read as one word, without their backslashes.
struct Word {
    start: usize,
    pieces: Vec<Piece>,
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    terms: usize,
}

/// `[` and `{`, or `]` and `}`, of a range: true when the bound belongs to it.
fn bracket(c: Option<char>, inclusive: char, exclusive: char) -> Option<bool> {
    c.filter(|c| *c == inclusive || *c == exclusive).map(|c| c == inclusive)
}

impl Parser {
    /// `a OR b`, inside of `field:(…)` with its field.
    fn any_of(&mut self, field: Option<&str>, depth: usize) -> Result<Node, QueryError> {
        let mut nodes = vec![self.all_of(field, depth)?];
        while self.take_keyword("OR") {
            nodes.push(self.all_of(field, depth)?);
        }
        Ok(one_or(nodes, Node::Or))
    }

    /// `a AND b`, `a b`.
    fn all_of(&mut self, field: Option<&str>, depth: usize) -> Result<Node, QueryError> {
        let mut nodes = vec![self.negated(field, depth)?];
        loop {
            let has_and = self.take_keyword("AND");
            let ends = matches!(self.peek(), None | Some(')')) || self.is_keyword("OR");
            if ends && !has_and {
                return Ok(one_or(nodes, Node::And));
            }
            nodes.push(self.negated(field, depth)?);
        }
    }

    /// `NOT a`, `-a`; twice is not at all.
    fn negated(&mut self, field: Option<&str>, depth: usize) -> Result<Node, QueryError> {
        let mut is_negated = false;
        loop {
            if self.take_keyword("NOT") {
                is_negated = !is_negated;
            } else if self.peek() == Some('-') {
                self.at += 1;
                is_negated = !is_negated;
            } else {
                break;
            }
        }
        let node = self.primary(field, depth)?;
        Ok(if is_negated { Node::Not(Box::new(node)) } else { node })
    }

    /// A term, or something in parentheses.
    fn primary(&mut self, field: Option<&str>, depth: usize) -> Result<Node, QueryError> {
        self.skip_space();
        match self.peek() {
            Some('(') => self.group(field, depth),
            None | Some(')') => Err(self.error(Reason::TermExpected)),
            _ if self.is_keyword("AND") || self.is_keyword("OR") => {
                Err(self.error(Reason::TermExpected))
            }
            _ if field.is_some() => self.value(field, depth),
            Some('"') => self.value(None, depth),
            Some('[' | '{' | ':' | '<' | '>') => Err(self.error(Reason::FieldExpected)),
            _ => self.clause(depth),
        }
    }

    fn group(&mut self, field: Option<&str>, depth: usize) -> Result<Node, QueryError> {
        let start = self.at;
        if depth == NESTING_MAX {
            return Err(self.error(Reason::TooDeep));
        }
        self.at += 1;
        let node = self.any_of(field, depth + 1)?;
        if self.peek() != Some(')') {
            return Err(error_at(start, Reason::OpenParenthesis));
        }
        self.at += 1;
        self.skip_space();
        Ok(node)
    }

    /// `field:value`, `field>value`, or a value alone.
    fn clause(&mut self, depth: usize) -> Result<Node, QueryError> {
        let start = self.at;
        let word = self.word(|c| matches!(c, ':' | '<' | '>'))?;
        match self.peek() {
            Some(':' | '<' | '>') => {}
            _ => {
                self.at = start;
                return self.value(None, depth);
            }
        }
        if word.pieces.iter().any(|piece| !matches!(piece, Piece::Char(_))) {
            return Err(error_at(word.start, Reason::WildcardInField));
        }
        let field = text_of(&word.pieces);
        if self.peek() == Some(':') {
            self.at += 1;
        }
        self.value(Some(&field), depth)
    }

    /// What stands behind the colon of a field, or alone.
    fn value(&mut self, field: Option<&str>, depth: usize) -> Result<Node, QueryError> {
        let node = match self.peek() {
            None => return Err(self.error(Reason::ValueExpected)),
            Some(c) if c.is_whitespace() || c == ')' => {
                return Err(self.error(Reason::ValueExpected));
            }
            Some('(') => return self.group(field, depth),
            Some('"') => {
                let text = self.quoted()?;
                self.term(field, Test::words(&text))?
            }
            Some('[' | '{') if field.is_some() => {
                let test = self.range()?;
                self.term(field, test)?
            }
            Some('<' | '>') if field.is_some() => {
                let test = self.comparison()?;
                self.term(field, test)?
            }
            Some(_) => {
                let word = self.word(|_| false)?;
                let test = test_of(&word)?;
                match field {
                    None if test == Test::Exists => self.count(Node::All)?,
                    field => self.term(field, test)?,
                }
            }
        };
        self.skip_space();
        Ok(node)
    }

    /// `[low TO high]`, each bracket square or curly for itself.
    fn range(&mut self) -> Result<Test, QueryError> {
        let start = self.at;
        let low_is_in = bracket(self.peek(), '[', '{');
        self.at += 1;
        self.skip_space();
        let low = self.bound()?;
        let has_to = self.take_keyword("TO");
        let high = self.bound()?;
        self.skip_space();
        let high_is_in = bracket(self.peek(), ']', '}');
        self.at += 1;
        let (Some(low_is_in), true, Some(high_is_in)) = (low_is_in, has_to, high_is_in) else {
            return Err(error_at(start, Reason::Range));
        };
        Ok(Test::range(low.map(|low| (low, low_is_in)), high.map(|high| (high, high_is_in))))
    }

    /// `>5` and the like.
    fn comparison(&mut self) -> Result<Test, QueryError> {
        let is_above = self.peek() == Some('>');
        self.at += 1;
        let is_in = self.peek() == Some('=');
        self.at += usize::from(is_in);
        match self.peek() {
            Some(c) if !c.is_whitespace() && !matches!(c, '(' | ')' | '[' | '{') => {}
            _ => return Err(self.error(Reason::ValueExpected)),
        }
        let bound = self.bound()?.map(|bound| (bound, is_in));
        Ok(if is_above { Test::range(bound, None) } else { Test::range(None, bound) })
    }

    /// A value without wildcards, or `*` for no bound.
    fn bound(&mut self) -> Result<Option<String>, QueryError> {
        if self.peek() == Some('"') {
            let text = self.quoted()?;
            return Ok(Some(text));
        }
        let word = self.word(|c| matches!(c, ']' | '}'))?;
        match word.pieces.as_slice() {
            [] => Err(error_at(word.start, Reason::Range)),
            [Piece::Any] => Ok(None),
            pieces if pieces.iter().all(|piece| matches!(piece, Piece::Char(_))) => {
                Ok(Some(text_of(pieces)))
            }
            _ => Err(error_at(word.start, Reason::WildcardInRange)),
        }
    }

    /// Up to white space, a parenthesis, or what `ends` it.
    fn word(&mut self, ends: impl Fn(char) -> bool) -> Result<Word, QueryError> {
        let start = self.at;
        let mut pieces = Vec::new();
        while let Some(c) = self.peek() {
            match c {
                '(' | ')' => break,
                c if c.is_whitespace() || ends(c) => break,
                '~' | '^' => return Err(self.error(Reason::Unavailable)),
                '*' => pieces.push(Piece::Any),
                '?' => pieces.push(Piece::One),
                '\\' => pieces.push(Piece::Char(self.escaped()?)),
                c => pieces.push(Piece::Char(c)),
            }
            self.at += 1;
        }
        Ok(Word { start, pieces })
    }

    /// Between quotation marks, which leave no wildcards.
    fn quoted(&mut self) -> Result<String, QueryError> {
        let start = self.at;
        let mut text = String::new();
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(error_at(start, Reason::OpenQuote)),
                Some('"') => break,
                Some('\\') => text.push(self.escaped()?),
                Some(c) => text.push(c),
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(text)
    }

    /// The character behind a backslash, which is left behind.
    fn escaped(&mut self) -> Result<char, QueryError> {
        let Some(c) = self.chars.get(self.at + 1) else {
            return Err(self.error(Reason::StrayBackslash));
        };
        self.at += 1;
        Ok(*c)
    }

    fn term(&mut self, field: Option<&str>, test: Test) -> Result<Node, QueryError> {
        self.count(Node::Term(Term { field: field.map(str::to_owned), test }))
    }

    fn count(&mut self, node: Node) -> Result<Node, QueryError> {
        self.terms += 1;
        if self.terms > TERMS_MAX {
            return Err(self.error(Reason::TooManyTerms));
        }
        Ok(node)
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        self.skip_space();
        let is_there = self.is_keyword(keyword);
        if is_there {
            self.at += keyword.len();
            self.skip_space();
        }
        is_there
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        let rest = &self.chars[self.at.min(self.chars.len())..];
        let ends = |c: &char| c.is_whitespace() || matches!(c, '(' | ')');
        rest.iter().copied().take(keyword.len()).eq(keyword.chars())
            && rest.get(keyword.len()).is_none_or(ends)
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn error(&self, reason: Reason) -> QueryError {
        error_at(self.at, reason)
    }
}

fn error_at(at: usize, reason: Reason) -> QueryError {
    QueryError { position: at + 1, reason }
}

fn one_or(mut nodes: Vec<Node>, several: fn(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(only) if nodes.is_empty() => only,
        last => {
            nodes.extend(last);
            several(nodes)
        }
    }
}

fn test_of(word: &Word) -> Result<Test, QueryError> {
    let is_wildcard = |piece: &Piece| !matches!(piece, Piece::Char(_));
    match word.pieces.as_slice() {
        pieces if pieces.iter().all(|piece| *piece == Piece::Any) => Ok(Test::Exists),
        [first, ..] if is_wildcard(first) => Err(error_at(word.start, Reason::LeadingWildcard)),
        pieces if pieces.iter().any(is_wildcard) => Ok(Test::Pattern(Pattern::new(pieces))),
        pieces => Ok(Test::words(&text_of(pieces))),
    }
}
