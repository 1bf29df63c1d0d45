//! Fleet indexing: configuration, indexes, searches, aggregations, connectivity of one thing.

use crate::Services;
use crate::call::{Answer, Call, decode_token, encode_token};
use crate::error::{ApiError, Exception};
use crate::iot::things::thing_name;
use crate::router::{Handlers, handlers};
use gnomon_core::fleet::{Connectivity, FleetError, FoundGroup, FoundThing, IndexName};
use gnomon_core::ids::{ShadowName, ThingGroupName, ThingName};
use gnomon_core::registry::{
    CustomFields, ThingGroupIndexing, ThingIndexing, field_type_name, parse_field_type,
};
use gnomon_search::{FieldType, Query, Statistics};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(crate) const HANDLERS: Handlers = handlers! {
    UpdateIndexingConfiguration => configure;
    GetIndexingConfiguration => configuration;
    DescribeIndex => describe;
    ListIndices => list;
    SearchIndex => search;
    GetStatistics => statistics;
    GetCardinality => cardinality;
    GetPercentiles => percentiles;
    GetBucketsAggregation => buckets;
    GetThingConnectivityData => connectivity;
};

/// The only version of the query language.
pub(crate) const QUERY_VERSION: &str = "2017-09-30";

/// What a page of a search has when nobody says how much.
const RESULTS: usize = 100;

/// Most results of a page; who asks for more gets so many, and a token.
const RESULTS_MAX: usize = 500;

/// What GetPercentiles tells when it is asked for none. Source: its API reference.
const PERCENTS: [f64; 7] = [1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0];

/// Most percentages that are asked for.
const PERCENTS_MAX: usize = 100;

/// Most buckets (`MaxBuckets`), and how many there are when nobody says.
const BUCKETS_MAX: usize = 10_000;
const BUCKETS: usize = 10;

impl From<FleetError> for ApiError {
    fn from(error: FleetError) -> Self {
        let exception = match &error {
            FleetError::Registry(error) => return error.clone().into(),
            FleetError::Store(error) => return error.clone().into(),
            FleetError::UnknownIndex(_) => Exception::ResourceNotFound,
            FleetError::Off(_) | FleetError::Building(_) | FleetError::NoConnectivity => {
                Exception::IndexNotReady
            }
            FleetError::Query(_) => Exception::InvalidQuery,
            FleetError::Aggregation(_) => Exception::InvalidAggregation,
            _ => {
                tracing::error!(%error, "a search failed");
                Exception::InternalFailure
            }
        };
        Self::new(exception, error.to_string())
    }
}

/// AWS: `Field`.
#[derive(Deserialize, Serialize)]
struct Field {
    name: String,
    #[serde(rename = "type")]
    field_type: String,
}

fn parse_fields(fields: Vec<Field>) -> Result<CustomFields, ApiError> {
    let mut parsed = CustomFields::new();
    for Field { name, field_type } in fields {
        let field_type = parse_field_type(&field_type)?;
        if parsed.get(&name).is_some_and(|before| *before != field_type) {
            return Err(ApiError::invalid_request(format!("{name} is there with two types")));
        }
        parsed.insert(name, field_type);
    }
    Ok(parsed)
}

fn custom_fields(fields: &CustomFields) -> Vec<Field> {
    let field = |(name, it): (&String, &FieldType)| Field {
        name: name.clone(),
        field_type: field_type_name(*it).to_owned(),
    };
    fields.iter().map(field).collect()
}

fn managed_fields(index: IndexName) -> Vec<Field> {
    let field = |(name, it): &(&str, FieldType)| Field {
        name: (*name).to_owned(),
        field_type: field_type_name(*it).to_owned(),
    };
    index.kind().managed_fields().iter().map(field).collect()
}

/// AWS: `ThingIndexingConfiguration`. Managed fields are told, and of no effect when they come.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ThingConfiguration {
    thing_indexing_mode: String,
    #[serde(default = "off")]
    thing_connectivity_indexing_mode: String,
    #[serde(default = "off")]
    device_defender_indexing_mode: String,
    #[serde(default = "off")]
    named_shadow_indexing_mode: String,
    #[serde(default, skip_deserializing)]
    managed_fields: Vec<Field>,
    #[serde(default)]
    custom_fields: Vec<Field>,
    #[serde(default)]
    filter: Filter,
}

