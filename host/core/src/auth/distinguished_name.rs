//! Names in a certificate, of its subject and its issuer, and its serial number: for policy variables
//! such as `${iot:Certificate.Subject.CommonName}`.

use crate::policy::CERTIFICATE_VALUES_MAX;
use std::collections::BTreeMap;
use std::net::IpAddr;
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::X509Name;

type Fields = BTreeMap<&'static str, Vec<String>>;

/// Attribute types with their names in policies. Source: X.520, and AWS IoT, "X.509 certificate
/// policy variables".
static ATTRIBUTES: [(Oid<'_>, &str, &str); 13] = [
    (oid!(2.5.4.3), "Subject.CommonName", "Issuer.CommonName"),
    (oid!(2.5.4.4), "Subject.Surname", "Issuer.Surname"),
    (oid!(2.5.4.5), "Subject.SerialNumber", "Issuer.SerialNumber"),
    (oid!(2.5.4.6), "Subject.Country", "Issuer.Country"),
    (oid!(2.5.4.8), "Subject.State", "Issuer.State"),
    (oid!(2.5.4.10), "Subject.Organization", "Issuer.Organization"),
    (oid!(2.5.4.11), "Subject.OrganizationalUnit", "Issuer.OrganizationalUnit"),
    (oid!(2.5.4.12), "Subject.Title", "Issuer.Title"),
    (oid!(2.5.4.42), "Subject.GivenName", "Issuer.GivenName"),
    (oid!(2.5.4.43), "Subject.Initials", "Issuer.Initials"),
    (oid!(2.5.4.44), "Subject.GenerationQualifier", "Issuer.GenerationQualifier"),
    (oid!(2.5.4.46), "Subject.DistinguishedNameQualifier", "Issuer.DistinguishedNameQualifier"),
    (oid!(2.5.4.65), "Subject.Pseudonym", "Issuer.Pseudonym"),
];

/// The values by the name behind `iot:Certificate.`, in the order of the certificate: at most
/// [`CERTIFICATE_VALUES_MAX`] of each. What cannot be read has no value.
pub(crate) fn fields(der: &[u8]) -> Fields {
    let mut fields = Fields::new();
    if let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) {
        add(&mut fields, certificate.subject(), |(_, subject, _)| subject);
        add(&mut fields, certificate.issuer(), |(_, _, issuer)| issuer);
        add_alternatives(&mut fields, &certificate);
        // Decimal, as on AWS.
        push(&mut fields, "SerialNumber", certificate.serial.to_string());
    }
    fields
}

fn push(fields: &mut Fields, name: &'static str, value: String) {
    let values = fields.entry(name).or_default();
    if values.len() < CERTIFICATE_VALUES_MAX {
        values.push(value);
    }
}

fn add_alternatives(fields: &mut Fields, certificate: &X509Certificate<'_>) {
    for extension in certificate.extensions() {
        let (names, is_subject) = match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(it) => (&it.general_names, true),
            ParsedExtension::IssuerAlternativeName(it) => (&it.general_names, false),
            _ => continue,
        };
        for name in names {
            if let Some((subject, issuer, value)) = alternative(name) {
                push(fields, if is_subject { subject } else { issuer }, value);
            }
        }
    }
}

/// How policies call it, of a subject and of an issuer, and its value.
fn alternative(name: &GeneralName<'_>) -> Option<(&'static str, &'static str, String)> {
    let (subject, issuer, value) = match name {
        GeneralName::RFC822Name(text) => (
            "Subject.AlternativeName.RFC822Name",
            "Issuer.AlternativeName.RFC822Name",
            (*text).to_owned(),
        ),
        GeneralName::DNSName(text) => (
            "Subject.AlternativeName.DNSName",
            "Issuer.AlternativeName.DNSName",
            (*text).to_owned(),
        ),
        GeneralName::DirectoryName(name) => (
            "Subject.AlternativeName.DirectoryName",
            "Issuer.AlternativeName.DirectoryName",
            directory_name(name),
        ),
        GeneralName::URI(text) => (
            "Subject.AlternativeName.UniformResourceIdentifier",
            "Issuer.AlternativeName.UniformResourceIdentifier",
            (*text).to_owned(),
        ),
        GeneralName::IPAddress(bytes) => (
            "Subject.AlternativeName.IPAddress",
            "Issuer.AlternativeName.IPAddress",
            ip_address(bytes)?.to_string(),
        ),
        _ => return None,
    };
    Some((subject, issuer, value))
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

/// From the last attribute to the first, e.g. `cn=lamp,ou=hall,c=DE`. Source: AWS IoT, "Using X.509
/// certificate policy variables", its example; what has a meaning there is escaped (RFC 4514).
fn directory_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for attribute in name.iter_attributes() {
        let kind = attribute.attr_type();
        let kind = oid2abbrev(kind, oid_registry())
            .map_or_else(|_| kind.to_id_string(), str::to_ascii_lowercase);
        let mut part = format!("{kind}=");
        for character in attribute.as_str().unwrap_or_default().chars() {
            if matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
                part.push('\\');
            }
            part.push(character);
        }
        parts.push(part);
    }
    parts.reverse();
    parts.join(",")
}

