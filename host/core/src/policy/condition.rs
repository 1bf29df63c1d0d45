//! The Condition element: decided once per connection, because no key changes while it lasts.
//!
//! Operators that are not implemented are refused when the policy is created, never skipped.

use super::Context;
use super::glob;
use super::scalar::{Comparison, Number, parse_time};
use super::variable::{Template, Variable};
use std::net::IpAddr;

const OPERATORS: &str = "StringEquals, StringNotEquals, StringEqualsIgnoreCase, \
     StringNotEqualsIgnoreCase, StringLike, StringNotLike, NumericEquals, NumericNotEquals, \
     NumericLessThan, NumericLessThanEquals, NumericGreaterThan, NumericGreaterThanEquals, the same \
     with Date, Bool, IpAddress, NotIpAddress, ArnEquals, ArnNotEquals, ArnLike, ArnNotLike and \
     Null, all but Null also with the suffix IfExists and the prefixes ForAllValues: and ForAnyValue:";

/// Colon-separated parts of an ARN; the last may have colons itself.
const ARN_PARTS: usize = 6;

/// One operator applied to one key: values are alternatives.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    key: Variable,
    test: Test,
    negated: bool,
    quantifier: Quantifier,
    if_exists: bool,
}

#[derive(Clone, Debug)]
enum Test {
    Equals(Vec<Template>),
    EqualsIgnoreCase(Vec<Template>),
    Like(Vec<Template>),
    Arn(Vec<Template>),
    Number(Comparison, Vec<Number>),
    Time(Comparison, Vec<jiff::Timestamp>),
    Ip(Vec<Network>),
    /// The key is absent (true) or present (false).
    Null(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    None,
    All,
    Any,
}

impl Condition {
    /// # Errors
    /// What is wrong with operator, key or values, for the author of the policy.
    pub(super) fn parse(operator: &str, key: &str, values: &[String]) -> Result<Self, String> {
        let (quantifier, rest) = if let Some(rest) = operator.strip_prefix("ForAllValues:") {
            (Quantifier::All, rest)
        } else if let Some(rest) = operator.strip_prefix("ForAnyValue:") {
            (Quantifier::Any, rest)
        } else {
            (Quantifier::None, operator)
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let key = Variable::parse(key)?;
        let is_plain = !if_exists && quantifier == Quantifier::None;
        let (test, negated) = match name {
            "Null" if is_plain => match values {
                [value] => (Test::Null(parse_bool(value)?), false),
                _ => return Err("Null takes one value, \"true\" or \"false\"".to_owned()),
            },
            _ => Test::parse(name, &key, values)?.ok_or_else(|| {
                format!("operator {operator:?} is not supported; supported are {OPERATORS}")
            })?,
        };
        Ok(Self { key, test, negated, quantifier, if_exists })
    }

    /// True when it depends on the certificate.
    pub(super) fn asks_for_certificate(&self) -> bool {
        let templates = match &self.test {
            Test::Equals(templates)
            | Test::EqualsIgnoreCase(templates)
            | Test::Like(templates)
            | Test::Arn(templates) => templates.as_slice(),
            Test::Number(..) | Test::Time(..) | Test::Ip(_) | Test::Null(_) => &[],
        };
        self.key.is_of_certificate() || templates.iter().any(Template::asks_for_certificate)
    }

    /// True when the connection fulfils it.
    pub(super) fn holds(&self, context: &Context, for_allow: bool) -> bool {
        let values = self.key.values(context);
        if let Test::Null(absent) = self.test {
            return values.is_empty() == absent;
        }
        if values.is_empty() && self.if_exists {
            return true;
        }
        let Some(test) = self.test.fill(context, for_allow) else { return false };
        let passes = |value: &str| test.accepts(value) != self.negated;
        match self.quantifier {
            // True for the empty set (AWS IoT, "Connect policy examples").
            Quantifier::All => values.iter().all(|value| passes(value)),
            Quantifier::Any => values.iter().any(|value| passes(value)),
            Quantifier::None if values.is_empty() => self.negated,
            Quantifier::None => values.iter().any(|value| test.accepts(value)) != self.negated,
        }
    }
}

impl Test {
    /// The test of this operator, and whether it is negated; `None`: there is no such operator.
    fn parse(
        name: &str,
        key: &Variable,
        values: &[String],
    ) -> Result<Option<(Self, bool)>, String> {
        let templates = |parse: fn(&str) -> Result<Template, String>| {
            values.iter().map(|value| parse(value)).collect::<Result<Vec<_>, _>>()
        };
        if let Some((comparison, negated)) =
            name.strip_prefix("Numeric").and_then(Comparison::parse)
        {
            let numbers = values.iter().map(|value| {
                Number::parse(value).ok_or_else(|| format!("{value:?} is no decimal number"))
            });
            return Ok(Some((
                Self::Number(comparison, numbers.collect::<Result<_, _>>()?),
                negated,
            )));
        }
        if let Some((comparison, negated)) = name.strip_prefix("Date").and_then(Comparison::parse) {
            let times = values.iter().map(|value| {
                parse_time(value).ok_or_else(|| {
                    format!(
                        "{value:?} is no time such as 2026-01-15T00:00:00Z, and no number of seconds"
                    )
                })
            });
            return Ok(Some((Self::Time(comparison, times.collect::<Result<_, _>>()?), negated)));
        }
        Ok(Some(match name {
            "StringEquals" => (Self::Equals(templates(Template::parse_exact)?), false),
            "StringNotEquals" => (Self::Equals(templates(Template::parse_exact)?), true),
            "StringEqualsIgnoreCase" => {
                (Self::EqualsIgnoreCase(templates(Template::parse_exact)?), false)
            }
            "StringNotEqualsIgnoreCase" => {
                (Self::EqualsIgnoreCase(templates(Template::parse_exact)?), true)
            }
            // Both do the same, as on AWS.
            "ArnEquals" | "ArnLike" => (Self::Arn(templates(parse_arn)?), false),
            "ArnNotEquals" | "ArnNotLike" => (Self::Arn(templates(parse_arn)?), true),
            "StringLike" => (Self::Like(templates(Template::parse)?), false),
            "StringNotLike" => (Self::Like(templates(Template::parse)?), true),
            "Bool" => {
                values.iter().try_for_each(|value| parse_bool(value).map(|_| ()))?;
                (Self::EqualsIgnoreCase(templates(Template::parse_exact)?), false)
            }
            "IpAddress" | "NotIpAddress" if *key == Variable::SourceIp => {
                let networks = values.iter().map(|value| Network::parse(value));
                (Self::Ip(networks.collect::<Result<_, _>>()?), name == "NotIpAddress")
            }
            "IpAddress" | "NotIpAddress" => {
                return Err("only aws:SourceIp can be compared with addresses".to_owned());
            }
            _ => return Ok(None),
        }))
    }

