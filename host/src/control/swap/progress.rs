//! A swap under way: its trace, its timings, and what is told of it when it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outcome::Swapped;
use crate::services::Generation;
use crate::trace::{Attribute, Recorder, Severity, SpanKind, SpanRef, Value};

/// The trace of one swap, rollback, promotion or abortion.
pub(super) struct Progress {
    recorder: Recorder,
    timings: Vec<(&'static str, Duration)>,
}

impl Progress {
    pub fn new(recorder: Recorder) -> Progress {
        Progress { recorder, timings: Vec::new() }
    }

    /// Runs one step as a span and notes how long it took.
    pub async fn step<T, E: std::fmt::Display>(
        &mut self,
        name: &'static str,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let (span, began) = self.start(name);
        let done = step.await;
        if let Err(error) = &done {
            self.recorder.fail(span, name, error.to_string());
        }
        self.end(name, (span, began));
        done
    }

    /// Starts a step that is ended with [`Progress::end`].
    pub fn start(&mut self, name: &'static str) -> (SpanRef, Instant) {
        let parent = self.recorder.server();
        (self.recorder.start(name, SpanKind::Internal, parent), Instant::now())
    }

    pub fn end(&mut self, name: &'static str, (span, began): (SpanRef, Instant)) {
        self.recorder.end(span);
        self.timings.push((name, began.elapsed()));
    }

    /// How long each step took so far.
    pub fn timings(&self) -> Vec<(&'static str, Duration)> {
        self.timings.clone()
    }

    /// Puts an attribute on the trace's root.
    pub fn set<'a>(&mut self, key: &'a str, value: impl Into<Value<'a>>) {
        let root = self.recorder.server();
        self.recorder.set(root, key, value);
    }

    /// Notes how it ended where it ended well: on the root span, and as a log record of the trace.
    pub fn succeeded(&mut self, outcome: &'static str, swapped: &Swapped) {
        let digest = Attribute::new("spandrel.component.digest", &swapped.digest);
        let generation = Attribute::new("spandrel.component.generation", swapped.generation as i64);
        let root = self.recorder.server();
        self.recorder.set_all(root, [digest.clone(), generation.clone()]);
        self.log(Severity::Info, outcome, &[digest, generation]);
    }

    /// Ends the trace as an error, with a log record that says why.
    pub fn refused(mut self, outcome: &'static str, reason: &str) {
        let root = self.recorder.server();
        self.recorder.fail(root, "swap_refused", reason.to_owned());
        let severity = if outcome == "superseded" { Severity::Info } else { Severity::Warn };
        self.log(severity, outcome, &[Attribute::new("reason", reason)]);
        self.recorder.finish(Some(("swap_refused", "the swap ended before this step did")));
    }

    /// Ends the trace of a swap that had nothing to do.
    pub fn finish(self) {
        self.recorder.finish(None);
    }

    /// Waits, in the background, until no request holds the old generations, and frees their instances.
    pub fn drain(mut self, retired: Vec<Arc<Generation>>, limit: Duration) {
        tokio::spawn(async move {
            let (span, _) = self.start("drain");
            for generation in &retired {
                if tokio::time::timeout(limit, generation.drained()).await.is_err() {
                    let in_flight = generation.in_flight();
                    let message = format!("{in_flight} requests still run after {limit:?}");
                    self.recorder.fail(span, "drain_timeout", message);
                }
                generation.pool.close();
            }
            self.recorder.end(span);
            self.recorder.finish(None);
        });
    }

    fn log(&mut self, severity: Severity, outcome: &'static str, attributes: &[Attribute<'_>]) {
        let root = self.recorder.server();
        let service = self.recorder.text_attribute(root, "spandrel.service").map(str::to_owned);
        let service = service.as_deref().map(|service| Attribute::new("spandrel.service", service));
        let all = attributes.iter().cloned().chain(service).chain([Attribute::new("outcome", outcome)]);
        self.recorder.log(root, severity, format!("{}: {outcome}", self.recorder.name(root)), all);
    }
}
