//! Health and metrics, for load balancers and Prometheus.
//!
//! In: the host's readiness and counters. Out: JSON, and Prometheus' text format. Callers sign
//! (scope `gnomon`), but on the listeners of [`Services::loopback_listeners`] unsigned requests
//! are answered, because neither Prometheus nor a load balancer can sign.

use crate::Services;
use crate::call::{Answer, Call};
use crate::error::ApiError;
use crate::router::{Handlers, handlers};
use gnomon_core::rules::Figures;
use http::StatusCode;
use serde::Serialize;
use std::fmt::Write;
use std::sync::atomic::Ordering;

pub(crate) const HANDLERS: Handlers = handlers! {
    GetHealth => get_health;
    GetMetrics => get_metrics;
};

async fn get_health(services: &Services, _: &Call<'_>) -> Result<Answer, ApiError> {
    health(services)
}

async fn get_metrics(services: &Services, _: &Call<'_>) -> Result<Answer, ApiError> {
    Ok(metrics(services))
}

/// 200 when the host takes clients, else 503.
pub(crate) fn health(services: &Services) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    struct Body {
        ready: bool,
        version: &'static str,
    }
    let ready = services.ready.load(Ordering::Acquire);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = Body { ready, version: env!("CARGO_PKG_VERSION") };
    Ok(Answer::members(&body)?.with_status(status))
}

/// Name, type, help and value.
type RuleFigure = (&'static str, &'static str, &'static str, fn(&Figures) -> u64);

const RULE_FIGURES: [RuleFigure; 9] = [
    ("matched_total", "counter", "Messages that matched FROM.", |it| it.matched),
    ("passed_total", "counter", "Messages that passed WHERE.", |it| it.passed),
    ("failed_total", "counter", "Evaluations and actions that failed for good.", |it| it.failed),
    ("retried_total", "counter", "Calls of actions that were repeated.", |it| it.retried),
    ("succeeded_total", "counter", "Messages that an action took.", |it| it.succeeded),
    (
        "latency_milliseconds_total",
        "counter",
        "Milliseconds from publication to success, of all that succeeded.",
        |it| it.latency_ms,
    ),
    ("dead_lettered_total", "counter", "Messages that became dead letters.", |it| it.dead_lettered),
    ("dead_letters", "gauge", "Dead letters that are there.", |it| it.dead_letters),
    ("waiting", "gauge", "Messages that wait for an action.", |it| it.waiting),
];

/// Every counter as `gnomon_<name>_total` and every gauge as `gnomon_<name>`, in Prometheus' text format,
/// version 0.0.4; then those of every rule as `gnomon_rule_<name>`, with the rule as label.
pub(crate) fn metrics(services: &Services) -> Answer {
    let mut text = String::with_capacity(4_096);
    services.metrics.visit(|name, help, value| {
        let help = help.trim().replace('\\', r"\\").replace('\n', r"\n");
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "# HELP gnomon_{name}_total {help}\n# TYPE gnomon_{name}_total counter\n\
             gnomon_{name}_total {value}\n"
        );
    });
    services.metrics.visit_gauges(|name, help, value| {
        let help = help.trim();
        let _ = write!(
            text,
            "# HELP gnomon_{name} {help}\n# TYPE gnomon_{name} gauge\ngnomon_{name} {value}\n"
        );
    });
    let figures: Vec<_> = services
        .rules
        .list()
        .into_iter()
        .filter_map(|rule| Some((rule.name.clone(), services.rules.figures(&rule.name)?)))
        .collect();
    for (name, kind, help, value) in RULE_FIGURES {
        let _ =
            writeln!(text, "# HELP gnomon_rule_{name} {help}\n# TYPE gnomon_rule_{name} {kind}");
        for (rule, figures) in &figures {
            // A rule's name has letters, digits and underscores only.
            let _ = writeln!(text, "gnomon_rule_{name}{{rule=\"{rule}\"}} {}", value(figures));
        }
    }
    Answer::body(text, "text/plain; version=0.0.4; charset=utf-8")
}
