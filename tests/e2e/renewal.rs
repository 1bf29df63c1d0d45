//! Certificates that are renewed: a device's by itself over MQTT, and the server's under connections.

use crate::aws::Aws;
use crate::customer_example::Example;
use crate::mqtt::{self, Client};
use crate::provisioning::write;
use serde_json::{Value, json};
use tempfile::TempDir;

const RENEW: &str = "$gnomon/certificates/renew/json";

#[test]
fn a_device_renews_its_certificate_and_is_the_same_thing_with_the_new_one() {
    let Some(example) = Example::new() else { return };
    let Some(aws) = Aws::of(&example.host) else { return };
    let resource =
        |kind: &str, rest: &str| format!("arn:aws:iot:us-east-1:123456789012:{kind}/{rest}");
    let allow = |action: &str, resource: String| json!({"Effect": "Allow", "Action": action, "Resource": resource});
    let policy = json!({"Version": "2012-10-17", "Statement": [
        allow("iot:Publish", resource("topic", RENEW)),
        allow("iot:Receive", resource("topic", &format!("{RENEW}/*"))),
        allow("iot:Subscribe", resource("topicfilter", &format!("{RENEW}/*"))),
    ]});
    let document = policy.to_string();
    aws.ok(&["iot", "create-policy", "--policy-name", "Renew", "--policy-document", &document]);
    let principals = ["iot", "list-thing-principals", "--thing-name", "TemperatureSensor1"];
    let old = aws.ok(&principals)["principals"][0].as_str().unwrap().to_owned();
    let mut client = example.connect();
    aws.ok(&["iot", "attach-policy", "--policy-name", "Renew", "--target", &old]);
    // Permissions are live, a moment later.
    let granted = crate::host::wait(std::time::Duration::from_secs(10), || {
        (client.subscribe(&format!("{RENEW}/accepted")) == 1).then_some(())
    });
    assert!(granted.is_some(), "{}", example.host.log());
    client.publish(RENEW, "{}");
    let (_, answer) = client.message();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let folder = TempDir::new().unwrap();
    let certificate = write(folder.path(), "new.pem", answer["certificatePem"].as_str().unwrap());
    let key = write(folder.path(), "new.key", answer["privateKey"].as_str().unwrap());
    // The old one is good as long as the new one may have been lost.
    client.ping();
    let mut renewed = Client::tls(&example.host, "mqtt", Some((&certificate, &key)));
    assert_eq!(renewed.connect("TemperatureSensor1"), 0, "{}", example.host.log());
    renewed.publish("sensor/temp", r#"{"temp": 31}"#);
    assert!(example.receiver.next().contains("31"));
    assert_eq!(aws.ok(&principals)["principals"].as_array().unwrap().len(), 2);
}

#[test]
fn the_server_presents_its_new_certificate_and_ends_no_connection() {
    let Some(example) = Example::new() else { return };
    let host = &example.host;
    let mut client = example.connect();
    let before = mqtt::server_certificate(host, "mqtt");
    let renewed = host.gnomon(&["cert", "renew", "--server"]);
    assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    assert_ne!(mqtt::server_certificate(host, "mqtt"), before);
    assert_ne!(mqtt::server_certificate(host, "https"), before);
    client.ping();
    let renewed = host.gnomon(&["cert", "renew", "--ca"]);
    assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    client.ping();
    example.connect().ping();
}
