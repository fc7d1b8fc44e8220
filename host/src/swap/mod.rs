//! A new version of a component while the old one serves.
//!
//! Compile, verify, probe, publish, drain: everything that can go wrong goes wrong before the one store that publishes,
//! and leaves the version that serves as it is. One swap of a service runs at a time; a newer one cancels an older one
//! that has not published yet. The last generations are kept, compiled but without instances, for going back to.

mod guard;
mod probe;
mod report;
mod slot;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

pub use self::report::{CanaryReport, ServiceReport, State, VersionFigures};
use self::slot::Slot;
use crate::assembly::Assembly;
use crate::catalog::{Canary, Generation, Service, Serving};
use crate::component::{ComponentError, Prepared};
use crate::config::{ServiceConfig, ServiceName, SwapConfig};
use crate::dispatch::Dispatcher;
use crate::trace::{Incoming, KeyValue, Pipeline, Recorder, Source, SpanKind, SpanRef};

/// Instances that a candidate has before it is published.
const WARM_INSTANCES: usize = 2;

/// Why a swap did not happen. The version that served goes on serving.
#[derive(Debug, Error)]
pub enum SwapError {
    /// The bytes are no component that this host can serve.
    #[error("{0}")]
    Component(#[from] ComponentError),
    /// The candidate no longer has routes that callers may be using.
    #[error("the new version drops {}. Pass --allow-dropped-routes if that is meant", .0.join(", "))]
    DroppedRoutes(Vec<String>),
    /// The candidate did not answer its probe as a healthy service does.
    #[error("the probe GET {path} of the new version {reason}")]
    Probe {
        /// The path that was asked for.
        path: String,
        /// What came instead of a healthy answer.
        reason: String,
    },
    /// A newer swap of the same service came in.
    #[error("a newer swap of this service took over")]
    Superseded,
    /// The host has no room for the candidate's instances.
    #[error("no instance of the new version could be made: {0}")]
    NoInstance(String),
    /// A canary must end before the next version comes.
    #[error("generation {0} is on trial as a canary. End it with `spandrel promote` or `spandrel abort` first")]
    CanaryRunning(u64),
    /// There is no canary to promote or abort.
    #[error("no canary is running for this service")]
    NoCanary,
    /// There is nothing to go back to.
    #[error("there is no earlier generation to go back to")]
    NoEarlierGeneration,
}

/// What a swap should do besides replacing the version.
#[derive(Clone, Debug, Default)]
pub struct SwapOptions {
    /// Publish although routes are gone.
    pub allow_dropped_routes: bool,
    /// Serve only this many of 10,000 traces with the candidate.
    pub canary: Option<u32>,
    /// The configuration of the new generation, where it is not the old one's.
    pub config: Option<ServiceConfig>,
}

/// A swap that happened.
#[derive(Clone, Debug)]
pub struct Swapped {
    /// The generation that serves now.
    pub generation: u64,
    /// The digest of its component.
    pub digest: String,
    /// Whether anything changed: the same component under the same configuration is left as it is.
    pub changed: bool,
    /// How long each step took, in the order in which they were done.
    pub timings: Vec<(&'static str, Duration)>,
}

/// Swaps components. One for the whole host.
pub struct Swapper {
    assembly: Arc<Assembly>,
    dispatcher: Arc<Dispatcher>,
    pipeline: Pipeline,
    /// Swaps are traced as the host's own doing.
    source: Arc<Source>,
    settings: SwapConfig,
    slots: Mutex<BTreeMap<ServiceName, Arc<Slot>>>,
}

/// A swap under way: its trace and its timings.
struct Progress {
    recorder: Recorder,
    timings: Vec<(&'static str, Duration)>,
}

impl Swapper {
    /// A swapper that publishes to the services that `dispatcher` serves from.
    pub fn new(
        assembly: Arc<Assembly>,
        dispatcher: Arc<Dispatcher>,
        pipeline: Pipeline,
        source: Arc<Source>,
        settings: SwapConfig,
    ) -> Arc<Swapper> {
        Arc::new(Swapper { assembly, dispatcher, pipeline, source, settings, slots: Mutex::default() })
    }

