//! The instances of one generation.
//!
//! A request takes an instance and returns it afterwards; several requests share an instance if the manifest says so.
//! Instances of a service with `isolation = "request"` are never returned, and an instance that has served its maximum
//! number of requests is replaced, so that a slow memory leak in a guest stays bounded.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::background::BackgroundWork;
use super::compile::Prepared;
use super::context::ServiceContext;
use super::engine::Engine;
use super::failure::Failure;
use super::guest::lean::LeanInstance;
use super::guest::standard::{GuestExecution, HttpInvocation, HttpOutcome, Job, SharedInstance, StandardInstance};
use super::guest::{Guest, Linked, StartFailure};
use super::guest_output::OutputLines;
use super::idle::{Idle, IdleInstances};
use super::instance_counts::InstanceCounts;
use super::instantiate::instantiate;
use super::invocation::{Invocation, InvocationOutcome};
use crate::config::Isolation;
use crate::metrics::PoolStats;
use crate::trace::SharedRecorder;

/// How many requests one instance serves before it is replaced: of a lean component, and of a standard one.
const LEAN_MAX_REQUESTS: u32 = 100_000;
const STANDARD_MAX_REQUESTS: u32 = 1_000;
/// Among how many shared instances one that the current thread ran last is looked for.
const SEARCHED: usize = 16;

/// Creates, keeps and hands out instances of one prepared component.
pub struct Pool {
    prepared: Arc<Prepared>,
    context: Arc<ServiceContext>,
    counts: Arc<InstanceCounts>,
    guests: Guests,
}

/// The instances, by the kind of guest.
pub enum Guests {
    /// Of a component that exports `spandrel:service/handler`.
    Lean(LeanPool),
    /// Of a component that exports a `wasi:http` handler.
    Standard(StandardPool),
}

/// Instances of a lean component.
pub type LeanPool = Instances<LeanInstance>;
/// Instances of a standard component.
pub type StandardPool = Instances<StandardInstance>;

/// The instances of one generation, all of one kind.
pub struct Instances<G: Guest> {
    pre: G::Pre,
    prepared: Arc<Prepared>,
    context: Arc<ServiceContext>,
    counts: Arc<InstanceCounts>,
    idle: Arc<Idle<G>>,
    idle_instances: IdleInstances,
    return_to_pool: Arc<dyn Fn(G) + Send + Sync>,
    background: BackgroundWork,
    isolation: Isolation,
    requests: u32,
    /// Instances that serve several requests concurrently.
    shared: Mutex<Vec<SharedInstance>>,
}

impl Pool {
    /// An empty pool.
    pub fn new(engine: &Engine, prepared: Arc<Prepared>, context: Arc<ServiceContext>) -> Pool {
        let counts = Arc::<InstanceCounts>::default();
        let parts = (&prepared, &context, &counts);
        let guests = match &prepared.compiled.linked {
            Linked::Lean(pre) => {
                Guests::Lean(Instances::new(engine, pre.clone(), parts, (Isolation::Instance, LEAN_MAX_REQUESTS)))
            }
            Linked::Standard(pre) => {
                let isolation = pre.world().isolation();
                Guests::Standard(Instances::new(engine, pre.clone(), parts, (isolation, STANDARD_MAX_REQUESTS)))
            }
        };
        Pool { prepared, context, counts, guests }
    }

    /// The component that is instantiated.
    pub fn prepared(&self) -> &Arc<Prepared> {
        &self.prepared
    }

    /// The configuration and resources of the instances.
    pub fn context(&self) -> &Arc<ServiceContext> {
        &self.context
    }

    /// The instances.
    pub fn guests(&self) -> &Guests {
        &self.guests
    }

    /// Creates instances before the first request.
    pub async fn warm(&self, count: usize) -> Result<(), Failure> {
        match &self.guests {
            Guests::Lean(instances) => instances.warm(count).await,
            Guests::Standard(instances) => instances.warm(count).await,
        }
    }

    /// Drops the idle instances and keeps none afterwards. Called when the generation no longer serves.
    pub fn close(&self) {
        match &self.guests {
            Guests::Lean(instances) => instances.idle.close(),
            Guests::Standard(instances) => instances.idle.close(),
        }
    }

    /// The number of instances and their memory. The caller adds the generation.
    pub fn stats(&self) -> PoolStats {
        let idle = match &self.guests {
            Guests::Lean(instances) => instances.idle.len(),
            Guests::Standard(instances) => instances.idle.len(),
        };
        PoolStats {
            live: self.counts.live.load(Ordering::Relaxed) as u64,
            idle: idle as u64,
            memory_bytes: self.counts.memory.load(Ordering::Relaxed),
            memory_high_water_bytes: self.counts.memory_high_water.load(Ordering::Relaxed),
            ..PoolStats::default()
        }
    }
}

