//! Errors as AWS's SDKs read them: a status, `x-amzn-ErrorType`, and a JSON body with the message.
//!
//! In: what an operation could not do ([`ApiError`]). Out: the HTTP response. Not here: success
//! ([`crate::call::Answer`]), the request id (`Api` puts it on every response).

use bytes::Bytes;
use gnomon_core::ids::NameError;
use gnomon_core::storage::StoreError;
use http::{Response, StatusCode, header};

macro_rules! exceptions {
    ($($(#[doc = $doc:literal])+ $name:ident = $status:ident, $text:literal;)*) => {
        /// The exceptions of AWS's models for `iot` and `iot-data` that Gnomon answers with, and
        /// those that AWS puts in front of every service.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Exception {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Exception {
            /// The name that SDKs map to an error class.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The HTTP status that the models give it.
            pub fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }
        }
    };
}

exceptions! {
    /// The signature is good, but the key's role does not allow the operation.
    AccessDenied = FORBIDDEN, "AccessDeniedException";
    /// Another certificate with the same identity is registered.
    CertificateConflict = CONFLICT, "CertificateConflictException";
    /// The certificate's status does not allow the operation.
    CertificateState = NOT_ACCEPTABLE, "CertificateStateException";
    /// The certificate is not what it has to be.
    CertificateValidation = BAD_REQUEST, "CertificateValidationException";
    /// A version did not match (data plane).
    Conflict = CONFLICT, "ConflictException";
    /// Two updates of the same resource at the same time; try again.
    ConflictingResourceUpdate = CONFLICT, "ConflictingResourceUpdateException";
    /// Something still refers to the resource.
    DeleteConflict = CONFLICT, "DeleteConflictException";
    /// The policies of the caller do not allow it (data plane).
    Forbidden = FORBIDDEN, "ForbiddenException";
    /// The authorization header or query lacks a part.
    IncompleteSignature = BAD_REQUEST, "IncompleteSignatureException";
    /// The index is off, or has not seen everything yet.
    IndexNotReady = BAD_REQUEST, "IndexNotReadyException";
    /// A defect of the host, or a record that it cannot read.
    InternalFailure = INTERNAL_SERVER_ERROR, "InternalFailureException";
    /// The field cannot be aggregated.
    InvalidAggregation = BAD_REQUEST, "InvalidAggregationException";
    /// The text is no query.
    InvalidQuery = BAD_REQUEST, "InvalidQueryException";
    /// Something in the request is wrong; the message says what.
    InvalidRequest = BAD_REQUEST, "InvalidRequestException";
    /// A custom authorizer failed, or answered what it must not.
    InvalidResponse = BAD_REQUEST, "InvalidResponseException";
    /// The signature does not match, or is too old.
    InvalidSignature = FORBIDDEN, "InvalidSignatureException";
    /// A quota is used up.
    LimitExceeded = GONE, "LimitExceededException";
    /// A policy document does not parse.
    MalformedPolicy = BAD_REQUEST, "MalformedPolicyException";
    /// The path exists, with other methods.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "MethodNotAllowedException";
    /// The request is not signed.
    MissingAuthenticationToken = FORBIDDEN, "MissingAuthenticationTokenException";
    /// Nobody has set up what the operation is about.
    NotConfigured = NOT_FOUND, "NotConfiguredException";
    /// An operation of AWS's model, or a whole service, that this host does not have.
    NotImplemented = NOT_IMPLEMENTED, "NotImplementedException";
    /// A verification certificate does not hold the registration code.
    RegistrationCodeValidation = BAD_REQUEST, "RegistrationCodeValidationException";
    /// The body is larger than allowed.
    RequestEntityTooLarge = PAYLOAD_TOO_LARGE, "RequestEntityTooLargeException";
    /// The name is taken by a resource that differs.
    ResourceAlreadyExists = CONFLICT, "ResourceAlreadyExistsException";
    /// No such resource.
    ResourceNotFound = NOT_FOUND, "ResourceNotFoundException";
    /// A thing could not be provisioned.
    ResourceRegistrationFailure = BAD_REQUEST, "ResourceRegistrationFailureException";
    /// The store is away; nothing was changed, a retry may help.
    ServiceUnavailable = SERVICE_UNAVAILABLE, "ServiceUnavailableException";
    /// The statement of a rule does not parse.
    SqlParse = BAD_REQUEST, "SqlParseException";
    /// Too many requests of this caller wait (data plane).
    Throttling = TOO_MANY_REQUESTS, "ThrottlingException";
    /// The certificate is not being transferred.
    TransferAlreadyCompleted = GONE, "TransferAlreadyCompletedException";
    /// Something is attached to the certificate that is to be transferred.
    TransferConflict = CONFLICT, "TransferConflictException";
    /// Not allowed, or (for rules) not there.
    Unauthorized = UNAUTHORIZED, "UnauthorizedException";
    /// No operation has this method and path.
    UnknownOperation = NOT_FOUND, "UnknownOperationException";
    /// The access key is not known or not active.
    UnrecognizedClient = FORBIDDEN, "UnrecognizedClientException";
    /// The document is not UTF-8.
    UnsupportedDocumentEncoding = UNSUPPORTED_MEDIA_TYPE, "UnsupportedDocumentEncodingException";
    /// `expectedVersion` is not the version of the resource.
    VersionConflict = CONFLICT, "VersionConflictException";
    /// A resource has as many versions as it may have.
    VersionsLimitExceeded = CONFLICT, "VersionsLimitExceededException";
}

