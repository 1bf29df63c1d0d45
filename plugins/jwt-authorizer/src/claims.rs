//! The claims of a verified token, and the rules for the registered ones (RFC 7519, 4.1).

use crate::refusal::Refusal;
use serde_json::{Map, Value};
use std::time::Duration;

/// The payload of a token.
pub struct Claims(Map<String, Value>);

/// What `exp`, `nbf`, `iss` and `aud` must say.
pub struct Rules {
    pub issuer: Option<String>,
    pub audiences: Vec<String>,
    pub leeway: Duration,
    pub require_exp: bool,
}

impl Claims {
    pub fn parse(payload: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(payload)
            .map(Self)
            .map_err(|_| Refusal::Malformed("the payload is not a JSON object"))
    }

    /// The value of a claim that is needed.
    fn value(&self, claim: &str) -> Result<&Value, Refusal> {
        self.0.get(claim).ok_or_else(|| Refusal::NoClaim(claim.into()))
    }

    /// A claim that must be there and be text.
    pub fn text(&self, claim: &str) -> Result<&str, Refusal> {
        self.value(claim)?
            .as_str()
            .ok_or_else(|| Refusal::ClaimType { claim: claim.into(), expected: "text" })
    }

    /// A claim that must be there and be text or a whole number, as text.
    pub fn scalar(&self, claim: &str) -> Result<String, Refusal> {
        match self.value(claim)? {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) if number.is_u64() || number.is_i64() => Ok(number.to_string()),
            _ => {
                let expected = "text or a whole number";
                Err(Refusal::ClaimType { claim: claim.into(), expected })
            }
        }
    }

    /// A time in seconds since the Unix epoch, fractions allowed (RFC 7519, 2: NumericDate).
    fn time_s(&self, claim: &str) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.0.get(claim) else { return Ok(None) };
        let expected = "a number of seconds";
        value.as_f64().map(Some).ok_or_else(|| Refusal::ClaimType { claim: claim.into(), expected })
    }

    /// `aud` is one text or a list of them.
    fn has_audience(&self, audiences: &[String]) -> Result<bool, Refusal> {
        let accepted = |value: &Value| audiences.iter().any(|audience| value == audience.as_str());
        match self.0.get("aud") {
            None if audiences.is_empty() => Ok(true),
            None => Err(Refusal::NoClaim("aud".into())),
            Some(Value::Array(list)) => Ok(list.iter().any(accepted)),
            Some(value) => Ok(accepted(value)),
        }
    }
}

impl Rules {
    /// Ok has the seconds for which the token will be accepted, at least 1; `None`: for ever.
    pub fn check(&self, claims: &Claims, now: Duration) -> Result<Option<u32>, Refusal> {
        if let Some(issuer) = &self.issuer
            && claims.text("iss")? != issuer
        {
            return Err(Refusal::Issuer);
        }
        if !claims.has_audience(&self.audiences)? {
            return Err(Refusal::Audience);
        }
        let (now_s, leeway_s) = (now.as_secs_f64(), self.leeway.as_secs_f64());
        if let Some(nbf) = claims.time_s("nbf")?
            && now_s + leeway_s < nbf
        {
            return Err(Refusal::NotYetValid { in_s: whole_seconds(nbf - now_s) });
        }
        match claims.time_s("exp")? {
            None if self.require_exp => Err(Refusal::NoClaim("exp".into())),
            None => Ok(None),
            // [RFC 7519, 4.1.4] Not "on or after" exp.
            Some(exp) if now_s >= exp + leeway_s => {
                Err(Refusal::Expired { ago_s: whole_seconds(now_s - exp) })
            }
            Some(exp) => {
                // With the leeway: else a client would be sent away with a token that lets it
                // in again.
                let seconds = whole_seconds(exp + leeway_s - now_s);
                // 0 would mean for ever.
                Ok(Some(u32::try_from(seconds).unwrap_or(u32::MAX).max(1)))
            }
        }
    }
}

/// Of a positive number; a number out of range counts as endless.
fn whole_seconds(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).map_or(u64::MAX, |duration| duration.as_secs())
}
