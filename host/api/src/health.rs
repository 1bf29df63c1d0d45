//! Health and metrics, for load balancers and Prometheus.
//!
//! In: the host's readiness and counters. Out: JSON, and Prometheus' text format. Callers sign
//! (scope `gnomon`), but on the listeners of [`Services::loopback_listeners`] unsigned requests
//! are answered, because neither Prometheus nor a load balancer can sign.

use crate::Services;
use crate::call::{Answer, Call};
use crate::error::ApiError;
use crate::router::{Handlers, handlers};
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

/// Every counter as `gnomon_<name>_total`, in Prometheus' text format, version 0.0.4.
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
    Answer::body(text, "text/plain; version=0.0.4; charset=utf-8")
}
