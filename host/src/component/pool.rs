//! The instances of one generation.
//!
//! An instance is taken for one request, or for several where the manifest says so, and given back after it. Instances of a service with `isolation = "request"` are
//! never given back, and neither is one that has served its share, so that a slow leak in a guest cannot grow for ever.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::background::BackgroundWork;
use super::compile::Prepared;
use super::context::ServiceContext;
use super::contract::HttpWorld;
use super::engine::Engine;
use super::failure::Failure;
use super::gauge::Gauge;
use super::guest::lean::LeanInstance;
use super::guest::standard::{GiveBack, HttpHandled, HttpInvocation, Job, Run, SharedInstance, StandardInstance};
use super::guest::{Guest, Linked};
use super::idle::{Idle, IdleInstances};
use super::invocation::{Handled, Invocation};
use crate::config::Isolation;
use crate::metrics::PoolStats;

/// How many requests one lean instance serves before it is replaced, and one of a standard component.
const LEAN_REQUESTS: u32 = 100_000;
const STANDARD_REQUESTS: u32 = 1_000;

/// Makes, keeps and hands out instances of one prepared component.
pub struct Pool {
    prepared: Arc<Prepared>,
    context: Arc<ServiceContext>,
    gauge: Arc<Gauge>,
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

/// The instances of one generation that are of one kind.
pub struct Instances<G: Guest> {
    pre: G::Pre,
    prepared: Arc<Prepared>,
    context: Arc<ServiceContext>,
    gauge: Arc<Gauge>,
    idle: Arc<Idle<G>>,
    host: IdleInstances,
    background: BackgroundWork,
    isolation: Isolation,
    requests: u32,
    /// Instances that serve several requests at once.
    shared: Mutex<Vec<SharedInstance>>,
}

impl Pool {
    /// An empty pool.
    pub fn new(engine: &Engine, prepared: Arc<Prepared>, context: Arc<ServiceContext>) -> Pool {
        let gauge = Arc::<Gauge>::default();
        let parts = (&prepared, &context, &gauge);
        let guests = match &prepared.compiled.linked {
            Linked::Lean(pre) => {
                Guests::Lean(Instances::new(engine, pre.clone(), parts, (Isolation::Instance, LEAN_REQUESTS)))
            }
            Linked::Standard(pre) => {
                // An instance of 0.2 is made for one request, as other hosts do it; one of 0.3 expects more.
                let isolation = match pre.world() {
                    HttpWorld::P2 => Isolation::Request,
                    HttpWorld::P3 => Isolation::Instance,
                };
                Guests::Standard(Instances::new(engine, pre.clone(), parts, (isolation, STANDARD_REQUESTS)))
            }
        };
        Pool { prepared, context, gauge, guests }
    }

    /// The component that the instances are of.
    pub fn prepared(&self) -> &Arc<Prepared> {
        &self.prepared
    }

    /// What the instances run with.
    pub fn context(&self) -> &Arc<ServiceContext> {
        &self.context
    }

    /// The instances.
    pub fn guests(&self) -> &Guests {
        &self.guests
    }

    /// Makes instances ahead of the first requests.
    pub async fn warm(&self, count: usize) -> Result<(), Failure> {
        match &self.guests {
            Guests::Lean(instances) => instances.warm(count).await,
            Guests::Standard(instances) => instances.warm(count).await,
        }
    }

    /// Throws the idle instances away and keeps none from here on, when the generation no longer serves.
    pub fn close(&self) {
        match &self.guests {
            Guests::Lean(instances) => instances.idle.close(),
            Guests::Standard(instances) => instances.idle.close(),
        }
    }

    /// How many instances there are, of a generation that the caller knows.
    pub fn stats(&self) -> PoolStats {
        let idle = match &self.guests {
            Guests::Lean(instances) => instances.idle.len(),
            Guests::Standard(instances) => instances.idle.len(),
        };
        PoolStats {
            live: self.gauge.live.load(Ordering::Relaxed) as u64,
            idle: idle as u64,
            memory_bytes: self.gauge.memory.load(Ordering::Relaxed),
            memory_high_water_bytes: self.gauge.memory_high_water.load(Ordering::Relaxed),
            ..PoolStats::default()
        }
    }
}

impl<G: Guest> Instances<G> {
    fn new(
        engine: &Engine,
        pre: G::Pre,
        (prepared, context, gauge): (&Arc<Prepared>, &Arc<ServiceContext>, &Arc<Gauge>),
        (isolation, requests): (Isolation, u32),
    ) -> Instances<G> {
        let idle = Arc::default();
        engine.idle.add(G::engine(&pre), &idle);
        Instances {
            pre,
            prepared: prepared.clone(),
            context: context.clone(),
            gauge: gauge.clone(),
            idle,
            host: engine.idle.clone(),
            background: engine.background.clone(),
            isolation: context.isolation.unwrap_or(isolation),
            requests: context.requests_per_instance.unwrap_or(requests),
            shared: Mutex::default(),
        }
    }

