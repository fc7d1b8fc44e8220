//! Reports outages of a collector in the log: once when exports begin to fail, once when records are dropped, and once
//! when exports succeed again. Nothing is logged in between, however many exports fail and however many signals use
//! that collector.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::destination::{Destination, FailureReport};
use crate::trace::counters::SignalKind;
use crate::trace::sanitize::sanitize_line;

/// The least time between two reports of the same kind outside an outage.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// The most characters of a collector's message that are logged.
const MAX_TEXT: usize = 200;

/// The state of one signal's exports.
#[derive(Debug)]
pub(in crate::trace) struct OutageReporter {
    /// What is exported, such as "spans".
    items: &'static str,
    /// What happens to them during an outage.
    consequence: &'static str,
    destination: Arc<Destination>,
    state: Mutex<OutageState>,
}

#[derive(Debug, Default)]
struct OutageState {
    down: bool,
    /// Whether this signal has reported the outage.
    reported: bool,
    /// Records dropped since the last successful export. An outage begins before it is detected, because exports have
    /// to time out first.
    lost: u64,
    /// Whether the full queue was reported in this outage.
    full_reported: bool,
    /// When the full queue was last reported outside an outage.
    last_full_report: Option<Instant>,
    /// When a partial success was last reported.
    last_partial_report: Option<Instant>,
    /// When a warning of the collector was last reported.
    last_warning_report: Option<Instant>,
}

impl OutageReporter {
    pub fn new(signal: SignalKind, destination: Arc<Destination>) -> OutageReporter {
        let (items, consequence) = match signal {
            SignalKind::Traces => ("spans", "they are queued and retried"),
            SignalKind::Logs => ("log records", "they are queued and retried"),
            SignalKind::Metrics => ("metrics", "the next export holds the same totals"),
        };
        OutageReporter { items, consequence, destination, state: Mutex::default() }
    }

    /// What is exported, such as "spans".
    pub fn items(&self) -> &'static str {
        self.items
    }

    /// Reports an export that failed and is retried. `connection_refused` means that nothing listens at the collector's
    /// address.
    pub fn failed(&self, reason: &str, connection_refused: bool) {
        let mut state = self.lock();
        state.down = true;
        if state.reported {
            return;
        }
        let report = self.destination.failed(connection_refused);
        state.reported = report == FailureReport::Outage;
        drop(state);
        let (reason, address) = (sanitize_line(reason, MAX_TEXT), self.destination.address());
        match report {
            FailureReport::Outage => {
                tracing::warn!(
                    reason,
                    "the collector at {address} does not accept {}; {}",
                    self.items,
                    self.consequence
                );
            }
            FailureReport::NoCollector => {
                tracing::info!("no collector listens at {address}; {}", self.destination.view_hint());
            }
            FailureReport::Suppressed => {}
        }
    }

    /// Whether there is no collector, because none is configured.
    pub fn is_absent(&self) -> bool {
        self.destination.is_absent()
    }

    /// Reports that the collector rejected `count` records.
    pub fn rejected(&self, count: u64, reason: &str) {
        let mut state = self.lock();
        state.lost += count;
        state.reported = true;
        if !std::mem::replace(&mut state.down, true) {
            let reason = sanitize_line(reason, MAX_TEXT);
            tracing::warn!(reason, "the collector rejects {}; they are lost", self.items);
        }
    }

    /// Reports that `count` records were dropped because the queue is full: once per outage, and at intervals if the
    /// collector is only too slow.
    pub fn dropped(&self, count: u64) {
        let mut state = self.lock();
        state.lost += count;
        let report = if state.down { !state.full_reported } else { is_due(&mut state.last_full_report) };
        state.full_reported |= report;
        drop(state);
        if report && !self.is_absent() {
            tracing::warn!("the queue of {0} is full; {0} are dropped and counted", self.items);
        }
    }

    /// Reports a successful export with the number of rejected records. If none were rejected, a non-empty text is a
    /// warning.
    pub fn accepted(&self, rejected: u64, text: &str) {
        self.recovered();
        let mut state = self.lock();
        let (partial, warning) = (rejected > 0, !text.is_empty());
        let report = match (partial, warning) {
            (true, _) => is_due(&mut state.last_partial_report),
            (false, true) => is_due(&mut state.last_warning_report),
            (false, false) => false,
        };
        drop(state);
        let text = sanitize_line(text, MAX_TEXT);
        match (report, partial) {
            (true, true) => tracing::warn!(rejected, text, "the collector accepted {} only in part", self.items),
            (true, false) => tracing::warn!(text, "the collector accepted {} with a warning", self.items),
            (false, _) => {}
        }
    }

    /// Ends an outage.
    fn recovered(&self) {
        let mut state = self.lock();
        let lost = std::mem::take(&mut state.lost);
        state.full_reported = false;
        let reported = std::mem::take(&mut state.reported);
        if std::mem::take(&mut state.down) {
            // If another signal has reported the outage, its end is reported here only if records were dropped.
            if self.destination.answered() || reported || lost > 0 {
                tracing::info!(lost, "the collector accepts {} again", self.items);
            }
        }
    }

    /// Whether the last export failed.
    pub fn is_failing(&self) -> bool {
        self.lock().down
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OutageState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a report of this kind is due. If so, its time is updated.
fn is_due(last: &mut Option<Instant>) -> bool {
    let due = last.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL);
    if due {
        *last = Some(Instant::now());
    }
    due
}
