//! TLS of the clients: whom they trust, who they are, and whether they resume sessions.
//!
//! Bound: [`TICKETS_MAX`] tickets; the oldest goes first.

use crate::error::LoadError;
use crate::options::Options;
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::{ClientConfig, NamedGroup, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_rustls::TlsConnector;

/// A ticket is used once and a broker sends two with a handshake; rustls's own store keeps eight,
/// too few for many clients that connect at once.
const TICKETS_MAX: usize = 16_384;

/// How clients speak TLS.
#[derive(Clone)]
pub struct Tls {
    /// Shared by all connections, with the tickets.
    pub connector: TlsConnector,
    /// Name that the broker's certificate must have.
    pub server_name: ServerName<'static>,
}

impl Tls {
    /// Reads the files that the options name.
    pub fn new(options: &Options, host: &str) -> Result<Self, LoadError> {
        let name = options.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned())
            .map_err(|_| LoadError::option("server-name", format!("`{name}` is no host name")))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| LoadError::Tls(error.to_string()))?
            .with_root_certificates(roots(options.ca.as_deref())?);
        let mut config = match options.cert.as_deref().zip(options.key.as_deref()) {
            Some((cert, key)) => builder
                .with_client_auth_cert(certificates("cert", cert)?, private_key(key)?)
                .map_err(|error| LoadError::Tls(format!("--cert and --key: {error}")))?,
            None => builder.with_no_client_auth(),
        };
        config.resumption = if options.resume {
            Resumption::store(Arc::new(Tickets::default()))
        } else {
            Resumption::disabled()
        };
        Ok(Self { connector: Arc::new(config).into(), server_name })
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, LoadError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        for certificate in certificates("ca", path)? {
            let wrong = |error: rustls::Error| file("ca", path, &error);
            roots.add(certificate).map_err(wrong)?;
        }
        return Ok(roots);
    }
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let what = "this system has no CA certificates; name the broker's with --ca FILE";
        return Err(LoadError::Tls(what.into()));
    }
    Ok(roots)
}

fn certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Vec<_> = read.map_err(|error| file(option, path, &error))?;
    if certificates.is_empty() {
        return Err(file(option, path, &"it has no PEM certificate"));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, LoadError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| file("key", path, &error))
}

fn file(option: &'static str, path: &Path, what: &dyn fmt::Display) -> LoadError {
    LoadError::File { option, path: path.into(), what: what.to_string() }
}

/// Sessions of the one broker that can be resumed.
#[derive(Debug, Default)]
struct Tickets {
    state: Mutex<TicketState>,
}

#[derive(Debug, Default)]
struct TicketState {
    group: Option<NamedGroup>,
    /// 1.2: one session, used as often as one likes.
    session: Option<Tls12ClientSessionValue>,
    /// 1.3: each is used once.
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl Tickets {
    fn lock(&self) -> MutexGuard<'_, TicketState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.lock().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.lock().session = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lock().session.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.lock().session = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let tickets = &mut self.lock().tickets;
        if tickets.len() == TICKETS_MAX {
            tickets.pop_front();
        }
        tickets.push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.lock().tickets.pop_front()
    }
}
