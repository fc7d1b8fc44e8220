//! Instances that wait for a request, and the room that they take from others.
//!
//! The one given back last is taken first: its memory is still in the caches. What has waited for a minute is thrown
//! away, so that a burst does not hold its slots for ever; and where the host has no slot left, the one that has waited
//! longest anywhere goes to who needs it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How many idle instances one pool keeps. More come and go with the load.
const KEPT: usize = 256;
/// How long an instance waits for a request before its slot is given back.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often those that have waited too long are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// The idle instances of one pool.
pub(super) struct Idle<I>(Mutex<List<I>>);

struct List<I> {
    /// Longest wait first.
    instances: VecDeque<(Instant, I)>,
    /// Nothing is kept any more: the generation no longer serves.
    closed: bool,
}

impl<I> Default for Idle<I> {
    fn default() -> Idle<I> {
        Idle(Mutex::new(List { instances: VecDeque::new(), closed: false }))
    }
}

impl<I> Idle<I> {
    /// The one that was given back last.
    pub fn take(&self) -> Option<I> {
        self.lock().instances.pop_back().map(|(_, instance)| instance)
    }

    /// Keeps an instance, unless there are enough.
    pub fn keep(&self, instance: I) {
        let mut list = self.lock();
        if !list.closed && list.instances.len() < KEPT {
            list.instances.push_back((Instant::now(), instance));
            return;
        }
        // An instance takes a while to take down, and others need the lock.
        drop(list);
        drop(instance);
    }

    /// Throws all away and keeps none from here on.
    pub fn close(&self) {
        let list = std::mem::replace(&mut *self.lock(), List { instances: VecDeque::new(), closed: true });
        drop(list);
    }

    pub fn len(&self) -> usize {
        self.lock().instances.len()
    }

    /// A list of instances is as good after a panic as before it.
    fn lock(&self) -> MutexGuard<'_, List<I>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pool's idle instances, whatever their kind.
trait Waiting: Send + Sync {
    /// Since when the one waits that has waited longest.
    fn longest(&self) -> Option<Instant>;

    /// Throws away those that have waited since `limit` or before, at most so many.
    fn evict(&self, limit: Instant, most: usize) -> usize;
}

impl<I: Send> Waiting for Idle<I> {
    fn longest(&self) -> Option<Instant> {
        self.lock().instances.front().map(|(since, _)| *since)
    }

    fn evict(&self, limit: Instant, most: usize) -> usize {
        let mut list = self.lock();
        let count = list.instances.iter().take(most).take_while(|(since, _)| *since <= limit).count();
        let evicted: Vec<_> = list.instances.drain(..count).collect();
        drop(list);
        evicted.len()
    }
}

/// The idle instances of the whole host.
#[derive(Clone, Default)]
pub(super) struct IdleInstances(Arc<Mutex<Vec<Known>>>);

/// A pool's idle instances, and whose slots they take.
type Known = (wasmtime::Engine, Weak<dyn Waiting>);

impl IdleInstances {
    /// The idle instances of a host, and a thread that looks after them for as long as there are any pools.
    pub fn watched() -> IdleInstances {
        let instances = IdleInstances::default();
        let pools = Arc::downgrade(&instances.0);
        let sweep = move || {
            while let Some(pools) = pools.upgrade().map(IdleInstances) {
                pools.sweep(Instant::now());
                drop(pools);
                std::thread::sleep(SWEEP);
            }
        };
        if std::thread::Builder::new().name("idle".into()).spawn(sweep).is_err() {
            tracing::warn!("no thread for idle instances: they keep their memory until their service is swapped");
        }
        instances
    }

    /// Makes a pool's idle instances known.
    pub fn add<I: Send + 'static>(&self, engine: &wasmtime::Engine, idle: &Arc<Idle<I>>) {
        let idle: Arc<dyn Waiting> = idle.clone();
        self.lock().push((engine.clone(), Arc::downgrade(&idle)));
    }