    /// Makes instances ahead of the first requests. Where no request takes an idle one, this only shows that one can be
    /// made.
    async fn warm(&self, count: usize) -> Result<(), Failure> {
        for _ in 0..count {
            let instance = self.instantiate().await?;
            if self.isolation == Isolation::Instance {
                self.idle.keep(instance);
            }
        }
        Ok(())
    }

    async fn take(&self) -> Result<G, Failure> {
        let warm = match self.isolation {
            Isolation::Instance => self.idle.take(),
            Isolation::Request => None,
        };
        if let Some(instance) = warm {
            self.context.metrics.pool_wait(Duration::ZERO);
            return Ok(instance);
        }
        let began = Instant::now();
        let made = self.instantiate().await;
        self.context.metrics.pool_wait(began.elapsed());
        made
    }

    /// Makes an instance, if need be in the slot of one that is idle somewhere.
    async fn instantiate(&self) -> Result<G, Failure> {
        let symbolizer = &self.prepared.compiled.symbolizer;
        loop {
            let made = G::instantiate((&self.pre, symbolizer), &self.context, self.gauge.clone()).await;
            match made {
                Ok(instance) => {
                    self.context.metrics.instantiated();
                    return Ok(instance);
                }
                Err(error)
                    if error.is::<wasmtime::PoolConcurrencyLimitError>() && self.host.reclaim(G::engine(&self.pre)) => {
                }
                Err(error) => return Err(Failure::Saturated(error.root_cause().to_string())),
            }
        }
    }

    fn is_worth_keeping(&self, instance: &G) -> bool {
        self.isolation == Isolation::Instance && instance.is_healthy() && instance.served() < self.requests
    }
}

impl LeanPool {
    /// Answers one request. When the caller gives up and drops the future, the instance goes with it.
    pub async fn handle(&self, invocation: Invocation) -> Handled {
        let mut instance = match self.take().await {
            Ok(instance) => instance,
            Err(failure) => return Handled::without_instance(invocation, failure),
        };
        let handled = instance.handle(invocation).await;
        if self.is_worth_keeping(&instance) {
            self.idle.keep(instance);
        }
        handled
    }
}

impl StandardPool {
    /// Answers one request. When the caller gives up before there is an answer and drops the future, the instance goes
    /// with it; later, the guest is told that nobody reads its body.
    pub async fn handle(&self, invocation: HttpInvocation) -> HttpHandled {
        if self.context.concurrency_per_instance > 1 {
            return self.handle_in_company(invocation).await;
        }
        let instance = match self.take().await {
            Ok(instance) => instance,
            Err(failure) => return HttpHandled { result: Err(failure), run: Arc::new(Run::default()) },
        };
        instance.handle(invocation, self.give_back(), &self.background).await
    }

    /// Answers one request in an instance that serves others as well, if there is one with a place.
    async fn handle_in_company(&self, invocation: HttpInvocation) -> HttpHandled {
        let limit = self.context.limits.request_timeout;
        let (job, waiter) = Job::new(invocation);
        let job = match self.join(job) {
            Ok(shared) => {
                self.context.metrics.pool_wait(Duration::ZERO);
                return shared.answer(waiter, limit).await;
            }
            Err(job) => job,
        };
        let instance = match self.take().await {
            Ok(instance) => instance,
            Err(failure) => return HttpHandled { result: Err(failure), run: Arc::new(Run::default()) },
        };
        let most = (self.context.concurrency_per_instance, self.requests);
        let shared = SharedInstance::start(instance, job, most, self.give_back(), &self.background);
        self.offer(shared.clone());
        shared.answer(waiter, limit).await
    }

    /// Lets other requests join an instance.
    fn offer(&self, shared: SharedInstance) {
        let mut all = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(SharedInstance::is_serving);
        all.push(shared);
    }

    fn join(&self, mut job: Job) -> Result<SharedInstance, Job> {
        for shared in self.shared.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            match shared.join(job) {
                Ok(()) => return Ok(shared.clone()),
                Err(back) => job = back,
            }
        }
        Err(job)
    }

    fn give_back(&self) -> GiveBack {
        let (isolation, requests, idle) = (self.isolation, self.requests, Arc::downgrade(&self.idle));
        Box::new(move |instance| {
            let keeps = isolation == Isolation::Instance && instance.served() < requests && instance.is_healthy();
            if let Some(idle) = idle.upgrade().filter(|_| keeps) {
                idle.keep(instance);
            }
        })
    }
}
