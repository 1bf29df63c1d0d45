//! The customer's example, typed by hand: the AWS CLI provisions, mosquitto's clients publish and
//! subscribe, the rule's WebAssembly action posts.

use crate::aws::Aws;
use crate::host::Host;
use crate::mqtt::Client;
use crate::plugins;
use crate::program;
use crate::receiver::Receiver;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A host with the webhook plugin, and the customer's thing, certificate, policy and rule on it.
pub struct Example {
    pub host: Host,
    pub aws: Aws,
    pub receiver: Receiver,
    pub certificate_arn: String,
}

impl Example {
    /// `None` when something is missing on this machine; that was said.
    pub fn new() -> Option<Self> {
        Self::with("")
    }

    /// With more in the configuration.
    pub fn with(configuration: &str) -> Option<Self> {
        let receiver = Receiver::open();
        let webhook = plugins::webhook(&receiver.origin(), &receiver.origin())?;
        Self::start(receiver, &format!("{webhook}{configuration}"))
    }

    /// Its webhook was granted another origin than the one that it is to post to.
    pub fn without_grant() -> Option<Self> {
        let receiver = Receiver::open();
        let webhook = plugins::webhook(&receiver.origin(), "https://granted.example")?;
        Self::start(receiver, &webhook)
    }

    fn start(receiver: Receiver, configuration: &str) -> Option<Self> {
        let host = Host::start(configuration);
        let aws = Aws::of(&host)?;
        let certificate_arn = provision(&host, &aws);
        Some(Self { host, aws, receiver, certificate_arn })
    }

    pub fn certificate(&self) -> PathBuf {
        self.host.path("cert.pem")
    }

    pub fn private_key(&self) -> PathBuf {
        self.host.path("private.pem")
    }

    /// A connection with the thing's certificate, before its CONNECT.
    #[track_caller]
    pub fn dial(&self) -> Client {
        Client::tls(&self.host, "mqtt", Some((&self.certificate(), &self.private_key())))
    }

    /// A connection with the thing's certificate.
    #[track_caller]
    pub fn connect(&self) -> Client {
        let mut client = self.dial();
        assert_eq!(client.connect("TemperatureSensor1"), 0);
        client
    }
}

/// The customer's commands; returns the certificate's ARN.
#[track_caller]
fn provision(host: &Host, aws: &Aws) -> String {
    let thing = aws.ok(&["iot", "create-thing", "--thing-name", "TemperatureSensor1"]);
    let arn = "arn:aws:iot:us-east-1:123456789012:thing/TemperatureSensor1";
    assert_eq!(thing["thingArn"], arn);

    let file = |name: &str| host.path(name).display().to_string();
    let certificate = aws.ok(&[
        "iot",
        "create-keys-and-certificate",
        "--set-as-active",
        "--certificate-pem-outfile",
        &file("cert.pem"),
        "--public-key-outfile",
        &file("public.pem"),
        "--private-key-outfile",
        &file("private.pem"),
    ]);
    let certificate_arn = certificate["certificateArn"].as_str().unwrap().to_owned();

    std::fs::write(host.path("policy.json"), POLICY).unwrap();
    let document = format!("file://{}", file("policy.json"));
    let name = ["--policy-name", "SensorPolicy"];
    let create = ["iot", "create-policy", name[0], name[1], "--policy-document", &document];
    assert_eq!(aws.ok(&create)["policyVersionId"], "1");
    aws.ok(&["iot", "attach-policy", name[0], name[1], "--target", &certificate_arn]);
    let thing = ["--thing-name", "TemperatureSensor1"];
    let principal = ["--principal", &certificate_arn];
    aws.ok(&["iot", "attach-thing-principal", thing[0], thing[1], principal[0], principal[1]]);

    let rule = json!({
        "sql": "SELECT * FROM 'sensor/temp' WHERE temp > 30",
        "awsIotSqlVersion": "2016-03-23",
        "actions": [{
            "lambda": { "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:webhook" },
        }],
    });
    // A stock client knows no parameters of a function: the URL is in the plugin's configuration.
    std::fs::write(host.path("rule.json"), rule.to_string()).unwrap();
    let payload = format!("file://{}", file("rule.json"));
    let name = ["--rule-name", "HighTemp"];
    aws.ok(&["iot", "create-topic-rule", name[0], name[1], "--topic-rule-payload", &payload]);
    certificate_arn
}

