//! `policy`: what it costs to ask 20 statements whether a client may publish, and to make them ready
//! for a connection.
//!
//! In: how long. Out: three tables. In this process, on a registry in memory: a certificate is
//! registered and attached, admitted as at CONNECT, and its session takes PUBLISH packets.

use crate::cpu::Rate;
use crate::table::{Cell, Table};
use crate::{Result, progress};
use bytes::Bytes;
use gnomon_core::auth::{Authenticator, Authorizers, Credentials, Identity};
use gnomon_core::ids::{Account, ClientId, PolicyName, ThingName, ThingTypeName};
use gnomon_core::limits::Limits;
use gnomon_core::message::{Publisher, QoS};
use gnomon_core::packet::{Connect, Packet, Publish, Version};
use gnomon_core::policy::{Action, Context, Permissions, Policy, Resource, ThingContext};
use gnomon_core::random::SeededRandom;
use gnomon_core::registry::{
    Attributes, CertificateStatus, IssueError, Issued, Issuer, Ports, Registry, ThingTypeProperties,
};
use gnomon_core::session::{Compat, Config, Opened, Output, Session};
use gnomon_core::storage::{MemoryStore, Position};
use gnomon_core::time::{Now, SystemClock};
use gnomon_core::topic::TopicName;
use rcgen::{CertificateParams, DnType, KeyPair};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Runs between two looks at the clock: below a millisecond.
const BATCH: u32 = 256;

/// Takes turns, so that a change of the machine's speed meets all sides.
const TURNS: u32 = 4;

/// The thing, and so its client id.
const DEVICE: &str = "sensor-7";

/// What it may publish to by its attributes.
const TELEMETRY: &str = "site/hall-2/line/3/sensor-7/telemetry/temperature";

/// Another topic of the same length, by the same statement.
const HUMIDITY: &str = "site/hall-2/line/3/sensor-7/telemetry/humidity_rel";

/// Three policies with 20 statements together, `ARN:` short for region and account: what a fleet
/// has for all of its devices. One denies, one has a condition.
const POLICIES: [(&str, &str); 3] =
    [("Shadow", SHADOW), ("Telemetry", TELEMETRY_POLICY), ("Command", COMMAND)];

const SHADOW: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Action":"iot:Connect","Resource":"ARN:client/${iot:ClientId}",
     "Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}},
    {"Effect":"Allow","Action":"iot:Publish",
     "Resource":"ARN:topic/$aws/things/${iot:Connection.Thing.ThingName}/shadow/*"},
    {"Effect":"Allow","Action":"iot:Subscribe",
     "Resource":"ARN:topicfilter/$aws/things/${iot:Connection.Thing.ThingName}/shadow/*"},
    {"Effect":"Allow","Action":"iot:Receive",
     "Resource":"ARN:topic/$aws/things/${iot:Connection.Thing.ThingName}/shadow/*"},
    {"Effect":"Allow","Action":"iot:Publish",
     "Resource":"ARN:topic/$aws/things/${iot:Connection.Thing.ThingName}/jobs/*"},
    {"Effect":"Allow","Action":"iot:Subscribe",
     "Resource":"ARN:topicfilter/$aws/things/${iot:Connection.Thing.ThingName}/jobs/*"},
    {"Effect":"Allow","Action":"iot:Receive",
     "Resource":"ARN:topic/$aws/things/${iot:Connection.Thing.ThingName}/jobs/*"}]}"#;

const TELEMETRY_POLICY: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Action":"iot:Publish","Resource":"ARN:topic/$aws/rules/ingest/${iot:ClientId}"},
    {"Effect":"Allow","Action":"iot:Publish",
     "Resource":"ARN:topic/org/${iot:Certificate.Subject.Organization}/alarm/*/${iot:ClientId}"},
    {"Effect":"Allow","Action":"iot:Publish",
     "Resource":"ARN:topic/log/${iot:Certificate.Subject.CommonName}/*"},
    {"Effect":"Allow","Action":["iot:Publish","iot:RetainPublish"],
     "Resource":"ARN:topic/site/${iot:Connection.Thing.Attributes[site]}/line/${iot:Connection.Thing.Attributes[line]}/${iot:ClientId}/state"},
    {"Effect":"Allow","Action":"iot:RetainPublish",
     "Resource":"ARN:topic/org/${iot:Certificate.Subject.Organization}/presence/${iot:ClientId}"},
    {"Effect":"Allow","Action":"iot:Publish",
     "Resource":"ARN:topic/site/${iot:Connection.Thing.Attributes[site]}/line/${iot:Connection.Thing.Attributes[line]}/${iot:ClientId}/telemetry/*"}]}"#;