    /// Replaces the version of a service, or says why not. On return the new version serves; the old one drains on.
    pub async fn swap(
        self: &Arc<Self>,
        service: &Arc<Service>,
        bytes: Arc<[u8]>,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        let slot = self.slot(&service.name);
        let ticket = slot.ticket();
        let _turn = slot.turn.lock().await;
        let _busy = slot.busy();
        let mut progress = self.progress("swap", service);
        let swapped = tokio::select! {
            biased;
            () = slot.superseded(ticket) => Err(SwapError::Superseded),
            candidate = self.candidate(service, &slot, bytes, &options, &mut progress) => match candidate {
                Ok(Some(candidate)) => Ok(self.publish(service, &slot, candidate, &options, &mut progress)),
                Ok(None) => Ok(unchanged(service)),
                Err(error) => Err(error),
            },
        };
        self.conclude(service, &slot, &swapped, progress);
        swapped
    }

    /// Goes back to the generation that served before.
    pub async fn rollback(self: &Arc<Self>, service: &Arc<Service>) -> Result<Swapped, SwapError> {
        let slot = self.slot(&service.name);
        slot.ticket();
        let _turn = slot.turn.lock().await;
        let mut progress = self.progress("rollback", service);
        match slot.take_earlier(&service.serving().stable) {
            Some(earlier) => {
                let serving = Serving { stable: earlier.clone(), canary: None };
                let retired = self.replace(service, serving, &mut progress);
                progress.drain(retired, self.settings.drain);
                slot.count("rolled_back");
                self.assembly.metrics().swap(service.name.as_str(), "rolled_back");
                tracing::info!(service = %service.name, generation = earlier.number, "rolled back");
                Ok(swapped(&earlier, true, Vec::new()))
            }
            None => Err(SwapError::NoEarlierGeneration),
        }
    }

    /// Goes back because the guard found `new` clearly worse, unless it no longer serves.
    async fn roll_back_from(self: &Arc<Self>, service: &Arc<Service>, new: &Arc<Generation>, reason: &str) {
        let number = new.number;
        if !Arc::ptr_eq(&service.serving().stable, new) || self.rollback(service).await.is_err() {
            return;
        }
        let message = format!("generation {number} was rolled back: {reason}");
        tracing::warn!(service = %service.name, generation = number, reason, "rolled back by the guard");
        self.slot(&service.name).fail(message);
    }

    /// Makes the canary the version that serves everybody.
    pub async fn promote(self: &Arc<Self>, service: &Arc<Service>) -> Result<Swapped, SwapError> {
        let slot = self.slot(&service.name);
        let _turn = slot.turn.lock().await;
        let serving = service.serving();
        let canary = serving.canary.clone().ok_or(SwapError::NoCanary)?;
        let mut progress = self.progress("promote", service);
        let promoted = Serving { stable: canary.generation.clone(), canary: None };
        slot.keep(serving.stable.clone(), self.settings.keep);
        let retired = self.replace(service, promoted, &mut progress);
        progress.drain(retired, self.settings.drain);
        slot.count("promoted");
        self.assembly.metrics().swap(service.name.as_str(), "promoted");
        tracing::info!(service = %service.name, generation = canary.generation.number, "canary promoted");
        Ok(swapped(&canary.generation, true, Vec::new()))
    }

    /// Ends the canary; everybody is served by the version that served before.
    pub async fn abort(self: &Arc<Self>, service: &Arc<Service>) -> Result<Swapped, SwapError> {
        let slot = self.slot(&service.name);
        let _turn = slot.turn.lock().await;
        let serving = service.serving();
        let canary = serving.canary.clone().ok_or(SwapError::NoCanary)?;
        let mut progress = self.progress("abort", service);
        let stable = Serving { stable: serving.stable.clone(), canary: None };
        let retired = self.replace(service, stable, &mut progress);
        progress.drain(retired, self.settings.drain);
        slot.count("aborted");
        self.assembly.metrics().swap(service.name.as_str(), "aborted");
        tracing::info!(service = %service.name, generation = canary.generation.number, "canary aborted");
        Ok(swapped(&serving.stable, true, Vec::new()))
    }

