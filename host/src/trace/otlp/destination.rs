//! One collector, shared by all signals that are exported to it, so that an outage is reported once and not once per
//! signal.
//!
//! If no endpoint is configured and nothing listens at the default address, there is no collector. That is not an
//! outage: it is logged once at info level, with a hint where traces can be viewed instead.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::trace::settings::Otlp;

/// A hint where traces can be viewed without a collector, set as soon as it is known.
pub(in crate::trace) type TraceViewHint = Arc<OnceLock<String>>;

/// How a failed export is reported.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FailureReport {
    /// As the start of an outage.
    Outage,
    /// As a missing collector.
    NoCollector,
    /// Not at all: it was reported before.
    Suppressed,
}

/// The state of one collector.
#[derive(Debug)]
pub(super) struct Destination {
    /// The address, without secrets.
    address: String,
    /// Whether the endpoint was configured.
    is_configured: bool,
    view_hint: TraceViewHint,
    state: Mutex<DestinationState>,
}

#[derive(Debug, Default)]
struct DestinationState {
    /// Whether the collector has ever responded.
    has_answered: bool,
    /// Whether the current outage, or the missing collector, has been reported.
    reported: bool,
}

impl Destination {
    pub fn new(otlp: &Otlp, view_hint: TraceViewHint) -> Destination {
        Destination {
            address: origin(&otlp.shown_endpoint()),
            is_configured: otlp.is_configured,
            view_hint,
            state: Mutex::default(),
        }
    }

    /// Whether these settings refer to this collector.
    pub fn is_of(&self, otlp: &Otlp) -> bool {
        self.address == origin(&otlp.shown_endpoint()) && self.is_configured == otlp.is_configured
    }

    /// The address, without secrets.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The hint where traces can be viewed without a collector.
    pub fn view_hint(&self) -> &str {
        self.view_hint.get().map_or("OTEL_TRACES_EXPORTER=console prints traces here", String::as_str)
    }

    /// Whether there is no collector.
    pub fn is_absent(&self) -> bool {
        !self.is_configured && !self.state().has_answered
    }

    /// Registers a failed export. `connection_refused` means that nothing listens at the address.
    pub fn failed(&self, connection_refused: bool) -> FailureReport {
        let mut state = self.state();
        if !connection_refused && !std::mem::replace(&mut state.has_answered, true) {
            // The collector exists, so its outage has not been reported yet.
            state.reported &= self.is_configured;
        }
        match std::mem::replace(&mut state.reported, true) {
            false if self.is_configured || state.has_answered => FailureReport::Outage,
            false => FailureReport::NoCollector,
            _ => FailureReport::Suppressed,
        }
    }

    /// Registers a success after failures. Returns whether a missing collector was reported before.
    pub fn answered(&self) -> bool {
        let before = std::mem::replace(&mut *self.state(), DestinationState { has_answered: true, reported: false });
        before.reported && !before.has_answered && !self.is_configured
    }

    fn state(&self) -> MutexGuard<'_, DestinationState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A URL without its path, since each signal has a path of its own.
fn origin(url: &str) -> String {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host..).and_then(|rest| rest.find(['/', '?'])).map_or(url.len(), |at| host + at);
    url.get(..end).unwrap_or(url).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(is_configured: bool) -> Destination {
        let endpoint = "http://localhost:4318/v1/traces".to_owned();
        Destination::new(&Otlp { endpoint, is_configured, ..Otlp::standard() }, TraceViewHint::default())
    }

    #[test]
    fn an_outage_of_a_configured_collector_is_reported_once() {
        let destination = destination(true);
        let complaints = || [true, false, true].map(|connection_refused| destination.failed(connection_refused));
        assert_eq!(complaints(), [FailureReport::Outage, FailureReport::Suppressed, FailureReport::Suppressed]);
        assert!(!destination.answered());
        assert_eq!(complaints(), [FailureReport::Outage, FailureReport::Suppressed, FailureReport::Suppressed]);
        assert!(!destination.is_absent());
    }

    #[test]
    fn a_missing_collector_is_reported_once_and_its_outages_after_it_appeared() {
        let destination = destination(false);
        assert!(destination.is_absent());
        assert_eq!(
            [true, true].map(|connection_refused| destination.failed(connection_refused)),
            [FailureReport::NoCollector, FailureReport::Suppressed]
        );
        assert_eq!(destination.failed(false), FailureReport::Outage, "something listens");
        assert!(!destination.is_absent() && !destination.answered());
        assert_eq!(
            [true, true].map(|connection_refused| destination.failed(connection_refused)),
            [FailureReport::Outage, FailureReport::Suppressed]
        );
    }

    #[test]
    fn a_missing_collector_that_appears_is_reported() {
        let destination = destination(false);
        assert_eq!(destination.failed(true), FailureReport::NoCollector);
        assert!(destination.answered() && !destination.answered());
    }

    #[test]
    fn signals_with_the_same_collector_share_its_state() {
        let destination = destination(false);
        let logs = Otlp { endpoint: "http://localhost:4318/v1/logs".to_owned(), ..Otlp::standard() };
        assert!(destination.is_of(&logs) && destination.address() == "http://localhost:4318");
        assert!(!destination.is_of(&Otlp::standard()), "another port");
        assert_eq!(origin("http://c?..."), "http://c");
    }
}
