//! Figures over the documents that match a query: statistics, cardinality, percentiles, buckets.
//!
//! A field is aggregated as its type: managed fields have one, custom fields are given one. Values of
//! another type are ignored, as on AWS. All figures are exact, percentiles and cardinality too.

use crate::document::canonical;
use crate::index::{Index, Term};
use crate::query::Query;
use crate::set::Bits;
use crate::value::Value;
use std::cmp::Reverse;

/// The type of a field in aggregations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// Numbers, and text that reads as one: attributes are text.
    Number,
    /// Text, also if it reads as a number.
    String,
    /// `true` and `false`; they count as 1 and 0.
    Boolean,
}

/// What the documents of an index are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `AWS_Things`.
    Things,
    /// `AWS_ThingGroups`.
    ThingGroups,
}

impl Kind {
    /// The fields that can be aggregated without being custom; `*` is one name of a shadow.
    pub fn managed_fields(self) -> &'static [(&'static str, FieldType)] {
        match self {
            Self::Things => &[
                ("thingName", FieldType::String),
                ("thingId", FieldType::String),
                ("registry.version", FieldType::Number),
                ("registry.thingTypeName", FieldType::String),
                ("registry.thingGroupNames", FieldType::String),
                ("shadow.version", FieldType::Number),
                ("shadow.hasDelta", FieldType::Boolean),
                ("shadow.name.*.version", FieldType::Number),
                ("shadow.name.*.hasDelta", FieldType::Boolean),
                ("connectivity.connected", FieldType::Boolean),
                ("connectivity.timestamp", FieldType::Number),
                ("connectivity.disconnectReason", FieldType::String),
            ],
            Self::ThingGroups => &[
                ("thingGroupName", FieldType::String),
                ("thingGroupId", FieldType::String),
                ("description", FieldType::String),
                ("parentGroupNames", FieldType::String),
                ("version", FieldType::Number),
            ],
        }
    }

    /// What GetStatistics aggregates when it is asked for no field.
    pub fn default_field(self) -> &'static str {
        match self {
            Self::Things => "registry.version",
            Self::ThingGroups => "version",
        }
    }
}

/// Why a field cannot be aggregated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AggregationError {
    /// It has no type.
    #[error("{field} is neither a managed field nor one of the index's custom fields")]
    UnknownField {
        /// As it was asked for.
        field: String,
    },
    /// Percentiles of text.
    #[error("{field} is not a field of numbers")]
    NotNumeric {
        /// As it was asked for.
        field: String,
    },
    /// Outside of 0 to 100.
    #[error("{percent} is not a percentage; 0 to 100 are allowed")]
    Percent {
        /// As it was asked for.
        percent: f64,
    },
}

/// What GetStatistics answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Documents that match and have a value of the field.
    pub count: u64,
    /// Of their values; `None` when the field is text or nothing matches.
    pub numbers: Option<Aggregation>,
}

/// Figures over numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aggregation {
    /// The arithmetic mean.
    pub average: f64,
    /// Of all values.
    pub sum: f64,
    /// The smallest.
    pub minimum: f64,
    /// The largest.
    pub maximum: f64,
    /// Of all values.
    pub sum_of_squares: f64,
    /// Of the population: the mean square of the distances from the average.
    pub variance: f64,
    /// Its root.
    pub std_deviation: f64,
}

/// What GetBucketsAggregation answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// Documents that match the query, with a value or without.
    pub total_count: u64,
    /// The largest first, equal ones in the order of their values.
    pub buckets: Vec<Bucket>,
}

/// A value, and how many have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The value in lower case, since searches do not tell cases apart.
    pub key: String,
    /// Documents that have it.
    pub count: u64,
}

impl Index {
    /// GetStatistics.
    ///
    /// # Errors
    /// [`AggregationError::UnknownField`].
    pub fn statistics(&self, query: &Query, field: &str) -> Result<Statistics, AggregationError> {
        let field_type = self.type_of(field)?;
        let matched = self.matched(query);
        let mut documents = Bits::default();
        self.terms_of(field, field_type).for_each(|term| term.documents.add_to(&mut documents));
        documents.intersect(&matched);
        let numbers = figures(&self.numbers(field, field_type, &matched));
        Ok(Statistics { count: documents.count() as u64, numbers })
    }

    /// GetCardinality: how many different values there are.
    ///
    /// # Errors
    /// [`AggregationError::UnknownField`].
    pub fn cardinality(&self, query: &Query, field: &str) -> Result<u64, AggregationError> {
        let field_type = self.type_of(field)?;
        Ok(self.counts(field, field_type, &self.matched(query)).len() as u64)
    }

    /// GetPercentiles: for each percentage the value that so many of the values do not exceed, between
    /// two neighbours in proportion. Empty when nothing matches.
    ///
    /// # Errors
    /// [`AggregationError`], all of its variants.
    pub fn percentiles(
        &self,
        query: &Query,
        field: &str,
        percents: &[f64],
    ) -> Result<Vec<(f64, f64)>, AggregationError> {
        let field_type = self.type_of(field)?;
        if field_type == FieldType::String {
            return Err(AggregationError::NotNumeric { field: field.to_owned() });
        }
        if let Some(percent) = percents.iter().find(|percent| !(0.0..=100.0).contains(*percent)) {
            return Err(AggregationError::Percent { percent: *percent });
        }
        let numbers = self.numbers(field, field_type, &self.matched(query));
        let value = |percent: f64| percentile(&numbers, percent);
        Ok(percents.iter().filter_map(|percent| Some((*percent, value(*percent)?))).collect())
    }

