//! Names and ids, each a type of its own: a value of the type is a checked name.
//!
//! Source of lengths and patterns: the API reference of AWS IoT (`ThingName`, `PolicyName`, …).
//! All of them are cheap to clone (shared text).

use std::fmt;
use std::sync::Arc;

/// Why a text is not a name of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text is empty.
    #[error("{kind} is empty; give 1 to {max} characters")]
    Empty {
        /// What the name names, e.g. `thing name`.
        kind: &'static str,
        /// Longest allowed length in bytes.
        max: usize,
    },
    /// The text is longer than allowed.
    #[error("{kind} has {len} bytes; at most {max} are allowed")]
    TooLong {
        /// What the name names.
        kind: &'static str,
        /// Length of the text in bytes.
        len: usize,
        /// Longest allowed length in bytes.
        max: usize,
    },
    /// The text has a character that the pattern does not allow.
    #[error("{kind} has a character at byte {at} that is not allowed; it must match {pattern}")]
    Character {
        /// What the name names.
        kind: &'static str,
        /// Byte offset of the first character that is not allowed.
        at: usize,
        /// The pattern, as AWS's API reference writes it.
        pattern: &'static str,
    },
}

fn check(
    text: &str,
    kind: &'static str,
    max: usize,
    pattern: &'static str,
    allowed: fn(char) -> bool,
) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { kind, max });
    }
    if text.len() > max {
        return Err(NameError::TooLong { kind, len: text.len(), max });
    }
    match text.char_indices().find(|&(_, c)| !allowed(c)) {
        Some((at, _)) => Err(NameError::Character { kind, at, pattern }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $max:literal, $pattern:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks the text.
            ///
            /// # Errors
            /// Says which rule is broken and where; the text itself is not echoed.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text, $kind, $max, $pattern, $allowed)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Name of a thing in the registry: 1..=128 of `[a-zA-Z0-9:_-]`.
    ThingName, "thing name", 128, "[a-zA-Z0-9:_-]+",
    |c| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-')
);
name!(
    /// Name of a thing type: 1..=128 of `[a-zA-Z0-9:_-]`.
    ThingTypeName, "thing type name", 128, "[a-zA-Z0-9:_-]+",
    |c| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-')
);
name!(
    /// Name of a thing group: 1..=128 of `[a-zA-Z0-9:_-]`.
    ThingGroupName, "thing group name", 128, "[a-zA-Z0-9:_-]+",
    |c| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-')
);
name!(
    /// Name of a billing group: 1..=128 of `[a-zA-Z0-9:_-]`.
    BillingGroupName, "billing group name", 128, "[a-zA-Z0-9:_-]+",
    |c| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-')
);
name!(
    /// Name of a role alias: 1..=128 of `[\w=,@-]`.
    RoleAliasName, "role alias", 128, "[\\w=,@-]+",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '=' | ',' | '@' | '-')
);
name!(
    /// Name of a domain configuration: 1..=128 of `[\w.-]`.
    DomainConfigurationName, "domain configuration name", 128, "[\\w.-]+",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
);
name!(
    /// Name of a named shadow: 1..=64 of `[$a-zA-Z0-9:_-]`.
    ShadowName, "shadow name", 64, "[$a-zA-Z0-9:_-]+",
    |c| c.is_ascii_alphanumeric() || matches!(c, '$' | ':' | '_' | '-')
);
name!(
    /// Name of a policy: 1..=128 of `[\w+=,.@-]`.
    PolicyName, "policy name", 128, "[\\w+=,.@-]+",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '=' | ',' | '.' | '@' | '-')
);
name!(
    /// Name of a topic rule: 1..=128 of `[a-zA-Z0-9_]`.
    RuleName, "rule name", 128, "[a-zA-Z0-9_]+",
    |c| c.is_ascii_alphanumeric() || c == '_'
);
name!(
    /// Name of a plugin, as the operator's configuration calls it: 1..=64 of `[a-zA-Z0-9_-]`
    /// (the characters of an AWS Lambda function name, because rules address plugins so).
    PluginName, "plugin name", 64, "[a-zA-Z0-9_-]+",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
);
name!(
    /// Name of a custom authorizer: 1..=128 of `[\w=,@-]`.
    AuthorizerName, "authorizer name", 128, "[\\w=,@-]+",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '=' | ',' | '@' | '-')
);
name!(
    /// Name of the query parameter or header that holds a client's token: 1..=128 of
    /// `[a-zA-Z0-9_-]`.
    TokenKeyName, "token key name", 128, "[a-zA-Z0-9_-]+",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
);
name!(
    /// Name of a table of readings: 1..=64 of `[a-zA-Z0-9_]`; case does not matter to SQL.
    TableName, "table name", 64, "[a-zA-Z0-9_]+",
    |c| c.is_ascii_alphanumeric() || c == '_'
);
name!(
    /// Name of a provisioning template: 1..=36 of `[0-9A-Za-z_-]`.
    TemplateName, "template name", 36, "[0-9A-Za-z_-]+",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
);
name!(
    /// Certificate id: the lower-case hexadecimal SHA-256 of the certificate's DER form.
    CertificateId, "certificate id", 64, "[a-f0-9]{64}",
    |c| c.is_ascii_digit() || matches!(c, 'a'..='f')
);
name!(
    /// MQTT client identifier: 1..=65,535 bytes of UTF-8 without control characters.
    ///
    /// `limits::Limits::client_id_bytes` is the tighter bound that a listener enforces (AWS: 128).
    ClientId, "client id", 65535, "any character but control characters",
    |c| !c.is_control()
);

