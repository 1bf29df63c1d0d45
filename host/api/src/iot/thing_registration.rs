//! Bulk registration: tasks that carry out a template for every line of an object.

use crate::Services;
use crate::call::{Answer, Call, encode_token, epoch_seconds};
use crate::error::{ApiError, Exception};
use crate::object_operations::path_of;
use crate::router::{Handlers, handlers};
use crate::sigv4;
use gnomon_core::ids::Principal;
use gnomon_core::provisioning::{BulkError, Input, ObjectError, ObjectName, Report};
use gnomon_core::registry::TaskStatus;
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    StartThingRegistrationTask => start;
    StopThingRegistrationTask => stop;
    DescribeThingRegistrationTask => describe;
    ListThingRegistrationTasks => list;
    ListThingRegistrationTaskReports => reports;
};

/// How long a link to a report is good.
const LINK_S: u32 = 3_600;

async fn start(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        template_body: String,
        input_file_bucket: String,
        input_file_key: String,
        role_arn: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        task_id: String,
    }
    let members: Members = call.members()?;
    let object = object(&members.input_file_bucket, &members.input_file_key)?;
    let input = Input { template: members.template_body, object };
    let task_id = services.registrations.begin(input, members.role_arn).await?;
    Answer::members(&Body { task_id })
}

async fn stop(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    services.registrations.stop(call.label("taskId")).await?;
    Ok(Answer::empty())
}

async fn describe(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        task_id: &'a str,
        creation_date: f64,
        last_modified_date: f64,
        template_body: &'a str,
        input_file_bucket: &'a str,
        input_file_key: &'a str,
        role_arn: &'a str,
        status: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
        success_count: u64,
        failure_count: u64,
        percentage_progress: u8,
    }
    let task = services.registry.registration_task(call.label("taskId")).await?;
    Answer::members(&Body {
        task_id: &task.id,
        creation_date: epoch_seconds(task.created_at),
        last_modified_date: epoch_seconds(task.modified_at),
        template_body: &task.definition.template,
        input_file_bucket: &task.definition.bucket,
        input_file_key: &task.definition.key,
        role_arn: &task.definition.role_arn,
        status: task.status.as_str(),
        message: task.message.as_deref(),
        success_count: task.progress.successes,
        failure_count: task.progress.failures,
        percentage_progress: task.percentage(),
    })
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        task_ids: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let parse = |text| {
        TaskStatus::parse(text).ok_or_else(|| {
            ApiError::invalid_request(
                "status must be InProgress, Completed, Failed, Cancelled or Cancelling",
            )
        })
    };
    let status = call.query("status")?.map(parse).transpose()?;
    let page = call.page("maxResults", "nextToken")?;
    let accept = |it| status.is_none_or(|status| it == status);
    let found = services.registry.list_registration_tasks(accept, page.request()).await?;
    Answer::members(&Body {
        task_ids: found.items.into_iter().map(|task| task.id).collect(),
        next_token: found.next.as_deref().map(encode_token),
    })
}

/// Links are signed with the caller's key, so that any HTTP client can follow them, as on AWS.
async fn reports(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        resource_links: Vec<String>,
        report_type: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let report_type = call.query("reportType")?.unwrap_or_default();
    let report = match report_type {
        "RESULTS" => Report::Results,
        "ERRORS" => Report::Errors,
        _ => return Err(ApiError::invalid_request("reportType must be ERRORS or RESULTS")),
    };
    let page = call.page("maxResults", "nextToken")?;
    let task = services.registry.registration_task(call.label("taskId")).await?;
    let parts = services.registrations.report(&task, report);
    // The token is the number of the last part that was answered.
    let skip: usize = page.after.as_deref().map_or(Ok(0), str::parse).map_err(|_| {
        ApiError::invalid_request("the token is not one that this host gave out; start over")
    })?;
    let end = skip.saturating_add(page.limit);
    let links = Links::of(services, call).await?;
    Answer::members(&Body {
        resource_links: parts.iter().skip(skip).take(page.limit).map(|it| links.to(it)).collect(),
        report_type,
        next_token: (end < parts.len()).then(|| encode_token(&end.to_string())),
    })
}

/// Makes links to objects.
struct Links<'a> {
    services: &'a Services,
    origin: (&'static str, &'a str),
    key: crate::keys::AccessKey,
}

impl<'a> Links<'a> {
    async fn of(services: &'a Services, call: &'a Call<'_>) -> Result<Self, ApiError> {
        let id = call.caller.principal.as_ref().map_or("", Principal::as_str);
        let key = services.keys.get(id).await?.ok_or_else(|| {
            ApiError::new(Exception::UnrecognizedClient, "the access key was just deleted")
        })?;
        let host = call.header("host")?.unwrap_or(&services.endpoint);
        let is_tls = services.tls_listeners.iter().any(|it| **it == *call.listener)
            || call.header("x-forwarded-proto")? == Some("https");
        Ok(Self { services, origin: (if is_tls { "https" } else { "http" }, host), key })
    }