/// AWS: `IndexingFilter`.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    named_shadow_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    geo_locations: Vec<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connectivity: Option<ConnectivityFilter>,
}

/// AWS: `ConnectivityFilter`.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct ConnectivityFilter {
    include_socket_information: Vec<String>,
}

/// The only operation that may be allowed to tell from where a thing is (`FleetIndexingApiList`).
const TELLS_SOCKETS: &str = "GET_THING_CONNECTIVITY_DATA";

/// AWS: `ThingGroupIndexingConfiguration`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ThingGroupConfiguration {
    thing_group_indexing_mode: String,
    #[serde(default, skip_deserializing)]
    managed_fields: Vec<Field>,
    #[serde(default)]
    custom_fields: Vec<Field>,
}

fn off() -> String {
    "OFF".to_owned()
}

/// Which of the modes this is, by its place.
fn mode(member: &str, value: &str, modes: &[&str]) -> Result<usize, ApiError> {
    modes.iter().position(|mode| *mode == value).ok_or_else(|| {
        let modes = modes.join(", ");
        ApiError::invalid_request(format!("{member} is {value:?}; it must be one of {modes}"))
    })
}

impl ThingConfiguration {
    fn parse(self) -> Result<ThingIndexing, ApiError> {
        let modes = ["OFF", "REGISTRY", "REGISTRY_AND_SHADOW"];
        let thing_mode = mode("thingIndexingMode", &self.thing_indexing_mode, &modes)?;
        let on_or_off = |member, value: &str, on| -> Result<bool, ApiError> {
            Ok(mode(member, value, &["OFF", on])? == 1)
        };
        let defender = &self.device_defender_indexing_mode;
        if on_or_off("deviceDefenderIndexingMode", defender, "VIOLATIONS")? {
            return Err(ApiError::invalid_request(
                "deviceDefenderIndexingMode must be OFF: this host has no Device Defender",
            ));
        }
        if !self.filter.geo_locations.is_empty() {
            return Err(ApiError::invalid_request(
                "filter.geoLocations must be empty: this host has no queries by location",
            ));
        }
        let apis = self.filter.connectivity.unwrap_or_default().include_socket_information;
        if let Some(other) = apis.iter().find(|api| *api != TELLS_SOCKETS) {
            return Err(ApiError::invalid_request(format!(
                "filter.connectivity.includeSocketInformation has {other:?}; there is {TELLS_SOCKETS}"
            )));
        }
        let names = self.filter.named_shadow_names.iter().map(|name| ShadowName::parse(name));
        Ok(ThingIndexing {
            registry: thing_mode > 0,
            shadow: thing_mode > 1,
            named_shadows: names.collect::<Result<_, _>>()?,
            named_shadow: on_or_off(
                "namedShadowIndexingMode",
                &self.named_shadow_indexing_mode,
                "ON",
            )?,
            connectivity: on_or_off(
                "thingConnectivityIndexingMode",
                &self.thing_connectivity_indexing_mode,
                "STATUS",
            )?,
            socket_information: !apis.is_empty(),
            custom_fields: parse_fields(self.custom_fields)?,
        })
    }

    fn of(indexing: &ThingIndexing) -> Self {
        let thing_indexing_mode = match (indexing.registry, indexing.shadow) {
            (false, _) => "OFF",
            (true, false) => "REGISTRY",
            (true, true) => "REGISTRY_AND_SHADOW",
        };
        let mode = |is_on: bool, on: &str| if is_on { on.to_owned() } else { off() };
        Self {
            thing_indexing_mode: thing_indexing_mode.to_owned(),
            thing_connectivity_indexing_mode: mode(indexing.connectivity, "STATUS"),
            device_defender_indexing_mode: off(),
            named_shadow_indexing_mode: mode(indexing.named_shadow, "ON"),
            managed_fields: managed_fields(IndexName::Things),
            custom_fields: custom_fields(&indexing.custom_fields),
            filter: Filter {
                named_shadow_names: indexing
                    .named_shadows
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                geo_locations: Vec::new(),
                connectivity: indexing.socket_information.then(|| ConnectivityFilter {
                    include_socket_information: vec![TELLS_SOCKETS.to_owned()],
                }),
            },
        }
    }
}

