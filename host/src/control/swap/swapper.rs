//! The steps of a swap, of one service at a time, and rollbacks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::differences::differences;
use super::error::SwapError;
use super::history::SwapRecord;
use super::outcome::{ComponentSource, SwapOptions, Swapped};
use super::progress::Progress;
use super::report::{self, ServiceReport};
use super::slot::Slot;
use super::{component_file, guard, probe};
use crate::component::Digest;
use crate::config::{ServiceConfig, ServiceName, SwapConfig};
use crate::control::observe;
use crate::serve::dispatch::Dispatcher;
use crate::services::{Canary, Generation, GenerationBuilder, Service, Serving};
use crate::telemetry::HostTelemetry;
use crate::trace::Pipeline;

/// Instances that a candidate has before it is published.
const WARM_INSTANCES: usize = 2;

/// Swaps components. One for the whole host.
pub struct Swapper {
    builder: Arc<GenerationBuilder>,
    dispatcher: Arc<Dispatcher>,
    pipeline: Pipeline,
    /// Records traces of swaps, as operations of the host.
    telemetry: HostTelemetry,
    settings: SwapConfig,
    slots: Mutex<BTreeMap<ServiceName, Arc<Slot>>>,
    stopped: AtomicBool,
}

impl Swapper {
    /// A swapper for the services that `dispatcher` serves.
    pub fn new(
        builder: Arc<GenerationBuilder>,
        dispatcher: Arc<Dispatcher>,
        pipeline: Pipeline,
        telemetry: HostTelemetry,
        settings: SwapConfig,
    ) -> Arc<Swapper> {
        let (slots, stopped) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Swapper { builder, dispatcher, pipeline, telemetry, settings, slots, stopped })
    }

    /// Replaces the version of a service, or returns why not. The new version runs under the manifest's configuration
    /// at the time when the swap starts. On return it serves; the old one may still be draining.
    pub async fn swap(
        self: &Arc<Self>,
        service: &Arc<Service>,
        component: ComponentSource,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        let slot = self.slot(service);
        let ticket = slot.ticket();
        let _turn = slot.turn.lock().await;
        let _busy = slot.busy();
        let mut progress = self.progress("swap", service);
        let candidate = tokio::select! {
            biased;
            () = slot.superseded(ticket) => Err(SwapError::Superseded),
            candidate = self.candidate(service, &slot, component, &options, &mut progress) => candidate,
        };
        match candidate {
            _ if service.is_removed() => Err(self.refuse(service, &slot, SwapError::Removed, progress)),
            _ if slot.is_closed() => Err(self.refuse(service, &slot, SwapError::Stopping, progress)),
            Ok(Some(candidate)) => Ok(self.publish(service, &slot, candidate, &options, progress)),
            Ok(None) => {
                tracing::debug!(service = %service.name, "the component is the one that serves: nothing to swap");
                Ok(Swapped::new(&service.serving().stable, false, Vec::new()))
            }
            Err(error) => Err(self.refuse(service, &slot, error, progress)),
        }
    }

    /// Rolls back to the previous generation. A running swap is cancelled.
    pub async fn rollback(&self, service: &Arc<Service>) -> Result<Swapped, SwapError> {
        let slot = self.slot(service);
        slot.ticket();
        let _turn = slot.turn.lock().await;
        self.go_back(service, &slot).await
    }

    /// Rolls back because the guard found `new` clearly worse, unless another generation serves by then.
    async fn roll_back_from(&self, service: &Arc<Service>, new: &Arc<Generation>, reason: &str) {
        let slot = self.slot(service);
        let _turn = slot.turn.lock().await;
        if !Arc::ptr_eq(&service.serving().stable, new) || self.go_back(service, &slot).await.is_err() {
            return;
        }
        let number = new.number;
        let message = format!("generation {number} was rolled back: {reason}");
        tracing::warn!(service = %service.name, generation = number, reason, "rolled back by the guard");
        slot.explain(message);
    }

    /// Serves with the previous generation, with new instances: its old ones are gone or draining.
    async fn go_back(&self, service: &Arc<Service>, slot: &Slot) -> Result<Swapped, SwapError> {
        let mut progress = self.progress("rollback", service);
        let current = service.serving().stable.clone();
        let Some(earlier) = slot.take_earlier(current.number) else {
            return Err(self.refuse(service, slot, SwapError::NoEarlierGeneration, progress));
        };
        let pool = self.builder.pool(earlier.pool.prepared().clone(), earlier.pool.context().clone());
        // If no instances can be created now, the pool creates them when requests arrive.
        progress.step("warm", pool.warm(WARM_INSTANCES)).await.ok();
        let config = earlier.config.clone();
        let earlier = self.builder.generation(earlier.number, config, earlier.resource.clone(), pool);
        let serving = Serving { stable: earlier.clone(), canary: None };
        Ok(self.establish(service, slot, serving, &earlier, "rolled_back", progress))
    }

    /// Promotes the canary: it serves all requests.
    pub async fn promote(&self, service: &Arc<Service>) -> Result<Swapped, SwapError> {
        let slot = self.slot(service);
        let _turn = slot.turn.lock().await;
        let (serving, progress) = (service.serving(), self.progress("promote", service));
        let Some(Canary { generation: canary, .. }) = serving.canary.clone() else {
            return Err(self.refuse(service, &slot, SwapError::NoCanary, progress));
        };
        slot.keep(serving.stable.clone(), self.settings.keep);
        let promoted = Serving { stable: canary.clone(), canary: None };
        Ok(self.establish(service, &slot, promoted, &canary, "promoted", progress))
    }

    /// Aborts the canary: the stable version serves all requests.
    pub async fn abort(&self, service: &Arc<Service>) -> Result<Swapped, SwapError> {
        let slot = self.slot(service);
        let _turn = slot.turn.lock().await;
        let (serving, progress) = (service.serving(), self.progress("abort", service));
        if serving.canary.is_none() {
            return Err(self.refuse(service, &slot, SwapError::NoCanary, progress));
        }
        let stable = Serving { stable: serving.stable.clone(), canary: None };
        Ok(self.establish(service, &slot, stable, &serving.stable, "aborted", progress))
    }

    /// The report of a service for `spandrel status` and the admin API.
    pub fn report(&self, service: &Service) -> ServiceReport {
        report::of(service, &self.slot(service), self.builder.compiling().has(&service.name))
    }

    /// Removes the state of a removed service and cancels its swap.
    pub fn forget(&self, name: &ServiceName) {
        if let Some(slot) = self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(name) {
            slot.close();
        }
    }

    /// Cancels all swaps, because the host stops.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|slot| slot.close());
    }

    /// Whether the host is stopping.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Waits for the running swap of a service and for those that are queued now.
    pub async fn settled(&self, service: &Service) {
        drop(self.slot(service).turn.lock().await);
    }

    /// Records the failure of a swap that could not record it itself.
    pub fn note_failure(&self, service: &Service, reason: &str) {
        self.slot(service).not_done(SwapRecord::not_done("refused", reason, Duration::ZERO));
        self.builder.metrics().swap(service.name.as_str(), "refused");
        self.progress("swap", service).refused(reason);
    }

    /// All steps before publication. Returns the candidate, or `None` if nothing would change.
    async fn candidate(
        &self,
        service: &Arc<Service>,
        slot: &Slot,
        component: ComponentSource,
        options: &SwapOptions,
        progress: &mut Progress,
    ) -> Result<Option<Arc<Generation>>, SwapError> {
        let serving = service.serving();
        let old = &serving.stable;
        let config = ServiceConfig::clone(&service.declared());
        let bytes = match component {
            ComponentSource::Bytes(bytes) => Some(bytes),
            ComponentSource::File => Some(component_file::read(&self.builder, &config).await?),
            ComponentSource::Serving => None,
        };
        let is_same_component = match &bytes {
            Some(bytes) => Digest::compute(bytes).await == *old.digest(),
            None => true,
        };
        if is_same_component && config.is_same_version_as(&old.config) {
            return Ok(None);
        }
        if let Some(canary) = &serving.canary {
            return Err(SwapError::CanaryRunning(canary.generation.number));
        }
        let resource = self.builder.reresource_after(&config, &old.resource);
        let context = self.builder.context(&config, &resource);
        let engine = self.builder.engine();
        let compiled = match bytes {
            Some(bytes) => progress.step("compile", self.builder.compile(&config, bytes)).await?,
            None => old.pool.prepared().again(),
        };
        let mut found = None;
        let verify = async {
            let prepared = engine.verify(compiled, &context).await?;
            let [(_, dropped), ..] = found.insert(differences(old.pool.prepared(), &prepared));
            if dropped.is_empty() || options.allow_dropped_routes {
                Ok(prepared)
            } else {
                Err(SwapError::DroppedRoutes(dropped.clone()))
            }
        };
        let verified = progress.step("verify", verify).await;
        for (key, names) in found.iter().flatten().filter(|(_, names)| !names.is_empty()) {
            progress.set(key, names.join(", "));
        }
        let prepared = verified?;
        let pool = self.builder.pool(Arc::new(prepared), context);
        let warm = progress.step("warm", pool.warm(WARM_INSTANCES)).await;
        warm.map_err(|failure| SwapError::NoInstance(failure.to_string()))?;
        let candidate = self.builder.generation(slot.next_number(), config, resource, pool);
        progress.step("probe", probe::ask(&self.dispatcher, &self.pipeline, &candidate, old)).await?;
        Ok(Some(candidate))
    }

    fn publish(
        self: &Arc<Self>,
        service: &Arc<Service>,
        slot: &Slot,
        candidate: Arc<Generation>,
        options: &SwapOptions,
        progress: Progress,
    ) -> Swapped {
        let old = service.serving().stable.clone();
        if let Some(share) = options.canary {
            let (began, before) = (SystemTime::now(), old.stats.snapshot());
            let canary = Canary { generation: candidate.clone(), share, began, before };
            let serving = Serving { stable: old, canary: Some(canary) };
            return self.establish(service, slot, serving, &candidate, "swapped", progress);
        }
        slot.keep(old.clone(), self.settings.keep);
        let serving = Serving { stable: candidate.clone(), canary: None };
        let swapped = self.establish(service, slot, serving, &candidate, "swapped", progress);
        self.guard(service.clone(), &old, candidate);
        swapped
    }

    /// Watches a new generation and rolls back if it is clearly worse than the one before.
    fn guard(self: &Arc<Self>, service: Arc<Service>, old: &Generation, new: Arc<Generation>) {
        let (swapper, baseline, window) = (self.clone(), old.stats.snapshot(), self.settings.guard);
        tokio::spawn(async move {
            if let Some(reason) = guard::judge(&service, &new, &baseline, window).await {
                swapper.roll_back_from(&service, &new, &reason).await;
            }
        });
    }

    /// Publishes, updates metrics, log and trace, and drains the generations that no longer serve. `shown` is the
    /// generation that the record names.
    fn establish(
        &self,
        service: &Arc<Service>,
        slot: &Slot,
        serving: Serving,
        shown: &Arc<Generation>,
        outcome: &'static str,
        mut progress: Progress,
    ) -> Swapped {
        let retired = self.replace(service, serving, &mut progress);
        self.builder.metrics().swap(service.name.as_str(), outcome);
        let swapped = Swapped::new(shown, true, progress.timings());
        let took: Duration = swapped.timings.iter().map(|(_, duration)| *duration).sum();
        slot.done(SwapRecord::done(outcome, swapped.generation, &swapped.digest, took));
        progress.succeeded(outcome, &swapped, took);
        progress.drain(retired, self.settings.drain);
        swapped
    }

    /// Publishes the new version with one atomic store. Returns the generations that no longer serve.
    fn replace(&self, service: &Arc<Service>, serving: Serving, progress: &mut Progress) -> Vec<Arc<Generation>> {
        let span = progress.start("publish");
        let before = service.serving();
        let stays = |generation: &Arc<Generation>| {
            Arc::ptr_eq(generation, &serving.stable)
                || serving.canary.as_ref().is_some_and(|canary| Arc::ptr_eq(generation, &canary.generation))
        };
        let mut retired: Vec<_> = before.canary.iter().map(|canary| canary.generation.clone()).collect();
        retired.push(before.stable.clone());
        retired.retain(|generation| !stays(generation));
        service.resource.store(serving.stable.resource.clone());
        service.publish(serving);
        observe::adopt(self.builder.metrics(), service);
        progress.end("publish", span);
        retired
    }

    /// Records in log, metrics and trace that the swap did not happen, and returns the error.
    fn refuse(&self, service: &Service, slot: &Slot, error: SwapError, progress: Progress) -> SwapError {
        let reason = error.to_string();
        let superseded = matches!(error, SwapError::Superseded);
        let outcome = if superseded { "superseded" } else { "refused" };
        self.builder.metrics().swap(service.name.as_str(), outcome);
        let took = progress.timings().iter().map(|(_, duration)| *duration).sum();
        slot.not_done(SwapRecord::not_done(outcome, &reason, took));
        if superseded {
            progress.superseded(&reason)
        } else {
            progress.refused(&reason)
        }
        error
    }

    fn progress(&self, doing: &'static str, service: &Service) -> Progress {
        Progress::new(&self.telemetry, doing, &service.name)
    }

    /// The swap state of a service. A removed service gets an empty one, because a new service may have its name.
    fn slot(&self, service: &Service) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if service.is_removed() {
            return Arc::default();
        }
        slots.entry(service.name.clone()).or_default().clone()
    }
}
