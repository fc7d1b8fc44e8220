//! Says once when a collector stops taking what is sent, once when things begin to be lost, and once when all is well
//! again. In between it is silent, however many exports fail.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::trace::counters::SignalKind;

/// The least time between two complaints about a queue that is too small for what comes, and about parts that are
/// rejected: there is no outage then whose end could be waited for.
const QUIET: Duration = Duration::from_secs(60);

/// What is known of the way to one collector.
#[derive(Debug)]
pub(in crate::trace) struct Outage {
    /// What this is about: "spans".
    what: &'static str,
    /// What becomes of them meanwhile.
    fate: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    down: bool,
    /// Lost since the collector went away.
    lost: u64,
    complained: Option<Instant>,
}

impl Outage {
    pub fn new(signal: SignalKind) -> Outage {
        let (what, fate) = match signal {
            SignalKind::Traces => ("spans", "they are kept and sent again"),
            SignalKind::Logs => ("log records", "they are kept and sent again"),
            SignalKind::Metrics => ("metrics", "the next ones hold the same totals"),
        };
        Outage { what, fate, state: Mutex::default() }
    }

    /// What this is about.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// An export failed for now.
    pub fn failed(&self, reason: &str) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.down, true) {
            tracing::warn!(reason, "the collector takes no {} now; {}", self.what, self.fate);
        }
    }

    /// The collector refused so many for good.
    pub fn refused(&self, items: u64, reason: &str) {
        let mut state = self.lock();
        state.lost += items;
        if !std::mem::replace(&mut state.down, true) {
            tracing::warn!(reason, "the collector refuses {}, which are lost", self.what);
        }
    }

    /// The collector took an export but for so many.
    pub fn rejected_in_part(&self, items: u64, message: &str) {
        if self.may_complain() {
            tracing::warn!(items, message, "the collector took {} only in part", self.what);
        }
    }

    /// So many found the queue full. Said once in an outage, and now and then where the collector is only too slow.
    pub fn dropped(&self, items: u64) {
        let mut state = self.lock();
        let first = state.down && state.lost == 0;
        state.lost += if state.down { items } else { 0 };
        let down = state.down;
        drop(state);
        if (first || !down) && self.may_complain() {
            tracing::warn!("the queue of {0} is full; {0} are lost and counted", self.what);
        }
    }

    /// An export got through.
    pub fn over(&self) {
        let mut state = self.lock();
        if std::mem::take(&mut state.down) {
            let lost = std::mem::take(&mut state.lost);
            tracing::info!(lost, "the collector takes {} again", self.what);
        }
    }

    /// Whether the last export failed.
    pub fn is_on(&self) -> bool {
        self.lock().down
    }

    fn may_complain(&self) -> bool {
        let mut state = self.lock();
        let quiet = state.complained.is_none_or(|at| at.elapsed() >= QUIET);
        if quiet {
            state.complained = Some(Instant::now());
        }
        quiet
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