impl ThingGroupConfiguration {
    fn parse(self) -> Result<ThingGroupIndexing, ApiError> {
        let value = &self.thing_group_indexing_mode;
        Ok(ThingGroupIndexing {
            enabled: mode("thingGroupIndexingMode", value, &["OFF", "ON"])? == 1,
            custom_fields: parse_fields(self.custom_fields)?,
        })
    }

    fn of(indexing: &ThingGroupIndexing) -> Self {
        let mode = if indexing.enabled { "ON" } else { "OFF" };
        Self {
            thing_group_indexing_mode: mode.to_owned(),
            managed_fields: managed_fields(IndexName::ThingGroups),
            custom_fields: custom_fields(&indexing.custom_fields),
        }
    }
}

async fn configure(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        thing_indexing_configuration: Option<ThingConfiguration>,
        thing_group_indexing_configuration: Option<ThingGroupConfiguration>,
    }
    let members: Members = call.members()?;
    let things = members.thing_indexing_configuration;
    let things = things.map(ThingConfiguration::parse).transpose()?;
    let groups = members.thing_group_indexing_configuration;
    let groups = groups.map(ThingGroupConfiguration::parse).transpose()?;
    services.fleet.configure(things.as_ref(), groups.as_ref()).await?;
    Ok(Answer::empty())
}

async fn configuration(services: &Services, _: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        thing_indexing_configuration: ThingConfiguration,
        thing_group_indexing_configuration: ThingGroupConfiguration,
    }
    let configuration = services.fleet.configuration();
    Answer::members(&Body {
        thing_indexing_configuration: ThingConfiguration::of(&configuration.things),
        thing_group_indexing_configuration: ThingGroupConfiguration::of(&configuration.groups),
    })
}

async fn describe(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        index_name: &'a str,
        index_status: &'a str,
        schema: &'a str,
    }
    let index = IndexName::parse(call.label("indexName"))?;
    let Some(status) = services.fleet.status(index) else {
        return Err(ApiError::not_found(FleetError::Off(index).to_string()));
    };
    let configuration = services.fleet.configuration();
    Answer::members(&Body {
        index_name: index.as_str(),
        index_status: status.as_str(),
        schema: schema(index, &configuration.things),
    })
}

/// AWS: `IndexSchema`.
fn schema(index: IndexName, indexing: &ThingIndexing) -> &'static str {
    match index {
        IndexName::ThingGroups => "THING_GROUP_INDEX",
        IndexName::Things if indexing.named_shadow => "MULTI_INDEXING_MODE",
        IndexName::Things => match (indexing.shadow, indexing.connectivity) {
            (false, false) => "REGISTRY",
            (true, false) => "REGISTRY_AND_SHADOW",
            (false, true) => "REGISTRY_AND_CONNECTIVITY_STATUS",
            (true, true) => "REGISTRY_AND_SHADOW_AND_CONNECTIVITY_STATUS",
        },
    }
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        index_names: Vec<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let page = call.page("maxResults", "nextToken")?;
    let is_on = |index: &IndexName| services.fleet.status(*index).is_some();
    let mut names: Vec<_> =
        IndexName::ALL.into_iter().filter(is_on).map(IndexName::as_str).collect();
    names.sort_unstable();
    names.retain(|name| page.after.as_deref().is_none_or(|after| *name > after));
    let has_more = names.len() > page.limit;
    names.truncate(page.limit);
    let next_token = names.last().filter(|_| has_more).map(|last| encode_token(last));
    Answer::members(&Body { index_names: names, next_token })
}

/// What all questions have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    index_name: Option<String>,
    query_string: String,
    query_version: Option<String>,
    aggregation_field: Option<String>,
}

impl Question {
    fn parse(&self) -> Result<(IndexName, Query, String), ApiError> {
        let index = parse_index(self.index_name.as_deref())?;
        check_version(self.query_version.as_deref())?;
        let query = Query::parse(&self.query_string).map_err(FleetError::from)?;
        let field = self.aggregation_field.as_deref();
        if field == Some("") {
            return Err(ApiError::invalid_request("aggregationField must not be empty"));
        }
        Ok((index, query, field.unwrap_or_else(|| index.kind().default_field()).to_owned()))
    }
}

