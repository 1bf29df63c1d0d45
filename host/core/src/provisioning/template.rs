//! The document of a provisioning template.
//!
//! In: JSON text; then parameters. Out: [`Template`], or what is wrong with the text and where; then a
//! [`Plan`] of what is to be there. Not here: carrying it out (`apply`).
//!
//! Source: AWS IoT developer guide, "Provisioning templates".

use super::expression::{self, Mappings, Scope};
use crate::ids::{
    BillingGroupName, CertificateId, PolicyName, ThingGroupName, ThingName, ThingTypeName,
};
use crate::registry::{Attributes, CertificateStatus};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Longest document. Source: the shape `TemplateBody`.
const TEMPLATE_BYTES_MAX: usize = 10_240;

/// Parameters of one call, and the longest of them: a certificate in PEM may be among them.
const PARAMETERS_MAX: usize = 200;
const PARAMETER_BYTES_MAX: usize = 65_536;

/// Built-in parameter: the id of the certificate that is provisioned.
const CERTIFICATE_ID: &str = "AWS::IoT::Certificate::Id";

/// Built-in parameters of just-in-time provisioning, and the field of the presented certificate's
/// subject that each is.
const SUBJECT_PARAMETERS: [(&str, &str); 7] = [
    ("AWS::IoT::Certificate::Country", "Subject.Country"),
    ("AWS::IoT::Certificate::Organization", "Subject.Organization"),
    ("AWS::IoT::Certificate::OrganizationalUnit", "Subject.OrganizationalUnit"),
    ("AWS::IoT::Certificate::DistinguishedNameQualifier", "Subject.DistinguishedNameQualifier"),
    ("AWS::IoT::Certificate::StateName", "Subject.State"),
    ("AWS::IoT::Certificate::CommonName", "Subject.CommonName"),
    ("AWS::IoT::Certificate::SerialNumber", "Subject.SerialNumber"),
];

/// What a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// RegisterThing and bulk registration: part of the request.
    Request,
    /// Just-in-time provisioning: the template of a CA.
    JustInTime,
    /// Fleet provisioning: devices ask for it.
    Fleet,
}

/// A template that can be carried out.
#[derive(Debug)]
pub struct Template {
    /// With their defaults.
    parameters: BTreeMap<String, Option<String>>,
    mappings: Mappings,
    thing: Option<(String, ThingResource)>,
    certificate: Option<(String, CertificateResource)>,
    policies: Vec<(String, PolicyResource)>,
    device_configuration: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Document {
    #[serde(default)]
    parameters: BTreeMap<String, Parameter>,
    #[serde(default)]
    mappings: Mappings,
    resources: BTreeMap<String, Resource>,
    #[serde(default)]
    device_configuration: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    #[serde(rename = "Type")]
    kind: String,
    default: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "Type")]
