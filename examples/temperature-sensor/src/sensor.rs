//! The simulated sensor: an MQTT client over mutual TLS that publishes readings and reports them
//! to its shadow.

use crate::host::Host;
use crate::provision::{Credentials, THING, TOPIC};
use crate::{Result, say};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const PERIOD: Duration = Duration::from_secs(2);

/// A day's curve, so that a run of a minute sees both sides of 30 degrees.
const READINGS: [f64; 8] = [24.5, 27.1, 29.8, 31.4, 33.0, 31.2, 28.6, 25.9];

/// Publishes until the connection fails.
pub async fn run(host: &Host, credentials: &Credentials) -> Result<()> {
    let port = host.address("mqtt")?.port();
    let mut options = MqttOptions::new(THING, "localhost", port);
    options.set_keep_alive(Duration::from_secs(30));
    options.set_transport(Transport::tls_with_config(tls(host, credentials)?));
    let (client, mut events) = AsyncClient::new(options, 16);
    let accepted = format!("$aws/things/{THING}/shadow/update/accepted");
    client.subscribe(&accepted, QoS::AtLeastOnce).await?;
    let receive = async {
        loop {
            match events.poll().await? {
                Event::Incoming(Packet::Publish(publish)) if publish.topic == accepted => {
                    let document: Value = serde_json::from_slice(&publish.payload)?;
                    say(&format!("  shadow of {THING}: version {}", document["version"]));
                }
                _ => {}
            }
        }
    };
    tokio::select! {
        result = receive => result,
        result = publish(&client) => result,
    }
}

async fn publish(client: &AsyncClient) -> Result<()> {
    let shadow = format!("$aws/things/{THING}/shadow/update");
    let mut ticks = tokio::time::interval(PERIOD);
    for temp in READINGS.iter().cycle() {
        ticks.tick().await;
        let reading = json!({ "temp": temp });
        say(&format!("  {TOPIC}: {reading}"));
        client.publish(TOPIC, QoS::AtLeastOnce, false, reading.to_string()).await?;
        let report = json!({ "state": { "reported": reading } }).to_string();
        client.publish(&shadow, QoS::AtLeastOnce, false, report).await?;
    }
    Ok(())
}

/// Trusts the host's own CA and shows the sensor's certificate.
fn tls(host: &Host, credentials: &Credentials) -> Result<TlsConfiguration> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(host.ca_file()?)?)?;
    let chain = vec![CertificateDer::from_pem_slice(&credentials.certificate)?];
    let key = PrivateKeyDer::from_pem_slice(&credentials.private_key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok(TlsConfiguration::Rustls(Arc::new(config)))
}
