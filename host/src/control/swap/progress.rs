//! A swap in progress: its trace, its timings and its log lines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outcome::Swapped;
use crate::config::ServiceName;
use crate::control::drains::Drains;
use crate::services::Generation;
use crate::telemetry::{HostTelemetry, Operation, Step};

/// The trace of one swap, rollback, promotion or abort.
pub(super) struct Progress {
    service: ServiceName,
    operation: Operation,
    timings: Vec<(&'static str, Duration)>,
}

impl Progress {
    /// Starts the trace of an operation on a service.
    pub fn new(telemetry: &HostTelemetry, name: &'static str, service: &ServiceName) -> Progress {
        let operation = telemetry.operation(name, "swap_refused");
        operation.set("spandrel.service", service.as_str().to_owned());
        Progress { service: service.clone(), operation, timings: Vec::new() }
    }

    /// Runs one step as a span and records its duration.
    pub async fn step<T, E: std::fmt::Display>(
        &mut self,
        name: &'static str,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let done = self.operation.step(name, step).await;
        self.timings.push((name, began.elapsed()));
        done
    }

    /// Starts a step that [`Progress::end`] ends.
    pub fn start(&mut self, name: &'static str) -> (Step, Instant) {
        (self.operation.start(name), Instant::now())
    }

    pub fn end(&mut self, name: &'static str, (step, began): (Step, Instant)) {
        step.end();
        self.timings.push((name, began.elapsed()));
    }

    /// The duration of each step so far.
    pub fn timings(&self) -> Vec<(&'static str, Duration)> {
        self.timings.clone()
    }

    /// Sets an attribute on the root span.
    pub fn set(&mut self, key: &'static str, value: String) {
        self.operation.set(key, value);
    }

    /// Records success on the root span and in the log.
    pub fn succeeded(&mut self, outcome: &'static str, swapped: &Swapped, took: Duration) {
        let Swapped { digest, generation, .. } = swapped;
        self.operation.set("spandrel.component.digest", digest.clone());
        self.operation.set("spandrel.component.generation", *generation as i64);
        self.operation.log(|| {
            tracing::info!(
                spandrel.service = %self.service,
                spandrel.component.generation = generation,
                spandrel.component.digest = digest,
                ?took,
                outcome,
                "{}: {outcome}",
                self.operation.name()
            );
        });
    }

    /// Ends the trace with an error and logs the reason.
    pub fn refused(self, reason: &str) {
        self.operation.fail(reason);
        let (service, outcome) = (&self.service, "refused");
        self.operation.log(|| {
            tracing::warn!(spandrel.service = %service, reason, outcome, "swap refused; the old version keeps serving");
        });
    }

    /// Ends the trace of a swap that a newer one superseded.
    pub fn superseded(self, reason: &str) {
        self.operation.fail(reason);
        let (service, outcome) = (&self.service, "superseded");
        self.operation.log(|| {
            tracing::info!(spandrel.service = %service, reason, outcome, "swap superseded by a newer one");
        });
    }

    /// Waits in the background until no request uses the old generations, then frees their instances. The shutdown of
    /// the host waits for this drain, because the trace is exported when all its spans have ended.
    pub fn drain(self, retired: Vec<Arc<Generation>>, limit: Duration, drains: &Drains) {
        let drained = retired.into_iter().map(|generation| (drains.deadline(limit), generation)).collect::<Vec<_>>();
        drains.spawn(async move {
            let (step, began) = (self.operation.start("drain"), Instant::now());
            for (deadline, generation) in drained {
                tokio::select! {
                    biased;
                    () = generation.drained() => {}
                    () = deadline => {
                        let (in_flight, took) = (generation.in_flight(), began.elapsed());
                        step.fail("drain_timeout", &format!("{in_flight} requests are still in flight after {took:.1?}"));
                    }
                }
                generation.pool.close();
            }
            step.end();
        });
    }
}