enum Resource {
    #[serde(rename = "AWS::IoT::Thing")]
    Thing(ThingResource),
    #[serde(rename = "AWS::IoT::Certificate")]
    Certificate(CertificateResource),
    #[serde(rename = "AWS::IoT::Policy")]
    Policy(PolicyResource),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ThingResource {
    properties: ThingProperties,
    #[serde(default)]
    override_settings: ThingOverrides,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ThingProperties {
    thing_name: Value,
    #[serde(default)]
    attribute_payload: Map<String, Value>,
    thing_type_name: Option<Value>,
    thing_groups: Option<Value>,
    billing_group: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CertificateResource {
    properties: CertificateProperties,
    #[serde(default)]
    override_settings: CertificateOverrides,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct CertificateProperties {
    certificate_signing_request: Option<Value>,
    certificate_id: Option<Value>,
    certificate_pem: Option<Value>,
    #[serde(rename = "CACertificatePem")]
    ca_certificate_pem: Option<Value>,
    status: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PolicyResource {
    properties: PolicyProperties,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct PolicyProperties {
    policy_name: Option<Value>,
    policy_document: Option<Value>,
}

/// What happens to what is there already (`OverrideSettings`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Override {
    /// It stays.
    DoNothing,
    /// The template's takes its place.
    Replace,
    /// Both; the template's wins. What is not said.
    #[default]
    Merge,
    /// Nothing is provisioned.
    Fail,
}

/// What there is one of cannot be merged.
fn of_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Override, D::Error> {
    match Override::deserialize(deserializer)? {
        Override::Merge => Err(D::Error::custom("MERGE is for AttributePayload and ThingGroups")),
        other => Ok(other),
    }
}

/// For a thing that exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(super) struct ThingOverrides {
    pub(super) attribute_payload: Override,
    #[serde(deserialize_with = "of_one")]
    pub(super) thing_type_name: Override,
    pub(super) thing_groups: Override,
}

/// For a certificate that is registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(super) struct CertificateOverrides {
    #[serde(deserialize_with = "of_one")]
    pub(super) status: Override,
}

/// What is to be there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) thing: Option<(String, ThingPlan)>,
    pub(super) certificate: Option<(String, CertificatePlan)>,
    pub(super) policies: Vec<(String, PolicyPlan)>,
    pub(super) device_configuration: Map<String, Value>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct ThingPlan {
    pub(super) name: ThingName,
    pub(super) attributes: Attributes,
    pub(super) type_name: Option<ThingTypeName>,
    pub(super) groups: BTreeSet<ThingGroupName>,
    pub(super) billing_group: Option<BillingGroupName>,
    pub(super) overrides: ThingOverrides,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct CertificatePlan {
    pub(super) source: CertificateSource,
    pub(super) status: CertificateStatus,
    pub(super) overrides: CertificateOverrides,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum CertificateSource {
    /// Signed here.
    Request(String),
    /// It is registered.
    Id(CertificateId),
    /// It is registered, or comes with the template; `ca` signed it.
    Pem { certificate: String, ca: Option<String> },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum PolicyPlan {
    /// It exists.
    Named(PolicyName),
    /// Its name is made of the document.
    Document(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it and where.
    pub fn parse(text: &str, used: Use) -> Result<Self, String> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(format!("the template has more than {TEMPLATE_BYTES_MAX} bytes"));
        }
        let document: Document = serde_json::from_str(text).map_err(|it| it.to_string())?;
        let mut template = Self {
            parameters: BTreeMap::new(),
            mappings: document.mappings,
            thing: None,
            certificate: None,
            policies: Vec::new(),
            device_configuration: document.device_configuration,
        };
        for (name, parameter) in document.parameters {
            if parameter.kind != "String" {
                return Err(format!("Parameters.{name:.128}: Type must be String"));
            }
            template.parameters.insert(name, parameter.default);
        }
        for (name, resource) in document.resources {
            let taken = match resource {
                Resource::Thing(thing) => template.thing.replace((name, thing)).is_some(),
                Resource::Certificate(it) => template.certificate.replace((name, it)).is_some(),
                Resource::Policy(policy) => {
                    template.policies.push((name, policy));
                    false
                }
            };
            if taken {
                return Err("Resources has two things, or two certificates".to_owned());
            }
        }
        template.check(used)?;
        Ok(template)
    }

    /// Everything that can be checked without parameters.
    fn check(&self, used: Use) -> Result<(), String> {
        if let Some((name, it)) = &self.thing {
            self.check_values(used, name, it.properties.values())?;
        }
        if let Some((name, it)) = &self.certificate {
            self.check_values(used, name, it.properties.values())?;
            it.properties.check(used).map_err(|it| format!("Resources.{name:.128}: {it}"))?;
        } else if used != Use::Request || !self.policies.is_empty() {
            return Err("Resources has no AWS::IoT::Certificate".to_owned());
        }
        for (name, it) in &self.policies {
            let PolicyProperties { policy_name, policy_document } = &it.properties;
            if policy_name.is_some() == policy_document.is_some() {
                return Err(format!(
                    "Resources.{name:.128}: a policy has either PolicyName or PolicyDocument"
                ));
            }
            self.check_values(used, name, [policy_name, policy_document].into_iter().flatten())?;
        }
        if used != Use::Fleet && !self.device_configuration.is_empty() {
            return Err("DeviceConfiguration is for fleet provisioning alone".to_owned());
        }
        self.check_values(used, "DeviceConfiguration", self.device_configuration.values())
    }

    fn check_values<'a>(
        &'a self,
        used: Use,
        resource: &str,
        mut values: impl Iterator<Item = &'a Value>,
    ) -> Result<(), String> {
        let is_known = |name: &str| {
            self.parameters.contains_key(name)
                || name == CERTIFICATE_ID
                || used == Use::JustInTime && SUBJECT_PARAMETERS.iter().any(|(it, _)| *it == name)
        };
        values
            .try_for_each(|value| expression::check(value, &is_known))
            .map_err(|problem| format!("{resource:.128}: {problem}"))
    }

    /// What is to be there for these parameters.
    pub(super) fn expand(&self, parameters: &BTreeMap<String, String>) -> Result<Plan, String> {
        let mut values = BTreeMap::new();
        for (name, default) in &self.parameters {
            let value = parameters.get(name).or(default.as_ref());
            let value = value.ok_or_else(|| format!("parameter {name:.128} has no value"))?;
            values.insert(name.clone(), value.clone());
        }
        // Those that nobody has to declare.
        let built_in = |name: &&String| name.starts_with("AWS::IoT::Certificate::");
        let built_in = parameters.iter().filter(|(name, _)| built_in(name));
        values.extend(built_in.map(|(name, value)| (name.clone(), value.clone())));
        let scope = Scope::new(&values, &self.mappings);
        let at = |name: &str, problem: String| format!("{name:.128}: {problem}");
        let thing = self.thing.as_ref().map(|(name, it)| {
            it.expand(&scope).map(|it| (name.clone(), it)).map_err(|problem| at(name, problem))
        });
        let certificate = self.certificate.as_ref().map(|(name, it)| {
            it.expand(&scope).map(|it| (name.clone(), it)).map_err(|problem| at(name, problem))
        });
        let policies = self.policies.iter().map(|(name, it)| {
            it.expand(&scope).map(|it| (name.clone(), it)).map_err(|problem| at(name, problem))
        });
        let mut device_configuration = Map::new();
        for (name, value) in &self.device_configuration {
            let value = scope.evaluate(value).map_err(|problem| at(name, problem))?;
            if value.is_array() || value.is_object() || value.is_null() {
                return Err(at(name, "DeviceConfiguration has texts, numbers and booleans".into()));
            }
            device_configuration.insert(name.clone(), value);
        }
        Ok(Plan {
            thing: thing.transpose()?,
            certificate: certificate.transpose()?,
            policies: policies.collect::<Result<_, String>>()?,
            device_configuration,
        })
    }
}

/// Checks what a device or an operator gives as parameters.
pub(super) fn check_parameters(parameters: &BTreeMap<String, String>) -> Result<(), String> {
    if parameters.len() > PARAMETERS_MAX {
        return Err(format!("there are more than {PARAMETERS_MAX} parameters"));
    }
    for (name, value) in parameters {
        if name.starts_with("AWS::") {
            return Err(format!("parameter {name:.128} is one that the host gives"));
        }
        if value.len() > PARAMETER_BYTES_MAX {
            return Err(format!("parameter {name:.128} has more than {PARAMETER_BYTES_MAX} bytes"));
        }
    }
    Ok(())
}

/// The parameters that the host gives for a certificate; `fields` is its subject.
pub(super) fn built_in_parameters(
    id: &CertificateId,
    fields: &BTreeMap<&'static str, Vec<String>>,
) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::from([(CERTIFICATE_ID.to_owned(), id.to_string())]);
    for (name, field) in SUBJECT_PARAMETERS {
        if let Some(value) = fields.get(field).and_then(|values| values.first()) {
            parameters.insert(name.to_owned(), value.clone());
        }
    }
    parameters
}

impl ThingProperties {
    fn values(&self) -> impl Iterator<Item = &Value> {
        let own = [&self.thing_type_name, &self.thing_groups, &self.billing_group];
        [&self.thing_name]
            .into_iter()
            .chain(own.into_iter().flatten())
            .chain(self.attribute_payload.values())
    }
}

impl ThingResource {
    fn expand(&self, scope: &Scope<'_>) -> Result<ThingPlan, String> {
        let it = &self.properties;
        let named = |error: crate::ids::NameError| error.to_string();
        let attributes = it.attribute_payload.iter();
        let attributes = attributes.map(|(name, value)| Ok((name.clone(), scope.text(value)?)));
        let attributes = attributes.collect::<Result<Vec<_>, String>>()?;
        let groups = it.thing_groups.as_ref().map(|groups| scope.texts(groups)).transpose()?;
        let text = |value: &Option<Value>| value.as_ref().map(|it| scope.text(it)).transpose();
        let (type_name, billing_group) = (text(&it.thing_type_name)?, text(&it.billing_group)?);
        Ok(ThingPlan {
            name: ThingName::parse(&scope.text(&it.thing_name)?).map_err(named)?,
            attributes: Attributes::parse(attributes).map_err(|error| error.to_string())?,
            type_name: type_name
                .map(|name| ThingTypeName::parse(&name))
                .transpose()
                .map_err(named)?,
            groups: groups
                .unwrap_or_default()
                .iter()
                .map(|name| ThingGroupName::parse(name))
                .collect::<Result<_, _>>()
                .map_err(named)?,
            billing_group: billing_group
                .map(|name| BillingGroupName::parse(&name))
                .transpose()
                .map_err(named)?,
            overrides: self.override_settings,
        })
    }
}

impl CertificateProperties {
    fn values(&self) -> impl Iterator<Item = &Value> {
        let all = [
            &self.certificate_signing_request,
            &self.certificate_id,
            &self.certificate_pem,
            &self.ca_certificate_pem,
            &self.status,
        ];
        all.into_iter().flatten()
    }

    fn check(&self, used: Use) -> Result<(), String> {
        let sources =
            [&self.certificate_signing_request, &self.certificate_id, &self.certificate_pem];
        if sources.iter().filter(|source| source.is_some()).count() != 1 {
            return Err(
                "a certificate has exactly one of CertificateSigningRequest, CertificateId \
                        and CertificatePem"
                    .to_owned(),
            );
        }
        if used != Use::Request && self.certificate_id.is_none() {
            return Err(format!(
                "CertificateId is needed here, e.g. {{\"Ref\": \"{CERTIFICATE_ID}\"}}"
            ));
        }
        if self.ca_certificate_pem.is_some() && self.certificate_pem.is_none() {
            return Err("CACertificatePem goes with CertificatePem alone".to_owned());
        }
        Ok(())
    }
}

impl CertificateResource {
    fn expand(&self, scope: &Scope<'_>) -> Result<CertificatePlan, String> {
        let it = &self.properties;
        let source = if let Some(request) = &it.certificate_signing_request {
            CertificateSource::Request(scope.text(request)?)
        } else if let Some(id) = &it.certificate_id {
            let id = CertificateId::parse(&scope.text(id)?).map_err(|error| error.to_string())?;
            CertificateSource::Id(id)
        } else {
            let pem = it.certificate_pem.as_ref().ok_or("there is no certificate")?;
            let ca = it.ca_certificate_pem.as_ref().map(|ca| scope.text(ca)).transpose()?;
            CertificateSource::Pem { certificate: scope.text(pem)?, ca }
        };
        let status = it.status.as_ref().map(|status| scope.text(status)).transpose()?;
        // AWS's own samples write `Active`.
        let status = match status.as_deref().unwrap_or("ACTIVE").to_ascii_uppercase().as_str() {
            "ACTIVE" => CertificateStatus::Active,
            "INACTIVE" => CertificateStatus::Inactive,
            _ => return Err("Status must be ACTIVE or INACTIVE".to_owned()),
        };
        Ok(CertificatePlan { source, status, overrides: self.override_settings })
    }
}

impl PolicyResource {
    fn expand(&self, scope: &Scope<'_>) -> Result<PolicyPlan, String> {
        if let Some(name) = &self.properties.policy_name {
            let name = PolicyName::parse(&scope.text(name)?).map_err(|error| error.to_string())?;
            return Ok(PolicyPlan::Named(name));
        }
        let document = self.properties.policy_document.as_ref().ok_or("there is no document")?;
        // AWS documents a text; its samples also have an object.
        Ok(PolicyPlan::Document(match scope.evaluate(document)? {
            Value::String(text) => text,
            object => object.to_string(),
        }))
    }
}
