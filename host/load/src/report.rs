//! What a run found out: a table for people, JSON for programs.

use crate::options::Qos;
use crate::stats::{Stats, Times};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// It was stopped before its end.
    pub interrupted: bool,
    /// Of the messages.
    pub qos: u8,
    /// What became of the connections.
    pub connections: Connections,
    /// From the first byte of a connection to CONNACK; none without connections.
    pub connect_ms: Option<Quantiles>,
    /// What happened after the warm-up and before the end; none when nothing was published.
    pub measured: Option<Measured>,
    /// From a message's time to its arrival, after the warm-up; none without times in payloads.
    pub latency_ms: Option<Quantiles>,
    /// All messages of the run, the warm-up included.
    pub messages: Messages,
    /// How often each error occurred.
    pub errors: BTreeMap<String, u64>,
}

/// What became of the connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// CONNECT was accepted.
    pub opened: u64,
    /// Failed, at once or later.
    pub failed: u64,
    /// Complete TLS handshakes.
    pub full_handshakes: u64,
    /// TLS handshakes that resumed a session.
    pub resumed_handshakes: u64,
}

/// What rates are computed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Measured {
    /// How long it was measured.
    pub seconds: f64,
    /// Messages published meanwhile.
    pub sent: u64,
    /// Messages that arrived meanwhile; with several subscribers each counts.
    pub received: u64,
}

/// All messages of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Messages {
    /// Published.
    pub sent: u64,
    /// Acknowledged by the broker; 0 with QoS 0.
    pub acknowledged: u64,
    /// Published with QoS 1 or 2 and not acknowledged.
    pub unacknowledged: u64,
    /// Arrived at subscribers.
    pub received: u64,
    /// Should have arrived and did not.
    pub lost: u64,
    /// Arrived once more.
    pub duplicated: u64,
    /// Arrived behind a later message of the same publisher.
    pub reordered: u64,
    /// Arrived and are not of this run: retained ones, or somebody else's.
    pub foreign: u64,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half of them took at most so long.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Report {
    pub(crate) fn of_connections(stats: &Stats, qos: Qos) -> Self {
        Self {
            interrupted: false,
            qos: qos.level(),
            connections: Connections {
                opened: stats.opened.get(),
                failed: stats.failed.get(),
                full_handshakes: stats.full_handshakes.get(),
                resumed_handshakes: stats.resumed_handshakes.get(),
            },
            connect_ms: Quantiles::of(&stats.connect),
            measured: None,
            latency_ms: None,
            messages: Messages::default(),
            errors: stats.errors(),
        }
    }

    pub(crate) fn of_traffic(stats: &Stats, qos: Qos, measured: Measured) -> Self {
        let (sent, acknowledged) = (stats.sent.get(), stats.acknowledged.get());
        let unacknowledged = if qos == Qos::AtMostOnce { 0 } else { sent - acknowledged };
        let messages = Messages {
            sent,
            acknowledged,
            unacknowledged,
            received: stats.received.get(),
            lost: stats.missing(),
            duplicated: stats.duplicated.get(),
            reordered: stats.reordered.get(),
            foreign: stats.foreign.get(),
        };
        Self {
            measured: Some(measured),
            latency_ms: Quantiles::of(&stats.latency),
            messages,
            ..Self::of_connections(stats, qos)
        }
    }

    /// Everything arrived, in order and with QoS 2 once, and nothing failed.
    pub fn is_clean(&self) -> bool {
        let Messages { unacknowledged, lost, duplicated, reordered, .. } = self.messages;
        let twice = self.qos == 2 && duplicated > 0;
        let failed = self.connections.failed > 0 || !self.errors.is_empty();
        lost == 0 && unacknowledged == 0 && reordered == 0 && !twice && !failed
    }

    /// For programs.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and texts can be written")
    }
}

impl Measured {
    /// Messages that arrived in a second.
    pub fn received_per_s(&self) -> f64 {
        per_second(self.received, self.seconds)
    }

    /// Messages published in a second.
    pub fn sent_per_s(&self) -> f64 {
        per_second(self.sent, self.seconds)
    }
}

fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

impl Quantiles {
    fn of(times: &Times) -> Option<Self> {
        let micros = times.snapshot();
        let at = |quantile| micros.value_at_quantile(quantile) as f64 / 1e3;
        let max = micros.max() as f64 / 1e3;
        let quantiles = || Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max };
        (!micros.is_empty()).then(quantiles)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, text: String| {
            writeln!(f, "{name:<14} {}", text.trim_end())
        };
        let Connections { opened, failed, full_handshakes, resumed_handshakes } = self.connections;
        let mut connections = format!("{} opened, {} failed", group(opened), group(failed));
        if full_handshakes + resumed_handshakes > 0 {
            connections += &format!(
                "; TLS: {} full, {} resumed",
                group(full_handshakes),
                group(resumed_handshakes)
            );
        }
        line(f, "connections", connections)?;
        if let Some(times) = &self.connect_ms {
            line(f, "connect time", times.to_string())?;
        }
        if let Some(measured) = &self.measured {
            let text = |count, rate: f64| format!("{:>13}  {:>11.0}/s", group(count), rate);
            line(f, "measured", format!("{:>13.2} s", measured.seconds))?;
            line(f, "sent", text(measured.sent, measured.sent_per_s()))?;
            line(f, "received", text(measured.received, measured.received_per_s()))?;
            let none = "not measured (payloads from 16 bytes on carry their time)".to_owned();
            line(f, "latency", self.latency_ms.map_or(none, |times| times.to_string()))?;
            let Messages { unacknowledged, lost, duplicated, reordered, foreign, .. } =
                self.messages;
            for (name, count) in [
                ("lost", lost),
                ("duplicated", duplicated),
                ("out of order", reordered),
                ("no PUBACK", unacknowledged),
                ("foreign", foreign),
            ] {
                if count > 0 || name == "lost" {
                    line(f, name, format!("{:>13}", group(count)))?;
                }
            }
        }
        for (kind, count) in &self.errors {
            line(f, "error", format!("{:>13}  {kind}", group(*count)))?;
        }
        if self.interrupted {
            line(f, "interrupted", "before its end".into())?;
        }
        Ok(())
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, p999, max } = self;
        write!(f, "p50 {p50:.2} ms  p99 {p99:.2} ms  p99.9 {p999:.2} ms  max {max:.2} ms")
    }
}

/// With thousands separated.
fn group(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let stats = Stats::new();
        stats.sent.add(1_000);
        stats.expected.add(1_000);
        stats.unique.add(1_000);
        stats.received.add(1_000);
        stats.latency.record(1_500);
        let measured = Measured { seconds: 2.0, sent: 1_000, received: 1_000 };
        Report::of_traffic(&stats, Qos::AtMostOnce, measured)
    }

    #[test]
    fn a_report_is_clean_until_something_is_lost_or_fails() {
        assert!(report().is_clean());
        let check = |change: fn(&mut Report)| {
            let mut report = report();
            change(&mut report);
            assert!(!report.is_clean(), "{report}");
        };
        check(|report| report.messages.lost = 1);
        check(|report| report.messages.unacknowledged = 1);
        check(|report| report.messages.reordered = 1);
        check(|report| report.connections.failed = 1);
        check(|report| report.errors = [("x".into(), 1)].into());
        check(|report| (report.qos, report.messages.duplicated) = (2, 1));
        let twice = Report { qos: 1, ..report() };
        assert!(twice.is_clean(), "QoS 1 may deliver twice");
    }

    #[test]
    fn people_and_programs_read_the_same_figures() {
        let mut report = report();
        report.errors.insert("PUBACK: Quota exceeded (0x97)".into(), 3);
        let text = report.to_string();
        for part in [
            "received               1,000          500/s",
            "p50 1.50 ms",
            "lost                       0",
            "3  PUBACK: Quota exceeded (0x97)",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["measured"]["received"], 1_000);
        assert_eq!(json["errors"]["PUBACK: Quota exceeded (0x97)"], 3);
        assert_eq!(json["connect_ms"], serde_json::Value::Null);
    }
}
