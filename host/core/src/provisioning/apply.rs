//! Carries out a [`Plan`]: policies, thing and certificate are there and attached when it returns.
//!
//! Invariant: the certificate gets its status last. Whatever fails before leaves a certificate that
//! nobody can connect with; a repeated call finds what is there and goes on.

use super::ProvisioningError;
use super::template::{CertificatePlan, CertificateSource, Override, Plan, PolicyPlan, ThingPlan};
use crate::ids::{CertificateId, PolicyName, ThingName};
use crate::policy::Policy;
use crate::random::hex;
use crate::registry::{
    Attributes, Certificate, CertificateStatus, Registry, RegistryError, Thing, ThingUpdate,
};
use crate::time::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Hexadecimal digits of the name of a policy that is named by its document: 160 bits.
const POLICY_NAME_DIGITS: usize = 40;

/// What has been provisioned.
#[derive(Clone, Debug)]
pub struct Provisioned {
    /// The certificate, if the template has one.
    pub certificate: Option<Certificate>,
    /// The thing, if the template has one.
    pub thing: Option<ThingName>,
    /// ARNs by the names that the template gives its resources.
    pub resource_arns: BTreeMap<String, String>,
    /// For the device.
    pub device_configuration: serde_json::Map<String, serde_json::Value>,
}

/// Does what the plan says. With `since` a certificate that was signed at that time or later for the same
/// request and thing is taken again, so that a repeated call makes no second one.
pub(super) async fn apply(
    registry: &Registry,
    plan: Plan,
    since: Option<Timestamp>,
) -> Result<Provisioned, ProvisioningError> {
    check(registry, &plan).await?;
    let mut resource_arns = BTreeMap::new();
    let mut certificate = None;
    let thing_name = plan.thing.as_ref().map(|(_, thing)| thing.name.clone());
    if let Some((resource, plan)) = plan.certificate {
        let found = match signed_before(registry, &plan, thing_name.as_ref(), since).await? {
            Some(found) => found,
            None => find_certificate(registry, &plan).await?,
        };
        resource_arns.insert(resource, registry.certificate_arn(&found.id));
        certificate = Some((found, plan));
    }
    let id = certificate.as_ref().map(|(certificate, _)| &certificate.id);
    for (resource, policy) in plan.policies {
        let name = apply_policy(registry, policy).await?;
        if let Some(id) = id {
            registry.attach_policy(&name, id).await?;
        }
        resource_arns.insert(resource, registry.policy_arn(&name));
    }
    let mut thing = None;
    if let Some((resource, plan)) = plan.thing {
        apply_thing(registry, &plan).await?;
        if let Some(id) = id {
            registry.attach_thing_principal(&plan.name, id).await?;
        }
        resource_arns.insert(resource, registry.thing_arn(&plan.name));
        thing = Some(plan.name);
    }
    let certificate = match certificate {
        None => None,
        Some((found, plan)) => {
            if let Some(status) = new_status(&found, &plan)? {
                registry.finish_provisioning(&found.id, status).await?;
            }
            Some(registry.describe_certificate(&found.id).await?)
        }
    };
    let device_configuration = plan.device_configuration;
    Ok(Provisioned { certificate, thing, resource_arns, device_configuration })
}

/// Whatever can be wrong before anything is done.
async fn check(registry: &Registry, plan: &Plan) -> Result<(), ProvisioningError> {
    for (resource, policy) in &plan.policies {
        match policy {
            PolicyPlan::Named(name) => drop(registry.get_policy(name).await?),
            PolicyPlan::Document(document) => {
                Policy::parse(resource, document, registry.account())
                    .map_err(RegistryError::MalformedPolicy)?;
            }
        }
    }
    if let Some((_, thing)) = &plan.thing {
        for group in &thing.groups {
            registry.describe_thing_group(group).await?.check_is_static()?;
        }
        if let Some(type_name) = &thing.type_name {
            registry.describe_thing_type(type_name).await?;
        }
        if let Some(group) = &thing.billing_group {
            registry.describe_billing_group(group).await?;
        }
    }
    if let Some((_, CertificatePlan { source: CertificateSource::Id(id), .. })) = &plan.certificate
    {
        registry.describe_certificate(id).await?;
    }
    Ok(())
}

