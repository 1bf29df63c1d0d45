//! Thing types: create, describe, list, update, deprecate, delete.

use crate::Services;
use crate::call::{Answer, Call, encode_token, epoch_seconds};
use crate::error::ApiError;
use crate::iot::tags::{self, TagBody};
use crate::router::{Handlers, handlers};
use gnomon_core::ids::ThingTypeName;
use gnomon_core::registry::{
    PropagatingAttribute, Registry, ThingType, ThingTypeProperties, ThingTypeUpdate,
};
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    CreateThingType => create;
    DescribeThingType => describe;
    ListThingTypes => list;
    UpdateThingType => update;
    DeprecateThingType => deprecate;
    DeleteThingType => delete;
};

/// AWS: `ThingTypeProperties`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Properties {
    thing_type_description: Option<String>,
    searchable_attributes: Option<Vec<String>>,
    mqtt5_configuration: Option<Mqtt5Configuration>,
}

/// AWS: `Mqtt5Configuration`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mqtt5Configuration {
    #[serde(default)]
    propagating_attributes: Vec<Propagating>,
}

/// AWS: `PropagatingAttribute`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Propagating {
    user_property_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_attribute: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_attribute: Option<String>,
}

impl Mqtt5Configuration {
    fn parse(self) -> Result<Vec<PropagatingAttribute>, ApiError> {
        let parse = |it: Propagating| {
            let connection_attribute = it.connection_attribute.as_deref();
            PropagatingAttribute::new(
                it.user_property_key,
                it.thing_attribute,
                connection_attribute,
            )
        };
        Ok(self.propagating_attributes.into_iter().map(parse).collect::<Result<_, _>>()?)
    }
}

async fn create(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        thing_type_properties: Option<Properties>,
        #[serde(default)]
        tags: Vec<TagBody>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        thing_type_name: &'a str,
        thing_type_arn: String,
        thing_type_id: &'a str,
    }
    let name = name(call)?;
    let Members { thing_type_properties, tags } = call.members()?;
    let properties = thing_type_properties.unwrap_or_default();
    let propagating = properties.mqtt5_configuration.map(Mqtt5Configuration::parse).transpose()?;
    let tags = tags::parse(tags)?;
    let properties = ThingTypeProperties::new(
        properties.thing_type_description,
        properties.searchable_attributes.unwrap_or_default(),
    )?;
    let properties = properties.propagating(propagating.unwrap_or_default())?;
    let made = services.registry.create_thing_type(&name, properties).await?;
    services.registry.tag(&resource(&name), &tags).await?;
    Answer::members(&Body {
        thing_type_name: name.as_str(),
        thing_type_arn: services.registry.thing_type_arn(&name),
        thing_type_id: &made.id,
    })
}

async fn describe(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        thing_type_id: &'a str,
        #[serde(flatten)]
        definition: Definition<'a>,
    }
    let thing_type = services.registry.describe_thing_type(&name(call)?).await?;
    let definition = Definition::new(&thing_type, &services.registry);
    Answer::members(&Body { thing_type_id: &thing_type.id, definition })
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        thing_types: Vec<Definition<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let page = call.page("maxResults", "nextToken")?;
    let name = call.query("thingTypeName")?;
    let found = services.registry.list_thing_types(name, page.request()).await?;
    let types = found.items.iter().map(|it| Definition::new(it, &services.registry));
    Answer::members(&Body {
        thing_types: types.collect(),
        next_token: found.next.as_deref().map(encode_token),
    })
}

async fn update(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        #[serde(default)]
        thing_type_properties: Properties,
    }
    let Members { thing_type_properties: properties } = call.members()?;
    let propagating = properties.mqtt5_configuration.map(Mqtt5Configuration::parse).transpose()?;
    let update = ThingTypeUpdate {
        description: properties.thing_type_description,
        searchable_attributes: properties.searchable_attributes,
        propagating_attributes: propagating,
    };
    services.registry.update_thing_type(&name(call)?, &update).await?;
    Ok(Answer::empty())
}

async fn deprecate(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        #[serde(default)]
        undo_deprecate: bool,
    }
    let Members { undo_deprecate } = call.members()?;
    services.registry.deprecate_thing_type(&name(call)?, undo_deprecate).await?;
    Ok(Answer::empty())
}

async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let name = name(call)?;
    services.registry.delete_thing_type(&name).await?;
    services.registry.forget_tags(&resource(&name)).await?;
    Ok(Answer::empty())
}

