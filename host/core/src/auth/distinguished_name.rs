//! Subject and issuer of a certificate, for policy variables such as
//! `${iot:Certificate.Subject.CommonName}`.

use std::collections::BTreeMap;
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::x509::X509Name;

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

/// The values by the name behind `iot:Certificate.`, in the order of the certificate. What cannot
/// be read has no value.
pub(crate) fn fields(der: &[u8]) -> BTreeMap<&'static str, Vec<String>> {
    let mut fields = BTreeMap::new();
    if let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) {
        add(&mut fields, certificate.subject(), |(_, subject, _)| subject);
        add(&mut fields, certificate.issuer(), |(_, _, issuer)| issuer);
    }
    fields
}

fn add(
    fields: &mut BTreeMap<&'static str, Vec<String>>,
    name: &X509Name<'_>,
    field: fn(&(Oid<'_>, &'static str, &'static str)) -> &'static str,
) {
    for attribute in name.iter_attributes() {
        let known = ATTRIBUTES.iter().find(|(oid, ..)| oid == attribute.attr_type());
        if let (Some(known), Ok(value)) = (known, attribute.as_str()) {
            fields.entry(field(known)).or_default().push(value.to_owned());
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
        assert_eq!(CERTIFICATE_FIELDS.len(), 2 * ATTRIBUTES.len());
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
    }

    #[test]
    fn what_is_no_certificate_has_no_fields() {
        assert!(fields(b"\x30\x03\x02\x01\x01").is_empty());
    }
}
