//! Fleet provisioning as devices see it: messages to a broker in memory, answers from it.

use super::upkeep::Upkeep;
use super::*;
use crate::auth::{Authenticator, Authorizers, Credentials};
use crate::broker::{Broker, Delivery, Inbox, Receiver, Wakes};
use crate::ids::{Principal, ThingName};
use crate::message::{Message, Publisher};
use crate::metrics::Metrics;
use crate::packet::SubscribeOptions;
use crate::policy::{Action, Resource};
use crate::registry::tests::registry_on;
use crate::registry::{Attributes, CertificateStatus, NewTemplate, TemplateType};
use crate::storage::MemoryStore;
use crate::time::{Clock, ManualClock};
use crate::topic::{TopicFilter, TopicName};
use serde_json::{Value, json};
use std::sync::Mutex;
use tokio::sync::mpsc;

const CREATE: &str = "$aws/certificates/create/json";
const PROVISION: &str = "$aws/provisioning-templates/lamps/provision/json";

/// A client that hears what it has subscribed to.
struct Device {
    id: ClientId,
    heard: mpsc::Sender<(String, Vec<u8>)>,
}

impl Inbox for Device {
    fn deliver(&self, delivery: Delivery, _: &mut Wakes) {
        let message = delivery.message;
        let heard = (message.topic.to_string(), message.payload.to_vec());
        self.heard.try_send(heard).expect("no test hears so much");
    }

    fn client_id(&self) -> Option<&ClientId> {
        Some(&self.id)
    }
}

struct Bed {
    registry: Registry,
    clock: Arc<ManualClock>,
    broker: Broker,
    metrics: Arc<Metrics>,
    service: Service,
}

struct Connection {
    publisher: Arc<Publisher>,
    answers: mpsc::Receiver<(String, Vec<u8>)>,
    _receiver: Receiver,
}

/// Lets in whose serial number is even, and says where the device stands.
struct EvenSerials(Mutex<Vec<HookRequest>>);

#[async_trait]
impl Hook for EvenSerials {
    async fn ask(&self, request: &HookRequest) -> Result<HookAnswer, String> {
        self.0.lock().unwrap().push(request.clone());
        match request.parameters.get("Serial").map(String::as_str) {
            Some("slow") => std::future::pending().await,
            Some("crash") => Err("it crashed".to_owned()),
            serial => Ok(HookAnswer {
                allow_provisioning: serial.is_some_and(|it| it.ends_with(['0', '2', '4'])),
                parameter_overrides: [("Place".to_owned(), "hall".to_owned())].into(),
            }),
        }
    }
}

impl Hooks for EvenSerials {
    fn find(&self, plugin: &PluginName) -> Option<Arc<dyn Hook>> {
        (plugin.as_str() == "gate").then(|| Arc::new(Self(Mutex::default())) as Arc<dyn Hook>)
    }
}

impl Bed {
    async fn new(hook: Option<&str>) -> Self {
        let (registry, clock) = registry_on(Arc::new(MemoryStore::default()));
        let (broker, metrics) = (Broker::in_memory(), Arc::<Metrics>::default());
        let provisioner =
            Provisioner::new(registry.clone(), Arc::new(EvenSerials(Mutex::default())));
        let service = Service::start(provisioner, broker.clone(), clock.clone(), metrics.clone());
        let hook = hook.map(|name| ProvisioningHook {
            target_arn: format!("arn:aws:lambda:us-east-1:123456789012:function:{name}"),
            payload_version: HOOK_PAYLOAD_VERSION.to_owned(),
        });
        let new = NewTemplate {
            name: TemplateName::parse("lamps").unwrap(),
            kind: TemplateType::FleetProvisioning,
            description: None,
            enabled: true,
            role_arn: String::new(),
            hook,
            body: template().to_string(),
        };
        registry.create_provisioning_template(new).await.unwrap();
        Self { registry, clock, broker, metrics, service }
    }

    /// A device that hears all answers.
    fn device(&self, id: &str) -> Connection {
        self.connect(id, &["$aws/certificates/#", "$aws/provisioning-templates/#"])
    }

    fn connect(&self, id: &str, filters: &[&str]) -> Connection {
        self.connect_as("claim", id, filters)
    }

    fn connect_as(&self, principal: &str, id: &str, filters: &[&str]) -> Connection {
        let id = ClientId::parse(id).unwrap();
        let (heard, answers) = mpsc::channel(100);
        let receiver = self.broker.register(Arc::new(Device { id: id.clone(), heard }));
        for filter in filters {
            let filter = TopicFilter::parse(filter).unwrap();
            receiver.subscribe(&filter, SubscribeOptions::default(), None);
        }
        let publisher =
            Arc::new(Publisher { client_id: Some(id), principal: Some(Principal::new(principal)) });
        Connection { publisher, answers, _receiver: receiver }
    }

