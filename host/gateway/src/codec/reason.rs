//! Which reason codes stand in which packet, and what 3.1.1 says instead.
//!
//! Source: the tables of MQTT 5.0, 3.2.2.2, 3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1, 3.14.2.1 and
//! 3.15.2.1; those of SUBACK and UNSUBACK are mqttbytes' (`encode`).

use gnomon_core::packet::Reason;
use mqttbytes::v4::ConnectReturnCode;

/// Who sends the packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    Client,
    Server,
}

/// True when `sender` may put `reason` into the packet with the first byte `first`.
pub(super) fn is_allowed(first: u8, reason: Reason, sender: Sender) -> bool {
    use Reason as R;
    match first >> 4 {
        // CONNACK
        2 => matches!(
            reason,
            R::Success
                | R::UnspecifiedError
                | R::MalformedPacket
                | R::ProtocolError
                | R::ImplementationSpecificError
                | R::UnsupportedProtocolVersion
                | R::ClientIdNotValid
                | R::BadUserNameOrPassword
                | R::NotAuthorized
                | R::ServerUnavailable
                | R::ServerBusy
                | R::Banned
                | R::BadAuthenticationMethod
                | R::TopicNameInvalid
                | R::PacketTooLarge
                | R::QuotaExceeded
                | R::PayloadFormatInvalid
                | R::RetainNotSupported
                | R::QoSNotSupported
                | R::UseAnotherServer
                | R::ServerMoved
                | R::ConnectionRateExceeded
        ),
        // PUBACK, PUBREC
        4 | 5 => matches!(
            reason,
            R::Success
                | R::NoMatchingSubscribers
                | R::UnspecifiedError
                | R::ImplementationSpecificError
                | R::NotAuthorized
                | R::TopicNameInvalid
                | R::PacketIdInUse
                | R::QuotaExceeded
                | R::PayloadFormatInvalid
        ),
        // PUBREL, PUBCOMP
        6 | 7 => matches!(reason, R::Success | R::PacketIdNotFound),
        // DISCONNECT
        14 => match reason {
            R::DisconnectWithWill => sender == Sender::Client,
            R::Success
            | R::UnspecifiedError
            | R::MalformedPacket
            | R::ProtocolError
            | R::ImplementationSpecificError
            | R::TopicNameInvalid
            | R::ReceiveMaximumExceeded
            | R::TopicAliasInvalid
            | R::PacketTooLarge
            | R::MessageRateTooHigh
            | R::QuotaExceeded
            | R::AdministrativeAction
            | R::PayloadFormatInvalid => true,
            R::NotAuthorized
            | R::ServerBusy
            | R::ServerShuttingDown
            | R::KeepAliveTimeout
            | R::SessionTakenOver
            | R::TopicFilterInvalid
            | R::RetainNotSupported
            | R::QoSNotSupported
            | R::UseAnotherServer
            | R::ServerMoved
            | R::SharedSubscriptionsNotSupported
            | R::ConnectionRateExceeded
            | R::MaximumConnectTime
            | R::SubscriptionIdsNotSupported
            | R::WildcardSubscriptionsNotSupported => sender == Sender::Server,
            _ => false,
        },
        // AUTH
        15 => match reason {
            R::Success => sender == Sender::Server,
            R::ContinueAuthentication => true,
            R::ReAuthenticate => sender == Sender::Client,
            _ => false,
        },
        _ => false,
    }
}

/// CONNACK's return code in 3.1.1 (3.2.2.3 there); `None` where it has no fitting one: then the
/// server closes without a CONNACK [MQTT-3.2.2-6].
pub(super) fn return_code(reason: Reason) -> Option<ConnectReturnCode> {
    Some(match reason {
        Reason::Success => ConnectReturnCode::Success,
        Reason::UnsupportedProtocolVersion => ConnectReturnCode::RefusedProtocolVersion,
        Reason::ClientIdNotValid => ConnectReturnCode::BadClientId,
        Reason::ServerUnavailable
        | Reason::ServerBusy
        | Reason::ServerShuttingDown
        | Reason::QuotaExceeded
        | Reason::UseAnotherServer
        | Reason::ServerMoved
        | Reason::ConnectionRateExceeded => ConnectReturnCode::ServiceUnavailable,
        Reason::BadUserNameOrPassword => ConnectReturnCode::BadUserNamePassword,
        Reason::NotAuthorized | Reason::Banned | Reason::BadAuthenticationMethod => {
            ConnectReturnCode::NotAuthorized
        }
        _ => return None,
    })
}