const COMMAND: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Deny","Action":["iot:Publish","iot:Subscribe","iot:Receive"],
     "Resource":["ARN:topic/*/admin/*","ARN:topicfilter/*/admin/*"]},
    {"Effect":"Allow","Action":"iot:Subscribe",
     "Resource":"ARN:topicfilter/site/${iot:Connection.Thing.Attributes[site]}/command/*"},
    {"Effect":"Allow","Action":"iot:Receive",
     "Resource":"ARN:topic/site/${iot:Connection.Thing.Attributes[site]}/command/*"},
    {"Effect":"Allow","Action":"iot:Subscribe","Resource":"ARN:topicfilter/cmd/${iot:ClientId}/*"},
    {"Effect":"Allow","Action":"iot:Receive","Resource":"ARN:topic/cmd/${iot:ClientId}/*"},
    {"Effect":"Allow","Action":"iot:Subscribe","Resource":"ARN:topicfilter/broadcast/?/*"},
    {"Effect":"Allow","Action":"iot:Receive","Resource":"ARN:topic/broadcast/?/*"}]}"#;

/// Everything for everybody: the policy that costs least.
const ALLOW_ALL: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Action":"iot:*","Resource":"*"}]}"#;

/// Measures checks, the session that keeps their verdict, and what comes before.
pub fn measure(measured: Duration) -> Result<Vec<Table>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let device = runtime.block_on(Device::register())?;
    let identity = runtime.block_on(device.authenticator.authenticate(&device.credentials))?;
    Ok(vec![
        measure_checks(measured, &identity.permissions)?,
        measure_session(measured, &identity)?,
        measure_connection(measured, &runtime, &device)?,
    ])
}

fn measure_checks(measured: Duration, permissions: &Permissions) -> Result<Table> {
    let mut table = Table::new(
        "Policy: one check of 20 statements, nothing remembered",
        &["topic", "action", "decision", "CPU ns"],
    );
    for (topic, action, is_allowed) in [
        (TELEMETRY, Action::Publish, true),
        ("$aws/things/sensor-7/shadow/update", Action::Publish, true),
        ("org/acme/alarm/fire/sensor-7", Action::Publish, true),
        ("site/hall-2/line/3/sensor-7/state", Action::RetainPublish, true),
        ("cmd/sensor-7/reboot", Action::Receive, true),
        ("site/hall-2/line/4/sensor-7/telemetry/temperature", Action::Publish, false),
        ("other/topic", Action::Publish, false),
        ("site/hall-2/line/3/sensor-7/telemetry/admin/reset", Action::Publish, false),
    ] {
        progress(&format!("policy: {} {topic}", action.as_str()));
        let resource = Resource::Topic(topic);
        let decision = permissions.explain(action, resource);
        if permissions.allows(action, resource) != is_allowed {
            return Err(format!("{} {topic}: {decision}", action.as_str()).into());
        }
        let mut rate = Rate::default();
        rate.run(measured, || {
            for _ in 0..BATCH {
                black_box(black_box(permissions).allows(action, black_box(resource)));
            }
            Ok(BATCH)
        })?;
        let action = action.as_str().trim_start_matches("iot:");
        let decision = decision.to_string();
        let cells = [topic.into(), action.into(), decision.as_str().into()];
        table.row(cells.into_iter().chain([Cell::Number(rate.nanos())]));
    }
    table.note("Variables and the condition were decided when the connection was made.");
    Ok(table)
}

/// The difference between the two ways of publishing is what a check costs the session; between the
/// two policies, what the statements do.
fn measure_session(measured: Duration, identity: &Identity) -> Result<Table> {
    let mut table = Table::new(
        "Policy: a PUBLISH through the session, CPU ns",
        &["client", "20 statements", "one for everything"],
    );
    let policy = Policy::parse("AllowAll", ALLOW_ALL, &Account::default())?;
    let permissions = Permissions::new([&policy], &Context::default());
    let everything = Identity { permissions, ..identity.clone() };
    for (name, topics) in [
        ("stays on its topic", [TELEMETRY, TELEMETRY]),
        ("changes its topic every time", [TELEMETRY, HUMIDITY]),
    ] {
        progress(&format!("policy: a client that {name}"));
        let topics = [TopicName::parse(topics[0])?, TopicName::parse(topics[1])?];
        let mut sessions = [connect(identity)?, connect(&everything)?];
        let mut rates = [Rate::default(); 2];
        for _ in 0..TURNS {
            for (rate, session) in rates.iter_mut().zip(&mut sessions) {
                rate.run(measured / TURNS, || publish(session, &topics))?;
            }
        }
        let [real, free] = rates.map(|rate| Cell::Number(rate.nanos()));
        table.row([name.into(), real, free]);
    }
    table.note("QoS 0; packet made, session asked, message taken out. No socket, no broker.");
    Ok(table)
}