    fn publish(&self, from: &Connection, topic: &str, payload: impl Into<Vec<u8>>) {
        let topic = TopicName::parse(topic).unwrap();
        let (publisher, now) = (from.publisher.clone(), self.clock.wall());
        let message = Message::new(topic, payload.into(), publisher, now);
        self.broker.publish(&Arc::new(message), &mut Wakes::default());
    }

    fn upkeep(&self) -> Upkeep {
        let (registry, broker) = (self.registry.clone(), self.broker.clone());
        Upkeep::new(registry, broker, self.clock.clone(), self.metrics.clone())
    }

    /// Publishes JSON; the suffix of the answer's topic, and the answer.
    async fn ask(&self, from: &mut Connection, topic: &str, request: &Value) -> (String, Value) {
        self.publish(from, topic, request.to_string());
        loop {
            let (answered, payload) = from.answers.recv().await.unwrap();
            if let Some(suffix) = answered.strip_prefix(topic).filter(|it| !it.is_empty()) {
                return (suffix[1..].to_owned(), serde_json::from_slice(&payload).unwrap());
            }
        }
    }

    async fn token(&self, from: &mut Connection) -> (String, String) {
        let (suffix, made) = self.ask(from, CREATE, &json!({})).await;
        assert_eq!(suffix, "accepted", "{made}");
        assert_eq!(made["privateKey"], "private");
        let text = |member: &str| made[member].as_str().unwrap().to_owned();
        (text("certificateOwnershipToken"), text("certificateId"))
    }

    async fn rejected(&self, from: &mut Connection, topic: &str, request: &Value) -> (u64, String) {
        let (suffix, answer) = self.ask(from, topic, request).await;
        assert_eq!(suffix, "rejected", "{answer}");
        let code = answer["errorCode"].as_str().unwrap().to_owned();
        (answer["statusCode"].as_u64().unwrap(), code)
    }

    /// A device with an ACTIVE certificate, and the certificate's id.
    async fn owner(&self) -> (Connection, CertificateId) {
        let id = self.registry.create_keys_and_certificate(true).await.unwrap().certificate.id;
        (self.connect_as(id.as_str(), "owner", &["$gnomon/#"]), id)
    }

    async fn status(&self, id: &str) -> Option<CertificateStatus> {
        let id = CertificateId::parse(id).unwrap();
        self.registry.describe_certificate(&id).await.ok().map(|it| it.status)
    }
}

fn template() -> Value {
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}]});
    json!({
        "Parameters": {"Serial": {"Type": "String"}, "Place": {"Type": "String", "Default": "depot"}},
        "Mappings": {"Servers": {"hall": {"Url": "https://hall"}, "depot": {"Url": "https://depot"}}},
        "Resources": {
            "thing": {"Type": "AWS::IoT::Thing",
                "Properties": {"ThingName": {"Fn::Sub": "lamp-${Serial}"},
                    "AttributePayload": {"place": {"Ref": "Place"}}}},
            "certificate": {"Type": "AWS::IoT::Certificate",
                "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}},
            "policy": {"Type": "AWS::IoT::Policy",
                "Properties": {"PolicyDocument": policy.to_string()}},
        },
        "DeviceConfiguration": {
            "url": {"Fn::FindInMap": ["Servers", {"Ref": "Place"}, "Url"]},
            "interval": 60,
        },
    })
}

fn request(token: &str, serial: &str) -> Value {
    json!({"certificateOwnershipToken": token, "parameters": {"Serial": serial}})
}

