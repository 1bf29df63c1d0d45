//! MQTT control packets as values: what `session` speaks, what the gateway's codec makes and eats.
//!
//! A packet that exists as one of these is well formed: identifiers are not zero, names and
//! filters are checked, reserved bits were right. One shape serves 3.1.1 and 5.0; what only 5.0
//! has is empty or `None` in 3.1.1.

use crate::ids::ClientId;
use crate::message::{Message, Properties, QoS, SubscriptionId};
use crate::topic::{TopicFilter, TopicName};
use bytes::Bytes;
use std::num::NonZeroU16;
use std::sync::Arc;

/// Protocol version of a connection, fixed by its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1 (level 4).
    V311,
    /// MQTT 5.0 (level 5).
    V5,
}

/// Packet Identifier: 1..=65,535 [MQTT-2.2.1-3].
pub type PacketId = NonZeroU16;

/// User Property pairs, in order.
pub type UserProperties = Vec<(Arc<str>, Arc<str>)>;

/// A packet from a client, or one to it that is no PUBLISH (for that see [`Delivered`]).
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are the standard's packet types")]
pub enum Packet {
    Connect(Box<Connect>),
    ConnAck(Box<ConnAck>),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Box<Subscribe>),
    SubAck(SubAck),
    Unsubscribe(Box<Unsubscribe>),
    UnsubAck(SubAck),
    PingReq,
    PingResp,
    Disconnect(Box<Disconnect>),
    Auth(Box<Auth>),
}

/// CONNECT (MQTT 5.0, 3.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Connect {
    /// From the protocol level.
    pub version: Version,
    /// Clean Session, or Clean Start.
    pub clean_start: bool,
    /// Seconds; 0 turns keep-alive off.
    pub keep_alive_s: u16,
    /// `None` when the client left it empty.
    pub client_id: Option<ClientId>,
    /// May be empty text.
    pub username: Option<Arc<str>>,
    /// Any bytes.
    pub password: Option<Bytes>,
    /// The will message.
    pub will: Option<Box<Will>>,
    /// Session Expiry Interval in seconds; `u32::MAX` is for ever. 3.1.1: 0 with Clean Session,
    /// else `u32::MAX`.
    pub session_expiry_s: u32,
    /// Receive Maximum; `None`: 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// Maximum Packet Size that the client takes; `None`: no bound.
    pub maximum_packet_size: Option<u32>,
    /// Topic aliases that the client takes; 0: none.
    pub topic_alias_maximum: u16,
    /// The client wants Response Information.
    pub request_response_information: bool,
    /// The client takes reason strings and user properties on other packets than PUBLISH,
    /// CONNACK and DISCONNECT.
    pub request_problem_information: bool,
    /// Authentication Method and Data, for enhanced authentication.
    pub authentication: Option<(Arc<str>, Bytes)>,
    /// User Properties.
    pub user_properties: UserProperties,
}

/// The message that the server publishes when the connection ends without DISCONNECT.
#[derive(Clone, Debug, PartialEq)]
pub struct Will {
    /// Where to.
    pub topic: TopicName,
    /// What.
    pub payload: Bytes,
    /// How.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Will Delay Interval in seconds.
    pub delay_s: u32,
    /// Properties that receivers see.
    pub properties: Option<Box<Properties>>,
}

/// CONNACK (MQTT 5.0, 3.2). Fields that are `None` are not sent: the standard's default holds.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "named as in the standard, 3.2.2.3")]
pub struct ConnAck {
    pub session_present: bool,
    /// The codec translates it for 3.1.1 (3.2.2.3 there).
    pub reason: Reason,
    pub session_expiry_s: Option<u32>,
    pub receive_maximum: Option<NonZeroU16>,
    pub maximum_qos: Option<QoS>,
    pub retain_available: Option<bool>,
    pub maximum_packet_size: Option<u32>,
    pub assigned_client_id: Option<ClientId>,
    pub topic_alias_maximum: Option<u16>,
    pub reason_string: Option<Arc<str>>,
    pub wildcard_subscription_available: Option<bool>,
    pub subscription_ids_available: Option<bool>,
    pub shared_subscription_available: Option<bool>,
    pub server_keep_alive_s: Option<u16>,
    pub response_information: Option<Arc<str>>,
    pub server_reference: Option<Arc<str>>,
    /// Authentication Method and Data: in every successful CONNACK of an enhanced authentication.
    pub authentication: Option<(Arc<str>, Bytes)>,
    pub user_properties: UserProperties,
}

