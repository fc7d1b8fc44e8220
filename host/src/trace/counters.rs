//! Counters of exported and dropped spans and log records, read by metrics.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Why spans or log records were lost. The order is that of the names in `REASONS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The queue was full.
    QueueFull,
    /// The collector refused them.
    Rejected,
    /// The host stopped before they were exported.
    Shutdown,
    /// They exceeded the limits of one request.
    RequestLimit,
    /// Of the host's own: the tries of the SDK did not bring them to the collector, or it refused them.
    ExportFailed,
}

/// The signals of OTLP. The order is that of the names in `SIGNALS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalKind {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
    /// Log records.
    Logs,
}

/// How an export ended. The order is that of the names in `OUTCOMES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportOutcome {
    /// The collector accepted everything, or all but a part that is counted as dropped.
    Accepted,
    /// The export failed and can be retried.
    Failed,
    /// The collector rejected it permanently.
    Rejected,
}

/// Totals since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// By signal.
    exported: [AtomicU64; 3],
    /// By signal and reason.
    dropped: [[AtomicU64; 5]; 3],
    /// By signal and outcome.
    exports: [[AtomicU64; 3]; 3],
    /// The callback for each export.
    listener: OnceLock<Listener>,
}

/// Receives signal, outcome and duration of an export.
struct Listener(Box<dyn Fn(&'static str, &'static str, Duration) + Send + Sync>);

impl fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Listener")
    }
}

const REASONS: [&str; 5] = ["queue_full", "rejected", "shutdown", "request_limit", "export_failed"];
const SIGNALS: [&str; 3] = ["traces", "metrics", "logs"];
const OUTCOMES: [&str; 3] = ["accepted", "failed", "rejected"];

impl Counters {
    pub(super) fn exported(&self, signal: SignalKind, items: u64) {
        if let Some(count) = self.exported.get(signal as usize) {
            count.fetch_add(items, Ordering::Relaxed);
        }
    }

    pub(super) fn dropped(&self, signal: SignalKind, reason: DropReason, items: u64) {
        if let Some(count) = self.dropped.get(signal as usize).and_then(|row| row.get(reason as usize)) {
            count.fetch_add(items, Ordering::Relaxed);
        }
    }

    pub(super) fn export(&self, signal: SignalKind, outcome: ExportOutcome, took: Duration) {
        if let Some(count) = self.exports.get(signal as usize).and_then(|row| row.get(outcome as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let names = (SIGNALS.get(signal as usize), OUTCOMES.get(outcome as usize));
        if let ((Some(signal), Some(outcome)), Some(Listener(callback))) = (names, self.listener.get()) {
            callback(signal, outcome, took);
        }
    }

    /// Calls `callback` after each export with its signal, its outcome and its duration. Only the first callback is
    /// used.
    pub fn on_export(&self, callback: impl Fn(&'static str, &'static str, Duration) + Send + Sync + 'static) {
        let _ = self.listener.set(Listener(Box::new(callback)));
    }

    /// Spans that the collector has accepted.
    pub fn exported_spans(&self) -> u64 {
        self.exported_of(SignalKind::Traces)
    }

    /// Log records that the collector has accepted.
    pub fn exported_log_records(&self) -> u64 {
        self.exported_of(SignalKind::Logs)
    }

    /// Spans that were lost, by reason.
    pub fn dropped_spans(&self) -> Vec<(&'static str, u64)> {
        self.dropped_of(SignalKind::Traces)
    }

    /// Log records that were lost, by reason.
    pub fn dropped_log_records(&self) -> Vec<(&'static str, u64)> {
        self.dropped_of(SignalKind::Logs)
    }

    /// The number of exports, by signal and outcome.
    pub fn exports(&self) -> Vec<(&'static str, &'static str, u64)> {
        let rows = SIGNALS.iter().zip(&self.exports);
        let counts = rows.flat_map(|(signal, row)| OUTCOMES.iter().zip(row).map(move |cell| (*signal, cell)));
        counts.map(|(signal, (outcome, count))| (signal, *outcome, count.load(Ordering::Relaxed))).collect()
    }

    fn exported_of(&self, signal: SignalKind) -> u64 {
        self.exported.get(signal as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn dropped_of(&self, signal: SignalKind) -> Vec<(&'static str, u64)> {
        let counts = self.dropped.get(signal as usize).into_iter().flatten();
        REASONS.iter().zip(counts).map(|(reason, count)| (*reason, count.load(Ordering::Relaxed))).collect()
    }
}