#[tokio::test]
async fn a_device_gets_a_certificate_and_is_provisioned() {
    let bed = Bed::new(None).await;
    let mut device = bed.device("device");
    let (token, id) = bed.token(&mut device).await;
    assert_eq!(bed.status(&id).await, Some(CertificateStatus::PendingActivation));
    let (suffix, answer) = bed.ask(&mut device, PROVISION, &request(&token, "7")).await;
    assert_eq!(suffix, "accepted");
    let configuration = json!({"url": "https://depot", "interval": 60});
    assert_eq!(answer, json!({"deviceConfiguration": configuration, "thingName": "lamp-7"}));
    assert_eq!(bed.status(&id).await, Some(CertificateStatus::Active));
    let thing = ThingName::parse("lamp-7").unwrap();
    let place = bed.registry.describe_thing(&thing).await.unwrap().attributes;
    let expected = Attributes::parse([("place".to_owned(), "depot".to_owned())]).unwrap();
    assert_eq!(place.values(), expected.values());
    let certificate = CertificateId::parse(&id).unwrap();
    let certificate = bed.registry.describe_certificate(&certificate).await.unwrap();
    assert_eq!(certificate.things, [thing].into());
    assert_eq!(certificate.policies.len(), 1);
    // A token is used once.
    let again = bed.rejected(&mut device, PROVISION, &request(&token, "8")).await;
    assert_eq!(again, (400, "InvalidCertificateOwnershipToken".to_owned()));
    assert_eq!(bed.metrics.provisioning_accepted.get(), 2);
    assert_eq!(bed.metrics.provisioning_rejected.get(), 1);
    bed.service.shutdown().await;
}

#[tokio::test]
async fn an_answer_is_heard_by_the_client_that_asked_and_by_nobody_else() {
    let bed = Bed::new(None).await;
    let mut device = bed.device("device");
    let mut spy = bed.device("spy");
    let deaf = bed.connect("deaf", &[]);
    bed.token(&mut device).await;
    bed.publish(&deaf, CREATE, "");
    bed.service.shutdown().await;
    while let Ok((topic, _)) = spy.answers.try_recv() {
        assert_eq!(topic, CREATE, "a request is as public as any message");
    }
}