impl ConnAck {
    /// A CONNACK with nothing but the reason.
    pub fn new(reason: Reason) -> Self {
        Self {
            session_present: false,
            reason,
            session_expiry_s: None,
            receive_maximum: None,
            maximum_qos: None,
            retain_available: None,
            maximum_packet_size: None,
            assigned_client_id: None,
            topic_alias_maximum: None,
            reason_string: None,
            wildcard_subscription_available: None,
            subscription_ids_available: None,
            shared_subscription_available: None,
            server_keep_alive_s: None,
            response_information: None,
            server_reference: None,
            authentication: None,
            user_properties: Vec::new(),
        }
    }
}

/// PUBLISH from a client (MQTT 5.0, 3.3).
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// A resend. Never set with QoS 0 [MQTT-3.3.1-2].
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// `None` when a topic alias stands for it.
    pub topic: Option<TopicName>,
    /// `None` with QoS 0, else some.
    pub packet_id: Option<PacketId>,
    /// Topic Alias.
    pub topic_alias: Option<NonZeroU16>,
    /// Shares no memory with the read buffer.
    pub payload: Bytes,
    /// Properties that receivers see.
    pub properties: Option<Box<Properties>>,
}

/// PUBLISH to a client: the shared message and what is this receiver's own.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The message, shared by all receivers.
    pub message: Arc<Message>,
    /// A resend.
    pub dup: bool,
    /// QoS of this delivery.
    pub qos: QoS,
    /// RETAIN flag of this delivery.
    pub retain: bool,
    /// Some unless QoS 0.
    pub packet_id: Option<PacketId>,
    /// Identifiers of the matching subscriptions.
    pub subscription_ids: Vec<SubscriptionId>,
    /// Message Expiry Interval that is left, in seconds.
    pub expiry_s: Option<u32>,
    /// Topic Alias; the topic itself is sent only with a new one.
    pub alias: Option<TopicAlias>,
}

/// Topic Alias of a PUBLISH to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicAlias {
    /// 1 to the client's Topic Alias Maximum.
    pub number: NonZeroU16,
    /// The client does not know it yet.
    pub is_new: bool,
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// [`Reason::Success`] in 3.1.1.
    pub reason: Reason,
}

/// SUBSCRIBE; at least one filter [MQTT-3.8.3-2].
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    /// For the SUBACK.
    pub packet_id: PacketId,
    /// Subscription Identifier.
    pub subscription_id: Option<SubscriptionId>,
    /// In the order of the packet.
    pub filters: Vec<(TopicFilter, SubscribeOptions)>,
}

/// Subscription Options (MQTT 5.0, 3.8.3.1); 3.1.1 has the QoS only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Maximum QoS.
    pub qos: QoS,
    /// Own messages are not delivered.
    pub no_local: bool,
    /// The RETAIN flag is passed on as it was published.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
    /// No option of the packet: on AWS `a/#` does not match `a`.
    pub without_parent: bool,
}

/// Retain Handling (MQTT 5.0, 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainHandling {
    /// 0: at every SUBSCRIBE.
    #[default]
    Always,
    /// 1: when the subscription is new.
    IfNew,
    /// 2: not.
    Never,
}

/// SUBACK and UNSUBACK: one reason per filter, in order (none in 3.1.1's UNSUBACK).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// Of the SUBSCRIBE or UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// The codec translates failures to 0x80 for 3.1.1.
    pub reasons: Vec<Reason>,
}

/// UNSUBSCRIBE; at least one filter [MQTT-3.10.3-2].
#[derive(Clone, Debug, PartialEq)]
pub struct Unsubscribe {
    /// For the UNSUBACK.
    pub packet_id: PacketId,
    /// In the order of the packet.
    pub filters: Vec<TopicFilter>,
}

