//! The host's own certificates while it runs: renewed near their ends, and when the operator says so.
//!
//! In: the CA, the server's names. Out: what the listeners present, which changes without ending any
//! connection.

use crate::app::StartError;
use gnomon_api::HostCertificates;
use gnomon_core::registry::{Expiring, ExpiringKind, Issuer};
use gnomon_gateway::tls::Presented;
use gnomon_pki::{Authority, ServerCertificate};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// How often the ends are looked at; a look reads three files.
const LOOK_INTERVAL: Duration = Duration::from_secs(3_600);

/// What the host lives by.
pub struct OwnCertificates {
    authority: Arc<Authority>,
    names: Vec<String>,
    presented: Arc<Presented>,
}

impl OwnCertificates {
    /// The server's certificate for these names, made if need be.
    ///
    /// # Errors
    /// It cannot be made, or not be used for TLS.
    pub fn open(authority: Arc<Authority>, names: Vec<String>) -> Result<Arc<Self>, StartError> {
        let ServerCertificate { chain, key } = authority.server_certificate(&names)?;
        let presented = Presented::new(chain, key)?;
        Ok(Arc::new(Self { authority, names, presented }))
    }

    /// What the listeners present.
    pub fn presented(&self) -> &Arc<Presented> {
        &self.presented
    }

    /// Renews what is near its end, for as long as it runs.
    pub async fn run(self: Arc<Self>) {
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        loop {
            interval.tick().await;
            let own = self.clone();
            if tokio::task::spawn_blocking(move || own.renew_when_due()).await.is_err() {
                tracing::error!("renewal of the host's certificates panicked");
            }
        }
    }

    fn renew_when_due(&self) {
        if let Err(error) = self.authority.renew_ca_when_due() {
            tracing::warn!(error = %error, "the CA cannot be renewed; tried again in an hour");
        }
        let kept_or_made = self.authority.server_certificate(&self.names);
        if let Err(error) = kept_or_made.map_err(Into::into).and_then(|it| self.present(it)) {
            tracing::warn!(error = %error, "the server certificate cannot be renewed; tried again in an hour");
        }
    }

    fn present(&self, certificate: ServerCertificate) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.presented.replace(certificate.chain, certificate.key)? {
            tracing::info!("the server presents its new certificate from now on");
        }
        Ok(())
    }

    fn own(&self, kind: ExpiringKind) -> Result<Expiring, String> {
        let found = self.authority.own_certificates().into_iter().find(|own| own.kind == kind);
        found.ok_or_else(|| "the new certificate cannot be read".to_owned())
    }
}

impl HostCertificates for OwnCertificates {
    fn renew_server(&self) -> Result<Expiring, String> {
        let made = self.authority.renew_server_certificate(&self.names);
        let made = made.map_err(|error| error.to_string())?;
        self.present(made).map_err(|error| error.to_string())?;
        self.own(ExpiringKind::Server)
    }

    fn renew_ca(&self) -> Result<Expiring, String> {
        self.authority.renew_ca().map_err(|error| error.to_string())?;
        self.own(ExpiringKind::HostCa)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_core::random::SeededRandom;
    use gnomon_core::time::{ManualClock, Timestamp};

    #[test]
    fn what_is_near_its_end_is_renewed_once() {
        let folder = std::env::temp_dir().join(format!("gnomon-own-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        // 2026-11-01
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_793_491_200_000)));
        let random = Arc::new(SeededRandom::new(1));
        let authority = Authority::open_or_create(&folder, clock.clone(), random).unwrap();
        let own = OwnCertificates::open(Arc::new(authority), vec!["a.example".to_owned()]).unwrap();
        let server = || own.own(ExpiringKind::Server).unwrap().id;
        let first = server();
        own.renew_when_due();
        assert_eq!(server(), first);
        clock.advance(Duration::from_secs(300 * 24 * 3_600));
        own.renew_when_due();
        let second = server();
        assert_ne!(second, first);
        own.renew_when_due();
        assert_eq!(server(), second);
        assert_ne!(own.renew_server().unwrap().id, second);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
