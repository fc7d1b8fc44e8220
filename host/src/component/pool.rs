//! The warm instances of one generation.
//!
//! An instance is taken for one request and given back after it. The one given back last is taken first: its memory is
//! still in the caches. Instances of a service with `isolation = "request"` are never given back, and neither is one
//! that has served its share, so that a slow leak in a guest cannot grow for ever.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::compile::Prepared;
use super::context::ServiceContext;
use super::engine::Engine;
use super::failure::Failure;
use super::gauge::{Gauge, PoolStats};
use super::guest::Instance;
use super::invocation::{Handled, Invocation};
use crate::config::Isolation;

/// How many requests one instance serves before it is replaced.
const REQUESTS_PER_INSTANCE: u32 = 100_000;
/// How many idle instances are kept. More come and go with the load.
const IDLE: usize = 256;

/// Makes, keeps and hands out instances of one prepared component.
pub struct Pool {
    engine: Engine,
    prepared: Arc<Prepared>,
    context: Arc<ServiceContext>,
    idle: Mutex<Idle>,
    gauge: Arc<Gauge>,
}

/// The instances that wait for a request.
#[derive(Default)]
struct Idle {
    instances: Vec<Instance>,
    /// Nothing is kept any more: the generation no longer serves.
    closed: bool,
}

impl Pool {
    /// An empty pool.
    pub fn new(engine: Engine, prepared: Arc<Prepared>, context: Arc<ServiceContext>) -> Pool {
        Pool { engine, prepared, context, idle: Mutex::default(), gauge: Arc::default() }
    }

    /// The component that the instances are of.
    pub fn prepared(&self) -> &Arc<Prepared> {
        &self.prepared
    }

    /// What the instances run with.
    pub fn context(&self) -> &Arc<ServiceContext> {
        &self.context
    }

    /// Makes instances ahead of the first requests.
    pub async fn warm(&self, count: usize) -> Result<(), Failure> {
        for _ in 0..count {
            let instance = self.instantiate().await?;
            self.lock().instances.push(instance);
        }
        Ok(())
    }

    /// Answers one request. When the caller gives up and drops the future, the instance goes with it.
    pub async fn handle(&self, invocation: Invocation) -> Handled {
        let warm = match self.context.isolation {
            Isolation::Instance => self.lock().instances.pop(),
            Isolation::Request => None,
        };
        let mut instance = match warm {
            Some(instance) => {
                self.context.metrics.pool_wait(Duration::ZERO);
                instance
            }
            None => {
                let began = Instant::now();
                let made = self.instantiate().await;
                self.context.metrics.pool_wait(began.elapsed());
                match made {
                    Ok(instance) => instance,
                    Err(failure) => return Handled::without_instance(invocation, failure),
                }
            }
        };
        let handled = instance.handle(invocation).await;
        self.give_back(instance);
        handled
    }

    /// Throws the idle instances away and keeps none from here on, when the generation no longer serves.
    pub fn close(&self) {
        let idle = std::mem::replace(&mut *self.lock(), Idle { instances: Vec::new(), closed: true });
        drop(idle);
    }

    /// How many instances there are.
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            live: self.gauge.live.load(Ordering::Relaxed),
            idle: self.lock().instances.len(),
            memory: self.gauge.memory.load(Ordering::Relaxed),
            memory_high_water: self.gauge.memory_high_water.load(Ordering::Relaxed),
        }
    }

    async fn instantiate(&self) -> Result<Instance, Failure> {
        let made = Instance::new(
            &self.engine.engine,
            (&self.prepared.linked, &self.prepared.symbolizer),
            &self.context,
            self.gauge.clone(),
        )
        .await;
        let instance = made.map_err(|error| Failure::Saturated(error.root_cause().to_string()))?;
        self.context.metrics.instantiated();
        Ok(instance)
    }

    fn give_back(&self, instance: Instance) {
        let keep = self.context.isolation == Isolation::Instance
            && instance.is_healthy()
            && instance.served() < REQUESTS_PER_INSTANCE;
        let mut idle = self.lock();
        if keep && !idle.closed && idle.instances.len() < IDLE {
            idle.instances.push(instance);
            return;
        }
        // An instance takes a while to take down, and others need the lock.
        drop(idle);
        drop(instance);
    }

    /// A list of instances is as good after a panic as before it.
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