    /// Throws away the instance in a slot of this engine that has waited longest anywhere. Tells whether there was one.
    pub fn reclaim(&self, engine: &wasmtime::Engine) -> bool {
        let pools = self.pools();
        let pools = pools.iter().filter(|(of, _)| wasmtime::Engine::same(of, engine));
        let longest = pools.filter_map(|(_, pool)| Some((pool.longest()?, pool))).min_by_key(|(since, _)| *since);
        longest.is_some_and(|(since, pool)| pool.evict(since, 1) > 0)
    }

    fn sweep(&self, now: Instant) {
        let Some(limit) = now.checked_sub(LONGEST_WAIT) else { return };
        for (_, pool) in self.pools() {
            pool.evict(limit, usize::MAX);
        }
    }

    fn pools(&self) -> Vec<(wasmtime::Engine, Arc<dyn Waiting>)> {
        let mut pools = self.lock();
        pools.retain(|(_, pool)| pool.strong_count() > 0);
        pools.iter().filter_map(|(engine, pool)| Some((engine.clone(), pool.upgrade()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_given_back_last_is_taken_first() {
        let idle = Idle::default();
        (0..3).for_each(|number| idle.keep(number));
        assert_eq!((idle.take(), idle.take(), idle.take(), idle.take()), (Some(2), Some(1), Some(0), None));
    }

    #[test]
    fn a_closed_pool_keeps_nothing() {
        let idle = Idle::default();
        idle.keep(1);
        idle.close();
        idle.keep(2);
        assert_eq!(idle.len(), 0);
    }

    #[test]
    fn instances_that_waited_for_long_give_their_slots_back() {
        let (host, idle) = (IdleInstances::default(), Arc::new(Idle::default()));
        host.add(&wasmtime::Engine::default(), &idle);
        idle.keep(1);
        let (soon, late) = (Instant::now(), Instant::now() + LONGEST_WAIT + SWEEP);
        host.sweep(soon);
        assert_eq!(idle.len(), 1);
        host.sweep(late);
        assert_eq!(idle.len(), 0);
    }

    #[test]
    fn the_slot_that_is_idle_for_longest_anywhere_goes_to_who_needs_it() {
        let (host, engine) = (IdleInstances::default(), wasmtime::Engine::default());
        let (one, other) = (Arc::new(Idle::default()), Arc::new(Idle::default()));
        host.add(&engine, &one);
        host.add(&engine, &other);
        other.keep("first");
        while other.longest() == Some(Instant::now()) {}
        one.keep("second");
        assert!(host.reclaim(&engine));
        assert_eq!((one.len(), other.len()), (1, 0));
        assert!(host.reclaim(&engine) && !host.reclaim(&engine));
    }

    #[test]
    fn twelve_services_that_had_a_burst_do_not_starve_the_thirteenth() {
        const SLOTS: usize = 36;
        let (host, engine, foreign) =
            (IdleInstances::default(), wasmtime::Engine::default(), wasmtime::Engine::default());
        let slots = Arc::new(tokio::sync::Semaphore::new(SLOTS));
        let pools: Vec<Arc<Idle<_>>> = (0..12).map(|_| Arc::default()).collect();
        pools.iter().for_each(|idle| host.add(&engine, idle));
        let elsewhere = Arc::new(Idle::default());
        host.add(&foreign, &elsewhere);
        elsewhere.keep("an instance in a slot of another engine");
        for slot in 0..SLOTS {
            pools[slot % 12].keep(slots.clone().try_acquire_owned().unwrap());
        }
        let mut thirteenth = Vec::new();
        for _ in 0..SLOTS {
            let slot = loop {
                match slots.clone().try_acquire_owned() {
                    Ok(slot) => break slot,
                    Err(_) => assert!(host.reclaim(&engine), "{} slots were had", thirteenth.len()),
                }
            };
            thirteenth.push(slot);
        }
        assert!(!host.reclaim(&engine), "all are in use");
        assert_eq!(elsewhere.len(), 1, "a slot that is of no use to anybody is left alone");
    }
}