    fn to(&self, object: &ObjectName) -> String {
        let (scheme, host) = self.origin;
        let path = path_of(object);
        let key = (&*self.key.id, &*self.key.secret);
        let (region, now) = (&*self.services.account.region, self.services.clock.wall());
        let query = sigv4::presign(host, &path, key, (region, "gnomon"), now, LINK_S);
        format!("{scheme}://{host}{path}?{query}")
    }
}

pub(crate) fn object(bucket: &str, key: &str) -> Result<ObjectName, ApiError> {
    ObjectName::parse(bucket, key).map_err(ApiError::invalid_request)
}

impl From<BulkError> for ApiError {
    fn from(error: BulkError) -> Self {
        match error {
            BulkError::Registry(error) => error.into(),
            BulkError::Object(ObjectError::NotFound(_)) => Self::not_found(error.to_string()),
            BulkError::Object(ObjectError::Failed { .. }) => {
                tracing::error!(error = %error, "an object cannot be used");
                Self::new(Exception::ServiceUnavailable, error.to_string())
            }
            error => Self::invalid_request(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::keys::Role;
    use crate::test_host::TestHost;
    use serde_json::{Value, json};
    use std::time::Duration;

    const INVALID: &str = "InvalidRequestException";
    const TASKS: &str = "/thing-registration-tasks";

    fn template() -> Value {
        json!({
            "Parameters": {"Name": {"Type": "String"}, "CSR": {"Type": "String"}},
            "Resources": {
                "lamp": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Name"}}},
                "identity": {"Type": "AWS::IoT::Certificate", "Properties":
                    {"CertificateSigningRequest": {"Ref": "CSR"}}},
            },
        })
    }

    fn start(template: &Value, bucket: &str, key: &str) -> String {
        json!({"templateBody": template.to_string(), "inputFileBucket": bucket,
            "inputFileKey": key, "roleArn": "arn:aws:iam::123456789012:role/r"})
        .to_string()
    }

    async fn gnomon(
        host: &TestHost,
        method: &str,
        target: &str,
        body: &str,
    ) -> (Option<String>, Value) {
        let response = host.call("gnomon", method, target, body).await;
        let error = TestHost::error_type(&response).map(str::to_owned);
        (error, serde_json::from_slice(response.body()).unwrap_or(Value::Null))
    }

    async fn put(host: &TestHost, key: &str, body: &str) {
        let target = format!("/objects/imports/{key}");
        assert_eq!(gnomon(host, "PUT", &target, body).await, (None, json!({})));
    }

    async fn ended(host: &TestHost, id: &str) -> Value {
        loop {
            let task = host.iot("GET", &format!("{TASKS}/{id}"), "").await;
            if !matches!(task["status"].as_str(), Some("InProgress" | "Cancelling")) {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What a link leads to, for whoever has nothing but the link.
    async fn follow(host: &TestHost, link: &str) -> Vec<Value> {
        let target = link.strip_prefix("http://localhost").expect("the host that was asked");
        let response = host.send(TestHost::request("GET", target, "")).await;
        assert_eq!(TestHost::error_type(&response), None, "{link}");
        let lines = response.body().split(|it| *it == b'\n').filter(|it| !it.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_file_is_registered_with_reports_behind_links() {
        let host = TestHost::new().await;
        let csr = include_str!("../../../pki/tests/data/p384-sha256.csr");
        let line = |name: &str| json!({"Name": name, "CSR": csr}).to_string() + "\n";
        let mut text = line("L1") + "{\n";
        for number in 2..=40 {
            text += &line(&format!("L{number}"));
        }
        // As after a crash: the line is done once more. So far behind, the first one is done.
        text += &line("L1");
        put(&host, "a/lamps(1).ndjson", &text).await;
        let body = start(&template(), "imports", "a/lamps(1).ndjson");
        let made = host.iot("POST", TASKS, &body).await;
        let id = made["taskId"].as_str().unwrap();
        assert_eq!(id.len(), 36);
        let task = ended(&host, id).await;
        assert_eq!(
            task,
            json!({
                "taskId": id,
                "creationDate": 1_795_435_200.5,
                "lastModifiedDate": 1_795_435_200.5,
                "templateBody": template().to_string(),
                "inputFileBucket": "imports",
                "inputFileKey": "a/lamps(1).ndjson",
                "roleArn": "arn:aws:iam::123456789012:role/r",
                "status": "Completed",
                "successCount": 41,
                "failureCount": 1,
                "percentageProgress": 100,
            })
        );
        let report = async |kind: &str| {
            let target = format!("{TASKS}/{id}/reports?reportType={kind}");
            let answer = host.iot("GET", &target, "").await;
            assert_eq!(answer["reportType"], *kind);
            answer["resourceLinks"][0].as_str().unwrap().to_owned()
        };
        let link = report("RESULTS").await;
        let results = follow(&host, &link).await;
        assert_eq!(results.len(), 41);
        let identity = |at: usize| &results[at]["response"]["resourceArns"]["identity"];
        let pem = results[0]["response"]["certificatePem"].as_str().unwrap();
        assert!(pem.contains("BEGIN CERTIFICATE") && !pem.contains("PRIVATE"));
        assert_eq!(results[40]["lineNumber"], 42);
        assert_eq!(identity(0), identity(40), "no second certificate for the same line");
        assert_ne!(identity(0), identity(1));
        let principals = host.iot("GET", "/things/L1/principals", "").await["principals"].clone();
        assert_eq!(principals, json!([identity(0)]));
        let errors = follow(&host, &report("ERRORS").await).await;
        assert_eq!((&errors[0]["lineNumber"], errors.len()), (&json!(2), 1));
        let target = format!("{TASKS}/{id}/reports?reportType=RESULTS&nextToken=MQ");
        assert_eq!(host.iot("GET", &target, "").await["resourceLinks"], json!([]));

        // A new task is a new order.
        host.clock.advance(Duration::from_secs(1));
        let again = host.iot("POST", TASKS, &body).await;
        let again = again["taskId"].as_str().unwrap();
        ended(&host, again).await;
        let principals = host.iot("GET", "/things/L1/principals", "").await["principals"].clone();
        assert_eq!(principals.as_array().unwrap().len(), 2);
        assert_eq!(host.iot("GET", TASKS, "").await, json!({"taskIds": [id, again]}));
        let cancelled = host.iot("GET", &format!("{TASKS}?status=Cancelled"), "").await;
        assert_eq!(cancelled, json!({"taskIds": []}));

        // A link is for an hour, for one object, and as good as the key that signed it.
        let target = |link: &str| link.strip_prefix("http://localhost").unwrap().to_owned();
        let forged = target(&link).replace(".results.1", ".errors.1");
        let response = host.send(TestHost::request("GET", &forged, "")).await;
        assert_eq!(TestHost::error_type(&response), Some("InvalidSignatureException"));
        let response = host.send(TestHost::request("DELETE", &target(&link), "")).await;
        assert_eq!(TestHost::error_type(&response), Some("InvalidSignatureException"));
        host.clock.advance(Duration::from_secs(3_601));
        let response = host.send(TestHost::request("GET", &target(&link), "")).await;
        assert_eq!(TestHost::error_type(&response), Some("InvalidSignatureException"));
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        let host = TestHost::new().await;
        put(&host, "good", "{}\n").await;
        put(&host, "empty", "").await;
        let good = template();
        let bad = json!({"Resources": {"a": {"Type": "AWS::S3::Bucket"}}});
        for (body, says) in [
            (start(&good, "imports", "../good"), "a dot segment"),
            (start(&good, "imports", "a/../../keys/administrator.json"), "a dot segment"),
            (start(&good, "imports", "/etc/passwd"), "an empty or a dot segment"),
            (start(&good, "imports", "a\u{0}"), "character at byte 1"),
            (start(&good, "..", "good"), "bucket must have"),
            (start(&good, "../imports", "good"), "bucket must have"),
            (start(&good, "imports", ""), "key must have"),
            (start(&good, "imports", "none"), "there is no object imports/none"),
            (start(&good, "other", "good"), "there is no object other/good"),
            (start(&good, "imports", "empty"), "object imports/empty is empty"),
            (start(&bad, "imports", "good"), "templateBody: unknown variant"),
            (start(&json!("{"), "imports", "good"), "templateBody"),
            ("{}".to_owned(), "templateBody"),
        ] {
            host.check_refused("POST", TASKS, &body, INVALID, says).await;
            if body.len() > 2 {
                let (error, _) = gnomon(&host, "POST", "/thing-registration-dry-runs", &body).await;
                assert_eq!(error.as_deref(), Some(INVALID), "{body}");
            }
        }
        let missing = "ResourceNotFoundException";
        let long = format!("{TASKS}/{}", "x".repeat(2_000));
        for (method, target, exception, says) in [
            ("GET", format!("{TASKS}/none"), missing, "no thing registration task none"),
            ("GET", long, missing, "so long an id"),
            ("GET", format!("{TASKS}/a%2F..%2Fb"), missing, "task"),
            ("PUT", format!("{TASKS}/none/cancel"), missing, "none"),
            ("GET", format!("{TASKS}/none/reports?reportType=ERRORS"), missing, "none"),
            ("GET", format!("{TASKS}/none/reports"), INVALID, "reportType"),
            ("GET", format!("{TASKS}/none/reports?reportType=ALL"), INVALID, "reportType"),
            ("GET", format!("{TASKS}?status=Done"), INVALID, "status must be"),
        ] {
            host.check_refused(method, &target, "", exception, says).await;
        }
        let made = host.iot("POST", TASKS, &start(&good, "imports", "good")).await;
        let id = made["taskId"].as_str().unwrap();
        assert_eq!(ended(&host, id).await["failureCount"], 1);
        let cancel = format!("{TASKS}/{id}/cancel");
        host.check_refused("PUT", &cancel, "", INVALID, "it is Completed").await;
    }

    #[tokio::test]
    async fn a_dry_run_goes_on_where_it_ended() {
        let host = TestHost::new().await;
        let thing = json!({
            "Parameters": {"Name": {"Type": "String"}},
            "Resources": {"lamp": {"Type": "AWS::IoT::Thing", "Properties": {
                "ThingName": {"Ref": "Name"}, "ThingTypeName": "Lamp"}}},
        });
        put(&host, "lamps", &"{\"Name\": \"L1\"}\n".repeat(5_003)).await;
        let mut body: Value = serde_json::from_str(&start(&thing, "imports", "lamps")).unwrap();
        let run = "/thing-registration-dry-runs";
        let (_, first) = gnomon(&host, "POST", run, &body.to_string()).await;
        assert_eq!((&first["validCount"], &first["invalidCount"]), (&json!(0), &json!(5_000)));
        assert_eq!(first["percentageProgress"], 99);
        let problems = first["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 100);
        let says = "thing type Lamp does not exist";
        assert_eq!(problems[1], json!({"lineNumber": 2, "offset": 15, "errorMessage": says}));
        body["nextToken"] = first["nextToken"].clone();
        host.iot("POST", "/thing-types/Lamp", "").await;
        let (_, rest) = gnomon(&host, "POST", run, &body.to_string()).await;
        let expected = json!({"validCount": 3, "invalidCount": 0, "problems": [],
            "percentageProgress": 100});
        assert_eq!(rest, expected);
        assert_eq!(host.iot("GET", "/things", "").await["things"], json!([]));
        for token in ["", "MQ", "*", "MTph", "OTk5OTk5OTk6MQ"] {
            body["nextToken"] = json!(token);
            let (error, _) = gnomon(&host, "POST", run, &body.to_string()).await;
            assert_eq!(error.as_deref(), Some(INVALID), "{token}");
        }
    }

    #[tokio::test]
    async fn objects_are_put_read_and_removed_by_who_may() {
        let host = TestHost::new().await;
        let target = "/objects/imports/a/b.c";
        put(&host, "a/b.c", "1\n").await;
        put(&host, "a/b.c", "2\n").await;
        assert_eq!(host.call("gnomon", "GET", target, "").await.body(), "2\n");
        for (role, method, expected) in [
            (Role::ReadOnly, "GET", None),
            (Role::ReadOnly, "PUT", Some("AccessDeniedException")),
            (Role::ReadOnly, "DELETE", Some("AccessDeniedException")),
            (Role::Operator, "PUT", None),
        ] {
            let key = host.keys.create(role).await.unwrap();
            let response = host.call_as(&key, "gnomon", method, target, "").await;
            assert_eq!(TestHost::error_type(&response), expected, "{role} {method}");
        }
        assert_eq!(gnomon(&host, "DELETE", target, "").await, (None, json!({})));
        let missing = Some("ResourceNotFoundException");
        for method in ["GET", "DELETE"] {
            assert_eq!(gnomon(&host, method, target, "").await.0.as_deref(), missing);
        }
        for bad in [
            "imports/a%2F..%2Fb",
            "imports/%2E%2E/x",
            "im/a",
            "a%2Fb/c",
            "imports/a%00",
            "imports/a/",
            ".drafts/a",
            "imports/..%2F..%2Fkeys",
        ] {
            for method in ["GET", "PUT", "DELETE"] {
                let (error, _) = gnomon(&host, method, &format!("/objects/{bad}"), "x").await;
                assert_eq!(error.as_deref(), Some(INVALID), "{method} {bad}");
            }
        }
        let large = "x".repeat(1_024 * 1_024 + 1);
        let (error, _) = gnomon(&host, "PUT", target, &large).await;
        assert_eq!(error.as_deref(), Some("RequestEntityTooLargeException"));
    }
}