fn add(
    fields: &mut Fields,
    name: &X509Name<'_>,
    field: fn(&(Oid<'_>, &'static str, &'static str)) -> &'static str,
) {
    for attribute in name.iter_attributes() {
        let known = ATTRIBUTES.iter().find(|(oid, ..)| oid == attribute.attr_type());
        if let (Some(known), Ok(value)) = (known, attribute.as_str()) {
            push(fields, field(known), value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::CERTIFICATE_FIELDS;

    #[test]
    fn every_field_is_one_that_policies_know() {
        let known = |name: &str| CERTIFICATE_FIELDS.contains(&name);
        assert!(ATTRIBUTES.iter().all(|(_, subject, issuer)| known(subject) && known(issuer)));
        let others = CERTIFICATE_FIELDS.iter().filter(|name| name.contains("AlternativeName"));
        assert_eq!(CERTIFICATE_FIELDS.len(), 2 * ATTRIBUTES.len() + others.count() + 1);
    }

    #[test]
    fn subject_and_issuer_are_told_apart_and_keep_their_order() {
        let pem = include_bytes!("../../tests/data/device-1.pem");
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem).unwrap();
        let fields = fields(&pem.contents);
        assert_eq!(fields["Subject.CommonName"], ["device-1"]);
        assert_eq!(fields["Subject.OrganizationalUnit"], ["Hall 1", "Hall 2"]);
        assert_eq!(fields["Issuer.CommonName"], ["Test CA"]);
        assert_eq!(fields["Issuer.Country"], ["DE"]);
        assert_eq!(fields.get("Subject.Country"), None);
        assert_eq!(fields["SerialNumber"], [0x1001.to_string()]);
    }

    #[test]
    fn alternative_names_and_the_serial_number_are_there_too() {
        let pem = include_bytes!("../../tests/data/names.pem");
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem).unwrap();
        let fields = fields(&pem.contents);
        let expected: &[(&str, &[&str])] = &[
            ("Subject.AlternativeName.DNSName", &["lamp.example.com", "lamp.example.net"]),
            ("Subject.AlternativeName.RFC822Name", &["lamp@example.com"]),
            ("Subject.AlternativeName.UniformResourceIdentifier", &["urn:lamp"]),
            ("Subject.AlternativeName.IPAddress", &["192.0.2.1", "2001:db8::1"]),
            ("Subject.AlternativeName.DirectoryName", &[r"cn=lamp,o=Example\, Ltd,c=DE"]),
            ("Issuer.AlternativeName.DNSName", &["ca.example.com"]),
            ("Issuer.AlternativeName.RFC822Name", &["ca@example.com"]),
            ("Issuer.AlternativeName.UniformResourceIdentifier", &["urn:ca"]),
            ("Issuer.AlternativeName.IPAddress", &["192.0.2.2"]),
            ("Issuer.AlternativeName.DirectoryName", &["cn=ca"]),
            ("SerialNumber", &["10525622389124227206"]),
            // The certificate has a sixth.
            ("Subject.OrganizationalUnit", &["Hall 1", "Hall 2", "Hall 3", "Hall 4", "Hall 5"]),
        ];
        for (name, values) in expected {
            assert_eq!(fields[name], *values, "{name}");
            assert!(CERTIFICATE_FIELDS.contains(name), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_no_text_has_no_value() {
        let pem = include_bytes!("../../tests/data/device-1.pem");
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem).unwrap();
        let mut der = pem.contents;
        let at = der.windows(8).position(|bytes| bytes == b"device-1").unwrap();
        der[at..at + 8].copy_from_slice(b"\xff\xfe\xc0\xafice1");
        let fields = fields(&der);
        assert_eq!(fields.get("Subject.CommonName"), None);
        assert_eq!(fields["Subject.OrganizationalUnit"], ["Hall 1", "Hall 2"]);
    }

    #[test]
    fn what_is_no_certificate_has_no_fields() {
        assert!(fields(b"\x30\x03\x02\x01\x01").is_empty());
    }
}