pub(crate) fn parse_index(name: Option<&str>) -> Result<IndexName, ApiError> {
    Ok(name.map_or(Ok(IndexName::Things), IndexName::parse)?)
}

pub(crate) fn check_version(version: Option<&str>) -> Result<(), ApiError> {
    match version {
        None | Some(QUERY_VERSION) => Ok(()),
        Some(other) => Err(ApiError::invalid_request(format!(
            "queryVersion {other:?} is not known; there is {QUERY_VERSION}"
        ))),
    }
}

async fn search(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        #[serde(flatten)]
        question: Question,
        next_token: Option<String>,
        max_results: Option<usize>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        things: Option<Vec<ThingDocument>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        thing_groups: Option<Vec<ThingGroupDocument>>,
    }
    let Members { question, next_token, max_results } = call.members()?;
    let (index, query, _) = question.parse()?;
    let limit = max_results.unwrap_or(RESULTS).min(RESULTS_MAX);
    if limit == 0 {
        return Err(ApiError::invalid_request("maxResults must be at least 1"));
    }
    let after = next_token.as_deref().map(decode_token).transpose()?;
    let fleet = &services.fleet;
    let page = fleet.search(index, query, after, limit).await?;
    let mut body = Body {
        next_token: page.next.as_deref().map(encode_token),
        things: None,
        thing_groups: None,
    };
    // What has gone since then is left out.
    match index {
        IndexName::Things => {
            let names = page.items.iter().map(|name| ThingName::parse(name));
            let found = fleet.things(&names.collect::<Result<Vec<_>, _>>()?).await?;
            body.things = Some(found.into_iter().map(ThingDocument::of).collect());
        }
        IndexName::ThingGroups => {
            let mut groups = Vec::new();
            for name in &page.items {
                let found = fleet.group(&ThingGroupName::parse(name)?).await?;
                groups.extend(found.map(ThingGroupDocument::of));
            }
            body.thing_groups = Some(groups);
        }
    }
    Answer::members(&body)
}

/// AWS: `ThingDocument`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThingDocument {
    thing_name: String,
    thing_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_type_name: Option<String>,
    thing_group_names: Vec<String>,
    attributes: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connectivity: Option<ThingConnectivity>,
}

/// AWS: `ThingConnectivity`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThingConnectivity {
    connected: bool,
    /// Milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect_reason: Option<String>,
    client_id: String,
}

impl ThingDocument {
    fn of(found: FoundThing) -> Self {
        let FoundThing { thing, groups, shadow, connectivity } = found;
        let name = thing.name.to_string();
        Self {
            connectivity: connectivity.map(|it| ThingConnectivity {
                connected: it.connected,
                timestamp: it.since_ms,
                disconnect_reason: it.disconnect_reason,
                client_id: it.client_id.unwrap_or_else(|| name.clone()),
            }),
            thing_name: name,
            thing_id: thing.id,
            thing_type_name: thing.type_name.as_ref().map(ToString::to_string),
            thing_group_names: groups.iter().map(ToString::to_string).collect(),
            attributes: thing.attributes.values().clone(),
            shadow,
        }
    }
}

/// AWS: `ThingGroupDocument`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThingGroupDocument {
    thing_group_name: String,
    thing_group_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_group_description: Option<String>,
    attributes: BTreeMap<String, String>,
    parent_group_names: Vec<String>,
}

impl ThingGroupDocument {
    fn of(FoundGroup { group, parents }: FoundGroup) -> Self {
        Self {
            thing_group_name: group.name.to_string(),
            thing_group_id: group.id,
            thing_group_description: group.properties.description,
            attributes: group.properties.attributes.values().clone(),
            parent_group_names: parents.iter().map(ToString::to_string).collect(),
        }
    }
}

