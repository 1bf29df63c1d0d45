//! What must not get through: malformed packets, wrong certificates, forged signatures, texts that
//! do not parse, URLs that were not granted. Each is refused where it came from, with a reason,
//! and nobody else notices.

use crate::aws::Aws;
use crate::customer_example::Example;
use crate::host::{Host, LAB};
use crate::mqtt::{self, Client, packet};
use std::time::Duration;

/// Somebody else, whom nothing in these tests may disturb.
#[track_caller]
fn bystander(host: &Host) -> Client {
    let mut client = Client::plain(host, "lab");
    assert_eq!(client.connect("bystander"), 0);
    client
}

#[test]
fn malformed_packets_end_their_connection_and_no_other() {
    let Some(example) = Example::with(LAB) else { return };
    example.aws.create_lab_policy();
    let mut bystander = bystander(&example.host);

    let first: [(&str, &[u8]); 6] = [
        ("another protocol", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        ("a ping before CONNECT", &[0xc0, 0]),
        ("another protocol name", b"\x10\x0f\0\x04MQTX\x04\x02\0\x3c\0\x03abc"),
        ("a reserved flag", b"\x10\x0f\0\x04MQTT\x04\x03\0\x3c\0\x03abc"),
        ("a will of QoS 3", b"\x10\x15\0\x04MQTT\x04\x1e\0\x3c\0\x03abc\0\x01t\0\x01p"),
        ("a length of five bytes", &[0x10, 0xff, 0xff, 0xff, 0xff, 0x01]),
    ];
    for (what, bytes) in first {
        let mut client = example.dial();
        client.send(bytes);
        // A CONNACK may say why; what counts is that nobody is let in.
        if let Some(packet) = client.packet() {
            assert!(packet[0] == 0x20 && packet[3] != 0, "{what}: {packet:02x?}");
            client.expect_closed();
        }
        bystander.ping();
    }

    let later: [(&str, Vec<u8>); 14] = [
        ("packet type 0", vec![0, 0]),
        ("AUTH in 3.1.1", vec![0xf0, 0]),
        ("a packet of the server", vec![0xd0, 0]),
        ("a second CONNECT", packet(0x10, b"\0\x04MQTT\x04\x02\0\x3c\0\x03abc")),
        ("a length of five bytes", vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ("more than any packet may have", vec![0x30, 0xff, 0xff, 0xff, 0x7f]),
        ("a ping with content", packet(0xc0, &[0])),
        ("QoS 3", packet(0x36, b"\0\x0bsensor/temp\0\x01x")),
        ("packet identifier 0", packet(0x32, b"\0\x0bsensor/temp\0\0x")),
        ("a topic beyond the packet", packet(0x30, b"\0\xffsensor/temp")),
        ("a topic with a wildcard", packet(0x30, b"\0\x08sensor/#x")),
        ("a topic that is not UTF-8", packet(0x30, b"\0\x08sensor/\xffx")),
        ("SUBSCRIBE without its flags", packet(0x80, b"\0\x01\0\x0bsensor/temp\0")),
        ("SUBSCRIBE without a filter", packet(0x82, b"\0\x01")),
    ];
    for (what, bytes) in later {
        let mut client = example.connect();
        client.send(&bytes);
        let answer = client.packet();
        assert_eq!(answer, None, "{what}");
        bystander.ping();
    }
    example.receiver.expect_nothing();
}

#[test]
fn only_an_active_certificate_of_the_registry_gets_in() {
    let Some(example) = Example::with(LAB) else { return };
    example.aws.create_lab_policy();
    let mut bystander = bystander(&example.host);
    let not_authorized = 5;

    let mut without = Client::tls(&example.host, "mqtt", None);
    assert_eq!(without.connect("TemperatureSensor1"), not_authorized);

    let own = rcgen::generate_simple_self_signed(["TemperatureSensor1".to_owned()]).unwrap();
    let (certificate, key) = (example.host.path("own.pem"), example.host.path("own.key"));
    std::fs::write(&certificate, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let mut unregistered = Client::tls(&example.host, "mqtt", Some((&certificate, &key)));
    assert_eq!(unregistered.connect("TemperatureSensor1"), not_authorized);

    let (_, id) = example.certificate_arn.rsplit_once('/').unwrap();
    let set = |status| {
        let arguments = ["--certificate-id", id, "--new-status", status];
        example.aws.ok(&[&["iot", "update-certificate"][..], &arguments].concat());
    };
    for status in ["INACTIVE", "REVOKED"] {
        let mut live = example.connect();
        live.ping();
        set(status);
        live.expect_closed();
        assert_eq!(example.dial().connect("TemperatureSensor1"), not_authorized, "{status}");
        set("ACTIVE");
    }
    example.connect().ping();
    bystander.ping();
}

#[test]
fn a_publication_beyond_the_policy_ends_the_connection() {
    let Some(example) = Example::new() else { return };
    for (topic, payload) in [("other/temp", "{}"), ("$aws/things/Other/shadow/update", "{}")] {
        let mut client = example.connect();
        client.publish("sensor/temp", "{\"temp\": 1}");
        client.send(&mqtt::publish(topic, payload));
        client.expect_closed();
        example
            .host
            .expect_log(&format!("publish denied client_id=TemperatureSensor1 topic={topic}"));
    }
}

#[test]
fn texts_that_do_not_parse_are_refused_with_the_place() {
    let host = Host::start("");
    let Some(aws) = Aws::of(&host) else { return };

    let create = ["iot", "create-policy", "--policy-name", "Broken", "--policy-document"];
    let cases = [
        ("{\"Version\": \"2012-10-17\",\n \"Statement\": oops}", "line 2 column"),
        (
            r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Perhaps",
                "Action": "iot:Connect", "Resource": "*"}]}"#,
            "unknown variant `Perhaps`, expected `Allow` or `Deny` at line 1 column 60",
        ),
    ];
    for (document, place) in cases {
        let error = aws.refused(&[&create[..], &[document]].concat());
        assert!(error.contains("(MalformedPolicyException)"), "{error}");
        assert!(error.contains(place), "{error}");
    }
    assert_eq!(aws.ok(&["iot", "list-policies"])["policies"], serde_json::json!([]));

    let rule = serde_json::json!({
        "sql": "SELECT *\nFROM 'sensor/temp' WHERE temp >> 30",
        "actions": [{
            "lambda": { "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:webhook" },
        }],
    });
    let create = ["iot", "create-topic-rule", "--rule-name", "Broken", "--topic-rule-payload"];
    let error = aws.refused(&[&create[..], &[&rule.to_string()]].concat());
    assert!(error.contains("(SqlParseException)"), "{error}");
    assert!(error.contains("line 2") && error.contains("column"), "{error}");
    assert_eq!(aws.ok(&["iot", "list-topic-rules"])["rules"], serde_json::json!([]));
}