    /// What `spandrel status` and the admin API tell of a service.
    pub fn report(&self, service: &Service) -> ServiceReport {
        report::of(service, &self.slot(&service.name))
    }

    /// Forgets what is known of a service that was removed.
    pub fn forget(&self, name: &ServiceName) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Notes that a service's next version could not even be read.
    pub fn note_failure(&self, service: &Service, reason: &str) {
        self.slot(&service.name).fail(reason.to_owned());
        self.assembly.metrics().swap(service.name.as_str(), "refused");
        tracing::warn!(service = %service.name, reason, "swap refused; the old version keeps serving");
    }

    /// Everything up to a candidate that may be published; none where nothing would change.
    async fn candidate(
        &self,
        service: &Arc<Service>,
        slot: &Slot,
        bytes: Arc<[u8]>,
        options: &SwapOptions,
        progress: &mut Progress,
    ) -> Result<Option<Arc<Generation>>, SwapError> {
        let serving = service.serving();
        if let Some(canary) = &serving.canary {
            return Err(SwapError::CanaryRunning(canary.generation.number));
        }
        let old = &serving.stable;
        let config = options.config.clone().unwrap_or_else(|| old.config.clone());
        if crate::component::Digest::of(&bytes) == *old.digest() && config == old.config {
            return Ok(None);
        }
        let source = self.assembly.source(&config);
        let environment = self.assembly.environment(&config, &source);
        let engine = self.assembly.engine();
        let compiled = progress.step("compile", engine.compile(bytes)).await?;
        let prepared = progress.step("verify", engine.verify(compiled, &environment)).await?;
        self.compare(old, &prepared, options)?;
        let pool = self.assembly.pool(Arc::new(prepared), environment);
        let warm = progress.step("warm", pool.warm(WARM_INSTANCES)).await;
        warm.map_err(|failure| SwapError::NoInstance(failure.to_string()))?;
        let candidate = Generation::new(slot.next_number(), config, pool);
        progress.step("probe", probe::ask(&self.dispatcher, &self.pipeline, &source, &candidate, old)).await?;
        Ok(Some(candidate))
    }

    fn compare(&self, old: &Generation, prepared: &Prepared, options: &SwapOptions) -> Result<(), SwapError> {
        let dropped = old.routes().dropped_by(prepared.routes());
        match dropped.is_empty() || options.allow_dropped_routes {
            true => Ok(()),
            false => Err(SwapError::DroppedRoutes(dropped)),
        }
    }

    /// The one store after which the new version serves.
    fn publish(
        self: &Arc<Self>,
        service: &Arc<Service>,
        slot: &Arc<Slot>,
        candidate: Arc<Generation>,
        options: &SwapOptions,
        progress: &mut Progress,
    ) -> Swapped {
        let old = service.serving().stable.clone();
        let serving = match options.canary {
            Some(share) => {
                Serving { stable: old.clone(), canary: Some(Canary { generation: candidate.clone(), share }) }
            }
            None => {
                slot.keep(old.clone(), self.settings.keep);
                Serving { stable: candidate.clone(), canary: None }
            }
        };
        let retired = self.replace(service, serving, progress);
        slot.retire(retired);
        if options.canary.is_none() {
            guard::watch(self.clone(), service.clone(), old, candidate.clone(), self.settings.guard);
        }
        swapped(&candidate, true, progress.timings.clone())
    }

