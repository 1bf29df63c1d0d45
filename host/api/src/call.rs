//! One call of an operation: what a handler reads from the request, and what it answers.
//!
//! In: a routed and authorized request. Out: typed values, or an [`ApiError`] that names the
//! label, parameter, header or member that is wrong.

use crate::error::{ApiError, Exception};
use crate::router::Labels;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use gnomon_core::ids::Principal;
use gnomon_core::payload_schema::PayloadSchema;
use gnomon_core::policy::{Action, Permissions, Resource};
use gnomon_core::registry::PageRequest;
use gnomon_core::time::Timestamp;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::str::FromStr;
use std::sync::Arc;

/// Items of a page when the caller does not say, and the most that a caller gets.
pub(crate) const PAGE_ITEMS_MAX: usize = 250;

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The access key, the certificate, or who a custom authorizer says it is.
    pub principal: Option<Principal>,
    /// What a device may do; `None` for the holder of an access key, whose role was checked.
    pub permissions: Option<Permissions>,
    /// What a device may say, if its thing has a type and that a schema.
    pub payload_schema: Option<Arc<PayloadSchema>>,
}

impl Caller {
    /// Whether the caller may do this to this resource.
    ///
    /// # Errors
    /// [`Exception::Forbidden`].
    pub(crate) fn check(&self, action: Action, resource: Resource<'_>) -> Result<(), ApiError> {
        match &self.permissions {
            Some(permissions) if !permissions.allows(action, resource) => Err(ApiError::new(
                Exception::Forbidden,
                format!("no policy of the caller allows {} here", action.as_str()),
            )),
            _ => Ok(()),
        }
    }

    /// For log lines.
    pub(crate) fn name(&self) -> &str {
        self.principal.as_ref().map_or("anonymous", Principal::as_str)
    }
}

/// A request to one operation.
pub(crate) struct Call<'a> {
    /// Who calls.
    pub caller: Caller,
    /// Where the request came in.
    pub listener: &'a str,
    /// The body as it was sent.
    pub body: &'a Bytes,
    pub(crate) labels: Labels,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: &'a HeaderMap,
}

impl Call<'_> {
    /// A label of the path.
    pub(crate) fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(label, _)| label == name);
        debug_assert!(found.is_some(), "the operation's path has no label {name}");
        found.map_or("", |(_, value)| value)
    }

    /// A query parameter; an empty one counts as none.
    pub(crate) fn query(&self, name: &str) -> Result<Option<&str>, ApiError> {
        #[cfg(test)]
        crate::test_shape::note_query(name);
        let mut found = self.query.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_str()).filter(|v| !v.is_empty());
        match found.next() {
            None => Ok(value),
            Some(_) => Err(ApiError::invalid_request(format!(
                "the query parameter {name} is there more than once"
            ))),
        }
    }

    /// A query parameter as a number or a boolean (`true`, `false`).
    pub(crate) fn query_as<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.query(name)? else { return Ok(None) };
        let value = text.parse().map_err(|_| {
            let wanted = std::any::type_name::<T>();
            ApiError::invalid_request(format!("the query parameter {name} is not a {wanted}"))
        })?;
        Ok(Some(value))
    }

    /// A header that may be there once.
    pub(crate) fn header(&self, name: &str) -> Result<Option<&str>, ApiError> {
        #[cfg(test)]
        crate::test_shape::note_header(name);
        let mut found = self.headers.get_all(name).iter();
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(|_| {
                ApiError::invalid_request(format!("the header {name} is not visible ASCII"))
            }),
            _ => {
                Err(ApiError::invalid_request(format!("the header {name} is there more than once")))
            }
        }
    }

    /// The members of the JSON body. Unknown ones are ignored, as AWS does; no body is `{}`.
    pub(crate) fn members<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        #[cfg(test)]
        crate::test_shape::note_members::<T>();
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { self.body };
        // serde takes a list for a struct as well; AWS does not.
        if body.trim_ascii_start().first().is_some_and(|byte| *byte == b'[') {
            return Err(ApiError::invalid_request("the body: expected an object, not a list"));
        }
        let mut json = serde_json::Deserializer::from_slice(body);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            // The library's signs for "the whole" and "not known".
            let place = if matches!(&*path, "." | "?") { "the body" } else { &path };
            ApiError::invalid_request(format!("{place}: {}", error.inner()))
        })?;
        json.end().map_err(|error| ApiError::invalid_request(format!("the body: {error}")))?;
        Ok(value)
    }

    /// Which part of a list is asked for, by the names that the operation has for size and token.
    pub(crate) fn page(&self, size: &str, token: &str) -> Result<Page, ApiError> {
        let limit = self.query_as(size)?.unwrap_or(PAGE_ITEMS_MAX);
        if limit == 0 {
            return Err(ApiError::invalid_request(format!(
                "the query parameter {size} must be at least 1"
            )));
        }
        let after = self.query(token)?.map(decode_token).transpose()?;
        Ok(Page { limit: limit.min(PAGE_ITEMS_MAX), after })
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// At most so many items, 1..=250.
    pub limit: usize,
    /// Begin behind the item with this key.
    pub after: Option<String>,
}

