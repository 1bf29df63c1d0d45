//! Counters and gauges of the host: each is a documented field, changed in one place.
//!
//! Out: `gnomon-api` prints them for Prometheus by [`Metrics::visit`] and [`Metrics::visit_gauges`].

use std::sync::atomic::{AtomicU64, Ordering};

/// A value that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Says what it is now.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $name:ident,)* gauges: $($(#[doc = $about:literal])+ $gauge:ident,)*) => {
        /// All counters and gauges of one host.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[doc = $doc])+ pub $name: Counter,)*
            $($(#[doc = $about])+ pub $gauge: Gauge,)*
        }

        impl Metrics {
            /// Calls `f` with name, help text and value of every counter, in the order of the struct.
            pub fn visit(&self, mut f: impl FnMut(&'static str, &'static str, u64)) {
                $(f(stringify!($name), concat!($($doc),+), self.$name.get());)*
            }

            /// The same with every gauge.
            pub fn visit_gauges(&self, mut f: impl FnMut(&'static str, &'static str, u64)) {
                $(f(stringify!($gauge), concat!($($about),+), self.$gauge.get());)*
            }
        }
    };
}

metrics! {
    /// Connections that sent an accepted CONNECT.
    connections_accepted,
    /// Connections refused: TLS, CONNECT or authorization.
    connections_refused,
    /// Connections that ended, for whatever reason.
    connections_closed,
    /// Pauses of listeners that have all connections that they may have, or all of a second.
    accepts_paused,
    /// Connections closed because of a malformed packet or a protocol error.
    protocol_errors,
    /// PUBLISH packets taken from clients.
    messages_received,
    /// PUBLISH packets sent to clients.
    messages_sent,
    /// Messages dropped because a receiver's queue was full.
    messages_dropped,
    /// Pauses in reading from clients that published too fast.
    publishes_paused,
    /// Publications refused by policy.
    publish_denied,
    /// Payloads that do not match the schema of the thing's type.
    payloads_mismatched,
    /// Offences of clients that count for the quarantine.
    quarantine_offences,
    /// Things and principals put into quarantine.
    quarantine_entered,
    /// Things and principals let out of quarantine.
    quarantine_lifted,
    /// Publications of clients in quarantine, dropped.
    quarantine_dropped,
    /// Subscriptions refused by policy.
    subscribe_denied,
    /// Subscriptions refused because of a bound.
    subscriptions_refused,
    /// Deliveries withheld by policy (iot:Receive).
    receive_denied,
    /// Messages that expired before a client took them.
    messages_expired,
    /// Retained messages that were not kept because of a bound.
    retained_refused,
    /// Publications refused because too much waits for the disk.
    log_refused,
    /// Group commits of the message log.
    log_commits,
    /// Messages for durable sessions that these commits made durable.
    log_messages,
    /// Group commits of the store.
    store_commits,
    /// Writes that these commits made durable.
    store_writes,
    /// Writes refused because the store was not available.
    store_refused,
    /// Shadow requests accepted.
    shadow_accepted,
    /// Shadow requests rejected.
    shadow_rejected,
    /// Devices provisioned over MQTT, and certificates given out for it.
    provisioning_accepted,
    /// Provisioning requests rejected.
    provisioning_rejected,
    /// Messages that matched the FROM clause of a rule.
    rules_matched,
    /// Messages that passed the WHERE clause of a rule.
    rules_passed,
    /// Messages by Basic Ingest for a rule that does not exist or is disabled.
    rules_not_found,
    /// Messages that a rule could not evaluate.
    rules_failed,
    /// Rule action calls that succeeded, one per message.
    actions_succeeded,
    /// Rule action calls that failed and were tried again, one per message.
    actions_retried,
    /// Rule action calls that failed for good, one per message.
    actions_failed,
    /// Messages that failed for good and nobody took: they wait for the operator.
    dead_letters,
    /// Messages that failed for good and for which there was no room among the dead letters.
    dead_letters_lost,
    /// Plugin instances lost to a trap, a deadline or a memory limit.
    plugin_traps,
    /// Plugin calls refused for want of a grant.
    plugin_denied,
    /// REST requests answered.
    api_requests,
    /// REST requests refused because of their signature or key.
    api_denied,
    /// Warnings that a certificate ends within 30, 7 or 1 days.
    certificate_warnings,
    /// Certificates in place of others, made for devices that asked over MQTT.
    certificates_renewed,
    /// Things that were indexed anew because something about them changed.
    index_updates,
    /// Searches and aggregations over the fleet.
    index_searches,
    gauges:
    /// Certificates in use that end within 30 days, those of CAs and of the host counted.
    certificates_expiring,
    /// Things that can be searched.
    indexed_things,
}
