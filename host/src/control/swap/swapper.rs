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
use super::swap_state::{BusyGuard, SwapState};
use super::{guard, probe};
use crate::component::Digest;
use crate::config::{ServiceConfig, ServiceName, SwapConfig};
use crate::control::drains::Drains;
use crate::control::{component_file, observe};
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
    states: Mutex<BTreeMap<ServiceName, Arc<SwapState>>>,
    /// The drains of the host, to which those of replaced generations are added.
    drains: Arc<Drains>,
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
        let (states, drains, stopped) = (Mutex::default(), Arc::default(), AtomicBool::new(false));
        Arc::new(Swapper { builder, dispatcher, pipeline, telemetry, settings, states, drains, stopped })
    }

    /// Replaces the version of a service, or returns why not. The new version runs under the manifest's configuration
    /// at the time when the swap starts. On return it serves; the old one may still be draining.
    pub async fn swap(
        self: &Arc<Self>,
        service: &Arc<Service>,
        component: ComponentSource,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        let state = self.state(service);
        let ticket = state.supersede();
        let _guard = state.swap_lock.lock().await;
        let mut busy = None;
        let mut progress = self.progress("swap", service);
        let candidate = tokio::select! {
            biased;
            () = state.superseded(ticket) => Err(SwapError::Superseded),
            candidate = self.build_candidate(service, (&state, &mut busy), component, &options, &mut progress) => candidate,
        };
        match candidate {
            _ if service.is_removed() => Err(self.reject(service, &state, SwapError::Removed, progress)),
            _ if state.is_closed() => Err(self.reject(service, &state, SwapError::Stopping, progress)),
            Ok(Some(candidate)) => Ok(self.publish(service, &state, candidate, &options, progress)),
            Ok(None) => {
                tracing::debug!(service = %service.name, "the component already serves: nothing to swap");
                Ok(Swapped::new(&service.serving().stable, false, Vec::new()))
            }
            Err(error) => Err(self.reject(service, &state, error, progress)),
        }
    }

    /// Rolls back to the previous generation. A running swap is cancelled.
    pub async fn rollback(&self, service: &Arc<Service>) -> Result<Swapped, SwapError> {
        let state = self.state(service);
        state.supersede();
        let _guard = state.swap_lock.lock().await;
        self.restore_earlier(service, &state).await
    }

    /// Rolls back because the guard found `new` clearly worse, unless another generation serves by then.
    async fn roll_back_regression(&self, service: &Arc<Service>, new: &Arc<Generation>, reason: &str) {
        let state = self.state(service);
        let _guard = state.swap_lock.lock().await;
        if !Arc::ptr_eq(&service.serving().stable, new) {
            return;
        }
        let number = new.number;
        let message = format!("generation {number} was rolled back: {reason}");
        // Set first: a status that shows the earlier generation also shows why.
        state.set_last_error(message.clone());
        if self.restore_earlier(service, &state).await.is_err() {
            return;
        }
        tracing::warn!(service = %service.name, generation = number, reason, "rolled back by the guard");
        state.set_reason(&message);
    }

    /// Serves with the previous generation, with new instances: its old ones are gone or draining.
    async fn restore_earlier(&self, service: &Arc<Service>, state: &SwapState) -> Result<Swapped, SwapError> {
        let mut progress = self.progress("rollback", service);
        let current = service.serving().stable.clone();
        let Some(earlier) = state.take_earlier(current.number) else {
            return Err(self.reject(service, state, SwapError::NoEarlierGeneration, progress));
        };
        let pool = self.builder.pool(earlier.pool.prepared().clone(), earlier.pool.context().clone());
        // If no instances can be created now, the pool creates them when requests arrive.
        progress.step("warm", pool.warm(WARM_INSTANCES)).await.ok();
        let config = earlier.config.clone();
        let earlier = self.builder.generation(earlier.number, config, earlier.resource.clone(), pool);
        let serving = Serving { stable: earlier.clone(), canary: None };
        Ok(self.switch_to(service, state, serving, &earlier, "rolled_back", progress))
    }

    /// Promotes the canary: it serves all requests.
    pub async fn promote(&self, service: &Arc<Service>) -> Result<Swapped, SwapError> {
        let state = self.state(service);
        let _guard = state.swap_lock.lock().await;
        let (serving, progress) = (service.serving(), self.progress("promote", service));
        let Some(Canary { generation: canary, .. }) = serving.canary.clone() else {
            return Err(self.reject(service, &state, SwapError::NoCanary, progress));
        };
        state.keep_for_rollback(serving.stable.clone(), self.settings.keep);
        let promoted = Serving { stable: canary.clone(), canary: None };
        Ok(self.switch_to(service, &state, promoted, &canary, "promoted", progress))
    }

    /// Aborts the canary: the stable version serves all requests.
    pub async fn abort(&self, service: &Arc<Service>) -> Result<Swapped, SwapError> {
        let state = self.state(service);
        let _guard = state.swap_lock.lock().await;
        let (serving, progress) = (service.serving(), self.progress("abort", service));
        if serving.canary.is_none() {
            return Err(self.reject(service, &state, SwapError::NoCanary, progress));
        }
        let stable = Serving { stable: serving.stable.clone(), canary: None };
        Ok(self.switch_to(service, &state, stable, &serving.stable, "aborted", progress))
    }

    /// The report of a service for `spandrel status` and the admin API.
    pub fn report(&self, service: &Service) -> ServiceReport {
        report::service_report(service, &self.state(service), || self.builder.compiling().has(&service.name))
    }

    /// Removes the state of a removed service and cancels its swap.
    pub fn forget(&self, name: &ServiceName) {
        if let Some(state) = self.states.lock().unwrap_or_else(PoisonError::into_inner).remove(name) {
            state.close();
        }
    }

    /// Cancels all swaps, because the host stops.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.states.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|state| state.close());
    }

    /// Waits until the swaps cancelled by [`Swapper::stop`] have ended.
    pub async fn stopped(&self) {
        let states: Vec<_> = self.states.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for state in states {
            drop(state.swap_lock.lock().await);
        }
    }

    /// The drains of the host.
    pub(in crate::control) fn drains(&self) -> &Arc<Drains> {
        &self.drains
    }

    /// Whether the host is stopping.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Waits for the running swap of a service and for those that are queued now.
    pub async fn wait_for_swaps(&self, service: &Service) {
        drop(self.state(service).swap_lock.lock().await);
    }

    /// Records the failure of a swap that could not record it itself.
    pub fn record_failure(&self, service: &Service, reason: &str) {
        self.state(service).record_failure(SwapRecord::failed("refused", reason, Duration::ZERO));
        self.builder.metrics().count_swap(service.name.as_str(), "refused");
        self.progress("swap", service).refused(reason);
    }

    /// All steps before publication. Returns the candidate, or `None` if nothing would change. Otherwise the service is
    /// marked as busy by then.
    async fn build_candidate<'a>(
        &self,
        service: &Arc<Service>,
        (state, busy): (&'a SwapState, &mut Option<BusyGuard<'a>>),
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
        *busy = Some(state.busy());
        let resource = self.builder.next_resource(&config, &old.resource);
        let context = self.builder.context(&config, &resource);
        let engine = self.builder.engine();
        let compiled = match bytes {
            Some(bytes) => progress.step("compile", self.builder.compile(&config, bytes)).await?,
            None => old.pool.prepared().to_candidate(),
        };
        let mut differing = None;
        let verify = async {
            let prepared = engine.verify(compiled, &context).await?;
            let [(_, dropped), ..] = differing.insert(differences(old.pool.prepared(), &prepared));
            if dropped.is_empty() || options.allow_dropped_routes {
                Ok(prepared)
            } else {
                Err(SwapError::DroppedRoutes(dropped.clone()))
            }
        };
        let verified = progress.step("verify", verify).await;
        for (key, names) in differing.iter().flatten().filter(|(_, names)| !names.is_empty()) {
            progress.set(key, names.join(", "));
        }
        let prepared = verified?;
        let pool = self.builder.pool(Arc::new(prepared), context);
        let warm = progress.step("warm", pool.warm(WARM_INSTANCES)).await;
        warm.map_err(|failure| SwapError::NoInstance(failure.to_string()))?;
        let candidate = self.builder.generation(state.next_generation(), config, resource, pool);
        progress.step("probe", probe::probe(&self.dispatcher, &self.pipeline, &candidate, old)).await?;
        Ok(Some(candidate))
    }

    fn publish(
        self: &Arc<Self>,
        service: &Arc<Service>,
        state: &SwapState,
        candidate: Arc<Generation>,
        options: &SwapOptions,
        progress: Progress,
    ) -> Swapped {
        let old = service.serving().stable.clone();
        if let Some(share) = options.canary {
            let (began, before) = (SystemTime::now(), old.stats.snapshot());
            let canary = Canary { generation: candidate.clone(), share, began, before };
            let serving = Serving { stable: old, canary: Some(canary) };
            return self.switch_to(service, state, serving, &candidate, "canary_started", progress);
        }
        state.keep_for_rollback(old.clone(), self.settings.keep);
        let serving = Serving { stable: candidate.clone(), canary: None };
        let swapped = self.switch_to(service, state, serving, &candidate, "swapped", progress);
        self.guard(service.clone(), &old, candidate);
        swapped
    }

    /// Watches a new generation and rolls back if it is clearly worse than the one before.
    fn guard(self: &Arc<Self>, service: Arc<Service>, old: &Generation, new: Arc<Generation>) {
        let (swapper, baseline, window) = (self.clone(), old.stats.snapshot(), self.settings.guard);
        tokio::spawn(async move {
            if let Some(reason) = guard::find_regression(&service, &new, &baseline, window).await {
                swapper.roll_back_regression(&service, &new, &reason).await;
            }
        });
    }

    /// Publishes, updates metrics, log and trace, and drains the generations that no longer serve. `shown` is the
    /// generation that the record names.
    fn switch_to(
        &self,
        service: &Arc<Service>,
        state: &SwapState,
        serving: Serving,
        shown: &Arc<Generation>,
        outcome: &'static str,
        mut progress: Progress,
    ) -> Swapped {
        // Counted first: the metrics of a generation that serves include its swap.
        self.builder.metrics().count_swap(service.name.as_str(), outcome);
        let (retired, swapped, took) = state.complete(|| {
            let retired = self.store_serving(service, serving, &mut progress);
            let swapped = Swapped::new(shown, true, progress.timings());
            let took: Duration = swapped.timings.iter().map(|(_, duration)| *duration).sum();
            let record = SwapRecord::succeeded(outcome, swapped.generation, &swapped.digest, took);
            (record, (retired, swapped, took))
        });
        progress.succeeded(outcome, &swapped, took);
        progress.drain(retired, self.settings.drain, &self.drains);
        swapped
    }

    /// Publishes the new version with one atomic store. Returns the generations that no longer serve.
    fn store_serving(&self, service: &Arc<Service>, serving: Serving, progress: &mut Progress) -> Vec<Arc<Generation>> {
        let span = progress.start("publish");
        let before = service.serving();
        let still_serves = |generation: &Arc<Generation>| {
            Arc::ptr_eq(generation, &serving.stable)
                || serving.canary.as_ref().is_some_and(|canary| Arc::ptr_eq(generation, &canary.generation))
        };
        let mut retired: Vec<_> = before.canary.iter().map(|canary| canary.generation.clone()).collect();
        retired.push(before.stable.clone());
        retired.retain(|generation| !still_serves(generation));
        service.resource.store(serving.stable.resource.clone());
        service.publish(serving);
        observe::observe_service(self.builder.metrics(), service);
        progress.end("publish", span);
        retired
    }

    /// Records in log, metrics and trace that the swap did not happen, and returns the error.
    fn reject(&self, service: &Service, state: &SwapState, error: SwapError, progress: Progress) -> SwapError {
        let reason = error.to_string();
        let superseded = matches!(error, SwapError::Superseded);
        let outcome = if superseded { "superseded" } else { "refused" };
        self.builder.metrics().count_swap(service.name.as_str(), outcome);
        let took = progress.timings().iter().map(|(_, duration)| *duration).sum();
        state.end_failed(SwapRecord::failed(outcome, &reason, took));
        if superseded {
            progress.superseded(&reason)
        } else {
            progress.refused(&reason)
        }
        error
    }

    fn progress(&self, name: &'static str, service: &Service) -> Progress {
        Progress::new(&self.telemetry, name, &service.name)
    }

    /// The swap state of a service. A removed service gets an empty one, because a new service may have its name.
    fn state(&self, service: &Service) -> Arc<SwapState> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if service.is_removed() {
            return Arc::default();
        }
        states.entry(service.name.clone()).or_default().clone()
    }
}