    /// Publishes, and returns the generations that no longer serve.
    fn replace(&self, service: &Service, serving: Serving, progress: &mut Progress) -> Vec<Arc<Generation>> {
        let span = progress.start("publish");
        let before = service.serving();
        let stays = |generation: &Arc<Generation>| {
            Arc::ptr_eq(generation, &serving.stable)
                || serving.canary.as_ref().is_some_and(|canary| Arc::ptr_eq(generation, &canary.generation))
        };
        let mut retired: Vec<_> = before.canary.iter().map(|canary| canary.generation.clone()).collect();
        retired.push(before.stable.clone());
        retired.retain(|generation| !stays(generation));
        service.source.store(self.assembly.source_after(&serving.stable.config, &service.source.load()));
        service.publish(serving);
        progress.end("publish", span);
        retired
    }

    /// Logs, counts and traces how a swap ended, and lets the old generation drain.
    fn conclude(&self, service: &Service, slot: &Slot, result: &Result<Swapped, SwapError>, mut progress: Progress) {
        let name = service.name.as_str();
        match result {
            Ok(swapped) if !swapped.changed => {
                tracing::debug!(service = name, "the component is the one that serves: nothing to swap");
            }
            Ok(swapped) => {
                slot.count("swapped");
                self.assembly.metrics().swap(name, "swapped");
                let total: Duration = swapped.timings.iter().map(|(_, duration)| *duration).sum();
                let digest = swapped.digest.as_str();
                tracing::info!(service = name, generation = swapped.generation, digest, took = ?total, "swapped");
                let server = progress.recorder.server();
                progress.recorder.set(server, KeyValue::new("spandrel.component.digest", swapped.digest.clone()));
                let generation = KeyValue::new("spandrel.component.generation", swapped.generation as i64);
                progress.recorder.set(server, generation);
                progress.drain(slot.take_retired(), self.settings.drain);
            }
            Err(error) => {
                let reason = error.to_string();
                let server = progress.recorder.server();
                progress.recorder.fail(server, "swap_refused", reason.clone());
                progress.recorder.finish(None);
                let superseded = matches!(error, SwapError::Superseded);
                self.assembly.metrics().swap(name, if superseded { "superseded" } else { "refused" });
                if superseded {
                    return tracing::info!(service = name, "swap given up for a newer one");
                }
                tracing::warn!(service = name, reason, "swap refused; the old version keeps serving");
                slot.fail(reason);
            }
        }
    }

    fn progress(&self, doing: &'static str, service: &Service) -> Progress {
        let attributes = vec![KeyValue::new("spandrel.service", service.name.as_str().to_owned())];
        let recorder = self.pipeline.record(&self.source, &Incoming::default(), doing, SpanKind::Internal, attributes);
        Progress { recorder, timings: Vec::new() }
    }

    fn slot(&self, name: &ServiceName) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(name.clone()).or_default().clone()
    }
}

impl Progress {
    /// Runs one step as a span and notes how long it took.
    async fn step<T, E: std::fmt::Display>(
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

    fn start(&mut self, name: &'static str) -> (SpanRef, Instant) {
        let parent = self.recorder.server();
        (self.recorder.start(name, SpanKind::Internal, parent, Vec::new()), Instant::now())
    }

    fn end(&mut self, name: &'static str, (span, began): (SpanRef, Instant)) {
        self.recorder.end(span);
        self.timings.push((name, began.elapsed()));
    }

    /// Waits, in the background, until no request holds the old generations, and frees their instances.
    fn drain(mut self, retired: Vec<Arc<Generation>>, limit: Duration) {
        tokio::spawn(async move {
            let (span, _) = self.start("drain");
            for generation in &retired {
                if tokio::time::timeout(limit, generation.drained()).await.is_err() {
                    let in_flight = generation.in_flight();
                    let message = format!("{in_flight} requests still run after {limit:?}");
                    self.recorder.fail(span, "drain_timeout", message);
                }
                generation.pool.clear();
            }
            self.recorder.end(span);
            self.recorder.finish(None);
        });
    }
}

fn swapped(generation: &Generation, changed: bool, timings: Vec<(&'static str, Duration)>) -> Swapped {
    Swapped { generation: generation.number, digest: generation.digest().as_str().to_owned(), changed, timings }
}

fn unchanged(service: &Service) -> Swapped {
    swapped(&service.serving().stable, false, Vec::new())
}
