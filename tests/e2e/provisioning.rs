//! Devices that come with a claim, or with a certificate of a CA that the host was told of.

use crate::host::Host;
use crate::mqtt::Client;
use crate::plugins::folder;
use crate::{program, skip, workspace};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Runs the script of the device SDK, with a plugin that is a hook.
#[track_caller]
fn fleet(host: &Host, hook: Option<&str>) {
    let Some(python) = program("python3") else { return };
    let import = Command::new(&python).args(["-c", "import awsiot, boto3"]).output().unwrap();
    if !import.status.success() {
        return skip("Python has no awsiot or boto3; .ci/run installs them");
    }
    let folder = TempDir::new().unwrap();
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    let (csr, csr_key) = (folder.path().join("csr"), folder.path().join("csr.key"));
    std::fs::write(&csr, request.pem().unwrap()).unwrap();
    std::fs::write(&csr_key, key.serialize_pem()).unwrap();
    let (id, secret) = host.key();
    let output = Command::new(python)
        .arg(workspace().join("tests/e2e/fleet_sdk.py"))
        .arg(host.port("mqtt").to_string())
        .arg(host.ca_file())
        .args([host.api(), id, secret])
        .args([folder.path(), &csr, &csr_key])
        .args(hook)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}\n{}", host.log());
}

#[test]
fn the_device_sdk_provisions_a_fleet_by_claim_by_trusted_user_and_by_csr() {
    fleet(&Host::start(""), None);
}

pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A CA of somebody else.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate that it signed, and its key.
    pub fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

#[test]
fn a_device_of_a_registered_ca_comes_in_at_once_and_is_its_thing() {
    let host = Host::start("");
    let Some(aws) = crate::aws::Aws::of(&host) else { return };
    let folder = TempDir::new().unwrap();
    let ca = Ca::new("Acme Devices");
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]});
    let template = json!({
        "Parameters": {"AWS::IoT::Certificate::CommonName": {"Type": "String"},
            "AWS::IoT::Certificate::Id": {"Type": "String"}},
        "Resources": {
            "thing": {"Type": "AWS::IoT::Thing", "Properties":
                {"ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"}}},
            "certificate": {"Type": "AWS::IoT::Certificate", "Properties":
                {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
            "policy": {"Type": "AWS::IoT::Policy", "Properties":
                {"PolicyDocument": policy.to_string()}},
        },
    });
    let code = aws.ok(&["iot", "get-registration-code"]);
    let (verification, _) = ca.sign(code["registrationCode"].as_str().unwrap());
    let ca_file = write(folder.path(), "ca.pem", ca.pem());
    let verification = write(folder.path(), "verification.pem", &verification);
    let file = |path: &Path| format!("file://{}", path.display());
    let config = json!({"templateBody": template.to_string(), "roleArn": "arn:aws:iam::123456789012:role/r"});
    aws.ok(&[
        "iot",
        "register-ca-certificate",
        "--ca-certificate",
        &file(&ca_file),
        "--verification-certificate",
        &file(&verification),
        "--set-as-active",
        "--allow-auto-registration",
        "--registration-config",
        &config.to_string(),
    ]);
    let (certificate, key) = ca.sign("truck-7");
    let certificate = write(folder.path(), "device.pem", &certificate);
    let key = write(folder.path(), "device.key", &key);
    let mut client = Client::tls(&host, "mqtt", Some((&certificate, &key)));
    assert_eq!(client.connect("truck-7"), 0, "{}", host.log());
    let thing = aws.ok(&["iot", "list-thing-principals", "--thing-name", "truck-7"]);
    assert_eq!(thing["principals"].as_array().unwrap().len(), 1);
}

#[test]
fn a_hook_keeps_devices_out_that_are_on_no_list() {
    let Some(plugin) = folder("allow-list") else { return };
    let host = Host::start(&format!(
        "[plugins.allow-list]\npath = {plugin:?}\n[plugins.allow-list.config]\n\
         parameter = 'SerialNumber'\nallowed = ['1', '2', '3']\n"
    ));
    fleet(&host, Some("allow-list"));
    host.expect_log("which is not on the list");
}

/// A template for a thing per line, and a file with so many lines.
fn import(folder: &Path, lines: usize) -> [String; 3] {
    let template = json!({
        "Parameters": {"Serial": {"Type": "String"}},
        "Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {
            "ThingName": {"Fn::Sub": "lamp-${Serial}"},
            "AttributePayload": {"serial": {"Ref": "Serial"}}}}},
    });
    let template = write(folder, "template.json", &template.to_string());
    let text: String = (0..lines).map(|it| format!("{{\"Serial\": \"{it}\"}}\n")).collect();
    let file = write(folder, "lamps.ndjson", &text);
    [file, "--template".into(), template].map(|it| it.to_str().unwrap().to_owned())
}

#[test]
fn a_file_of_things_is_tried_out_and_registered() {
    let host = Host::start("");
    let folder = TempDir::new().unwrap();
    let [file, option, template] = import(folder.path(), 2_000);
    let run = |more: &[&str]| {
        let command =
            [&["things", "import", &*file, &*option, &*template, "--json"], more].concat();
        let output = host.gnomon(&command);
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let count = |name: &str| answer[name].as_u64().unwrap();
        (output.status.code(), count("successCount"), count("failureCount"), answer)
    };
    let (code, good, failed, _) = run(&["--dry-run"]);
    assert_eq!((code, good, failed), (Some(0), 2_000, 0));
    let imports = host.data().join("objects/imports");
    assert_eq!(std::fs::read_dir(&imports).unwrap().count(), 0, "a dry run leaves nothing");
    let (code, good, failed, answer) = run(&[]);
    assert_eq!((code, good, failed), (Some(0), 2_000, 0), "{answer}");
    let bad = "{\"Serial\": \"a b\"}\n{\"Serial\": \"x\"}\n";
    std::fs::write(&file, bad).unwrap();
    for more in [&["--dry-run"][..], &[]] {
        let (code, good, failed, answer) = run(more);
        assert_eq!((code, good, failed), (Some(1), 1, 1), "{more:?}");
        assert_eq!(answer["problems"][0]["lineNumber"], 1, "{more:?}");
    }
}

#[test]
fn an_import_goes_on_after_the_host_was_killed() {
    let mut host = Host::start("");
    let folder = TempDir::new().unwrap();
    let count = 8_000;
    let [file, option, template] = import(folder.path(), count);
    let arguments = ["things", "import", &*file, &*option, &*template];
    let (data, mut command) = (host.data(), Command::new(env!("CARGO_BIN_EXE_gnomon")));
    let mut import = command.args(arguments).arg("--data").arg(data).spawn().unwrap();
    // The first progress is recorded, and not the last.
    let imports = host.data().join("objects/imports");
    let has_report = || {
        let names = std::fs::read_dir(&imports).ok()?.filter_map(Result::ok);
        names.map(|it| it.file_name()).find(|it| it.to_string_lossy().ends_with(".results.1"))
    };
    crate::host::wait(std::time::Duration::from_secs(30), has_report).unwrap();
    host.kill_and_restart();
    assert!(!import.wait().unwrap().success(), "who waited for it is told");
    host.expect_log("status=\"Completed\"");
    let name = has_report().unwrap();
    let report = std::fs::read_to_string(imports.join(name)).unwrap();
    let numbers = report.lines().map(|line| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        usize::try_from(entry["lineNumber"].as_u64().unwrap()).unwrap()
    });
    assert!(numbers.eq(1..=count), "every line once, in order");
}