#[tokio::test]
async fn who_asks_in_cbor_is_answered_in_cbor() {
    let bed = Bed::new(None).await;
    let mut device = bed.device("device");
    let cbor = |value: &Value| {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        bytes
    };
    let mut answer = async |topic: &str, payload: Vec<u8>| {
        bed.publish(&device, topic, payload);
        loop {
            let (answered, payload) = device.answers.recv().await.unwrap();
            if let Some(suffix) = answered.strip_prefix(topic).filter(|it| !it.is_empty()) {
                let value: Value = ciborium::from_reader(&payload[..]).unwrap();
                return (suffix[1..].to_owned(), value);
            }
        }
    };
    let sign = "$aws/certificates/create-from-csr/cbor";
    let (suffix, made) = answer(sign, cbor(&json!({"certificateSigningRequest": "CSR"}))).await;
    assert_eq!(suffix, "accepted", "{made}");
    assert_eq!(made.get("privateKey"), None);
    let token = made["certificateOwnershipToken"].as_str().unwrap();
    let provision = "$aws/provisioning-templates/lamps/provision/cbor";
    let (suffix, provisioned) = answer(provision, cbor(&request(token, "1"))).await;
    assert_eq!((&*suffix, &provisioned["thingName"]), ("accepted", &json!("lamp-1")));
    assert_eq!(provisioned["deviceConfiguration"]["interval"], 60);
    for garbage in [&b"\xff\xff"[..], b"\x81", &[0x81; 5_000]] {
        let (suffix, refused) = answer(sign, garbage.to_vec()).await;
        assert_eq!((&*suffix, &refused["errorCode"]), ("rejected", &json!("InvalidPayload")));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_and_the_certificate_stays_as_it_was() {
    let bed = Bed::new(None).await;
    let mut device = bed.device("device");
    let (token, id) = bed.token(&mut device).await;
    let sign = "$aws/certificates/create-from-csr/json";
    let other = "$aws/provisioning-templates/none/provision/json";
    let mut bad = request(&token, "7");
    bad["parameters"]["Serial"] = json!(7);
    let mut forged = request(&token, "7");
    forged["parameters"]["AWS::IoT::Certificate::Id"] = json!("x");
    let token_of_none = format!("{}{}", "a".repeat(64), "b".repeat(64));
    for (topic, request, status, code) in [
        (sign, json!({}), 400, "InvalidPayload"),
        (sign, json!({"certificateSigningRequest": "no"}), 400, "InvalidRequest"),
        (other, request(&token, "7"), 404, "TemplateNotFound"),
        (PROVISION, json!([]), 400, "InvalidPayload"),
        (PROVISION, bad, 400, "InvalidPayload"),
        (PROVISION, forged, 400, "InvalidParameters"),
        (PROVISION, json!({"certificateOwnershipToken": token}), 400, "InvalidParameters"),
        (PROVISION, request(&token, "../+"), 400, "InvalidParameters"),
        (PROVISION, request("", "7"), 400, "InvalidCertificateOwnershipToken"),
        (PROVISION, request(&token[..64], "7"), 400, "InvalidCertificateOwnershipToken"),
        (PROVISION, request(&token_of_none, "7"), 400, "InvalidCertificateOwnershipToken"),
        (PROVISION, request(&"é".repeat(64), "7"), 400, "InvalidCertificateOwnershipToken"),
    ] {
        let refused = bed.rejected(&mut device, topic, &request).await;
        assert_eq!(refused, (status, code.to_owned()), "{topic} {request}");
    }
    assert_eq!(bed.status(&id).await, Some(CertificateStatus::PendingActivation));
    let name = TemplateName::parse("lamps").unwrap();
    let off = crate::registry::TemplateUpdate { enabled: Some(false), ..Default::default() };
    bed.registry.update_provisioning_template(&name, &off).await.unwrap();
    let refused = bed.rejected(&mut device, PROVISION, &request(&token, "7")).await;
    assert_eq!(refused, (404, "TemplateNotFound".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_hook_decides_and_overrides() {
    let bed = Bed::new(Some("gate")).await;
    let mut device = bed.device("device");
    let (token, id) = bed.token(&mut device).await;
    for serial in ["7", "crash", "slow"] {
        let refused = bed.rejected(&mut device, PROVISION, &request(&token, serial)).await;
        assert_eq!(refused, (403, "ACCESS_DENIED".to_owned()), "{serial}");
    }
    assert_eq!(bed.status(&id).await, Some(CertificateStatus::PendingActivation));
    let (_, answer) = bed.ask(&mut device, PROVISION, &request(&token, "2")).await;
    assert_eq!(answer["deviceConfiguration"]["url"], "https://hall");

    let bed = Bed::new(Some("nobody")).await;
    let mut device = bed.device("device");
    let (token, _) = bed.token(&mut device).await;
    let refused = bed.rejected(&mut device, PROVISION, &request(&token, "2")).await;
    assert_eq!(refused, (403, "ACCESS_DENIED".to_owned()), "a hook that is not there");
}

#[tokio::test]
async fn what_nobody_has_provisioned_is_removed_after_an_hour() {
    let bed = Bed::new(None).await;
    let mut device = bed.device("device");
    let (late, id) = bed.token(&mut device).await;
    let (token, provisioned) = bed.token(&mut device).await;
    bed.ask(&mut device, PROVISION, &request(&token, "1")).await;
    bed.registry.expire_claims().await.unwrap();
    assert!(bed.status(&id).await.is_some());
    bed.clock.advance(Duration::from_secs(3_601));
    let refused = bed.rejected(&mut device, PROVISION, &request(&late, "2")).await;
    assert_eq!(refused, (400, "InvalidCertificateOwnershipToken".to_owned()));
    bed.registry.expire_claims().await.unwrap();
    assert_eq!(bed.status(&id).await, None);
    assert_eq!(bed.status(&provisioned).await, Some(CertificateStatus::Active));
}

#[tokio::test]
async fn a_claim_may_ask_for_one_template_for_five_minutes() {
    let bed = Bed::new(None).await;
    let name = TemplateName::parse("lamps").unwrap();
    let (issued, claim) = bed.registry.create_provisioning_claim(&name).await.unwrap();
    let clock: Arc<dyn Clock> = bed.clock.clone();
    let authenticator = Authenticator::new(bed.registry.clone(), clock, Authorizers::default());
    let (_, pem) = x509_parser::pem::parse_x509_pem(issued.certificate_pem.as_bytes()).unwrap();
    let credentials = Credentials {
        connection_id: 1,
        peer: ([127, 0, 0, 1], 1).into(),
        listener: "mqtt".into(),
        anonymous_policy: None,
        server_name: None,
        certificate: Some(pem.contents.into()),
        http: None,
        client_id: Some(ClientId::parse("new-device").unwrap()),
        username: None,
        password: None,
        has_will: false,
        is_persistent: false,
    };
    let identity = authenticator.authenticate(&credentials).await.unwrap();
    assert_eq!(identity.principal.unwrap().as_str(), claim.id.as_str());
    assert_eq!(identity.disconnect_after, Some(Duration::from_secs(300)));
    let may = |action, resource| identity.permissions.allows(action, resource);
    assert!(may(Action::Publish, Resource::Topic(CREATE)));
    assert!(may(Action::Publish, Resource::Topic(PROVISION)));
    let accepted = format!("{PROVISION}/accepted");
    assert!(may(Action::Subscribe, Resource::TopicFilter(&accepted)));
    let other = "$aws/provisioning-templates/other/provision/json";
    assert!(!may(Action::Publish, Resource::Topic(other)));
    assert!(!may(Action::Publish, Resource::Topic("a")));
    bed.clock.advance(Duration::from_secs(300));
    assert!(authenticator.authenticate(&credentials).await.is_err());
    bed.registry.expire_claims().await.unwrap();
}

const RENEW: &str = "$gnomon/certificates/renew/json";

#[tokio::test]
async fn a_device_renews_its_certificate() {
    let bed = Bed::new(None).await;
    let (mut device, old) = bed.owner().await;
    let (suffix, made) = bed.ask(&mut device, RENEW, &json!({})).await;
    assert_eq!(suffix, "accepted", "{made}");
    assert_eq!((&made["privateKey"], &made["overlapSeconds"]), (&json!("private"), &json!(86_400)));
    assert!(made["certificatePem"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE"));
    let request = json!({"certificateSigningRequest": "CSR"});
    let (suffix, signed) = bed.ask(&mut device, RENEW, &request).await;
    assert_eq!((&*suffix, signed.get("privateKey")), ("accepted", None));
    let new = signed["certificateId"].as_str().unwrap();
    for id in [old.as_str(), new] {
        assert_eq!(bed.status(id).await, Some(CertificateStatus::Active));
    }
    assert_eq!(bed.metrics.certificates_renewed.get(), 2);
    bed.registry.certificate_used(&CertificateId::parse(new).unwrap()).await.unwrap();
    bed.clock.advance(Duration::from_secs(86_400));
    let upkeep = bed.upkeep();
    upkeep.run(1).await;
    assert_eq!(bed.status(old.as_str()).await, Some(CertificateStatus::Inactive));
    assert_eq!(bed.status(new).await, Some(CertificateStatus::Active));
    bed.service.shutdown().await;
}

#[tokio::test]
async fn nobody_renews_what_is_not_an_active_certificate_of_his() {
    let bed = Bed::new(None).await;
    let (mut device, id) = bed.owner().await;
    for (request, status, code) in [
        (json!(7), 400, "InvalidPayload"),
        (json!({"certificateSigningRequest": 7}), 400, "InvalidPayload"),
        (json!({"certificateSigningRequest": "no"}), 400, "InvalidRequest"),
        // Which certificate is not for the client to say.
        (json!({"certificateId": "x", "certificateSigningRequest": ""}), 400, "InvalidRequest"),
    ] {
        let refused = bed.rejected(&mut device, RENEW, &request).await;
        assert_eq!(refused, (status, code.to_owned()), "{request}");
    }
    bed.registry.update_certificate(&id, CertificateStatus::Inactive).await.unwrap();
    let refused = bed.rejected(&mut device, RENEW, &json!({})).await;
    assert_eq!(refused, (409, "CertificateState".to_owned()));
    for principal in ["claim", &"a".repeat(64)] {
        let mut other = bed.connect_as(principal, "other", &["$gnomon/#"]);
        let refused = bed.rejected(&mut other, RENEW, &json!({})).await;
        assert_eq!(refused, (403, "ACCESS_DENIED".to_owned()), "{principal}");
    }
}

#[tokio::test]
async fn the_end_of_a_certificate_is_an_event() {
    let bed = Bed::new(None).await;
    // Ends on 2026-02-01; it is 2026-01-15.
    let pem = include_str!("../../tests/data/device-short.pem");
    let registered =
        bed.registry.register_certificate_without_ca(pem, CertificateStatus::Active).await;
    let id = registered.unwrap().id;
    let thing = ThingName::parse("truck").unwrap();
    bed.registry.create_thing(&thing, None, Attributes::default()).await.unwrap();
    bed.registry.attach_thing_principal(&thing, &id).await.unwrap();
    let mut watcher = bed.connect("watcher", &["$gnomon/events/certificates/+/expiring"]);
    let upkeep = bed.upkeep();
    upkeep.run(0).await;
    let (topic, payload) = watcher.answers.recv().await.unwrap();
    assert_eq!(topic, format!("$gnomon/events/certificates/{id}/expiring"));
    let event: Value = serde_json::from_slice(&payload).unwrap();
    let expected = json!({
        "eventType": "CERTIFICATE_EXPIRING",
        "timestamp": 1_768_435_200_000_u64,
        "certificateId": id.as_str(),
        "kind": "DEVICE",
        "notAfter": 1_769_904_000_000_u64,
        "daysLeft": 17,
        "things": ["truck"],
    });
    assert_eq!(event, expected);
    upkeep.run(60).await;
    assert!(watcher.answers.try_recv().is_err(), "once");
    assert_eq!(bed.metrics.certificate_warnings.get(), 1);
    assert_eq!(bed.metrics.certificates_expiring.get(), 1);
}
