//! `DescribeEndpoint`: where devices connect to.

use crate::Services;
use crate::call::{Answer, Call};
use crate::error::ApiError;
use crate::router::{Handlers, handlers};
use serde::Serialize;

pub(crate) const HANDLERS: Handlers = handlers! {
    DescribeEndpoint => describe_endpoint;
};

/// AWS's endpoint types; here one host serves them all.
const TYPES: [&str; 4] = ["iot:Data-ATS", "iot:Data", "iot:CredentialProvider", "iot:Jobs"];

async fn describe_endpoint(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        endpoint_address: &'a str,
    }
    let endpoint_type = call.query("endpointType")?.unwrap_or(TYPES[0]);
    if !TYPES.contains(&endpoint_type) {
        return Err(ApiError::invalid_request(format!(
            "endpointType must be one of {}",
            TYPES.join(", ")
        )));
    }
    Answer::members(&Body { endpoint_address: &services.endpoint })
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use http::StatusCode;

    #[tokio::test]
    async fn every_type_has_the_configured_endpoint() {
        let host = TestHost::new().await;
        for query in ["", "?endpointType=iot:Data-ATS", "?endpointType=iot%3AJobs"] {
            let response = host.call("iot", "GET", &format!("/endpoint{query}"), "").await;
            assert_eq!(TestHost::json(&response)["endpointAddress"], "iot.example", "{query}");
        }
        let response = host.call("iot", "GET", "/endpoint?endpointType=iot:Wrong", "").await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    }
}
