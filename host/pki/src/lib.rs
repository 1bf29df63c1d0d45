//! Gnomon's certificate authority.
//!
//! In: a folder. Out: the CA that devices trust (`ca.pem`), the server's certificate, and
//! certificates for devices by the port [`gnomon_core::registry::Issuer`]; and whether a token is
//! signed ([`gnomon_core::auth::SignatureVerifier`]). Not here: which
//! certificates are accepted (the registry knows each by its digest), TLS itself
//! (`gnomon-gateway`).
//!
//! ```text
//! DIR/ca.pem          the CA's certificate; give it to devices; renewed with the same key and name
//! DIR/ca-key.pem      its key (0600)
//! DIR/server.pem      the server's certificate, made anew before it expires
//! DIR/server-key.pem  its key (0600)
//! ```

mod authority;
mod file;
mod request;
mod server;
mod token;

pub use authority::{Authority, AuthorityError};
pub use server::ServerCertificate;
pub use token::TokenSignatures;
