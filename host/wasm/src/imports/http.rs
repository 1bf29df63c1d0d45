//! `http`: requests to granted origins.

use crate::bindings::host::http::{Host, Request, Response};
use crate::bindings::host::types::Error;
use crate::instance::State;
use crate::outbound::{HTTP_TIMEOUT, SendError};
use crate::worlds::headers;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Uri};
use std::time::Duration;

impl Host for State {
    async fn send(&mut self, request: Request) -> Result<Response, Error> {
        let url: Uri = request.url.parse().map_err(|e| Error::Invalid(format!("URL: {e}")))?;
        self.context.capabilities.check_http(&url).map_err(|text| self.denied(text))?;
        let timeout = request
            .timeout_ms
            .map_or(HTTP_TIMEOUT, |ms| Duration::from_millis(ms.into()).min(HTTP_TIMEOUT));
        let credential = request.credential.clone();
        let mut outgoing = outgoing(url, request)?;
        if let Some(name) = credential {
            let (header, value) = self
                .context
                .capabilities
                .credential(&name, outgoing.uri())
                .map_err(|text| self.denied(text))?;
            outgoing.headers_mut().insert(header.clone(), value.clone());
        }
        let response = self.context.outbound.send(outgoing, timeout).await;
        let (parts, body) = response
            .map_err(|error| match error {
                SendError::Timeout => Error::Timeout,
                SendError::TooLarge { limit } => Error::TooLarge(limit),
                SendError::Blocked(text) => self.denied(text),
                SendError::Failed(text) => Error::Unavailable(text),
            })?
            .into_parts();
        let headers = headers(&parts.headers);
        Ok(Response { status: parts.status.as_u16(), headers, body: body.into() })
    }
}

fn outgoing(url: Uri, request: Request) -> Result<http::Request<Bytes>, Error> {
    let method = Method::from_bytes(request.method.as_bytes())
        .ok()
        .filter(|method| method != Method::CONNECT && method != Method::TRACE)
        .ok_or_else(|| Error::Invalid("method must be GET, POST, PUT, PATCH, …".into()))?;
    let mut outgoing = http::Request::new(Bytes::from(request.body));
    *outgoing.method_mut() = method;
    *outgoing.uri_mut() = url;
    for (name, value) in request.headers {
        let invalid = |what: &str| Error::Invalid(format!("header {name:?} {what}"));
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid("is no name of a header"))?;
        if is_of_the_connection(&header) {
            return Err(invalid("is set by the host"));
        }
        let value = HeaderValue::from_str(&value)
            .map_err(|_| invalid("has a value that is not allowed"))?;
        outgoing.headers_mut().append(header, value);
    }
    Ok(outgoing)
}

/// Headers that say where a message ends or who it is for: whoever sets them can smuggle.
fn is_of_the_connection(name: &HeaderName) -> bool {
    [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::EXPECT,
    ]
    .contains(name)
        || name.as_str().starts_with("proxy-")
}
