//! The stock AWS CLI against a host.

use crate::host::Host;
use crate::program;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

/// The AWS CLI, signing with a key of the host.
pub struct Aws {
    program: PathBuf,
    endpoint: String,
    key: (String, String),
}

impl Aws {
    /// The administrator's CLI; `None` when it is not installed.
    pub fn of(host: &Host) -> Option<Self> {
        Some(Self { program: program("aws")?, endpoint: host.api(), key: host.key() })
    }

    /// The same CLI with another key.
    pub fn with_key(&self, id: &str, secret: &str) -> Self {
        let (program, endpoint) = (self.program.clone(), self.endpoint.clone());
        Self { program, endpoint, key: (id.into(), secret.into()) }
    }

    /// `aws ARGUMENTS`, as typed, with `--endpoint-url`.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program)
            .args(["--endpoint-url", &self.endpoint, "--region", "us-east-1", "--output", "json"])
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", &self.key.0)
            .env("AWS_SECRET_ACCESS_KEY", &self.key.1)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_PAGER", "")
            .output()
            .unwrap()
    }

    /// The answer of a command that works.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "aws {arguments:?}: {error}");
        if output.stdout.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// The message of a command that is refused.
    #[track_caller]
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "aws {arguments:?} was not refused");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Lets the clients of [`crate::host::LAB`] do everything.
    #[track_caller]
    pub fn create_lab_policy(&self) {
        let document = r#"{"Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}"#;
        let create = ["iot", "create-policy", "--policy-name", "Lab", "--policy-document"];
        self.ok(&[&create[..], &[document]].concat());
    }
}