async fn statistics(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    struct Body {
        statistics: Figures,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Figures {
        count: u64,
        #[serde(flatten)]
        numbers: Option<Numbers>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Numbers {
        average: f64,
        sum: f64,
        minimum: f64,
        maximum: f64,
        sum_of_squares: f64,
        variance: f64,
        std_deviation: f64,
    }
    let (index, query, field) = call.members::<Question>()?.parse()?;
    let Statistics { count, numbers } = services.fleet.statistics(index, query, field).await?;
    let numbers = numbers.map(|it| Numbers {
        average: it.average,
        sum: it.sum,
        minimum: it.minimum,
        maximum: it.maximum,
        sum_of_squares: it.sum_of_squares,
        variance: it.variance,
        std_deviation: it.std_deviation,
    });
    Answer::members(&Body { statistics: Figures { count, numbers } })
}

async fn cardinality(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    struct Body {
        cardinality: u64,
    }
    let (index, query, field) = call.members::<Question>()?.parse()?;
    let cardinality = services.fleet.cardinality(index, query, field).await?;
    Answer::members(&Body { cardinality })
}

async fn percentiles(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Members {
        #[serde(flatten)]
        question: Question,
        #[serde(default)]
        percents: Vec<f64>,
    }
    #[derive(Serialize)]
    struct Body {
        percentiles: Vec<Pair>,
    }
    #[derive(Serialize)]
    struct Pair {
        percent: f64,
        value: f64,
    }
    let Members { question, mut percents } = call.members()?;
    if percents.len() > PERCENTS_MAX {
        let message = format!("percents has more than {PERCENTS_MAX} elements");
        return Err(ApiError::invalid_request(message));
    }
    if percents.is_empty() {
        percents = PERCENTS.to_vec();
    }
    let (index, query, field) = question.parse()?;
    let found = services.fleet.percentiles(index, query, field, percents).await?;
    let pair = |(percent, value)| Pair { percent, value };
    Answer::members(&Body { percentiles: found.into_iter().map(pair).collect() })
}

async fn buckets(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        #[serde(flatten)]
        question: Question,
        buckets_aggregation_type: AggregationType,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct AggregationType {
        terms_aggregation: Option<Terms>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Terms {
        max_buckets: Option<usize>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        total_count: u64,
        buckets: Vec<Bucket>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Bucket {
        key_value: String,
        count: u64,
    }
    let Members { question, buckets_aggregation_type } = call.members()?;
    let Some(terms) = buckets_aggregation_type.terms_aggregation else {
        let message = "bucketsAggregationType has to have termsAggregation";
        return Err(ApiError::invalid_request(message));
    };
    if question.aggregation_field.is_none() {
        return Err(ApiError::invalid_request("aggregationField is missing"));
    }
    let max = terms.max_buckets.unwrap_or(BUCKETS);
    if !(1..=BUCKETS_MAX).contains(&max) {
        let message = format!("maxBuckets is {max}; it must be 1 to {BUCKETS_MAX}");
        return Err(ApiError::invalid_request(message));
    }
    let (index, query, field) = question.parse()?;
    let found = services.fleet.buckets(index, query, field, max).await?;
    let bucket = |it: gnomon_search::Bucket| Bucket { key_value: it.key, count: it.count };
    Answer::members(&Body {
        total_count: found.total_count,
        buckets: found.buckets.into_iter().map(bucket).collect(),
    })
}

async fn connectivity(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        #[serde(default)]
        include_socket_information: bool,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        thing_name: &'a str,
        connected: bool,
        /// Seconds since the Unix epoch.
        #[serde(skip_serializing_if = "Option::is_none")]
        timestamp: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        disconnect_reason: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        source_ip: Option<String>,
        client_id: String,
    }
    let Members { include_socket_information } = call.members()?;
    let name = thing_name(call)?;
    let found: Connectivity = services.fleet.connectivity(&name).await?;
    Answer::members(&Body {
        thing_name: name.as_str(),
        connected: found.connected,
        timestamp: found.since_ms.map(|millis| millis as f64 / 1_000.0),
        disconnect_reason: found.disconnect_reason,
        source_ip: found.source_ip.filter(|_| include_socket_information),
        client_id: found.client_id.unwrap_or_else(|| name.to_string()),
    })
}

#[cfg(test)]
pub(crate) mod tests;
