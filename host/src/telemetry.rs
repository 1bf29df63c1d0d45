//! Logs: events with fields to stderr, as text or JSON.
//!
//! What is logged says the command line. Once somebody has set levels by the API, they decide about the
//! events of clients instead: those with a field `client_id`. Fields `remote` and `principal` tell of
//! whom else an event is.

use gnomon_core::logging::{Level, Levels};
use std::fmt::{Debug, Write};
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The levels of clients: logging begins before there is a store to read them from.
static LEVELS: OnceLock<Levels> = OnceLock::new();

/// Sends events to stderr from now on.
///
/// # Errors
/// The filter cannot be parsed.
pub fn init(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("log filter {filter:?} cannot be used: {error}"))?;
    let filter = ByClient { otherwise: filter, levels: &LEVELS };
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    Ok(())
}

/// From now on these levels decide about the events of clients.
pub fn follow(levels: Levels) {
    // A process has one host.
    let _ = LEVELS.set(levels);
}

/// Events of clients by the levels that are set for them; the others, and all while none are set, by
/// the command line.
///
/// The host has no spans, so that the filter of the command line need not hear of any.
struct ByClient {
    otherwise: EnvFilter,
    levels: &'static OnceLock<Levels>,
}

impl ByClient {
    /// The levels that decide about such events, and the most detailed of them.
    fn decisive(&self, metadata: &Metadata<'_>) -> Option<(&Levels, Level)> {
        let levels = self.levels.get().filter(|_| is_of_client(metadata))?;
        Some((levels, levels.most()?))
    }
}

impl<S> Filter<S> for ByClient
where
    EnvFilter: Filter<S>,
{
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        match self.decisive(metadata) {
            Some((_, most)) => level_of(metadata) <= most,
            None => Filter::<S>::enabled(&self.otherwise, metadata, context),
        }
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match is_of_client(metadata) {
            true => Interest::sometimes(),
            false => Filter::<S>::callsite_enabled(&self.otherwise, metadata),
        }
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let Some((levels, _)) = self.decisive(event.metadata()) else { return true };
        let mut client = Client::default();
        event.record(&mut client);
        let Client { client_id, ip, principal } = client;
        let allowed = levels.level_for(client_id.as_deref(), ip, principal.as_deref());
        allowed.is_none_or(|allowed| level_of(event.metadata()) <= allowed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // Somebody may set DEBUG for a client at any time.
        Some(Filter::<S>::max_level_hint(&self.otherwise)?.max(LevelFilter::DEBUG))
    }
}

fn is_of_client(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && metadata.fields().field("client_id").is_some()
}

fn level_of(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        // AWS has nothing more detailed.
        _ => Level::Debug,
    }
}

/// Of whom an event is.
#[derive(Default)]
struct Client {
    client_id: Option<String>,
    ip: Option<IpAddr>,
    principal: Option<String>,
}

impl Visit for Client {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = || {
            let mut text = String::new();
            write!(text, "{value:?}").map(|()| text).ok()
        };
        match field.name() {
            "client_id" => self.client_id = text(),
            "principal" => self.principal = text(),
            "remote" => {
                self.ip = text().and_then(|it| it.parse().map(|it: SocketAddr| it.ip()).ok());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_core::ids::{ClientId, Principal};
    use gnomon_core::logging::Target;
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    /// Collects the messages of what passes the filter.
    #[derive(Clone, Default)]
    struct Messages(Arc<Mutex<Vec<String>>>);

    impl<S: tracing::Subscriber> Layer<S> for Messages {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            event.record(&mut self.clone());
        }
    }

    impl Visit for Messages {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            if field.name() == "message" {
                self.0.lock().unwrap().push(format!("{value:?}"));
            }
        }
    }

    /// What is logged of two clients and of the host itself.
    fn logged(filter: &str, levels: &Levels) -> Vec<String> {
        static PUMP: &str = "pump";
        let messages = Messages::default();
        let followed = Box::leak(Box::new(OnceLock::from(levels.clone())));
        let filter = ByClient { otherwise: EnvFilter::new(filter), levels: followed };
        let layer = messages.clone().with_filter(filter);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let remote: SocketAddr = "10.0.0.7:1883".parse().unwrap();
            tracing::debug!(client_id = %PUMP, %remote, "pump came");
            tracing::warn!(client_id = PUMP, principal = "p", "pump refused");
            tracing::debug!(client_id = ?Option::<&str>::None, %remote, "somebody came");
            tracing::warn!(client_id = "lamp", "lamp refused");
            tracing::debug!("host busy");
            tracing::warn!("host busier");
        });
        Arc::try_unwrap(messages.0).unwrap_or_default().into_inner().unwrap()
    }

    #[test]
    fn levels_decide_about_clients_once_they_are_set() {
        let levels = Levels::default();
        let usual = ["pump refused", "lamp refused", "host busier"];
        assert_eq!(logged("info", &levels), usual);
        let pump = Target::ClientId(ClientId::parse("pump").unwrap());
        let principal = Target::PrincipalId(Principal::new("p"));
        let ip = Target::SourceIp("10.0.0.7".parse().unwrap());
        let (error, warn, debug) = (Level::Error, Level::Warn, Level::Debug);
        let disabled = Level::Disabled;
        for (filter, targets, expected) in [
            ("info", vec![(Target::Default, error)], vec!["host busier"]),
            ("error", vec![(Target::Default, warn)], vec!["pump refused", "lamp refused"]),
            (
                "info",
                vec![(Target::Default, disabled), (pump, debug)],
                vec!["pump came", "pump refused", "host busier"],
            ),
            (
                "off",
                vec![(Target::Default, disabled), (ip, debug), (principal, warn)],
                vec!["pump came", "pump refused", "somebody came"],
            ),
        ] {
            levels.replace(targets.clone(), HashMap::new());
            assert_eq!(logged(filter, &levels), expected, "{filter} {targets:?}");
        }
    }
}
