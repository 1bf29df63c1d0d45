//! Policy variables: `${iot:ClientId}` and its like, in resources and in condition values.
//!
//! In: the text of a pattern. Out: a [`Template`] that a connection's [`Context`] fills in.

use super::Context;
use super::glob::{ONE, STAR};
use std::borrow::Cow;

/// A key that conditions ask for and that `${…}` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    ClientId,
    SourceIp,
    DomainName,
    ConnectAttributes,
    ThingName,
    ThingTypeName,
    ThingAttribute(Box<str>),
    ThingIsAttached,
    /// `name` as in `Context::certificate`; `nth` counts from 0.
    Certificate {
        name: &'static str,
        nth: usize,
    },
    /// All values of a name.
    CertificateList(&'static str),
    /// The keys of the certificate that have a value.
    CertificateKeys,
}

/// Names behind `iot:Certificate.` that `Context::certificate` may hold.
pub(crate) const CERTIFICATE_FIELDS: [&str; 37] = [
    "Subject.CommonName",
    "Subject.Country",
    "Subject.DistinguishedNameQualifier",
    "Subject.GenerationQualifier",
    "Subject.GivenName",
    "Subject.Initials",
    "Subject.Organization",
    "Subject.OrganizationalUnit",
    "Subject.Pseudonym",
    "Subject.SerialNumber",
    "Subject.State",
    "Subject.Surname",
    "Subject.Title",
    "Issuer.CommonName",
    "Issuer.Country",
    "Issuer.DistinguishedNameQualifier",
    "Issuer.GenerationQualifier",
    "Issuer.GivenName",
    "Issuer.Initials",
    "Issuer.Organization",
    "Issuer.OrganizationalUnit",
    "Issuer.Pseudonym",
    "Issuer.SerialNumber",
    "Issuer.State",
    "Issuer.Surname",
    "Issuer.Title",
    "Subject.AlternativeName.RFC822Name",
    "Subject.AlternativeName.DNSName",
    "Subject.AlternativeName.DirectoryName",
    "Subject.AlternativeName.UniformResourceIdentifier",
    "Subject.AlternativeName.IPAddress",
    "Issuer.AlternativeName.RFC822Name",
    "Issuer.AlternativeName.DNSName",
    "Issuer.AlternativeName.DirectoryName",
    "Issuer.AlternativeName.UniformResourceIdentifier",
    "Issuer.AlternativeName.IPAddress",
    "SerialNumber",
];

/// Values of one name that count. Source: AWS IoT, "X.509 certificate policy variable limitations".
pub(crate) const CERTIFICATE_VALUES_MAX: usize = 5;

/// Longest certificate value that is filled in. Source: as above.
const CERTIFICATE_VALUE_CHARS_MAX: usize = 1_024;

impl Variable {
    /// The key of this name; names of keys are not case-sensitive.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let lower = name.to_ascii_lowercase();
        let known = match &*lower {
            "iot:clientid" => Self::ClientId,
            "aws:sourceip" => Self::SourceIp,
            "iot:domainname" => Self::DomainName,
            "iot:certificate.availablekeys" => Self::CertificateKeys,
            "iot:connectattributes" => Self::ConnectAttributes,
            "iot:connection.thing.thingname" => Self::ThingName,
            "iot:connection.thing.thingtypename" => Self::ThingTypeName,
            "iot:connection.thing.isattached" => Self::ThingIsAttached,
            _ => match Self::parse_long(name, &lower) {
                Some(variable) => variable,
                None => {
                    return Err(format!(
                        "{name:?} is not a key that this host knows; it knows iot:ClientId, \
                         iot:DomainName, iot:ConnectAttributes, \
                         iot:Connection.Thing.ThingName, .ThingTypeName, .Attributes[name], \
                         .IsAttached, iot:Certificate.Subject.CommonName (and the other names of \
                         subject and issuer, with .1 or .List behind them), .SerialNumber, \
                         .AvailableKeys and aws:SourceIp"
                    ));
                }
            },
        };
        Ok(known)
    }

    fn parse_long(name: &str, lower: &str) -> Option<Self> {
        const ATTRIBUTES: &str = "iot:connection.thing.attributes[";
        if lower.starts_with(ATTRIBUTES) {
            let attribute = name[ATTRIBUTES.len()..].strip_suffix(']')?;
            return (!attribute.is_empty()).then(|| Self::ThingAttribute(attribute.into()));
        }
        let field = lower.strip_prefix("iot:certificate.")?;
        let known = |field: &str| {
            CERTIFICATE_FIELDS.iter().find(|known| known.eq_ignore_ascii_case(field)).copied()
        };
        if let Some(field) = field.strip_suffix(".list") {
            return known(field).map(Self::CertificateList);
        }
        let (field, nth) = match field.rsplit_once('.') {
            Some((front, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                (front, digits.parse().ok()?)
            }
            _ => (field, 0),
        };
        Some(Self::Certificate { name: known(field)?, nth })
    }

    pub(super) fn is_of_certificate(&self) -> bool {
        matches!(self, Self::Certificate { .. } | Self::CertificateList(_) | Self::CertificateKeys)
    }

    /// May have more values than one.
    fn is_many(&self) -> bool {
        matches!(self, Self::ConnectAttributes | Self::CertificateList(_) | Self::CertificateKeys)
    }

    /// The values of the key; none when the connection has no such thing.
    pub(super) fn values<'c>(&self, context: &'c Context) -> Vec<Cow<'c, str>> {
        let thing = context.thing.as_ref();
        let value: Option<Cow<'c, str>> = match self {
            Self::ConnectAttributes => {
                let will = context.has_will.then_some("LastWill");
                let persistent = context.is_persistent.then_some("PersistentConnect");
                return will.into_iter().chain(persistent).map(Cow::Borrowed).collect();
            }
            Self::CertificateList(name) => {
                return of_certificate(context, name).iter().map(Cow::from).collect();
            }
            Self::CertificateKeys => {
                let keys = context.certificate.keys();
                return keys.map(|name| format!("iot:Certificate.{name}").into()).collect();
            }
            Self::DomainName => context.domain_name.as_deref().map(Cow::from),
            Self::ClientId => context.client_id.as_ref().map(|id| id.as_str().into()),
            Self::SourceIp => context.source_ip.map(|ip| ip.to_canonical().to_string().into()),
            Self::ThingName => thing.map(|thing| thing.name.as_str().into()),
            Self::ThingTypeName => {
                thing.and_then(|thing| thing.type_name.as_deref()).map(Cow::from)
            }
            Self::ThingAttribute(name) => {
                thing.and_then(|thing| thing.attributes.get(&**name)).map(Cow::from)
            }
            // Without a client id there is no thing that could be attached or not.
            Self::ThingIsAttached => context
                .client_id
                .is_some()
                .then(|| if thing.is_some() { "true" } else { "false" }.into()),
            Self::Certificate { name, nth } => of_certificate(context, name)
                .get(*nth)
                .filter(|value| value.chars().count() <= CERTIFICATE_VALUE_CHARS_MAX)
                .map(Cow::from),
        };
        value.into_iter().collect()
    }
}

