//! Where a client puts its user name and password.

use crate::refusal::Refusal;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use gnomon_sdk::{AuthRequest, HttpInfo, MqttInfo};

/// Longest password: hashing it must cost nothing beside Argon2 itself.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// Clients write it padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a client presents; nothing says yet that it is right.
pub struct Credentials {
    /// Without a query: clients name the authorizer in one, and SDKs themselves.
    pub user: String,
    pub password: Vec<u8>,
}

impl Credentials {
    /// Those of CONNECT when both are there, else those of HTTP basic authentication.
    pub fn find(request: &AuthRequest) -> Result<Self, Refusal> {
        let connect = request.mqtt.as_ref().and_then(of_connect);
        let (user, password) = connect
            .or_else(|| request.http.as_ref().and_then(of_headers))
            .ok_or(Refusal::NoPassword)?;
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(Refusal::TooLong { len: password.len(), max: PASSWORD_BYTES_MAX });
        }
        let user = user.split_once('?').map_or(user.as_str(), |(user, _)| user).into();
        Ok(Self { user, password })
    }
}

fn of_connect(mqtt: &MqttInfo) -> Option<(String, Vec<u8>)> {
    Some((mqtt.username.clone()?, mqtt.password.clone()?))
}

/// RFC 7617; the scheme's case does not matter.
fn of_headers(http: &HttpInfo) -> Option<(String, Vec<u8>)> {
    let (_, value) =
        http.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization"))?;
    let (scheme, text) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut user = BASE64.decode(text.trim()).ok()?;
    let colon = user.iter().position(|byte| *byte == b':')?;
    let password = user.split_off(colon + 1);
    user.pop();
    Some((String::from_utf8(user).ok()?, password))
}
