//! Certificates that are offered to another account, and answers to such offers.

use crate::Services;
use crate::call::{Answer, Call, encode_token, epoch_seconds};
use crate::error::ApiError;
use crate::iot::certificates::certificate_id;
use crate::router::{Handlers, handlers};
use gnomon_core::registry::{Certificate, Transfer};
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    TransferCertificate => transfer;
    AcceptCertificateTransfer => accept;
    RejectCertificateTransfer => reject;
    CancelCertificateTransfer => cancel;
    ListOutgoingCertificates => list;
};

/// `TransferData`, part of a certificate's description.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TransferData {
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reject_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer_date: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accept_date: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reject_date: Option<f64>,
}

impl TransferData {
    pub(crate) fn new(transfer: &Transfer) -> Self {
        Self {
            transfer_message: transfer.message.clone(),
            reject_reason: transfer.reject_reason.clone(),
            transfer_date: Some(epoch_seconds(transfer.offered_at)),
            accept_date: transfer.accepted_at.map(epoch_seconds),
            reject_date: transfer.rejected_at.map(epoch_seconds),
        }
    }
}

async fn transfer(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        transfer_message: Option<String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        transferred_certificate_arn: String,
    }
    let Some(account) = call.query("targetAwsAccount")? else {
        let message = "the query parameter targetAwsAccount is missing";
        return Err(ApiError::invalid_request(message));
    };
    let Members { transfer_message } = call.members()?;
    let (id, registry) = (certificate_id(call, "certificateId")?, &services.registry);
    registry.transfer_certificate(&id, account, transfer_message).await?;
    Answer::members(&Body { transferred_certificate_arn: registry.certificate_arn(&id) })
}

async fn accept(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let active = call.query_as("setAsActive")?.unwrap_or(false);
    let id = certificate_id(call, "certificateId")?;
    services.registry.accept_certificate_transfer(&id, active).await?;
    Ok(Answer::empty())
}

async fn reject(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        reject_reason: Option<String>,
    }
    let Members { reject_reason } = call.members()?;
    let id = certificate_id(call, "certificateId")?;
    services.registry.reject_certificate_transfer(&id, reject_reason).await?;
    Ok(Answer::empty())
}