/// Who acts: what a certificate, a token or an access key resolved to.
///
/// For X.509 the certificate id, for a custom authorizer its `principalId`, for the REST API the
/// access key id. Source: `principalIdentifier` of AWS's life-cycle events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// Takes the text as it is.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The principal as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name and qualifier of `arn:<partition>:lambda:<region>:<account>:function:NAME[:QUALIFIER]`.
/// Where AWS has a function of the user's own, this host has the plugin NAME.
pub fn lambda_function(arn: &str) -> Option<(&str, Option<&str>)> {
    let mut parts = arn.split(':');
    let [scheme, _partition, service, _region, _account, resource, name] =
        std::array::from_fn(|_| parts.next());
    let qualifier = parts.next();
    let is_function =
        (scheme, service, resource) == (Some("arn"), Some("lambda"), Some("function"));
    Some((name.filter(|_| is_function && parts.next().is_none())?, qualifier))
}

/// Region and account that Gnomon puts into ARNs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// e.g. `us-east-1`.
    pub region: Arc<str>,
    /// Twelve digits, e.g. `123456789012`.
    pub id: Arc<str>,
}

impl Default for Account {
    fn default() -> Self {
        Self { region: "us-east-1".into(), id: "123456789012".into() }
    }
}

impl Account {
    /// `arn:aws:iot:<region>:<account>:<resource>`, e.g. with `thing/Lamp`.
    pub fn arn(&self, resource: &str) -> String {
        format!("arn:aws:iot:{}:{}:{resource}", self.region, self.id)
    }

    /// What follows `arn:aws:iot:<region>:<account>:` when the ARN is of this account.
    pub fn resource<'a>(&self, arn: &'a str) -> Option<&'a str> {
        let rest = arn.strip_prefix("arn:aws:iot:")?;
        rest.strip_prefix(&*self.region)?
            .strip_prefix(':')?
            .strip_prefix(&*self.id)?
            .strip_prefix(':')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_it_is_wrong() {
        assert_eq!(ThingName::parse("truck-7:front").unwrap().as_str(), "truck-7:front");
        assert_eq!(
            ThingName::parse("../etc").unwrap_err().to_string(),
            "thing name has a character at byte 0 that is not allowed; it must match [a-zA-Z0-9:_-]+"
        );
        assert_eq!(
            ThingName::parse("").unwrap_err(),
            NameError::Empty { kind: "thing name", max: 128 }
        );
        assert!(ThingName::parse(&"x".repeat(129)).is_err());
    }

    #[test]
    fn an_arn_of_another_account_is_not_ours() {
        let account = Account::default();
        assert_eq!(account.resource(&account.arn("cert/ab")), Some("cert/ab"));
        assert_eq!(account.resource("arn:aws:iot:us-east-1:999999999999:cert/ab"), None);
    }
}