    /// GetBucketsAggregation, by terms: the values that most documents have, at most `buckets_max`.
    ///
    /// # Errors
    /// [`AggregationError::UnknownField`].
    pub fn buckets(
        &self,
        query: &Query,
        field: &str,
        buckets_max: usize,
    ) -> Result<Buckets, AggregationError> {
        let field_type = self.type_of(field)?;
        let matched = self.matched(query);
        let mut counts = self.counts(field, field_type, &matched);
        // Stable: equal ones stay in the order of their values.
        counts.sort_by_key(|(_, count)| Reverse(*count));
        let bucket = |(value, count): &(&Value, u64)| Bucket {
            key: match (field_type, value.number()) {
                // However it was written.
                (FieldType::Number, Some(number)) => number.to_string(),
                _ => value.as_text().into_owned(),
            },
            count: *count,
        };
        let buckets = counts.iter().take(buckets_max).map(bucket).collect();
        Ok(Buckets { total_count: matched.count() as u64, buckets })
    }

    fn type_of(&self, field: &str) -> Result<FieldType, AggregationError> {
        let is_named = |pattern: &str| match pattern.split_once('*') {
            None => pattern == field || canonical(pattern) == field,
            Some((front, back)) => {
                let name = field.strip_prefix(front).and_then(|rest| rest.strip_suffix(back));
                name.is_some_and(|name| !name.is_empty() && !name.contains('.'))
            }
        };
        let mut managed = self.kind.managed_fields().iter();
        let found = managed.find(|(name, _)| is_named(name)).map(|(_, field_type)| *field_type);
        found
            .or_else(|| self.custom_fields.get(field).copied())
            .ok_or_else(|| AggregationError::UnknownField { field: field.to_owned() })
    }

    /// The terms of a field whose values are of its type, in the order of the values.
    fn terms_of(&self, field: &str, field_type: FieldType) -> impl Iterator<Item = &Term> {
        let field = self.field_ids.get(canonical(field)).map(|id| self.fields.get(*id));
        let terms = field.into_iter().flat_map(|field| field.values.iter());
        terms.map(|id| self.terms.get(id)).filter(move |term| match field_type {
            FieldType::String => matches!(term.value, Value::Text(_)),
            field_type => number(&term.value, field_type).is_some(),
        })
    }

    /// Different values in their order, and how many of the documents have each. 1, "1" and "1.0" are one
    /// number, and neighbours in the order.
    fn counts(&self, field: &str, field_type: FieldType, matched: &Bits) -> Vec<(&Value, u64)> {
        let mut counts: Vec<(&Value, u64)> = Vec::new();
        for term in self.terms_of(field, field_type) {
            let count = term.documents.count_in(matched) as u64;
            match counts.last_mut() {
                _ if count == 0 => {}
                Some((value, total))
                    if field_type == FieldType::Number && value.number() == term.value.number() =>
                {
                    *total += count;
                }
                _ => counts.push((&term.value, count)),
            }
        }
        counts
    }

    /// Numbers in ascending order, and how many of the documents have each.
    fn numbers(&self, field: &str, field_type: FieldType, matched: &Bits) -> Vec<(f64, u64)> {
        let counts = self.counts(field, field_type, matched).into_iter();
        counts.filter_map(|(value, count)| Some((number(value, field_type)?, count))).collect()
    }
}

/// The number that a value stands for, if it is of that type.
fn number(value: &Value, field_type: FieldType) -> Option<f64> {
    match (field_type, value) {
        (FieldType::Number, value) => value.number(),
        (FieldType::Boolean, Value::Text(text)) if text.as_str() == "true" => Some(1.0),
        (FieldType::Boolean, Value::Text(text)) if text.as_str() == "false" => Some(0.0),
        _ => None,
    }
}

#[allow(clippy::cast_precision_loss, reason = "fewer than 2^53 documents")]
fn figures(numbers: &[(f64, u64)]) -> Option<Aggregation> {
    let ((minimum, _), (maximum, _)) = (numbers.first()?, numbers.last()?);
    let total = |of: &dyn Fn(f64) -> f64| -> f64 {
        numbers.iter().map(|(number, count)| of(*number) * *count as f64).sum()
    };
    let count = total(&|_| 1.0);
    let sum = total(&|number| number);
    let average = sum / count;
    // Not from the sum of squares: for times in milliseconds nothing would be left of it.
    let variance = total(&|number| (number - average).powi(2)) / count;
    Some(Aggregation {
        average,
        sum,
        minimum: *minimum,
        maximum: *maximum,
        sum_of_squares: total(&|number| number.powi(2)),
        variance,
        std_deviation: variance.sqrt(),
    })
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "fewer than 2^53 documents, and a rank is between none and all of them"
)]
fn percentile(numbers: &[(f64, u64)], percent: f64) -> Option<f64> {
    let count: u64 = numbers.iter().map(|(_, count)| count).sum();
    let rank = percent / 100.0 * count.checked_sub(1)? as f64;
    let at = |rank: u64| {
        let mut behind = 0;
        let found = numbers.iter().find(|(_, count)| {
            behind += count;
            behind > rank
        });
        found.map(|(number, _)| *number)
    };
    let (low, high) = (at(rank.floor() as u64)?, at(rank.ceil() as u64)?);
    Some(low + (high - low) * rank.fract())
}
