//! Reports in the host's log about collectors that are unavailable, slow or rejecting.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tracing::Dispatch;

use super::super::destination::{Destination, TraceViewHint};
use super::super::outage::OutageReporter;
use super::collector::{Collector, ScriptedResponse};
use super::delivery::{LIMIT, dropped, free_address, requests, settings};
use crate::trace::Pipeline;
use crate::trace::counters::SignalKind;
use crate::trace::settings::{Batch, Otlp, Protocol};

/// Captures the printed log.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Printed {
    /// Prints as text.
    fn text(&self) -> Dispatch {
        let printed = self.clone();
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || printed.clone()).into()
    }

    /// Prints as JSON.
    fn json(&self) -> Dispatch {
        let printed = self.clone();
        tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || printed.clone()).into()
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn assert_count(&self, part: &str, count: usize) {
        let lines = self.lines();
        assert_eq!(lines.iter().filter(|line| line.contains(part)).count(), count, "`{part}` in {lines:#?}");
    }
}

const FULL: &str = "the queue of spans is full";

/// A collector at the default address, configured explicitly or not.
fn destination(is_configured: bool) -> Arc<Destination> {
    Arc::new(Destination::new(&Otlp { is_configured, ..Otlp::standard() }, TraceViewHint::default()))
}

fn outage(signal: SignalKind, destination: &Arc<Destination>) -> OutageReporter {
    OutageReporter::new(signal, destination.clone())
}

/// The log printed while `events` happen to the export of spans.
fn printed(events: impl FnOnce(&OutageReporter)) -> Printed {
    let printed = Printed::default();
    tracing::dispatcher::with_default(&printed.text(), || events(&outage(SignalKind::Traces, &destination(true))));
    printed
}

#[tokio::test]
async fn an_outage_is_reported_once_at_its_start_and_once_at_its_end() {
    let printed = Printed::default();
    let _guard = tracing::dispatcher::set_default(&printed.text());
    let outage = [ScriptedResponse::Retry(None), ScriptedResponse::Retry(None), ScriptedResponse::Retry(None)];
    let collector = Collector::grpc().await.with_responses(outage);
    let mut settings = settings(collector.address, Protocol::Grpc);
    settings.batch = Batch { queue_size: 4, export_size: 2, ..settings.batch };
    let pipeline = Pipeline::start(settings).unwrap();
    for arrivals in 1..=3 {
        requests(&pipeline, 10);
        collector.wait(|seen| seen.arrivals.len() >= arrivals).await;
    }
    pipeline.shutdown(LIMIT).await;
    printed.assert_count("does not accept spans", 1);
    printed.assert_count(FULL, 1);
    printed.assert_count("accepts spans again", 1);
}

#[test]
fn a_full_queue_is_reported_once_per_outage() {
    let printed = printed(|outage| {
        for _ in 0..2 {
            outage.failed("away", true);
            outage.dropped(1);
            outage.dropped(1);
            outage.accepted(0, "");
        }
    });
    printed.assert_count(FULL, 2);
    printed.assert_count("accepts spans again lost=2", 2);
}

#[test]
fn an_outage_is_reported_once_for_all_signals_of_the_collector() {
    let printed = Printed::default();
    let collector = destination(true);
    let [spans, logs] = [SignalKind::Traces, SignalKind::Logs].map(|signal| outage(signal, &collector));
    tracing::dispatcher::with_default(&printed.text(), || {
        for _ in 0..3 {
            spans.failed("away", true);
            logs.failed("away", true);
        }
        spans.accepted(0, "");
        logs.accepted(0, "");
    });
    let lines = printed.lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let has = |line: &str, level: &str, words: &str| line.contains(level) && line.contains(words);
    assert!(has(&lines[0], " WARN ", "the collector at http://localhost:4317 does not accept spans"), "{lines:#?}");
    assert!(has(&lines[1], " INFO ", "the collector accepts spans again"), "{lines:#?}");
}