async fn cancel(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = certificate_id(call, "certificateId")?;
    services.registry.cancel_certificate_transfer(&id).await?;
    Ok(Answer::empty())
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    /// AWS: `OutgoingCertificate`.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        certificate_arn: String,
        certificate_id: String,
        transferred_to: String,
        transfer_date: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        transfer_message: Option<String>,
        creation_date: f64,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        outgoing_certificates: Vec<Item>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_marker: Option<String>,
    }
    let page = call.page("pageSize", "marker")?;
    let found = services.registry.list_outgoing_certificates(page.request()).await?;
    let item = |certificate: Certificate| {
        let transfer = certificate.transfer?;
        Some(Item {
            certificate_arn: services.registry.certificate_arn(&certificate.id),
            certificate_id: certificate.id.to_string(),
            transferred_to: transfer.account,
            transfer_date: epoch_seconds(transfer.offered_at),
            transfer_message: transfer.message,
            creation_date: epoch_seconds(certificate.created_at),
        })
    };
    Answer::members(&Body {
        outgoing_certificates: found.items.into_iter().filter_map(item).collect(),
        next_marker: found.next.as_deref().map(encode_token),
    })
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use serde_json::json;

    const HERE: &str = "123456789012";

    #[tokio::test]
    async fn a_certificate_is_offered_and_taken_refused_or_taken_back() {
        let host = TestHost::new().await;
        let made = host.iot("POST", "/keys-and-certificate", "").await;
        let id = made["certificateId"].as_str().unwrap();
        let offer =
            |account: &str| format!("/transfer-certificate/{id}?targetAwsAccount={account}");
        let status = async || {
            let described = host.iot("GET", &format!("/certificates/{id}"), "").await;
            described["certificateDescription"].clone()
        };

        let answer = host.iot("PATCH", &offer(HERE), r#"{"transferMessage": "yours"}"#).await;
        assert_eq!(answer["transferredCertificateArn"], made["certificateArn"]);
        let listed = host.iot("GET", "/certificates-out-going", "").await;
        assert_eq!(
            listed["outgoingCertificates"],
            json!([{
                "certificateArn": made["certificateArn"],
                "certificateId": id,
                "transferredTo": HERE,
                "transferDate": 1_795_435_200.5,
                "transferMessage": "yours",
                "creationDate": 1_795_435_200.5,
            }])
        );
        assert_eq!(status().await["status"], "PENDING_TRANSFER");
        let update = format!("/certificates/{id}?newStatus=ACTIVE");
        host.check_refused("PUT", &update, "", "CertificateStateException", "PENDING_TRANSFER")
            .await;
        let reject = format!("/reject-certificate-transfer/{id}");
        host.iot("PATCH", &reject, r#"{"rejectReason": "no"}"#).await;
        assert_eq!(status().await["status"], "INACTIVE");
        assert_eq!(
            status().await["transferData"],
            json!({
                "transferMessage": "yours",
                "rejectReason": "no",
                "transferDate": 1_795_435_200.5,
                "rejectDate": 1_795_435_200.5,
            })
        );

        host.iot("PATCH", &offer(HERE), "").await;
        host.iot("PATCH", &format!("/accept-certificate-transfer/{id}?setAsActive=true"), "").await;
        assert_eq!(status().await["status"], "ACTIVE");
        host.check_refused("PATCH", &offer(HERE), "", "CertificateStateException", "is ACTIVE")
            .await;
        host.iot("PUT", &format!("/certificates/{id}?newStatus=INACTIVE"), "").await;

        host.iot("PATCH", &offer("210987654321"), "").await;
        let template = json!({"Resources": {"c": {"Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": id}}}});
        let body = json!({"templateBody": template.to_string()}).to_string();
        let failure = "ResourceRegistrationFailureException";
        host.check_refused("POST", "/things", &body, failure, "cancel its transfer first").await;
        let accept = format!("/accept-certificate-transfer/{id}");
        let not_here = "is offered to account 210987654321";
        host.check_refused("PATCH", &accept, "", "ResourceNotFoundException", not_here).await;
        let cancel = format!("/cancel-certificate-transfer/{id}");
        host.iot("PATCH", &cancel, "").await;
        for path in [&cancel, &accept, &reject] {
            let gone = "TransferAlreadyCompletedException";
            host.check_refused("PATCH", path, "", gone, "not being transferred").await;
        }
        assert_eq!(status().await["transferData"], json!({}));
    }

    #[tokio::test]
    async fn what_cannot_be_transferred_is_said() {
        let host = TestHost::new().await;
        let made = host.iot("POST", "/keys-and-certificate", "").await;
        let id = made["certificateId"].as_str().unwrap();
        let path = format!("/transfer-certificate/{id}");
        let to = |account: &str| format!("{path}?targetAwsAccount={account}");
        let long = json!({"transferMessage": "x".repeat(129)}).to_string();
        let invalid = "InvalidRequestException";
        host.check_refused("PATCH", &path, "", invalid, "targetAwsAccount is missing").await;
        host.check_refused("PATCH", &to("12"), "", invalid, "twelve digits").await;
        host.check_refused("PATCH", &to(HERE), &long, invalid, "more than 128").await;
        host.iot("POST", "/things/T", "").await;
        let principal = [("x-amzn-principal", made["certificateArn"].as_str().unwrap())];
        host.iot_with("PUT", "/things/T/principals", &principal).await;
        let conflict = "TransferConflictException";
        host.check_refused("PATCH", &to(HERE), "", conflict, "detach them first").await;
        let nobody = format!("/cancel-certificate-transfer/{}", "a".repeat(64));
        host.check_refused("PATCH", &nobody, "", "ResourceNotFoundException", "not exist").await;
    }
}
