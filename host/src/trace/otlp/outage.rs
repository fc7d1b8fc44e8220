//! Says once when a collector stops taking what is sent, once when things begin to be lost, and once when all is well
//! again. In between it is silent, however many exports fail, and however many signals go to that collector.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::destination::{Complaint, Destination};
use crate::trace::counters::SignalKind;
use crate::trace::plain::plain;

/// The least time between two complaints of a kind where there is no outage whose end could be waited for.
const QUIET: Duration = Duration::from_secs(60);
/// The most characters of a collector's text that are passed on.
const TEXT: usize = 200;

/// What is known of one signal's way to its collector.
#[derive(Debug)]
pub(in crate::trace) struct Outage {
    /// What this is about: "spans".
    what: &'static str,
    /// What becomes of them meanwhile.
    fate: &'static str,
    destination: Arc<Destination>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    down: bool,
    /// Whether it was this signal's part to say so.
    told: bool,
    /// Lost since an export last got through. An outage begins before it is known to be one: exports have to time out.
    lost: u64,
    /// Whether it was said since then that the queue is full.
    full: bool,
    /// When it was last said that the queue is too small for what comes.
    slow: Option<Instant>,
    /// When it was last said that the collector took a part.
    partial: Option<Instant>,
    /// When a warning of the collector was last passed on.
    warned: Option<Instant>,
}

impl Outage {
    pub fn new(signal: SignalKind, destination: Arc<Destination>) -> Outage {
        let (what, fate) = match signal {
            SignalKind::Traces => ("spans", "they are kept and sent again"),
            SignalKind::Logs => ("log records", "they are kept and sent again"),
            SignalKind::Metrics => ("metrics", "the next ones hold the same totals"),
        };
        Outage { what, fate, destination, state: Mutex::default() }
    }

    /// What this is about.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// An export failed for now; `is_silent` where nothing listens at the collector's address.
    pub fn failed(&self, reason: &str, is_silent: bool) {
        let mut state = self.lock();
        state.down = true;
        if state.told {
            return;
        }
        let complaint = self.destination.failed(is_silent);
        state.told = complaint == Complaint::Outage;
        drop(state);
        let (reason, address) = (plain(reason, TEXT), self.destination.address());
        match complaint {
            Complaint::Outage => {
                tracing::warn!(reason, "the collector at {address} takes no {} now; {}", self.what, self.fate);
            }
            Complaint::NoCollector => {
                tracing::info!("no collector listens at {address}; {}", self.destination.place());
            }
            Complaint::Nothing => {}
        }
    }

    /// Whether there is no collector, and that was nobody's intention.
    pub fn is_absent(&self) -> bool {
        self.destination.is_absent()
    }

    /// The collector refused so many for good.
    pub fn refused(&self, items: u64, reason: &str) {
        let mut state = self.lock();
        state.lost += items;
        state.told = true;
        if !std::mem::replace(&mut state.down, true) {
            let reason = plain(reason, TEXT);
            tracing::warn!(reason, "the collector refuses {}, which are lost", self.what);
        }
    }

    /// So many found the queue full. Said once in an outage, and now and then where the collector is only too slow.
    pub fn dropped(&self, items: u64) {
        let mut state = self.lock();
        state.lost += items;
        let tell = if state.down { !state.full } else { is_due(&mut state.slow) };
        state.full |= tell;
        drop(state);
        if tell && !self.is_absent() {
            tracing::warn!("the queue of {0} is full; {0} are lost and counted", self.what);
        }
    }

    /// The collector took an export, but for so many items. Without such, its text is a warning.
    pub fn accepted(&self, rejected: u64, text: &str) {
        self.over();
        let mut state = self.lock();
        let (partial, warning) = (rejected > 0, !text.is_empty());
        let tell = match (partial, warning) {
            (true, _) => is_due(&mut state.partial),
            (false, true) => is_due(&mut state.warned),
            (false, false) => false,
        };
        drop(state);
        let text = plain(text, TEXT);
        match (tell, partial) {
            (true, true) => tracing::warn!(rejected, text, "the collector took {} only in part", self.what),
            (true, false) => tracing::warn!(text, "the collector took {} with a warning", self.what),
            (false, _) => {}
        }
    }

    /// An export got through.
    fn over(&self) {
        let mut state = self.lock();
        let lost = std::mem::take(&mut state.lost);
        state.full = false;
        let told = std::mem::take(&mut state.told);
        if std::mem::take(&mut state.down) {
            // Where another signal spoke for this one, nothing is to be taken back unless something is missing.
            if self.destination.answered() || told || lost > 0 {
                tracing::info!(lost, "the collector takes {} again", self.what);
            }
        }
    }

    /// Whether the last export failed.
    pub fn is_on(&self) -> bool {
        self.lock().down
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a complaint of a kind may be made again. If so, it was made now.
fn is_due(last: &mut Option<Instant>) -> bool {
    let due = last.is_none_or(|at| at.elapsed() >= QUIET);
    if due {
        *last = Some(Instant::now());
    }
    due
}
