//! One collector as all signals that go there know it, so that an outage is told once and not once for each of them.
//!
//! Where nobody has named a collector and nothing listens at the usual address, there is none, as on the machine of
//! somebody who tries the host. That is no outage: it is told in one plain line, with where traces can be seen instead.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::trace::settings::Otlp;

/// Where traces can be seen without a collector, as soon as that is known.
pub(in crate::trace) type TraceViewHint = Arc<OnceLock<String>>;

/// What is to be said of an export that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    /// An outage has begun.
    Outage,
    /// There is no collector.
    NoCollector,
    /// Nothing: it was said before.
    Nothing,
}

/// One collector.
#[derive(Debug)]
pub(super) struct Destination {
    /// Its address, as a log may show it.
    address: String,
    /// Whether somebody has named it.
    is_named: bool,
    place: TraceViewHint,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether anything was ever heard of it.
    has_answered: bool,
    /// Whether the outage that goes on, or that there is no collector, was said.
    told: bool,
}

impl Destination {
    pub fn new(otlp: &Otlp, place: TraceViewHint) -> Destination {
        Destination { address: origin(&otlp.shown_endpoint()), is_named: otlp.is_named, place, state: Mutex::default() }
    }

    /// Whether it is the collector that these settings name.
    pub fn is_of(&self, otlp: &Otlp) -> bool {
        self.address == origin(&otlp.shown_endpoint()) && self.is_named == otlp.is_named
    }

    /// Its address, as a log may show it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where traces can be seen without it.
    pub fn place(&self) -> &str {
        self.place.get().map_or("OTEL_TRACES_EXPORTER=console prints traces here", String::as_str)
    }

    /// Whether there is none.
    pub fn is_absent(&self) -> bool {
        !self.is_named && !self.state().has_answered
    }

    /// An export failed; `is_silent` where nothing listens at its address.
    pub fn failed(&self, is_silent: bool) -> Complaint {
        let mut state = self.state();
        if !is_silent && !std::mem::replace(&mut state.has_answered, true) {
            // There is a collector after all.
            state.told &= self.is_named;
        }
        match std::mem::replace(&mut state.told, true) {
            false if self.is_named || state.has_answered => Complaint::Outage,
            false => Complaint::NoCollector,
            _ => Complaint::Nothing,
        }
    }

    /// An export got through after some that did not. Whether it was said until now that there is no collector.
    pub fn answered(&self) -> bool {
        let before = std::mem::replace(&mut *self.state(), State { has_answered: true, told: false });
        before.told && !before.has_answered && !self.is_named
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A URL without its path: signals of one collector have paths of their own.
fn origin(url: &str) -> String {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host..).and_then(|rest| rest.find(['/', '?'])).map_or(url.len(), |at| host + at);
    url.get(..end).unwrap_or(url).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(is_named: bool) -> Destination {
        let endpoint = "http://localhost:4318/v1/traces".to_owned();
        Destination::new(&Otlp { endpoint, is_named, ..Otlp::standard() }, TraceViewHint::default())
    }

    #[test]
    fn an_outage_of_a_collector_that_somebody_named_is_told_once() {
        let destination = destination(true);
        let complaints = || [true, false, true].map(|is_silent| destination.failed(is_silent));
        assert_eq!(complaints(), [Complaint::Outage, Complaint::Nothing, Complaint::Nothing]);
        assert!(!destination.answered());
        assert_eq!(complaints(), [Complaint::Outage, Complaint::Nothing, Complaint::Nothing]);
        assert!(!destination.is_absent());
    }

    #[test]
    fn that_there_is_no_collector_is_told_once_and_its_outages_when_there_was_one() {
        let destination = destination(false);
        assert!(destination.is_absent());
        assert_eq!(
            [true, true].map(|is_silent| destination.failed(is_silent)),
            [Complaint::NoCollector, Complaint::Nothing]
        );
        assert_eq!(destination.failed(false), Complaint::Outage, "something listens");
        assert!(!destination.is_absent() && !destination.answered());
        assert_eq!(
            [true, true].map(|is_silent| destination.failed(is_silent)),
            [Complaint::Outage, Complaint::Nothing]
        );
    }

    #[test]
    fn that_there_is_no_collector_is_taken_back_when_one_comes() {
        let destination = destination(false);
        assert_eq!(destination.failed(true), Complaint::NoCollector);
        assert!(destination.answered() && !destination.answered());
    }

    #[test]
    fn signals_of_one_collector_share_what_is_known_of_it() {
        let destination = destination(false);
        let logs = Otlp { endpoint: "http://localhost:4318/v1/logs".to_owned(), ..Otlp::standard() };
        assert!(destination.is_of(&logs) && destination.address() == "http://localhost:4318");
        assert!(!destination.is_of(&Otlp::standard()), "another port");
        assert_eq!(origin("http://c?..."), "http://c");
    }
}
