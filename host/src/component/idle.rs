//! Idle instances, and the eviction that frees their capacity.
//!
//! The instance that was returned last is reused first, because its memory is still in the CPU caches: preferably one
//! that was returned by the same thread, because its memory is in the caches of that core. Instances that were idle for
//! a minute are dropped, so that a burst does not occupy slots forever. If the host has no capacity left,
//! the instance that has been idle for longest, in any pool, is evicted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::capacity::Capacity;

/// The most idle instances of one pool.
const MAX_IDLE: usize = 256;
/// How long an instance may be idle before it is dropped.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Among how many of the instances returned last one of the same thread is looked for.
const SEARCHED: usize = 32;
/// How often expired instances are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The idle instances of one pool.
pub(super) struct Idle<I>(Mutex<List<I>>);

struct List<I> {
    /// In the order in which they were returned, oldest first.
    instances: VecDeque<IdleInstance<I>>,
    /// The generation no longer serves; no instance is kept.
    closed: bool,
}

struct IdleInstance<I> {
    instance: I,
    since: Instant,
    /// The thread that returned it.
    thread: ThreadId,
}

impl<I> IdleInstance<I> {
    fn new(instance: I) -> IdleInstance<I> {
        IdleInstance { instance, since: Instant::now(), thread: thread::current().id() }
    }
}

impl<I> Default for Idle<I> {
    fn default() -> Idle<I> {
        Idle(Mutex::new(List { instances: VecDeque::new(), closed: false }))
    }
}

impl<I> Idle<I> {
    /// Takes the instance that this thread returned last, or else the one that any thread returned last.
    pub fn take(&self) -> Option<I> {
        let thread = thread::current().id();
        let instances = &mut self.lock().instances;
        let last = instances.len().checked_sub(1)?;
        let same = instances.iter().rev().take(SEARCHED).position(|idle| idle.thread == thread);
        instances.remove(last - same.unwrap_or(0)).map(|idle| idle.instance)
    }

    /// Keeps an instance, unless the pool is closed or full.
    pub fn put(&self, instance: I) {
        let instance = IdleInstance::new(instance);
        let mut list = self.lock();
        if !list.closed && list.instances.len() < MAX_IDLE {
            list.instances.push_back(instance);
            return;
        }
        // Dropping an instance takes a while, and others need the lock.
        drop(list);
        drop(instance);
    }

    /// Drops all instances and keeps none afterwards.
    pub fn close(&self) {
        let list = std::mem::replace(&mut *self.lock(), List { instances: VecDeque::new(), closed: true });
        drop(list);
    }

    pub fn len(&self) -> usize {
        self.lock().instances.len()
    }

    /// A panic leaves the list valid, so a poisoned lock is ignored.
    fn lock(&self) -> MutexGuard<'_, List<I>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The idle instances of one pool, of any kind.
trait Evict: Send + Sync {
    /// When the instance that has been idle for longest was returned.
    fn oldest(&self) -> Option<Instant>;

    /// Drops up to `most` of the instances that were returned at `limit` or before. Returns how many.
    fn evict(&self, limit: Instant, most: usize) -> usize;
}

impl<I: Send> Evict for Idle<I> {
    fn oldest(&self) -> Option<Instant> {
        self.lock().instances.front().map(|idle| idle.since)
    }

    fn evict(&self, limit: Instant, most: usize) -> usize {
        let mut list = self.lock();
        let count = list.instances.iter().take(most).take_while(|idle| idle.since <= limit).count();
        let evicted: Vec<_> = list.instances.drain(..count).collect();
        drop(list);
        evicted.len()
    }
}

/// The idle instances of all pools of the host.
#[derive(Clone, Default)]
pub(super) struct IdleInstances(Arc<Mutex<Vec<RegisteredPool>>>);

/// A pool's idle instances, and the capacity that they use.
type RegisteredPool = (Capacity, Weak<dyn Evict>);

impl IdleInstances {
    /// Starts a thread that evicts expired instances as long as any clone of this exists.
    pub fn with_sweeper() -> IdleInstances {
        let instances = IdleInstances::default();
        let pools = Arc::downgrade(&instances.0);
        let sweep = move || {
            while let Some(pools) = pools.upgrade().map(IdleInstances) {
                pools.sweep(Instant::now());
                drop(pools);
                thread::sleep(SWEEP_INTERVAL);
            }
        };
        if thread::Builder::new().name("idle".into()).spawn(sweep).is_err() {
            tracing::warn!(
                "cannot start the thread that evicts idle instances: they keep their memory until their service is swapped"
            );
        }
        instances
    }

    /// Registers a pool's idle instances.
    pub fn add<I: Send + 'static>(&self, capacity: &Capacity, idle: &Arc<Idle<I>>) {
        let idle: Arc<dyn Evict> = idle.clone();
        self.lock().push((capacity.clone(), Arc::downgrade(&idle)));
    }