#[test]
fn a_single_failing_signal_is_reported_once_while_others_succeed() {
    let printed = Printed::default();
    let collector = destination(true);
    let [spans, logs] = [SignalKind::Traces, SignalKind::Logs].map(|signal| outage(signal, &collector));
    tracing::dispatcher::with_default(&printed.text(), || {
        spans.failed("away", true);
        for _ in 0..3 {
            logs.failed("away", false);
            spans.accepted(0, "");
        }
    });
    printed.assert_count("does not accept spans", 1);
    printed.assert_count("accepts spans again", 1);
    printed.assert_count("does not accept log records", 1);
}

#[test]
fn without_a_collector_one_line_tells_where_traces_can_be_viewed() {
    let printed = Printed::default();
    let missing = destination(false);
    let [spans, logs] = [SignalKind::Traces, SignalKind::Logs].map(|signal| outage(signal, &missing));
    tracing::dispatcher::with_default(&printed.text(), || {
        for _ in 0..3 {
            spans.failed("connection refused", true);
            logs.failed("connection refused", true);
            spans.dropped(7);
        }
    });
    let lines = printed.lines();
    let [line] = lines.as_slice() else { panic!("{lines:#?}") };
    let expected = "no collector listens at http://localhost:4317; OTEL_TRACES_EXPORTER=console prints traces here";
    assert!(line.contains(" INFO ") && line.contains(expected), "{line}");
}

#[tokio::test]
async fn a_host_without_a_collector_stops_without_waiting() {
    let printed = Printed::default();
    let _guard = tracing::dispatcher::set_default(&printed.text());
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let mut settings = settings(free_address(), protocol);
        settings.traces.otlp.is_configured = false;
        let pipeline = Pipeline::start(settings).unwrap();
        pipeline.set_trace_view_hint("traces are elsewhere".to_owned());
        requests(&pipeline, 3);
        let began = Instant::now();
        pipeline.shutdown(LIMIT).await;
        assert!(began.elapsed() < LIMIT / 2, "{protocol:?}: {:?}", began.elapsed());
        assert_eq!(dropped(&pipeline), [("shutdown", 3)]);
    }
    let lines = printed.lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    printed.assert_count("; traces are elsewhere", 2);
}

#[test]
fn reports_of_one_kind_do_not_suppress_another() {
    let printed = printed(|outage| {
        for _ in 0..3 {
            outage.accepted(3, "too many");
            outage.accepted(0, "old names");
            outage.dropped(1);
        }
    });
    printed.assert_count("accepted spans only in part", 1);
    printed.assert_count("accepted spans with a warning", 1);
    printed.assert_count(FULL, 1);
}

#[test]
fn records_dropped_before_the_outage_was_detected_are_reported() {
    let printed = printed(|outage| {
        outage.dropped(9);
        outage.accepted(0, "");
        outage.dropped(170);
        outage.failed("no answer", false);
        outage.dropped(30);
        outage.accepted(0, "");
    });
    printed.assert_count("accepts spans again lost=200", 1);
}

#[test]
fn a_collector_cannot_inject_log_lines() {
    let text = format!("no\n2026-01-01T00:00:00Z  INFO all is well\r\u{1b}[2J\u{7f}\u{9b}2J{}", "!".repeat(9999));
    let reports: [fn(&OutageReporter, &str); 4] = [
        |outage, text| outage.failed(text, false),
        |outage, text| outage.rejected(1, text),
        |outage, text| outage.accepted(1, text),
        |outage, text| outage.accepted(0, text),
    ];
    for report in reports {
        for format in [Printed::text, Printed::json] {
            let printed = Printed::default();
            tracing::dispatcher::with_default(&format(&printed), || {
                report(&outage(SignalKind::Traces, &destination(true)), &text);
            });
            let lines = printed.lines();
            assert_eq!(lines.len(), 1, "{lines:#?}");
            assert!(!lines[0].contains(char::is_control) && lines[0].len() < 600, "{lines:#?}");
        }
    }
}