/// The values of a name that count.
fn of_certificate<'c>(context: &'c Context, name: &str) -> &'c [String] {
    let values = context.certificate.get(name).map(Vec::as_slice).unwrap_or_default();
    &values[..values.len().min(CERTIFICATE_VALUES_MAX)]
}

/// A wildcard pattern with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Box<[Piece]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Part of a pattern, see [`super::glob`].
    Pattern(Box<[u8]>),
    Variable(Variable),
}

impl Template {
    /// Takes a text with wildcards, variables and the escapes `${*}`, `${?}` and `${$}`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::parse_with(text, true)
    }

    /// Takes a text in which `*` and `?` mean themselves.
    pub(super) fn parse_exact(text: &str) -> Result<Self, String> {
        Self::parse_with(text, false)
    }

    fn parse_with(text: &str, wildcards: bool) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut pattern = Vec::new();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("${") {
                let Some((name, after)) = after.split_once('}') else {
                    return Err(format!("{text:?} has a \"${{\" without its \"}}\""));
                };
                rest = after;
                if matches!(name, "*" | "?" | "$") {
                    pattern.extend_from_slice(name.as_bytes());
                    continue;
                }
                let variable = Variable::parse(name)?;
                if variable.is_many() {
                    return Err(format!("{name:?} has many values and belongs into a Condition"));
                }
                pieces.push(Piece::Pattern(std::mem::take(&mut pattern).into()));
                pieces.push(Piece::Variable(variable));
                continue;
            }
            let len = character.len_utf8();
            match character {
                // Two stars in a row say no more than one.
                '*' if wildcards && pattern.last() == Some(&STAR) => {}
                '*' if wildcards => pattern.push(STAR),
                '?' if wildcards => pattern.push(ONE),
                _ => pattern.extend_from_slice(&rest.as_bytes()[..len]),
            }
            rest = &rest[len..];
        }
        pieces.push(Piece::Pattern(pattern.into()));
        Ok(Self(pieces.into()))
    }

    /// True when every connection fills it in with the same text.
    pub(super) fn is_constant(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Pattern(_)))
    }

    /// True when it has a variable of the certificate.
    pub(super) fn asks_for_certificate(&self) -> bool {
        let asks = |piece: &Piece| match piece {
            Piece::Pattern(_) => false,
            Piece::Variable(variable) => variable.is_of_certificate(),
        };
        self.0.iter().any(asks)
    }

    /// The pattern for one connection; `None` when a variable has no value there.
    ///
    /// With `for_allow` a value with a character that means something in policies or topics counts
    /// as no value. Source: AWS IoT says so of certificate values; a client chooses its id too,
    /// and `topicfilter/${iot:ClientId}` must not let the client `#` read everything, nor
    /// `topic/${iot:ClientId}/get` the client `$aws/things/other/shadow`.
    pub(super) fn fill(&self, context: &Context, for_allow: bool) -> Option<Vec<u8>> {
        let mut filled = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Pattern(pattern) => filled.extend_from_slice(pattern),
                Piece::Variable(variable) => {
                    let value = variable.values(context).into_iter().next()?;
                    if for_allow && value.contains(['*', '$', '+', '?', '#']) {
                        return None;
                    }
                    filled.extend_from_slice(value.as_bytes());
                }
            }
        }
        Some(filled)
    }
}