    /// Evicts the instance that has been idle for longest, in any pool that uses this capacity. Returns whether there
    /// was one.
    pub fn reclaim(&self, capacity: &Capacity) -> bool {
        let pools = self.pools();
        let pools: Vec<_> = pools.iter().filter(|(used, _)| used.is_same(capacity)).map(|(_, pool)| pool).collect();
        loop {
            let oldest = pools.iter().filter_map(|pool| Some((pool.oldest()?, pool))).min_by_key(|(since, _)| *since);
            let Some((since, pool)) = oldest else { return false };
            // Another task may have taken this instance meanwhile. Others may still be idle.
            if pool.evict(since, 1) > 0 {
                return true;
            }
        }
    }

    fn sweep(&self, now: Instant) {
        let Some(limit) = now.checked_sub(IDLE_TIMEOUT) else { return };
        for (_, pool) in self.pools() {
            pool.evict(limit, usize::MAX);
        }
    }

    fn pools(&self) -> Vec<(Capacity, Arc<dyn Evict>)> {
        let mut pools = self.lock();
        pools.retain(|(_, pool)| pool.strong_count() > 0);
        pools.iter().filter_map(|(capacity, pool)| Some((capacity.clone(), pool.upgrade()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RegisteredPool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Capacity {
        Capacity::Slots(wasmtime::Engine::default())
    }

    #[test]
    fn the_instance_returned_last_is_reused_first() {
        let idle = Idle::default();
        (0..3).for_each(|number| idle.put(number));
        assert_eq!((idle.take(), idle.take(), idle.take(), idle.take()), (Some(2), Some(1), Some(0), None));
    }

    #[test]
    fn a_thread_reuses_the_instances_that_it_returned_before_those_of_other_threads() {
        let idle = Idle::default();
        idle.put("mine");
        thread::scope(|scope| {
            scope.spawn(|| {
                idle.put("another thread's");
                assert_eq!(idle.take(), Some("another thread's"));
                assert_eq!(idle.take(), Some("mine"));
                idle.put("mine no more");
            });
        });
        idle.put("mine");
        assert_eq!((idle.take(), idle.take(), idle.take()), (Some("mine"), Some("mine no more"), None));
    }

    #[test]
    fn a_closed_pool_keeps_no_instance() {
        let idle = Idle::default();
        idle.put(1);
        idle.close();
        idle.put(2);
        assert_eq!(idle.len(), 0);
    }

    #[test]
    fn instances_that_were_idle_for_long_are_dropped() {
        let (host, idle) = (IdleInstances::default(), Arc::new(Idle::default()));
        host.add(&slots(), &idle);
        idle.put(1);
        let (soon, late) = (Instant::now(), Instant::now() + IDLE_TIMEOUT + SWEEP_INTERVAL);
        host.sweep(soon);
        assert_eq!(idle.len(), 1);
        host.sweep(late);
        assert_eq!(idle.len(), 0);
    }

    #[test]
    fn the_instance_that_has_been_idle_for_longest_is_evicted_first() {
        let (host, engine) = (IdleInstances::default(), slots());
        let (one, other) = (Arc::new(Idle::default()), Arc::new(Idle::default()));
        host.add(&engine, &one);
        host.add(&engine, &other);
        other.put("first");
        while other.oldest() == Some(Instant::now()) {}
        one.put("second");
        assert!(host.reclaim(&engine));
        assert_eq!((one.len(), other.len()), (1, 0));
        assert!(host.reclaim(&engine) && !host.reclaim(&engine));
    }

    #[test]
    fn simultaneous_requests_evict_one_idle_instance_each() {
        const IDLE: usize = 4_000;
        let (host, engine, idle) = (IdleInstances::default(), slots(), Arc::new(Idle::default()));
        host.add(&engine, &idle);
        idle.lock().instances.extend((0..IDLE).map(IdleInstance::new));
        let reclaim = || (0..IDLE / 4).filter(|_| host.reclaim(&engine)).count();
        let sum: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(reclaim)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((sum, idle.len()), (IDLE, 0));
    }

    #[test]
    fn idle_instances_of_other_services_do_not_starve_a_service() {
        const SLOTS: usize = 36;
        let (host, engine, foreign) = (IdleInstances::default(), slots(), slots());
        let slots = Arc::new(tokio::sync::Semaphore::new(SLOTS));
        let pools: Vec<Arc<Idle<_>>> = (0..12).map(|_| Arc::default()).collect();
        pools.iter().for_each(|idle| host.add(&engine, idle));
        let other_engine = Arc::new(Idle::default());
        host.add(&foreign, &other_engine);
        other_engine.put("an instance in a slot of another engine");
        for slot in 0..SLOTS {
            pools[slot % 12].put(slots.clone().try_acquire_owned().unwrap());
        }
        let mut thirteenth = Vec::new();
        for _ in 0..SLOTS {
            let slot = loop {
                match slots.clone().try_acquire_owned() {
                    Ok(slot) => break slot,
                    Err(_) => assert!(host.reclaim(&engine), "only {} slots were reclaimed", thirteenth.len()),
                }
            };
            thirteenth.push(slot);
        }
        assert!(!host.reclaim(&engine), "all are in use");
        assert_eq!(other_engine.len(), 1, "an instance of another engine is not evicted");
    }
}
