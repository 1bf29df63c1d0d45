//! Start, stop, kill -9: what the host keeps, and what it says when it cannot start.

use crate::aws::Aws;
use crate::customer_example::Example;
use crate::host::{self, Host};
use crate::mqtt::{self, Client};
use serde_json::{Value, json};

const THING: [&str; 2] = ["--thing-name", "TemperatureSensor1"];

/// Of the thing, by way of the CLI.
#[track_caller]
fn shadow(host: &Host, aws: &Aws) -> Value {
    let file = host.path("shadow.json").display().to_string();
    aws.ok(&["iot-data", "get-thing-shadow", THING[0], THING[1], &file]);
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[track_caller]
fn update_shadow(host: &Host, aws: &Aws, state: &Value) {
    let file = host.path("updated.json").display().to_string();
    let text = json!({ "state": state }).to_string();
    let update = ["iot-data", "update-thing-shadow", THING[0], THING[1]];
    aws.ok(&[&update[..], &["--payload", &text, &file]].concat());
}

#[test]
fn everything_is_there_and_works_after_a_restart() {
    let Some(mut example) = Example::new() else { return };
    update_shadow(&example.host, &example.aws, &json!({ "desired": { "period_s": 30 } }));
    let ask = |aws: &Aws| {
        let name = ["--policy-name", "SensorPolicy"];
        [
            aws.ok(&["iot", "describe-thing", THING[0], THING[1]]),
            aws.ok(&["iot", "list-thing-principals", THING[0], THING[1]]),
            aws.ok(&["iot", "get-policy", name[0], name[1]]),
            aws.ok(&["iot", "list-targets-for-policy", name[0], name[1]]),
            aws.ok(&["iot", "get-topic-rule", "--rule-name", "HighTemp"]),
        ]
    };
    let before = ask(&example.aws);
    assert_eq!(before[0]["thingName"], "TemperatureSensor1");
    let shadow_before = shadow(&example.host, &example.aws);
    assert_eq!(shadow_before["state"]["desired"], json!({ "period_s": 30 }));

    example.host.restart();
    example.aws = Aws::of(&example.host).unwrap();

    assert_eq!(ask(&example.aws), before);
    let shadow_after = shadow(&example.host, &example.aws);
    for part in ["state", "metadata", "version"] {
        assert_eq!(shadow_after[part], shadow_before[part], "{part}");
    }
    example.connect().publish("sensor/temp", "{\"temp\": 31}");
    let fired: Value = serde_json::from_str(&example.receiver.next()).unwrap();
    assert_eq!(fired["temp"], 31);
}

#[test]
fn a_device_that_was_away_gets_its_delta_when_it_subscribes() {
    let Some(mut example) = Example::new() else { return };
    update_shadow(&example.host, &example.aws, &json!({ "desired": { "period_s": 30 } }));
    example.host.kill_and_restart();
    let mut device = example.connect();
    let delta = "$aws/things/TemperatureSensor1/shadow/update/delta";
    assert_eq!(device.subscribe(delta), 1);
    let (topic, payload) = device.message();
    assert_eq!(topic, delta);
    let payload: Value = serde_json::from_str(&payload).unwrap();
    assert_eq!(payload["state"], json!({ "period_s": 30 }));
}

#[test]
fn a_killed_host_has_every_shadow_update_that_was_accepted() {
    const ACCEPTED: u64 = 50;
    const IN_FLIGHT: u64 = 5;
    let Some(mut example) = Example::new() else { return };
    update_shadow(&example.host, &example.aws, &json!({ "reported": { "cli": true } }));

    let update = "$aws/things/TemperatureSensor1/shadow/update";
    let mut client = example.connect();
    assert_eq!(client.subscribe(&format!("{update}/accepted")), 1);
    let send = |client: &mut Client, number: u64| {
        let state = json!({ "state": { "reported": { format!("mqtt{number}"): number } } });
        client.send(&mqtt::publish(update, &state.to_string()));
    };
    (1..=IN_FLIGHT).for_each(|number| send(&mut client, number));
    let mut accepted = json!({ "cli": true });
    for number in 1..=ACCEPTED {
        let (topic, payload) = client.message();
        assert_eq!(topic, format!("{update}/accepted"));
        let answer: Value = serde_json::from_str(&payload).unwrap();
        for (name, value) in answer["state"]["reported"].as_object().unwrap() {
            accepted[name] = value.clone();
        }
        send(&mut client, number + IN_FLIGHT);
    }
    // Right behind an answer, with more updates on their way.
    example.host.kill_and_restart();
    let after = shadow(&example.host, &Aws::of(&example.host).unwrap());

    assert!(after["version"].as_u64().unwrap() > ACCEPTED, "{after}");
    let accepted = accepted.as_object().unwrap();
    assert_eq!(accepted.len() as u64, ACCEPTED + 1);
    for (name, value) in accepted {
        assert_eq!(&after["state"]["reported"][name], value, "{name} in {after}");
    }
}

#[test]
fn a_second_host_on_the_same_folder_is_refused() {
    let host = Host::start("");
    let config = host.path("gnomon.toml").display().to_string();
    let output = host.gnomon(&["up", "--config", &config]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    let process = format!("is held by another host (process {})", host.pid());
    assert!(error.contains(&process), "{error}");
    assert!(error.contains("choose another data folder"), "{error}");
    // The first one is untouched.
    assert_eq!(host.gnomon(&["status", "--json"]).status.code(), Some(0));
}

#[test]
fn a_taken_port_is_named_with_what_to_do() {
    let first = Host::start("");
    let address = format!("127.0.0.1:{}", first.port("mqtt"));
    let error = Host::refused(&format!(
        "[listeners.mqtt]\nbind = '{address}'\n[listeners.https]\nenabled = false\n\
         [listeners.api]\nbind = '127.0.0.1:0'\n"
    ));
    assert!(error.contains(&format!("listener mqtt: cannot listen on {address}")), "{error}");
    assert!(error.contains("stop it, or choose another port"), "{error}");
}

#[test]
fn the_status_says_whether_a_host_runs() {
    let mut host = Host::start("");
    let running = host.gnomon(&["status", "--json"]);
    assert_eq!(running.status.code(), Some(0));
    let status: Value = serde_json::from_slice(&running.stdout).unwrap();
    assert_eq!(status["running"], true);
    assert_eq!(status["pid"], host.pid());

    host.stop();
    let stopped = json!({ "running": false, "ready": false });
    for data in [host.data(), host.path("never-was")] {
        let output = host::gnomon(&["status", "--json"], &data);
        assert_eq!(output.status.code(), Some(3), "{}", data.display());
        assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), stopped);
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn a_key_is_made_with_and_without_a_running_host_and_does_what_its_role_may() {
    let mut host = Host::start("");
    let Some(administrator) = Aws::of(&host) else { return };
    let create = |host: &Host, role| {
        let output = host.gnomon(&["key", "create", "--role", role, "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let key: Value = serde_json::from_slice(&output.stdout).unwrap();
        ["accessKeyId", "secretAccessKey"].map(|field| key[field].as_str().unwrap().to_owned())
    };
    let [id, secret] = create(&host, "operator");
    let thing = ["iot", "create-thing", THING[0], THING[1]];
    administrator.with_key(&id, &secret).ok(&thing);

    host.stop();
    let [id, secret] = create(&host, "read-only");
    host.start_again();
    let reader = Aws::of(&host).unwrap().with_key(&id, &secret);
    let things = reader.ok(&["iot", "list-things"]);
    assert_eq!(things["things"][0]["thingName"], "TemperatureSensor1");
    let error = reader.refused(&["iot", "delete-thing", THING[0], THING[1]]);
    assert!(error.contains("AccessDenied"), "{error}");
}

#[test]
fn keys_are_rotated_disabled_and_removed() {
    let host = Host::start("");
    let Some(first) = Aws::of(&host) else { return };
    let gnomon = |arguments: &[&str]| {
        let output = host.gnomon(&[&["key"], arguments].concat());
        (output.status.code(), output.stdout, String::from_utf8(output.stderr).unwrap())
    };
    let own = |host: &Host| {
        let file = host.path("data/keys/administrator.json");
        let key: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        key["accessKeyId"].as_str().unwrap().to_owned()
    };
    let old = own(&host);
    let (_, _, refused) = gnomon(&["disable", &old]);
    assert!(refused.contains("cannot remove or deactivate itself"), "{refused}");
    let (code, shown, errors) = gnomon(&["rotate", &old, "--json"]);
    assert_eq!(code, Some(0), "{errors}");
    let new: Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(
        (new["role"].as_str(), new["accessKeyId"].as_str()),
        (Some("administrator"), Some(&*own(&host)))
    );
    assert_ne!(own(&host), old);
    let list = ["iot", "list-things"];
    assert!(first.refused(&list).contains("UnrecognizedClient"));
    Aws::of(&host).unwrap().ok(&list);
    for (command, status) in [("enable", "Active"), ("disable", "Inactive")] {
        assert_eq!(gnomon(&[command, &old]).0, Some(0));
        let keys: Value = serde_json::from_slice(&gnomon(&["list"]).1).unwrap();
        let keys = keys["accessKeys"].as_array().unwrap().clone();
        assert_eq!(keys.len(), 2);
        assert!(keys.iter().any(|it| it["accessKeyId"] == *old && it["status"] == status));
    }
    assert_eq!(gnomon(&["delete", &old]).0, Some(0));
    let (code, _, gone) = gnomon(&["rotate", &old]);
    assert_eq!(code, Some(1));
    assert!(gone.contains("no access key has the id"), "{gone}");
}
