//! The control plane (scope `iot`), one module per kind of resource.

pub(crate) mod authorization;
pub(crate) mod authorizers;
pub(crate) mod billing_groups;
pub(crate) mod ca_certificates;
pub(crate) mod certificate_transfers;
pub(crate) mod certificates;
pub(crate) mod domain_configurations;
pub(crate) mod dynamic_thing_groups;
pub(crate) mod endpoints;
pub(crate) mod events;
pub(crate) mod fleet_indexing;
pub(crate) mod logging;
pub(crate) mod policies;
pub(crate) mod principals;
pub(crate) mod provisioning;
pub(crate) mod role_aliases;
pub(crate) mod rules;
pub(crate) mod tags;
pub(crate) mod thing_groups;
pub(crate) mod thing_registration;
pub(crate) mod thing_types;
pub(crate) mod things;

use crate::error::{ApiError, Exception};
use gnomon_core::registry::RegistryError;

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        use RegistryError as E;
        let exception = match error {
            E::Store(error) => return error.into(),
            E::ResourceAlreadyExists { message, id, arn } => {
                return Self::already_exists(message, id, arn);
            }
            E::Busy => return gnomon_core::storage::StoreError::Conflict.into(),
            E::Record { .. } | E::Issuer(_) => {
                tracing::error!(error = %error, "a registry operation failed");
                Exception::InternalFailure
            }
            E::ResourceNotFound(_) => Exception::ResourceNotFound,
            E::VersionConflict(_) => Exception::VersionConflict,
            E::DeleteConflict(_) => Exception::DeleteConflict,
            E::CertificateState(_) => Exception::CertificateState,
            E::CertificateValidation(_) => Exception::CertificateValidation,
            E::CertificateConflict(_) => Exception::CertificateConflict,
            E::RegistrationCodeValidation(_) => Exception::RegistrationCodeValidation,
            E::TransferConflict(_) => Exception::TransferConflict,
            E::TransferAlreadyCompleted(_) => Exception::TransferAlreadyCompleted,
            E::LimitExceeded(_) => Exception::LimitExceeded,
            E::InvalidQuery(_) => Exception::InvalidQuery,
            E::MalformedPolicy(_) => Exception::MalformedPolicy,
            E::VersionsLimitExceeded(_) => Exception::VersionsLimitExceeded,
            E::NotConfigured(_) => Exception::NotConfigured,
            E::InvalidRequest(_) => Exception::InvalidRequest,
            // The enum may grow; a new variant that is not told apart yet is still an error.
            _ => Exception::InternalFailure,
        };
        Self::new(exception, error.to_string())
    }
}