fn measure_connection(measured: Duration, runtime: &Runtime, device: &Device) -> Result<Table> {
    let mut table = Table::new("Policy: before the first check", &["what", "how often", "CPU us"]);
    let account = Account::default();
    let documents = POLICIES.map(|(name, text)| (name, document(text)));
    let mut policies = Vec::new();
    for (name, text) in &documents {
        policies.push(Policy::parse(name, text, &account)?);
    }
    let context = context()?;
    progress("policy: compiled");
    let [mut parsed, mut bound, mut admitted] = [Rate::default(); 3];
    parsed.run(measured, || {
        for (name, text) in &documents {
            black_box(Policy::parse(name, text, &account)?);
        }
        Ok(1)
    })?;
    bound.run(measured, || {
        black_box(Permissions::new(&policies, &context));
        Ok(1)
    })?;
    progress("policy: a client admitted");
    admitted.run(measured, || {
        let admit = device.authenticator.admit(&device.credentials);
        black_box(runtime.block_on(admit)?);
        Ok(1)
    })?;
    for (what, how_often, rate) in [
        ("20 statements parsed", "once per version of a policy", parsed),
        ("variables and conditions filled in", "once per connection, and change", bound),
        ("the client admitted, the line above included", "once per connection", admitted),
    ] {
        table.row([what.into(), how_often.into(), Cell::Number(rate.nanos() / 1e3)]);
    }
    table.note(
        "Admitted: certificate, thing, type and three policies read from a store in memory and \
         decoded, the certificate's subject read.",
    );
    Ok(table)
}

/// A registered device, and who decides about it.
struct Device {
    authenticator: Authenticator,
    credentials: Credentials,
}

/// No key or certificate is made by the host here.
struct NoIssuer;

impl Issuer for NoIssuer {
    fn issue(&self) -> std::result::Result<Issued, IssueError> {
        Err(IssueError::Failed("nothing is issued here".to_owned()))
    }

    fn sign(&self, _: &str) -> std::result::Result<String, IssueError> {
        Err(IssueError::Failed("nothing is signed here".to_owned()))
    }

    fn is_signed_by(&self, _: &[u8], _: &[u8]) -> bool {
        false
    }
}

impl Device {
    async fn register() -> Result<Self> {
        let clock = Arc::new(SystemClock);
        let registry = Registry::new(Ports {
            storage: Arc::<MemoryStore>::default(),
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(1)),
            issuer: Arc::new(NoIssuer),
            account: Account::default(),
            limits: Arc::default(),
        });
        let (name, of_type) = (ThingName::parse(DEVICE)?, ThingTypeName::parse("Sensor")?);
        registry.create_thing_type(&of_type, ThingTypeProperties::default()).await?;
        let attributes = ATTRIBUTES.map(|(name, value)| (name.to_owned(), value.to_owned()));
        registry.create_thing(&name, Some(of_type), Attributes::parse(attributes)?).await?;
        let (pem, der) = certificate()?;
        let active = CertificateStatus::Active;
        let id = registry.register_certificate_without_ca(&pem, active).await?.id;
        for (name, text) in POLICIES {
            let name = PolicyName::parse(name)?;
            registry.create_policy(&name, &document(text)).await?;
            registry.attach_policy(&name, &id).await?;
        }
        registry.attach_thing_principal(&name, &id).await?;
        let authenticator = Authenticator::new(registry, clock, Authorizers::default());
        Ok(Self { authenticator, credentials: credentials(der)? })
    }
}

const ATTRIBUTES: [(&str, &str); 2] = [("line", "3"), ("site", "hall-2")];

fn document(text: &str) -> String {
    text.replace("ARN:", &Account::default().arn(""))
}

/// A certificate of acme's device, as PEM and DER.
fn certificate() -> Result<(String, Bytes)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, DEVICE);
    params.distinguished_name.push(DnType::OrganizationName, "acme");
    let certificate = params.self_signed(&KeyPair::generate()?)?;
    Ok((certificate.pem(), Bytes::copy_from_slice(certificate.der())))
}