const POLICY: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [
    {"Effect": "Allow", "Action": "iot:Connect",
     "Resource": "arn:aws:iot:us-east-1:123456789012:client/${iot:Connection.Thing.ThingName}"},
    {"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"],
     "Resource": [
       "arn:aws:iot:us-east-1:123456789012:topic/sensor/*",
       "arn:aws:iot:us-east-1:123456789012:topic/$aws/things/${iot:Connection.Thing.ThingName}/shadow/*"]},
    {"Effect": "Allow", "Action": "iot:Subscribe",
     "Resource": [
       "arn:aws:iot:us-east-1:123456789012:topicfilter/sensor/*",
       "arn:aws:iot:us-east-1:123456789012:topicfilter/$aws/things/${iot:Connection.Thing.ThingName}/shadow/*"]}
  ]
}"#;

#[test]
fn the_listener_for_https_takes_mqtt_by_alpn() {
    let Some(example) = Example::new() else { return };
    let identity = (&*example.certificate(), &*example.private_key());
    for protocol in ["x-amzn-mqtt-ca", "mqtt"] {
        let mut client = Client::tls_by(&example.host, "https", Some(identity), Some(protocol));
        assert_eq!(client.connect("TemperatureSensor1"), 0, "{protocol}");
        client.publish("sensor/temp", "{\"temp\": 31}");
        let fired: Value = serde_json::from_str(&example.receiver.next()).unwrap();
        assert_eq!(fired["temp"], 31);
    }
}

#[test]
fn the_typed_example_works_with_the_aws_cli_and_mosquittos_clients() {
    let (Some(publish), Some(subscribe)) = (program("mosquitto_pub"), program("mosquitto_sub"))
    else {
        return;
    };
    let Some(example) = Example::new() else { return };
    let port = example.host.port("mqtt").to_string();
    let client = |program: &PathBuf| {
        let mut command = Command::new(program);
        command.args(["-h", "localhost", "-p", &port, "--cafile"]).arg(example.host.ca_file());
        command.arg("--cert").arg(example.certificate());
        command.arg("--key").arg(example.private_key());
        command.args(["-i", "TemperatureSensor1", "-q", "1", "-t", "sensor/temp"]);
        command
    };
    // One client id, so one after the other: the publisher takes over from nobody.
    for temp in ["21.5", "31.5"] {
        let reading = format!("{{\"temp\": {temp}}}");
        let output = client(&publish).args(["-m", &reading]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
    }
    let fired: Value = serde_json::from_str(&example.receiver.next()).unwrap();
    assert_eq!(fired["temp"], 31.5);
    example.receiver.expect_nothing();

    let waiting = client(&subscribe).args(["-C", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    example.host.expect_log("subscribe client_id=TemperatureSensor1");
    let endpoint = ["iot-data", "publish", "--topic", "sensor/temp", "--qos", "1"];
    let payload = ["--payload", "{\"temp\": 32}", "--cli-binary-format", "raw-in-base64-out"];
    let version_1 = &payload[..2];
    example.aws.ok(&[&endpoint, version_1].concat());
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "{\"temp\": 32}");
}

#[test]
fn what_the_sensor_may_do_is_explained() {
    let Some(example) = Example::new() else { return };
    let thing = ["--thing-name", "TemperatureSensor1"];
    let principals = example.aws.ok(&["iot", "list-thing-principals", thing[0], thing[1]]);
    let arn = principals["principals"][0].as_str().unwrap();
    let explain = |resource: &str| {
        let who = ["--principal", arn, "--client-id", "TemperatureSensor1"];
        let command = ["policy", "explain", "publish", resource];
        let output = example.host.gnomon(&[&command[..], &who].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let allowed = "allowed by statement 1 of policy SensorPolicy\n";
    assert_eq!(explain("sensor/temp"), (Some(0), allowed.to_owned()));
    assert_eq!(explain("other/temp"), (Some(1), "no statement allows it\n".to_owned()));
    let topic = "arn:aws:iot:us-east-1:123456789012:topic/sensor/temp";
    let info = format!("actionType=PUBLISH,resources={topic}");
    let test = ["iot", "test-authorization", "--principal", arn, "--auth-infos", &info];
    assert_eq!(example.aws.ok(&test)["authResults"][0]["authDecision"], "ALLOWED");
}
