//! Clients as they come: the AWS IoT Device SDK, Eclipse Paho and boto3, all for Python; and moto, an
//! emulator of AWS. What they do is in the `.py` files beside this one.

use crate::customer_example::Example;
use crate::host::Host;
use crate::provisioning::{Ca, write};
use crate::{program, skip, workspace};
use serde_json::Value;
use std::process::Command;

/// Runs a script as the thing of the example; false when its packages are missing.
#[track_caller]
fn run(script: &str, module: &str, listener: &str, example: &Example) -> bool {
    let Some(python) = program("python3") else { return false };
    let import = Command::new(&python).args(["-c", &format!("import {module}")]).output().unwrap();
    if !import.status.success() {
        skip(&format!("Python has no {module}; .ci/run installs it"));
        return false;
    }
    let output = Command::new(python)
        .arg(workspace().join("tests/e2e").join(script))
        .arg(example.host.port(listener).to_string())
        .arg(example.host.ca_file())
        .args([example.certificate(), example.private_key()])
        .arg("TemperatureSensor1")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {error}\n{}", example.host.log());
    true
}

#[test]
fn the_aws_iot_device_sdk_publishes_receives_fires_the_rule_and_uses_the_shadow() {
    let Some(example) = Example::new() else { return };
    if run("device_sdk.py", "awsiot", "mqtt", &example) {
        for expected in [31.5, 32.5] {
            let fired: Value = serde_json::from_str(&example.receiver.next()).unwrap();
            assert_eq!(fired["temp"], expected);
        }
    }
}

#[test]
fn the_shadow_clients_of_the_aws_iot_device_sdk_go_the_way_of_the_samples() {
    let Some(example) = Example::new() else { return };
    run("shadow_sdk.py", "awsiot", "mqtt", &example);
}

#[test]
fn a_thing_type_adds_user_properties_to_what_its_things_publish() {
    const NAMES: [&str; 2] = ["--thing-type-name", "Sensor"];
    const THING: [&str; 2] = ["--thing-name", "TemperatureSensor1"];
    let Some(example) = Example::new() else { return };
    let aws = &example.aws;
    let configuration = r#"{"mqtt5Configuration": {"propagatingAttributes": [
        {"userPropertyKey": "site", "thingAttribute": "site"},
        {"userPropertyKey": "thing", "connectionAttribute": "iot:Thing.ThingName"},
        {"userPropertyKey": "id", "connectionAttribute": "iot:ClientId"}]}}"#;
    let properties = ["--thing-type-properties", configuration];
    aws.ok(&["iot", "create-thing-type", NAMES[0], NAMES[1]]);
    aws.ok(&["iot", "update-thing-type", NAMES[0], NAMES[1], properties[0], properties[1]]);
    let attributes = ["--attribute-payload", r#"{"attributes": {"site": "hall-2"}}"#];
    let typed = ["iot", "update-thing", THING[0], THING[1], NAMES[0], NAMES[1]];
    aws.ok(&[&typed[..], &attributes].concat());
    // From now on the thing is the certificate's under any client id.
    let principal = [THING[0], THING[1], "--principal", &example.certificate_arn];
    aws.ok(&[&["iot", "detach-thing-principal"][..], &principal].concat());
    let exclusive = ["--thing-principal-type", "EXCLUSIVE_THING"];
    aws.ok(&[&["iot", "attach-thing-principal"][..], &principal, &exclusive].concat());
    let open = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*",
        "Resource": "*", "Condition": {"StringEquals":
            {"iot:Connection.Thing.ThingName": "TemperatureSensor1"}}}]}"#;
    let policy = ["--policy-name", "Open"];
    aws.ok(&["iot", "create-policy", policy[0], policy[1], "--policy-document", open]);
    let target = ["--target", &example.certificate_arn];
    aws.ok(&["iot", "attach-policy", policy[0], policy[1], target[0], target[1]]);
    run("enrichment.py", "paho.mqtt.client", "mqtt", &example);
}

#[test]
fn the_control_plane_is_what_botocores_model_says() {
    call_everything("control_plane.py", "boto3");
}

#[test]
fn the_aws_cli_has_a_command_for_everything() {
    call_everything("control_plane.py", "awscli");
}

#[test]
fn the_control_plane_says_what_moto_says_or_there_is_a_reason() {
    call_everything("second_opinion.py", "moto");
}

/// Runs a script that calls the REST API by this module, with the certificate of a CA and one that it
/// signed.
#[track_caller]
fn call_everything(script: &str, module: &str) {
    let host = Host::start("");
    let Some(python) = program("python3") else { return };
    let import = Command::new(&python).args(["-c", &format!("import {module}")]).output().unwrap();
    if !import.status.success() {
        return skip(&format!("Python has no {module}; .ci/run installs it"));
    }
    let folder = tempfile::TempDir::new().unwrap();
    let ca = Ca::new("Acme Devices");
    let (device, _) = ca.sign("device-1");
    let ca_file = write(folder.path(), "ca.pem", ca.pem());
    let device_file = write(folder.path(), "device.pem", &device);
    let key = std::fs::read(host.path("data/keys/administrator.json")).unwrap();
    let key: Value = serde_json::from_slice(&key).unwrap();
    let output = Command::new(python)
        .arg(workspace().join("tests/e2e").join(script))
        .arg(host.api())
        .args(["accessKeyId", "secretAccessKey"].map(|name| key[name].as_str().unwrap()))
        .args([&ca_file, &device_file])
        .arg(module)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}\n{}", host.log());
}

#[test]
fn paho_publishes_and_receives_over_websocket_with_a_client_certificate() {
    let Some(example) = Example::new() else { return };
    run("websocket.py", "paho.mqtt.client", "https", &example);
}
