//! Makes thing, certificate, policy and rule by the REST API, step by step as the AWS CLI would;
//! what is there already is kept.

use crate::host::Host;
use crate::receiver::Receiver;
use crate::{Result, say};
use gnomon_api::{Client, ClientError};
use http::Method;
use serde_json::{Value, json};
use std::path::Path;

/// The thing, and the sensor's MQTT client id.
pub const THING: &str = "TemperatureSensor1";

/// Where the sensor publishes.
pub const TOPIC: &str = "sensor/temp";

const POLICY: &str = "SensorPolicy";
const RULE: &str = "HighTemp";
const SQL: &str = "SELECT * FROM 'sensor/temp' WHERE temp > 30";

/// What the sensor connects with.
pub struct Credentials {
    /// PEM of the certificate.
    pub certificate: Vec<u8>,
    /// PEM of its key.
    pub private_key: Vec<u8>,
}

/// Makes what is missing.
pub async fn provision(host: &Host, data: &Path, receiver: &Receiver) -> Result<Credentials> {
    let iot = Iot(host.client()?);
    let thing = iot.call(Method::POST, &["things", THING], &[], &json!({})).await?;
    done("thing", THING, &thing["thingArn"]);

    let certificate_file = data.join("sensor.cert.pem");
    let key_file = data.join("sensor.private.pem");
    let arn_file = data.join("sensor.cert.arn");
    if !(certificate_file.exists() && key_file.exists() && arn_file.exists()) {
        let path = ["keys-and-certificate"];
        let query = [("setAsActive", "true")];
        let answer = iot.0.call("iot", Method::POST, &path, &query, &[], "").await?;
        let made: Value = serde_json::from_slice(&answer)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        std::fs::write(&certificate_file, text(&made["certificatePem"]))?;
        std::fs::write(&key_file, text(&made["keyPair"]["PrivateKey"]))?;
        std::fs::write(&arn_file, text(&made["certificateArn"]))?;
    }
    let arn = std::fs::read_to_string(&arn_file)?;
    done("certificate", "", &json!(arn));

    let body = json!({ "policyDocument": policy().to_string() });
    let policy = iot.call(Method::POST, &["policies", POLICY], &[], &body).await;
    let policy = unless_it_exists(policy)?;
    done("policy", POLICY, &policy["policyArn"]);
    let target = json!({ "target": arn });
    iot.call(Method::PUT, &["target-policies", POLICY], &[], &target).await?;
    let principal = [("x-amzn-principal", arn.as_str())];
    let path = ["things", THING, "principals"];
    iot.call(Method::PUT, &path, &principal, &Value::Null).await?;

    // The receiver's port differs from start to start, so the rule is made anew.
    let rule = json!({
        "sql": SQL,
        "awsIotSqlVersion": "2016-03-23",
        "actions": [{ "plugin": { "name": "webhook", "params": { "url": receiver.url() } } }],
    });
    if let Err(error) = iot.call(Method::POST, &["rules", RULE], &[], &rule).await {
        unless_it_exists(Err(error))?;
        iot.call(Method::PATCH, &["rules", RULE], &[], &rule).await?;
    }
    done("rule", RULE, &json!(SQL));
    Ok(Credentials {
        certificate: std::fs::read(certificate_file)?,
        private_key: std::fs::read(key_file)?,
    })
}

/// The service `iot`, JSON in and out.
struct Iot(Client);

impl Iot {
    async fn call(
        &self,
        method: Method,
        path: &[&str],
        headers: &[(&'static str, &str)],
        body: &Value,
    ) -> std::result::Result<Value, ClientError> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.0.call("iot", method, path, &[], headers, body).await?;
        // Operations without an answer send none.
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }
}

/// The sensor may connect as itself, publish its readings and keep its own shadow.
fn policy() -> Value {
    let arn = |resource: &str| format!("arn:aws:iot:us-east-1:123456789012:{resource}");
    let own = "${iot:Connection.Thing.ThingName}";
    json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "iot:Connect",
                "Resource": arn(&format!("client/{own}")),
            },
            {
                "Effect": "Allow",
                "Action": "iot:Publish",
                "Resource": [
                    arn("topic/sensor/temp"),
                    arn(&format!("topic/$aws/things/{own}/shadow/update")),
                ],
            },
            {
                "Effect": "Allow",
                "Action": "iot:Subscribe",
                "Resource": arn(&format!("topicfilter/$aws/things/{own}/shadow/update/*")),
            },
            {
                "Effect": "Allow",
                "Action": "iot:Receive",
                "Resource": arn(&format!("topic/$aws/things/{own}/shadow/update/*")),
            },
        ],
    })
}

fn unless_it_exists(result: std::result::Result<Value, ClientError>) -> Result<Value> {
    match result {
        Err(ClientError::Refused { code, .. }) if code == "ResourceAlreadyExistsException" => {
            Ok(Value::Null)
        }
        other => Ok(other?),
    }
}

fn done(what: &str, name: &str, detail: &Value) {
    say(&format!("  {what:12} {name} {}", detail.as_str().unwrap_or("(kept)")));
}
