//! Enhanced authentication (MQTT 5.0, 4.12): SCRAM-SHA-256 with the shipped plugin, from CONNECT to
//! re-authentication.

use crate::host::Host;
use crate::mqtt::{self, Client};
use crate::plugins;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::num::NonZeroU32;
use tempfile::TempDir;

const METHOD: &str = "SCRAM-SHA-256";
const SALT: &[u8; 16] = b"salt of 16 bytes";
const ITERATIONS: u32 = 4_096;
const CONTINUE: u8 = 0x18;
const REAUTHENTICATE: u8 = 0x19;
const NOT_AUTHORIZED: u8 = 0x87;
const BAD_METHOD: u8 = 0x8c;

const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "iot:Connect",
     "Resource": "arn:aws:iot:us-east-1:123456789012:client/alice-*"}]}"#;

fn salted(password: &str) -> [u8; 32] {
    let mut key = [0; 32];
    let iterations = NonZeroU32::new(ITERATIONS).unwrap();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, SALT, password.as_bytes(), &mut key);
    key
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

/// The text that the operator keeps.
fn verifier(password: &str) -> String {
    let key = salted(password);
    let text = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    format!(
        "SCRAM-SHA-256${ITERATIONS}:{}${}:{}",
        text(SALT),
        text(&hash(&mac(&key, b"Client Key"))),
        text(&mac(&key, b"Server Key"))
    )
}

/// The client's last message, and what the server has to answer.
fn prove(password: &str, bare: &str, challenge: &str) -> (String, String) {
    let key = salted(password);
    let nonce = challenge.split(',').next().unwrap();
    let last = format!("c=biws,{nonce}");
    let signed = format!("{bare},{challenge},{last}");
    let client_key = mac(&key, b"Client Key");
    let signature = mac(&hash(&client_key), signed.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
    let server = mac(&mac(&key, b"Server Key"), signed.as_bytes());
    (
        format!("{last},p={}", BASE64_STANDARD.encode(proof)),
        format!("v={}", BASE64_STANDARD.encode(server)),
    )
}

/// Authentication Method and Data, with their length.
fn properties(method: &str, data: &str) -> Vec<u8> {
    let mut properties = vec![0x15];
    mqtt::text(&mut properties, method);
    properties.push(0x16);
    mqtt::text(&mut properties, data);
    let mut all = vec![u8::try_from(properties.len()).unwrap()];
    // All of them are short, or need a second byte of length.
    if properties.len() > 127 {
        all = vec![u8::try_from(properties.len() % 128).unwrap() | 0x80, 1];
    }
    all.extend(properties);
    all
}

fn connect(client_id: &str, method: &str, data: &str) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 0x02, 0, 60];
    body.extend(properties(method, data));
    mqtt::text(&mut body, client_id);
    mqtt::packet(0x10, &body)
}

fn auth(reason: u8, data: &str) -> Vec<u8> {
    let mut body = vec![reason];
    body.extend(properties(METHOD, data));
    mqtt::packet(0xf0, &body)
}

/// The Authentication Data of an AUTH with this reason.
#[track_caller]
fn auth_data(packet: &[u8], reason: u8) -> String {
    let body = &packet[1 + packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1..];
    assert_eq!((packet[0], body[0]), (0xf0, reason), "{packet:02x?}");
    let text = String::from_utf8_lossy(&packet[packet.len() - body.len()..]).into_owned();
    let method = text.find(METHOD).unwrap() + METHOD.len();
    // Identifier and length of the data are three bytes.
    text[method + 3..].to_owned()
}

const BARE: &str = "n=alice,r=client-nonce";

/// Up to the answer to the client's proof.
#[track_caller]
fn log_in(client: &mut Client, first: &[u8], bare: &str, password: &str) -> (Vec<u8>, String) {
    client.send(first);
    let challenge = auth_data(&client.packet().unwrap(), CONTINUE);
    let (last, signature) = prove(password, bare, &challenge);
    client.send(&auth(CONTINUE, &last));
    (client.packet().unwrap(), signature)
}

#[test]
fn a_client_logs_in_with_scram_and_authenticates_again() {
    let Some(plugin) = plugins::folder("scram-authorizer") else { return };
    let secrets = TempDir::new().unwrap();
    let secret = secrets.path().join("salt");
    std::fs::write(&secret, "a secret of more than 16 bytes").unwrap();
    let host = Host::start(&format!(
        "[authorizers.methods]\nSCRAM-SHA-256 = 'scram-authorizer'\n\
         [plugins.scram-authorizer]\npath = {plugin:?}\n\
         [plugins.scram-authorizer.grants]\nsecrets.salt = {{ file = {secret:?} }}\n\
         [plugins.scram-authorizer.config]\nsalt_secret = 'salt'\n\
         [plugins.scram-authorizer.config.users.alice]\nverifier = '{}'\n\
         policies = ['''{POLICY}''']\n",
        verifier("wonderland")
    ));
    let first = format!("n,,{BARE}");
    let hello = connect("alice-1", METHOD, &first);

    let mut client = Client::tls(&host, "mqtt", None);
    let (connack, signature) = log_in(&mut client, &hello, BARE, "wonderland");
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
    let connack = String::from_utf8_lossy(&connack).into_owned();
    assert!(connack.contains(&signature), "the server proves itself: {connack:?}");
    client.ping();

    let again = auth(REAUTHENTICATE, &first);
    let (done, signature) = log_in(&mut client, &again, BARE, "wonderland");
    assert_eq!(auth_data(&done, 0), signature);
    client.ping();
    let (refused, _) = log_in(&mut client, &again, BARE, "looking-glass");
    assert_eq!((refused[0], refused[2]), (0xe0, NOT_AUTHORIZED), "{refused:02x?}");
    client.expect_closed();

    let nobody = BARE.replace("alice", "nobody");
    let unknown = connect("alice-1", METHOD, &format!("n,,{nobody}"));
    let elsewhere = connect("bob", METHOD, &first);
    for (what, hello, bare, password) in [
        ("wrong password", &hello, BARE, "looking-glass"),
        ("no such user", &unknown, nobody.as_str(), "wonderland"),
        ("another client id", &elsewhere, BARE, "wonderland"),
    ] {
        let mut client = Client::tls(&host, "mqtt", None);
        let (connack, _) = log_in(&mut client, hello, bare, password);
        assert_eq!((connack[0], connack[3]), (0x20, NOT_AUTHORIZED), "{what}");
        client.expect_closed();
    }

    let mut client = Client::tls(&host, "mqtt", None);
    client.send(&connect("alice-1", "GS2-KRB5", "token"));
    let connack = client.packet().unwrap();
    assert_eq!((connack[0], connack[3]), (0x20, BAD_METHOD), "{connack:02x?}");
}

#[test]
fn a_method_needs_a_plugin_that_is_there() {
    let log = Host::refused("[authorizers.methods]\nSCRAM-SHA-256 = 'scram'\n");
    assert!(log.contains("gives SCRAM-SHA-256 to scram"), "{log}");
}