#[test]
fn a_forged_signature_and_an_unknown_key_are_refused() {
    let host = Host::start("");
    let Some(aws) = Aws::of(&host) else { return };
    let (id, secret) = host.key();
    let forged = "x".repeat(secret.len());
    let cases = [
        (&*id, &*forged, "InvalidSignatureException"),
        ("AKIAIOSFODNN7EXAMPLE", &*secret, "UnrecognizedClientException"),
    ];
    for (id, secret, exception) in cases {
        let error = aws.with_key(id, secret).refused(&["iot", "list-things"]);
        assert!(error.contains(exception), "{error}");
        assert!(!error.contains(secret), "{error}");
    }
    aws.ok(&["iot", "list-things"]);
}

#[test]
fn a_webhook_to_a_url_that_was_not_granted_is_logged_with_rule_and_reason() {
    let Some(example) = Example::without_grant() else { return };
    let mut client = example.connect();
    client.publish("sensor/temp", "{\"temp\": 31}");
    let line = example.host.expect_log("rule=HighTemp plugin=webhook topic=sensor/temp");
    for part in ["was not granted `http`", &example.receiver.origin(), "[plugins.webhook.grants]"] {
        assert!(line.contains(part), "{part:?} is not in {line}");
    }
    // Neither the host nor its clients mind.
    client.publish("sensor/temp", "{\"temp\": 32}");
    client.ping();
    example.receiver.expect_nothing();
}

#[test]
fn connections_wait_while_no_file_is_left_and_nobody_else_notices() {
    let host = Host::start_with_files(150, LAB);
    let Some(aws) = Aws::of(&host) else { return };
    aws.create_lab_policy();
    let mut bystander = bystander(&host);
    let flood: Vec<_> = (0..200).map(|_| Client::plain(&host, "lab")).collect();
    host.expect_log("cannot accept connections");
    // Longer than the host pauses: it says it once.
    std::thread::sleep(Duration::from_millis(500));
    bystander.ping();
    assert_eq!(host.log().matches("cannot accept connections").count(), 1, "{}", host.log());
    drop(flood);
    let mut late = Client::plain(&host, "lab");
    assert_eq!(late.connect("late"), 0);
    bystander.ping();
}