/// Why an operation failed, in the caller's terms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", exception.name())]
pub struct ApiError {
    /// What SDKs see as the error's class.
    pub exception: Exception,
    /// What was wrong, where, and what to do; never a secret.
    pub message: String,
    /// Id and ARN of the resource that is in the way ([`Exception::ResourceAlreadyExists`]).
    pub resource: Option<(String, String)>,
}

impl ApiError {
    /// An error with a message.
    pub fn new(exception: Exception, message: impl Into<String>) -> Self {
        Self { exception, message: message.into(), resource: None }
    }

    /// [`Exception::InvalidRequest`].
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(Exception::InvalidRequest, message)
    }

    /// [`Exception::ResourceNotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exception::ResourceNotFound, message)
    }

    /// [`Exception::ResourceAlreadyExists`] with the resource that exists.
    pub fn already_exists(
        message: impl Into<String>,
        id: impl Into<String>,
        arn: impl Into<String>,
    ) -> Self {
        Self {
            exception: Exception::ResourceAlreadyExists,
            message: message.into(),
            resource: Some((id.into(), arn.into())),
        }
    }

    /// The response, as REST-JSON clients read it.
    pub(crate) fn into_response(self) -> Response<Bytes> {
        #[derive(serde::Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            resource_id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            resource_arn: Option<&'a str>,
        }
        let body = Body {
            message: &self.message,
            resource_id: self.resource.as_ref().map(|(id, _)| id.as_str()),
            resource_arn: self.resource.as_ref().map(|(_, arn)| arn.as_str()),
        };
        let body = serde_json::to_vec(&body).expect("a struct of texts serializes");
        Response::builder()
            .status(self.exception.status())
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-amzn-errortype", self.exception.name())
            .body(body.into())
            .expect("static header names and values are valid")
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::invalid_request(error.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict => Self::new(
                Exception::ConflictingResourceUpdate,
                "the resource was changed by someone else at the same time; try again",
            ),
            StoreError::TooLarge { .. } => Self::invalid_request(error.to_string()),
            error => {
                tracing::error!(error = ?error, "the store failed under a REST request");
                Self::new(Exception::ServiceUnavailable, "the store is not available; try again")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_shape_that_sdks_read() {
        let error = ApiError::already_exists("thing Lamp exists", "Lamp", "arn:aws:iot:…:thing/L");
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()["x-amzn-errortype"], "ResourceAlreadyExistsException");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "message": "thing Lamp exists",
                "resourceId": "Lamp",
                "resourceArn": "arn:aws:iot:…:thing/L",
            })
        );
    }
}