/// What [`apply`] would say, as far as can be seen before anything is done.
pub(super) async fn try_out(registry: &Registry, plan: &Plan) -> Result<(), ProvisioningError> {
    check(registry, plan).await?;
    match plan.certificate.as_ref().map(|(_, certificate)| &certificate.source) {
        Some(CertificateSource::Request(request)) => {
            registry.check_certificate_request(request).await?;
        }
        Some(CertificateSource::Pem { certificate, ca }) => {
            registry.check_certificate(certificate, ca.as_deref()).await?;
        }
        Some(CertificateSource::Id(_)) | None => {}
    }
    let Some((_, plan)) = &plan.thing else { return Ok(()) };
    match registry.describe_thing(&plan.name).await {
        Ok(thing) => check_overrides(&thing, plan),
        Err(RegistryError::ResourceNotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What an earlier call made of the same request.
async fn signed_before(
    registry: &Registry,
    plan: &CertificatePlan,
    thing: Option<&ThingName>,
    since: Option<Timestamp>,
) -> Result<Option<Certificate>, ProvisioningError> {
    match (&plan.source, thing, since) {
        (CertificateSource::Request(request), Some(thing), Some(since)) => {
            Ok(registry.certificate_signed_since(since, thing, request).await?)
        }
        _ => Ok(None),
    }
}

async fn find_certificate(
    registry: &Registry,
    plan: &CertificatePlan,
) -> Result<Certificate, ProvisioningError> {
    let inactive = CertificateStatus::Inactive;
    let registered = match &plan.source {
        CertificateSource::Id(id) => registry.describe_certificate(id).await,
        CertificateSource::Request(request) => {
            registry.create_certificate_from_csr(request, false).await
        }
        CertificateSource::Pem { certificate, ca: Some(ca) } => {
            registry.register_certificate(certificate, Some(ca), inactive).await
        }
        CertificateSource::Pem { certificate, ca: None } => {
            registry.register_certificate_without_ca(certificate, inactive).await
        }
    };
    match registered {
        Err(RegistryError::ResourceAlreadyExists { id, .. }) => {
            let id = CertificateId::parse(&id).map_err(RegistryError::from)?;
            Ok(registry.describe_certificate(&id).await?)
        }
        registered => Ok(registered?),
    }
}

/// The status that the certificate is to get; `None` leaves it as it is.
fn new_status(
    certificate: &Certificate,
    plan: &CertificatePlan,
) -> Result<Option<CertificateStatus>, ProvisioningError> {
    // What came here by the template, or waits for it, has no status of its own.
    let is_new = certificate.status == CertificateStatus::PendingActivation
        || !matches!(plan.source, CertificateSource::Id(_)) && certificate.customer_version == 1;
    if certificate.status == CertificateStatus::PendingTransfer {
        return Err(ProvisioningError::Conflict(format!(
            "certificate {} is offered to another account; cancel its transfer first",
            certificate.id
        )));
    }
    match plan.overrides.status {
        _ if is_new => Ok(Some(plan.status)),
        Override::DoNothing => Ok(None),
        Override::Fail if certificate.status != plan.status => {
            Err(ProvisioningError::Conflict(format!(
                "certificate {} is {}, and the template's OverrideSettings say FAIL",
                certificate.id, certificate.status
            )))
        }
        _ => Ok(Some(plan.status)),
    }
}

async fn apply_policy(
    registry: &Registry,
    plan: PolicyPlan,
) -> Result<PolicyName, ProvisioningError> {
    let document = match plan {
        PolicyPlan::Named(name) => return Ok(name),
        PolicyPlan::Document(document) => document,
    };
    let digest = hex(&Sha256::digest(&document)).to_ascii_uppercase();
    let name = PolicyName::parse(&digest[..POLICY_NAME_DIGITS]).map_err(RegistryError::from)?;
    match registry.create_policy(&name, &document).await {
        Ok(_) => Ok(name),
        Err(RegistryError::ResourceAlreadyExists { .. }) => {
            // Somebody may have given it another version since, which is theirs to say.
            Ok(name)
        }
        Err(error) => Err(error.into()),
    }
}

async fn apply_thing(registry: &Registry, plan: &ThingPlan) -> Result<(), ProvisioningError> {
    let existing = match registry.describe_thing(&plan.name).await {
        Ok(thing) => Some(thing),
        Err(RegistryError::ResourceNotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    match &existing {
        None => {
            let (type_name, attributes) = (plan.type_name.clone(), plan.attributes.clone());
            registry.create_thing(&plan.name, type_name, attributes).await?;
        }
        Some(thing) => update_thing(registry, thing, plan).await?,
    }
    let is_in = existing.map(|thing| thing.groups).unwrap_or_default();
    if !is_in.is_empty() && plan.overrides.thing_groups == Override::Replace {
        for group in is_in.difference(&plan.groups) {
            registry.remove_thing_from_group(&plan.name, group).await?;
        }
    }
    if is_in.is_empty() || plan.overrides.thing_groups != Override::DoNothing {
        for group in plan.groups.difference(&is_in) {
            registry.add_thing_to_group(&plan.name, group).await?;
        }
    }
    if let Some(group) = &plan.billing_group {
        registry.add_thing_to_billing_group(&plan.name, group).await?;
    }
    Ok(())
}

/// A thing that is there gets what the overrides let it get.
async fn update_thing(
    registry: &Registry,
    thing: &Thing,
    plan: &ThingPlan,
) -> Result<(), ProvisioningError> {
    check_overrides(thing, plan)?;
    let overrides = plan.overrides;
    let replaces = overrides.attribute_payload == Override::Replace
        && plan.attributes.values() != thing.attributes.values();
    let sets_attributes = replaces
        || attributes_differ(thing, plan) && overrides.attribute_payload != Override::DoNothing;
    let sets_type = type_differs(thing, plan) && overrides.thing_type_name != Override::DoNothing;
    if sets_attributes || sets_type {
        let update = ThingUpdate {
            attributes: sets_attributes.then(|| Attributes::clone(&plan.attributes)),
            merge: !replaces,
            type_name: plan.type_name.clone().filter(|_| sets_type),
            ..ThingUpdate::default()
        };
        registry.update_thing(&plan.name, &update).await?;
    }
    Ok(())
}

/// What the overrides say about a thing that is there.
fn check_overrides(thing: &Thing, plan: &ThingPlan) -> Result<(), ProvisioningError> {
    let overrides = plan.overrides;
    let differs = |it: Override, differs: bool, what: &str| match it {
        Override::Fail if differs => Err(ProvisioningError::Conflict(format!(
            "thing {} has other {what}, and the template's OverrideSettings say FAIL",
            thing.name
        ))),
        _ => Ok(()),
    };
    differs(overrides.attribute_payload, attributes_differ(thing, plan), "attributes")?;
    differs(overrides.thing_type_name, type_differs(thing, plan), "types")?;
    let groups_differ = !plan.groups.is_empty() && !plan.groups.is_subset(&thing.groups);
    differs(overrides.thing_groups, groups_differ, "groups")
}

fn attributes_differ(thing: &Thing, plan: &ThingPlan) -> bool {
    plan.attributes.values().iter().any(|(k, v)| thing.attributes.values().get(k) != Some(v))
}

fn type_differs(thing: &Thing, plan: &ThingPlan) -> bool {
    plan.type_name.is_some() && plan.type_name != thing.type_name
}