    /// `None` when the statement cannot apply because a variable has no value.
    fn fill(&self, context: &Context, for_allow: bool) -> Option<Filled<'_>> {
        let fill = |templates: &[Template]| {
            let mut filled = Vec::new();
            for template in templates {
                match template.fill(context, for_allow) {
                    Some(pattern) => filled.push(pattern),
                    None if for_allow => return None,
                    None => {}
                }
            }
            Some(filled)
        };
        Some(match self {
            Self::Equals(templates) => Filled::Equals(fill(templates)?),
            Self::EqualsIgnoreCase(templates) => Filled::EqualsIgnoreCase(
                fill(templates)?.iter().map(|text| lower(&String::from_utf8_lossy(text))).collect(),
            ),
            Self::Like(templates) => Filled::Like(fill(templates)?),
            Self::Arn(templates) => Filled::Arn(fill(templates)?),
            Self::Number(comparison, numbers) => Filled::Number(*comparison, numbers),
            Self::Time(comparison, times) => Filled::Time(*comparison, times),
            Self::Ip(networks) => Filled::Ip(networks),
            Self::Null(_) => return None,
        })
    }
}

/// A test whose variables are filled in.
enum Filled<'t> {
    Equals(Vec<Vec<u8>>),
    EqualsIgnoreCase(Vec<String>),
    Like(Vec<Vec<u8>>),
    Arn(Vec<Vec<u8>>),
    Number(Comparison, &'t [Number]),
    Time(Comparison, &'t [jiff::Timestamp]),
    Ip(&'t [Network]),
}

impl Filled<'_> {
    fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Equals(texts) => texts.iter().any(|text| text == value.as_bytes()),
            Self::EqualsIgnoreCase(texts) => texts.contains(&lower(value)),
            Self::Like(patterns) => {
                patterns.iter().any(|pattern| glob::matches(pattern, value.as_bytes()))
            }
            Self::Arn(patterns) => patterns.iter().any(|pattern| matches_arn(pattern, value)),
            Self::Number(comparison, numbers) => Number::parse(value).is_some_and(|value| {
                numbers.iter().any(|number| comparison.accepts(value.compare(number)))
            }),
            Self::Time(comparison, times) => parse_time(value)
                .is_some_and(|value| times.iter().any(|time| comparison.accepts(value.cmp(time)))),
            Self::Ip(networks) => value
                .parse()
                .is_ok_and(|address| networks.iter().any(|network| network.contains(address))),
        }
    }
}

/// A pattern with wildcards whose parts are matched each by itself.
fn parse_arn(text: &str) -> Result<Template, String> {
    if text.splitn(ARN_PARTS, ':').count() < ARN_PARTS || !text.starts_with("arn:") {
        return Err(format!(
            "{text:?} is no ARN such as arn:aws:iot:us-east-1:123456789012:thing/lamp"
        ));
    }
    Template::parse(text)
}

fn matches_arn(pattern: &[u8], value: &str) -> bool {
    let (patterns, values) =
        (pattern.splitn(ARN_PARTS, |byte| *byte == b':'), value.splitn(ARN_PARTS, ':'));
    values.clone().count() == ARN_PARTS
        && patterns.zip(values).all(|(pattern, value)| glob::matches(pattern, value.as_bytes()))
}

fn lower(text: &str) -> String {
    text.to_lowercase()
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match &*text.to_ascii_lowercase() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{text:?} is neither \"true\" nor \"false\"")),
    }
}

/// An address with the number of leading bits that count, e.g. `10.0.0.0/8`.
#[derive(Clone, Copy, Debug)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is neither an IP address nor a network such as 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        match bits.unwrap_or(max) {
            bits if bits <= max => Ok(Self { address, bits }),
            _ => Err(wrong()),
        }
    }

    fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let shift = 32 - self.bits;
                a.to_bits().checked_shr(shift) == b.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let shift = 128 - self.bits;
                a.to_bits().checked_shr(shift) == b.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}
