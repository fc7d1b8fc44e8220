//! The warm instances of one generation.
//!
//! An instance is taken for one request and given back after it. The one given back last is taken first: its memory is
//! still in the caches. Instances of a service with `isolation = "request"` are never given back, and neither is one
//! that has served its share, so that a slow leak in a guest cannot grow for ever.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::compile::Prepared;
use super::engine::Engine;
use super::failure::Failure;
use super::instance::{Environment, Handled, Instance, Invocation};
use crate::config::Isolation;

/// How many requests one instance serves before it is replaced.
const REQUESTS_PER_INSTANCE: u32 = 100_000;
/// How many idle instances are kept. More come and go with the load.
const IDLE: usize = 256;

/// Figures about a pool, read by metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Instances that exist, busy ones included.
    pub live: usize,
    /// Instances that wait for a request.
    pub idle: usize,
    /// The linear memory of all instances, in bytes.
    pub memory: u64,
    /// The most linear memory that one instance ever had, in bytes.
    pub memory_high_water: u64,
}

/// Makes, keeps and hands out instances of one prepared component.
pub struct Pool {
    engine: Engine,
    prepared: Arc<Prepared>,
    environment: Arc<Environment>,
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

/// Counts the instances of one pool, those that are out included. Each instance keeps it true by itself.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    pub live: AtomicUsize,
    pub memory: AtomicU64,
    pub memory_high_water: AtomicU64,
}

impl Pool {
    /// An empty pool.
    pub fn new(engine: Engine, prepared: Arc<Prepared>, environment: Arc<Environment>) -> Pool {
        Pool { engine, prepared, environment, idle: Mutex::default(), gauge: Arc::default() }
    }

    /// The component that the instances are of.
    pub fn prepared(&self) -> &Arc<Prepared> {
        &self.prepared
    }

    /// What the instances run with.
    pub fn environment(&self) -> &Arc<Environment> {
        &self.environment
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
        let warm = match self.environment.isolation {
            Isolation::Instance => self.lock().instances.pop(),
            Isolation::Request => None,
        };
        let mut instance = match warm {
            Some(instance) => {
                self.environment.metrics.pool_wait(Duration::ZERO);
                instance
            }
            None => {
                let began = Instant::now();
                let made = self.instantiate().await;
                self.environment.metrics.pool_wait(began.elapsed());
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
            &self.engine,
            (&self.prepared.pre, &self.prepared.symbols),
            &self.environment,
            self.gauge.clone(),
        )
        .await;
        let instance = made.map_err(|error| Failure::Saturated(error.root_cause().to_string()))?;
        self.environment.metrics.instantiated();
        Ok(instance)
    }

    fn give_back(&self, instance: Instance) {
        let keep = self.environment.isolation == Isolation::Instance
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
