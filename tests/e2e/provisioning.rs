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