/// DISCONNECT, in either direction. 3.1.1 has it from the client only, without a reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Disconnect {
    /// Why.
    pub reason: Reason,
    /// A new Session Expiry Interval, from the client only.
    pub session_expiry_s: Option<u32>,
    /// For people.
    pub reason_string: Option<Arc<str>>,
}

/// AUTH (MQTT 5.0, 3.15).
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// Success, continue or re-authenticate.
    pub reason: Reason,
    /// Authentication Method.
    pub method: Option<Arc<str>>,
    /// Authentication Data.
    pub data: Option<Bytes>,
}

macro_rules! reasons {
    ($($name:ident = $code:literal, $doc:literal;)*) => {
        /// Reason Code (MQTT 5.0, 2.4); 3.1.1's few codes are made from it by the codec.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Reason {
            $(#[doc = $doc] $name = $code,)*
        }

        impl Reason {
            /// True for 0x80 and above: what was asked for was not done.
            pub fn is_error(self) -> bool {
                self as u8 >= 0x80
            }

            /// The reason of a code; `None` for codes that the standard does not have.
            pub fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    Success = 0x00, "Success, Normal disconnection, Granted QoS 0.";
    GrantedQoS1 = 0x01, "Granted QoS 1.";
    GrantedQoS2 = 0x02, "Granted QoS 2.";
    DisconnectWithWill = 0x04, "Disconnect with Will Message.";
    NoMatchingSubscribers = 0x10, "No matching subscribers.";
    NoSubscriptionExisted = 0x11, "No subscription existed.";
    ContinueAuthentication = 0x18, "Continue authentication.";
    ReAuthenticate = 0x19, "Re-authenticate.";
    UnspecifiedError = 0x80, "Unspecified error.";
    MalformedPacket = 0x81, "Malformed Packet.";
    ProtocolError = 0x82, "Protocol Error.";
    ImplementationSpecificError = 0x83, "Implementation specific error.";
    UnsupportedProtocolVersion = 0x84, "Unsupported Protocol Version.";
    ClientIdNotValid = 0x85, "Client Identifier not valid.";
    BadUserNameOrPassword = 0x86, "Bad User Name or Password.";
    NotAuthorized = 0x87, "Not authorized.";
    ServerUnavailable = 0x88, "Server unavailable.";
    ServerBusy = 0x89, "Server busy.";
    Banned = 0x8a, "Banned.";
    ServerShuttingDown = 0x8b, "Server shutting down.";
    BadAuthenticationMethod = 0x8c, "Bad authentication method.";
    KeepAliveTimeout = 0x8d, "Keep Alive timeout.";
    SessionTakenOver = 0x8e, "Session taken over.";
    TopicFilterInvalid = 0x8f, "Topic Filter invalid.";
    TopicNameInvalid = 0x90, "Topic Name invalid.";
    PacketIdInUse = 0x91, "Packet Identifier in use.";
    PacketIdNotFound = 0x92, "Packet Identifier not found.";
    ReceiveMaximumExceeded = 0x93, "Receive Maximum exceeded.";
    TopicAliasInvalid = 0x94, "Topic Alias invalid.";
    PacketTooLarge = 0x95, "Packet too large.";
    MessageRateTooHigh = 0x96, "Message rate too high.";
    QuotaExceeded = 0x97, "Quota exceeded.";
    AdministrativeAction = 0x98, "Administrative action.";
    PayloadFormatInvalid = 0x99, "Payload format invalid.";
    RetainNotSupported = 0x9a, "Retain not supported.";
    QoSNotSupported = 0x9b, "QoS not supported.";
    UseAnotherServer = 0x9c, "Use another server.";
    ServerMoved = 0x9d, "Server moved.";
    SharedSubscriptionsNotSupported = 0x9e, "Shared Subscriptions not supported.";
    ConnectionRateExceeded = 0x9f, "Connection rate exceeded.";
    MaximumConnectTime = 0xa0, "Maximum connect time.";
    SubscriptionIdsNotSupported = 0xa1, "Subscription Identifiers not supported.";
    WildcardSubscriptionsNotSupported = 0xa2, "Wildcard Subscriptions not supported.";
}