fn name(call: &Call<'_>) -> Result<ThingTypeName, ApiError> {
    Ok(ThingTypeName::parse(call.label("thingTypeName"))?)
}

/// As tags call it.
fn resource(name: &ThingTypeName) -> String {
    format!("thingtype/{name}")
}

/// AWS: `ThingTypeDefinition`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Definition<'a> {
    thing_type_name: &'a str,
    thing_type_arn: String,
    thing_type_properties: PropertiesBody<'a>,
    thing_type_metadata: Metadata,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PropertiesBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_type_description: Option<&'a str>,
    searchable_attributes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    mqtt5_configuration: Option<Mqtt5Body>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Mqtt5Body {
    propagating_attributes: Vec<Propagating>,
}

impl Mqtt5Body {
    fn new(attributes: &[PropagatingAttribute]) -> Option<Self> {
        let propagating = |it: &PropagatingAttribute| Propagating {
            user_property_key: Some(it.user_property.clone()),
            thing_attribute: it.thing_attribute().map(str::to_owned),
            connection_attribute: it.connection_attribute().map(str::to_owned),
        };
        let propagating_attributes = attributes.iter().map(propagating).collect();
        (!attributes.is_empty()).then_some(Self { propagating_attributes })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    deprecated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecation_date: Option<f64>,
    creation_date: f64,
}

impl<'a> Definition<'a> {
    fn new(thing_type: &'a ThingType, registry: &Registry) -> Self {
        Self {
            thing_type_name: thing_type.name.as_str(),
            thing_type_arn: registry.thing_type_arn(&thing_type.name),
            thing_type_properties: PropertiesBody {
                thing_type_description: thing_type.properties.description(),
                searchable_attributes: thing_type.properties.searchable_attributes(),
                mqtt5_configuration: Mqtt5Body::new(thing_type.properties.propagating_attributes()),
            },
            thing_type_metadata: Metadata {
                deprecated: thing_type.deprecated_at.is_some(),
                deprecation_date: thing_type.deprecated_at.map(epoch_seconds),
                creation_date: epoch_seconds(thing_type.created_at),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use serde_json::json;

    const LAMP: &str = r#"{"thingTypeProperties": {"thingTypeDescription": "gives light",
        "searchableAttributes": ["watts"]}}"#;

    #[tokio::test]
    async fn a_thing_type_lives_from_create_to_delete() {
        let host = TestHost::new().await;
        let made = host.iot("POST", "/thing-types/Lamp", LAMP).await;
        let id = made["thingTypeId"].clone();
        let arn = "arn:aws:iot:us-east-1:123456789012:thingtype/Lamp";
        let expected = json!({"thingTypeName": "Lamp", "thingTypeArn": arn, "thingTypeId": id});
        assert_eq!(made, expected);
        assert_eq!(host.iot("POST", "/thing-types/Lamp", LAMP).await, expected);
        let mut definition = json!({
            "thingTypeName": "Lamp",
            "thingTypeArn": arn,
            "thingTypeProperties":
                {"thingTypeDescription": "gives light", "searchableAttributes": ["watts"]},
            "thingTypeMetadata": {"deprecated": false, "creationDate": 1_795_435_200.5},
        });
        let listed = json!({"thingTypes": [definition]});
        assert_eq!(host.iot("GET", "/thing-types", "").await, listed);
        assert_eq!(host.iot("GET", "/thing-types?thingTypeName=Lamp", "").await, listed);
        let none = host.iot("GET", "/thing-types?thingTypeName=Lam", "").await;
        assert_eq!(none, json!({"thingTypes": []}));
        host.iot("POST", "/thing-types/Lamp/deprecate", "").await;
        definition["thingTypeMetadata"]["deprecated"] = true.into();
        definition["thingTypeMetadata"]["deprecationDate"] = json!(1_795_435_200.5);
        definition["thingTypeId"] = id;
        assert_eq!(host.iot("GET", "/thing-types/Lamp", "").await, definition);
        host.iot("POST", "/thing-types/Lamp/deprecate", r#"{"undoDeprecate": true}"#).await;
        let again = host.iot("GET", "/thing-types/Lamp", "").await;
        assert_eq!(again["thingTypeMetadata"]["deprecated"], false);
        host.iot("POST", "/thing-types/Lamp/deprecate", "{}").await;
        host.iot("DELETE", "/thing-types/Lamp", "").await;
        assert_eq!(host.iot("GET", "/thing-types", "").await, json!({"thingTypes": []}));
    }

    #[tokio::test]
    async fn a_thing_has_a_type_and_then_more_attributes() {
        let host = TestHost::new().await;
        host.iot("POST", "/thing-types/Lamp", LAMP).await;
        let attributes: serde_json::Map<_, _> =
            (0..50).map(|n| (format!("a{n}"), json!("x"))).collect();
        let body = json!({"thingTypeName": "Lamp", "attributePayload": {"attributes": attributes}});
        host.iot("POST", "/things/L1", &body.to_string()).await;
        assert_eq!(host.iot("GET", "/things/L1", "").await["thingTypeName"], "Lamp");
        host.iot("POST", "/things/L2", "").await;
        let lamps = host.iot("GET", "/things?thingTypeName=Lamp", "").await;
        assert_eq!(lamps["things"].as_array().unwrap().len(), 1);
        host.iot("PATCH", "/things/L2", r#"{"thingTypeName": "Lamp"}"#).await;
        assert_eq!(host.iot("GET", "/things/L2", "").await["thingTypeName"], "Lamp");
        // With its type it would lose the room for its attributes.
        let remove = r#"{"removeThingType": true}"#;
        host.check_refused("PATCH", "/things/L1", remove, "InvalidRequestException", "at most 3")
            .await;
        host.iot("PATCH", "/things/L2", remove).await;
        assert_eq!(host.iot("GET", "/things/L2", "").await.get("thingTypeName"), None);
        host.iot("POST", "/thing-types/Lamp/deprecate", "").await;
        // The same again is no new thing.
        host.iot("POST", "/things/L1", &body.to_string()).await;
    }

    #[tokio::test]
    async fn a_thing_type_is_updated_in_what_is_given() {
        let host = TestHost::new().await;
        let propagating = json!([
            {"userPropertyKey": "site", "thingAttribute": "site"},
            {"userPropertyKey": "iot:id", "connectionAttribute": "iot:ClientId"},
            {"userPropertyKey": "$name", "connectionAttribute": "iot:Thing.ThingName"},
        ]);
        let with = |propagating: &serde_json::Value| json!({"propagatingAttributes": propagating});
        let body = json!({"thingTypeProperties": {"mqtt5Configuration": with(&propagating)}});
        for _ in 0..2 {
            host.iot("POST", "/thing-types/Lamp", &body.to_string()).await;
        }
        let exists = "ResourceAlreadyExistsException";
        host.check_refused("POST", "/thing-types/Lamp", LAMP, exists, "other properties").await;
        let properties = async || {
            let described = host.iot("GET", "/thing-types/Lamp", "").await;
            let listed = host.iot("GET", "/thing-types", "").await;
            let properties = described["thingTypeProperties"].clone();
            assert_eq!(listed["thingTypes"][0]["thingTypeProperties"], properties);
            properties
        };
        let mut expected =
            json!({"searchableAttributes": [], "mqtt5Configuration": with(&propagating)});
        assert_eq!(properties().await, expected);
        // What is not given stays.
        host.iot("PATCH", "/thing-types/Lamp", LAMP).await;
        expected["thingTypeDescription"] = "gives light".into();
        expected["searchableAttributes"] = json!(["watts"]);
        assert_eq!(properties().await, expected);
        for body in ["", "{}", r#"{"thingTypeProperties": {}}"#] {
            host.iot("PATCH", "/thing-types/Lamp", body).await;
            assert_eq!(properties().await, expected);
        }
        let none = json!({"thingTypeProperties": {"mqtt5Configuration": with(&json!([]))}});
        host.iot("PATCH", "/thing-types/Lamp", &none.to_string()).await;
        expected.as_object_mut().unwrap().remove("mqtt5Configuration");
        assert_eq!(properties().await, expected);
    }

    #[tokio::test]
    async fn what_is_wrong_with_propagating_attributes_is_said() {
        let host = TestHost::new().await;
        host.iot("POST", "/thing-types/Lamp", "").await;
        let site = json!({"userPropertyKey": "site", "thingAttribute": "site"});
        for (attributes, says) in [
            (json!([{"thingAttribute": "a"}]), "userPropertyKey is missing"),
            (json!([{"userPropertyKey": "", "thingAttribute": "a"}]), "must be 1 to 128"),
            (json!([{"userPropertyKey": "a b", "thingAttribute": "a"}]), "must be 1 to 128"),
            (json!([{"userPropertyKey": "x".repeat(129), "thingAttribute": "a"}]), "1 to 128"),
            (json!([{"userPropertyKey": "a"}]), "either thingAttribute or connectionAttribute"),
            (
                json!([{"userPropertyKey": "a", "thingAttribute": "a",
                    "connectionAttribute": "iot:ClientId"}]),
                "give either",
            ),
            (json!([{"userPropertyKey": "a", "thingAttribute": "a b"}]), "attribute name"),
            (
                json!([{"userPropertyKey": "a", "connectionAttribute": "iot:Other"}]),
                "must be iot:ClientId or iot:Thing.ThingName",
            ),
            (vec![site.clone(); 21].into(), "21 propagatingAttributes; at most 20"),
            (json!("site"), "propagatingAttributes: invalid type"),
            (json!([{"userPropertyKey": 1}]), "userPropertyKey: invalid type"),
        ] {
            let configuration = json!({"propagatingAttributes": attributes});
            let properties = json!({"mqtt5Configuration": configuration});
            let body = json!({"thingTypeProperties": properties}).to_string();
            let invalid = "InvalidRequestException";
            host.check_refused("POST", "/thing-types/New", &body, invalid, says).await;
            host.check_refused("PATCH", "/thing-types/Lamp", &body, invalid, says).await;
        }
        let described = host.iot("GET", "/thing-types/Lamp", "").await;
        assert_eq!(described["thingTypeProperties"], json!({"searchableAttributes": []}));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_thing_type_is_said() {
        let host = TestHost::new().await;
        host.iot("POST", "/thing-types/Lamp", LAMP).await;
        host.iot("POST", "/thing-types/Old", "").await;
        host.iot("POST", "/thing-types/Old/deprecate", "").await;
        host.iot("POST", "/things/L1", "").await;
        let properties = |json: serde_json::Value| json!({"thingTypeProperties": json}).to_string();
        let invalid = "InvalidRequestException";
        for (method, target, body, exception, says) in [
            ("POST", "/thing-types/La%20mp", String::new(), invalid, "thing type name"),
            ("POST", "/thing-types/Lamp", String::new(), "ResourceAlreadyExistsException", "other"),
            (
                "POST",
                "/thing-types/New",
                properties(json!({"searchableAttributes": ["a", "b", "c", "d"]})),
                invalid,
                "4 searchableAttributes; at most 3",
            ),
            (
                "POST",
                "/thing-types/New",
                properties(json!({"searchableAttributes": ["a b"]})),
                invalid,
                "attribute name",
            ),
            (
                "POST",
                "/thing-types/New",
                properties(json!({"thingTypeDescription": "a\nb"})),
                invalid,
                "thingTypeDescription has a character at byte 1",
            ),
            (
                "POST",
                "/thing-types/New",
                properties(json!({"thingTypeDescription": "x".repeat(2_029)})),
                invalid,
                "more than 2028",
            ),
            ("PATCH", "/thing-types/None", String::new(), "ResourceNotFoundException", "None"),
            (
                "PATCH",
                "/thing-types/Lamp",
                properties(json!({"searchableAttributes": ["a", "b", "c", "d"]})),
                invalid,
                "4 searchableAttributes; at most 3",
            ),
            ("GET", "/thing-types/None", String::new(), "ResourceNotFoundException", "None"),
            ("DELETE", "/thing-types/None", String::new(), "ResourceNotFoundException", "None"),
            ("DELETE", "/thing-types/Lamp", String::new(), invalid, "deprecate it first"),
            (
                "POST",
                "/thing-types/None/deprecate",
                String::new(),
                "ResourceNotFoundException",
                "thing type None",
            ),
            (
                "POST",
                "/things/New",
                r#"{"thingTypeName": "Old"}"#.to_owned(),
                invalid,
                "deprecated",
            ),
            (
                "PATCH",
                "/things/L1",
                r#"{"thingTypeName": "Old"}"#.to_owned(),
                invalid,
                "deprecated",
            ),
            (
                "PATCH",
                "/things/L1",
                r#"{"thingTypeName": "Lamp", "removeThingType": true}"#.to_owned(),
                invalid,
                "exclude each other",
            ),
        ] {
            host.check_refused(method, target, &body, exception, says).await;
        }
    }
}
