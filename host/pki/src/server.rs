//! The server's own certificate: kept while it is good, made anew otherwise.

use crate::authority::{Authority, AuthorityError, common_name, date, der_of, is_signed_by};
use crate::file::{self, Readers};
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;
use x509_parser::extensions::GeneralName;

/// How long it is valid. TLS clients of several vendors refuse longer than 398 days.
const VALIDITY: Duration = Duration::from_secs(397 * 24 * 3_600);

/// It is made anew when less than this is left: a third of its life, so that whatever prevents it can
/// be seen to.
const RENEWAL: Duration = Duration::from_secs(397 * 24 * 3_600 / 3);

/// Most characters of a DNS name (RFC 1035, 2.3.4).
const DNS_NAME_BYTES_MAX: usize = 253;

/// Certificate and key of the server, as rustls takes them.
#[derive(Debug)]
pub struct ServerCertificate {
    /// The certificate; the CA is not sent, clients have it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The secret.
    pub key: PrivateKeyDer<'static>,
}

/// Something that a client may call the server by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Dns(String),
    Ip(IpAddr),
}

impl Authority {
    /// The server's certificate for `localhost`, `127.0.0.1`, `::1` and these names (DNS names or
    /// IP addresses). The one in the folder is kept while it has exactly these names and a third of its
    /// life left; a host that runs longer asks again.
    ///
    /// # Errors
    /// [`AuthorityError::Name`], or that files cannot be read or written.
    pub fn server_certificate(
        &self,
        names: &[String],
    ) -> Result<ServerCertificate, AuthorityError> {
        let wanted = wanted(names)?;
        let _turn = self.take_turn();
        let present = (file::read(&self.server_path())?, file::read(&self.server_key_path())?);
        if let (Some(certificate), Some(key)) = present
            && let Some(good) = self.check_server(&certificate, &key, &wanted)
        {
            return Ok(good);
        }
        self.make_server(&wanted)
    }

    /// The same, made anew whatever there is.
    ///
    /// # Errors
    /// As [`Authority::server_certificate`].
    pub fn renew_server_certificate(
        &self,
        names: &[String],
    ) -> Result<ServerCertificate, AuthorityError> {
        let wanted = wanted(names)?;
        let _turn = self.take_turn();
        self.make_server(&wanted)
    }

    pub(crate) fn server_path(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    fn server_key_path(&self) -> PathBuf {
        self.folder.join("server-key.pem")
    }

    fn make_server(&self, wanted: &BTreeSet<Name>) -> Result<ServerCertificate, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = self.params(date(self.clock.wall()) + VALIDITY);
        params.distinguished_name = common_name("Gnomon");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in wanted {
            params.subject_alt_names.push(match name {
                Name::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
                Name::Ip(address) => SanType::IpAddress(*address),
            });
        }
        let certificate = params.signed_by(&key, &self.issuer)?;
        // A crash between the two leaves a pair that does not fit together and is made anew.
        file::write(&self.server_key_path(), &key.serialize_pem(), Readers::Owner)?;
        let path = self.server_path();
        file::write(&path, &certificate.pem(), Readers::All)?;
        tracing::info!(path = %path.display(), "server certificate made");
        Ok(ServerCertificate { chain: vec![certificate.der().clone()], key: pkcs8(&key) })
    }

    /// The certificate, when it can go on being used.
    fn check_server(
        &self,
        certificate_pem: &str,
        key_pem: &str,
        wanted: &BTreeSet<Name>,
    ) -> Option<ServerCertificate> {
        let der = der_of(certificate_pem).ok()?;
        let key = KeyPair::from_pem(key_pem).ok()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
        let not_before = u64::try_from(certificate.validity().not_before.timestamp()).ok()?;
        let not_after = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        let now = self.clock.wall().as_secs();
        let alternatives = certificate.subject_alternative_name().ok()??;
        let names: Option<BTreeSet<Name>> =
            alternatives.value.general_names.iter().map(Name::from_certificate).collect();
        let is_good = not_before <= now
            && now + RENEWAL.as_secs() < not_after
            && names? == *wanted
            && certificate.public_key().raw == key.subject_public_key_info()
            && is_signed_by(&certificate, &self.certificate_der);
        is_good.then(|| ServerCertificate { chain: vec![der.clone().into()], key: pkcs8(&key) })
    }
}

/// Those that every server has, and these.
fn wanted(names: &[String]) -> Result<BTreeSet<Name>, AuthorityError> {
    let mut wanted = BTreeSet::from([
        Name::Dns("localhost".to_owned()),
        Name::Ip(Ipv4Addr::LOCALHOST.into()),
        Name::Ip(Ipv6Addr::LOCALHOST.into()),
    ]);
    for name in names {
        wanted.insert(Name::parse(name)?);
    }
    Ok(wanted)
}

impl Name {
    fn parse(text: &str) -> Result<Self, AuthorityError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        // A wildcard may stand for the whole first label (RFC 9525, 6.3).
        let rest = text.strip_prefix("*.").unwrap_or(text);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if text.len() > DNS_NAME_BYTES_MAX || !rest.split('.').all(is_label) {
            return Err(AuthorityError::Name { name: text.to_owned() });
        }
        Ok(Self::Dns(text.to_ascii_lowercase()))
    }

    fn from_certificate(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::DNSName(name) => Some(Self::Dns((*name).to_owned())),
            GeneralName::IPAddress(bytes) => {
                let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(Self::Ip)
            }
            _ => None,
        }
    }
}

fn pkcs8(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}