fn credentials(certificate: Bytes) -> Result<Credentials> {
    Ok(Credentials {
        connection_id: 1,
        peer: (Ipv4Addr::LOCALHOST, 4_000).into(),
        listener: "mqtt".into(),
        anonymous_policy: None,
        server_name: None,
        certificate: Some(certificate),
        http: None,
        client_id: Some(ClientId::parse(DEVICE)?),
        username: None,
        password: None,
        has_will: false,
        is_persistent: false,
    })
}

/// What the policies see of the device.
fn context() -> Result<Context> {
    let attributes = ATTRIBUTES.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let subject = |name, value: &str| (name, vec![value.to_owned()]);
    Ok(Context {
        client_id: Some(ClientId::parse(DEVICE)?),
        source_ip: Some(Ipv4Addr::LOCALHOST.into()),
        domain_name: None,
        thing: Some(ThingContext {
            name: ThingName::parse(DEVICE)?,
            type_name: Some("Sensor".into()),
            attributes: attributes.into(),
        }),
        certificate: [
            subject("Subject.CommonName", DEVICE),
            subject("Subject.Organization", "acme"),
        ]
        .into(),
        has_will: false,
        is_persistent: false,
    })
}

/// A session whose client is connected.
fn connect(identity: &Identity) -> Result<Session> {
    let now = Now::of(&SystemClock);
    let config = Config {
        limits: Limits::default(),
        connect_timeout: Duration::from_secs(10),
        compat: Compat::Mqtt,
        redirect: None,
        metrics: Arc::default(),
        tells_offences: false,
    };
    let mut session = Session::new(Arc::new(config), now);
    let connect = Connect {
        version: Version::V311,
        clean_start: true,
        keep_alive_s: 0,
        client_id: Some(ClientId::parse(DEVICE)?),
        username: None,
        password: None,
        will: None,
        session_expiry_s: 0,
        receive_maximum: None,
        maximum_packet_size: None,
        topic_alias_maximum: 0,
        request_response_information: false,
        request_problem_information: true,
        authentication: None,
        user_properties: Vec::new(),
    };
    session.handle_packet(now, Packet::Connect(Box::new(connect)));
    let client_id = Some(ClientId::parse(DEVICE)?);
    let publisher = Publisher { client_id, principal: identity.principal.clone() };
    let opened = Opened {
        publisher: Arc::new(publisher),
        identity: identity.clone(),
        resumed: None,
        is_durable: false,
        committed: Position::default(),
        authentication_data: Bytes::new(),
    };
    session.handle_opened(now, opened);
    while session.poll_output().is_some() {}
    match session.client_id() {
        Some(_) => Ok(session),
        None => Err("the client is not connected".into()),
    }
}

/// A batch of messages, on the topics in turn; each has to pass.
fn publish(session: &mut Session, topics: &[TopicName]) -> Result<u32> {
    let now = Now::of(&SystemClock);
    for topic in topics.iter().cycle().take(BATCH as usize) {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: Some(topic.clone()),
            packet_id: None,
            topic_alias: None,
            payload: Bytes::from_static(b"21.5"),
            properties: None,
        };
        session.handle_packet(now, Packet::Publish(publish));
        let Some(Output::Publish { message, .. }) = session.poll_output() else {
            return Err(format!("the message to {} did not pass", topic.as_str()).into());
        };
        black_box(message);
    }
    Ok(BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policies_have_the_statements_that_the_tables_say() {
        let all: String = POLICIES.map(|(_, text)| text).concat();
        assert_eq!(all.matches("\"Effect\"").count(), 20);
        assert_eq!(all.matches("\"Deny\"").count(), 1);
        assert_eq!(all.matches("\"Condition\"").count(), 1);
    }

    #[test]
    fn a_client_that_stays_on_its_topic_is_measured_as_one_that_passes() {
        let tables = measure(Duration::from_micros(10)).unwrap();
        assert_eq!(tables.len(), 3);
    }

    #[test]
    fn the_context_is_what_the_registry_knows_of_the_device() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let device = runtime.block_on(Device::register()).unwrap();
        let authenticate = device.authenticator.authenticate(&device.credentials);
        let real = runtime.block_on(authenticate).unwrap().permissions;
        let account = Account::default();
        let parse = |(name, text)| Policy::parse(name, &document(text), &account).unwrap();
        let policies = POLICIES.map(parse);
        let made = Permissions::new(&policies, &context().unwrap());
        for topic in [TELEMETRY, "log/sensor-7/x", "org/acme/alarm/1/sensor-7"] {
            for permissions in [&real, &made] {
                assert!(permissions.allows(Action::Publish, Resource::Topic(topic)), "{topic}");
            }
        }
    }
}