impl Page {
    /// The same for the registry.
    pub(crate) fn request(&self) -> PageRequest<'_> {
        PageRequest { limit: self.limit, after: self.after.as_deref() }
    }

    /// What a client sends back to get the next page; `None` when this one, of `len` items, is
    /// not full and so the last.
    pub(crate) fn next_token(&self, len: usize, last: Option<&str>) -> Option<String> {
        last.filter(|_| len >= self.limit).map(encode_token)
    }
}

/// What a client sends back to get the page behind the item with this key.
pub(crate) fn encode_token(last: &str) -> String {
    URL_SAFE_NO_PAD.encode(last)
}

/// Longest page token in bytes: names have at most 128, and base64 makes a third more of them.
const TOKEN_BYTES_MAX: usize = 512;

pub(crate) fn decode_token(token: &str) -> Result<String, ApiError> {
    let token = Some(token).filter(|token| token.len() <= TOKEN_BYTES_MAX);
    let bytes = token.and_then(|token| URL_SAFE_NO_PAD.decode(token).ok());
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        ApiError::invalid_request("the token is not one that this host gave out; start over")
    })
}

/// How timestamps look in JSON: seconds since the Unix epoch, with a fraction.
pub(crate) fn epoch_seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1_000.0
}

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
}

impl Answer {
    /// 200 with members.
    pub(crate) fn members(members: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(members).map_err(|error| {
            tracing::error!(error = %error, "an answer does not serialize");
            ApiError::new(Exception::InternalFailure, "the answer could not be written")
        })?;
        Ok(Self::body(body, "application/json"))
    }

    /// 200 without members.
    pub(crate) fn empty() -> Self {
        Self::body("{}", "application/json")
    }

    /// 200 with a body of another kind.
    pub(crate) fn body(body: impl Into<Bytes>, content_type: &'static str) -> Self {
        Self { status: StatusCode::OK, content_type, body: body.into() }
    }

    /// The same with another status.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let content_type = HeaderValue::from_static(self.content_type);
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Members {
        attribute_payload: Payload,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Payload {
        merge: bool,
    }

    fn with_call<T>(query: &str, body: &str, f: impl FnOnce(&Call<'_>) -> T) -> T {
        let (headers, body) = (HeaderMap::new(), Bytes::copy_from_slice(body.as_bytes()));
        let caller = Caller { principal: None, permissions: None, payload_schema: None };
        let query = crate::sigv4::decode_query(query);
        f(&Call {
            caller,
            listener: "public",
            body: &body,
            labels: Vec::new(),
            query,
            headers: &headers,
        })
    }

    #[track_caller]
    fn check_body(body: &str, expected: &str) {
        let error = with_call("", body, |call| call.members::<Members>().unwrap_err());
        assert_eq!(error.exception, Exception::InvalidRequest);
        assert_eq!(error.message, expected);
    }

    #[test]
    fn a_wrong_body_is_answered_with_member_and_position() {
        check_body("{", "the body: EOF while parsing an object at line 1 column 1");
        check_body(
            r#"{"attributePayload": {"merge": "yes"}}"#,
            "attributePayload.merge: invalid type: string \"yes\", expected a boolean at line 1 \
             column 36",
        );
        check_body("[]", "the body: expected an object, not a list");
        check_body(
            "7",
            "the body: invalid type: integer `7`, expected struct Members at line 1 column 1",
        );
        check_body("{} {}", "the body: trailing characters at line 1 column 4");
    }

    #[test]
    fn no_body_and_unknown_members_are_fine() {
        with_call("", "", |call| assert!(call.members::<Members>().is_ok()));
        with_call("", r#"{"new": 1, "attributePayload": {"merge": true, "x": 1}}"#, |call| {
            assert!(call.members::<Members>().unwrap().attribute_payload.merge);
        });
    }

    #[test]
    fn query_parameters_are_checked() {
        let page = |query: &str| with_call(query, "", |call| call.page("maxResults", "nextToken"));
        assert_eq!(page(""), Ok(Page { limit: 250, after: None }));
        let first = page("maxResults=2").unwrap();
        assert_eq!(first.next_token(1, Some("thing/Lämp")), None);
        let token = first.next_token(2, Some("thing/Lämp")).unwrap();
        assert_eq!(
            page(&format!("maxResults=2&nextToken={token}")),
            Ok(Page { limit: 2, after: Some("thing/Lämp".into()) })
        );
        assert_eq!(page("maxResults=10000"), Ok(Page { limit: 250, after: None }));
        for bad in ["maxResults=0", "maxResults=-1", "maxResults=x", "nextToken=*", "nextToken=_w"]
        {
            assert_eq!(page(bad).unwrap_err().exception, Exception::InvalidRequest, "{bad}");
        }
        let twice = with_call("a=1&a=2", "", |call| call.query("a").map(|_| ()).unwrap_err());
        assert_eq!(twice.message, "the query parameter a is there more than once");
    }
}