impl<G: Guest> Instances<G> {
    fn new(
        engine: &Engine,
        pre: G::Pre,
        (prepared, context, counts): (&Arc<Prepared>, &Arc<ServiceContext>, &Arc<InstanceCounts>),
        (isolation, requests): (Isolation, u32),
    ) -> Instances<G> {
        let idle = Arc::<Idle<G>>::default();
        engine.idle.add(&prepared.compiled.capacity, &idle);
        let isolation = context.isolation.unwrap_or(isolation);
        let requests = context.requests_per_instance.unwrap_or(requests);
        let returned = idle.clone();
        let return_to_pool = move |instance: G| {
            if isolation == Isolation::Instance && instance.is_healthy() && instance.served() < requests {
                returned.put(instance);
            }
        };
        Instances {
            pre,
            prepared: prepared.clone(),
            context: context.clone(),
            counts: counts.clone(),
            idle,
            idle_instances: engine.idle.clone(),
            background: engine.background.clone(),
            return_to_pool: Arc::new(return_to_pool),
            isolation,
            requests,
            shared: Mutex::default(),
        }
    }

    /// Creates instances before the first request. With `isolation = "request"`, which never uses idle instances, it
    /// only verifies that an instance can be created.
    async fn warm(&self, count: usize) -> Result<(), Failure> {
        for _ in 0..count {
            let made = self.instantiate().await;
            let instance = made.map_err(|missing| missing.into_logged_failure(&self.context.name))?;
            if self.isolation == Isolation::Instance {
                self.idle.put(instance);
            }
        }
        Ok(())
    }

    async fn take(&self) -> Result<G, MissingInstance> {
        let warm = match self.isolation {
            Isolation::Instance => self.idle.take(),
            Isolation::Request => None,
        };
        if let Some(instance) = warm {
            self.context.metrics.record_pool_wait(Duration::ZERO);
            return Ok(instance);
        }
        let began = Instant::now();
        let made = self.instantiate().await;
        self.context.metrics.record_pool_wait(began.elapsed());
        made
    }

    /// Creates an instance. If no capacity is left, it evicts an idle instance of any service first.
    async fn instantiate(&self) -> Result<G, MissingInstance> {
        let made_from = (&self.pre, &*self.prepared.compiled);
        match instantiate(made_from, &self.context, &self.counts, &self.idle_instances).await {
            Ok(instance) => {
                self.context.metrics.count_instantiation();
                Ok(instance)
            }
            Err(StartFailure { error, output, .. }) => {
                let failure = Failure::Saturated(error.root_cause().to_string());
                Err(MissingInstance { failure, output })
            }
        }
    }
}

/// Why there is no instance for a request, and what the guest printed before.
struct MissingInstance {
    failure: Failure,
    output: OutputLines,
}

impl MissingInstance {
    fn into_logged_failure(self, service: &str) -> Failure {
        self.output.log_to_host(service);
        self.failure
    }

    fn into_outcome(self, recorder: &SharedRecorder) -> HttpOutcome {
        recorder.with(|recorder| self.output.log(recorder));
        HttpOutcome { result: Err(self.failure), execution: Arc::new(GuestExecution::default()) }
    }
}

impl LeanPool {
    /// Serves one request. If the caller drops the future, the instance is dropped too.
    pub async fn handle(&self, invocation: Invocation) -> InvocationOutcome {
        let mut instance = match self.take().await {
            Ok(instance) => instance,
            Err(MissingInstance { failure, output }) => {
                return InvocationOutcome::without_instance(invocation, failure, output);
            }
        };
        let handled = instance.handle(invocation).await;
        (self.return_to_pool)(instance);
        handled
    }
}

impl StandardPool {
    /// Serves one request. If the caller drops the future before there is a response, the instance is dropped too;
    /// afterwards, dropping the body tells the guest that its body has no reader.
    pub async fn handle(&self, invocation: HttpInvocation) -> HttpOutcome {
        if self.context.concurrency_per_instance > 1 {
            return self.handle_shared(invocation).await;
        }
        let instance = match self.take().await {
            Ok(instance) => instance,
            Err(missing) => return missing.into_outcome(&invocation.recorder),
        };
        instance.handle(invocation, self.return_to_pool.clone(), &self.background).await
    }

    /// Serves one request in a shared instance: in a running one that can accept it, otherwise in a new one.
    async fn handle_shared(&self, invocation: HttpInvocation) -> HttpOutcome {
        let limits = (self.context.limits.request_timeout, self.context.limits.response_body);
        let (job, pending) = Job::new(invocation);
        let job = match self.join(job) {
            Ok(shared) => {
                self.context.metrics.record_pool_wait(Duration::ZERO);
                return shared.answer(pending, limits).await;
            }
            Err(job) => job,
        };
        let instance = match self.take().await {
            Ok(instance) => instance,
            Err(missing) => return missing.into_outcome(job.recorder()),
        };
        let most = (self.context.concurrency_per_instance, self.requests);
        let shared = SharedInstance::start(instance, job, most, self.return_to_pool.clone(), &self.background).await;
        if shared.is_serving() {
            self.add_shared(shared.clone());
        }
        shared.answer(pending, limits).await
    }

    /// Makes an instance available to other requests.
    fn add_shared(&self, shared: SharedInstance) {
        let mut all = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(SharedInstance::is_serving);
        all.push(shared);
    }

    /// Adds a request to a running instance: preferably to one that this thread ran last, because its memory is in the
    /// caches of this core.
    fn join(&self, mut job: Job) -> Result<SharedInstance, Job> {
        let all = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        for (thread, searched) in [(Some(thread::current().id()), SEARCHED), (None, all.len())] {
            for shared in all.iter().take(searched) {
                match shared.join(job, thread) {
                    Ok(()) => return Ok(shared.clone()),
                    Err(back) => job = back,
                }
            }
        }
        Err(job)
    }
}
