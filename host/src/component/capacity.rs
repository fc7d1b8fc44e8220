//! How many instances the host can have at a time: the slots of a pooled engine, or a limit on instances that are
//! allocated on demand.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most instances allocated on demand at a time, over all services and engines. They belong to large components,
/// and only the memory limit of their service limits the size of each.
const ON_DEMAND_INSTANCES: usize = 256;

/// What limits the number of instances of a component.
#[derive(Clone)]
pub(super) enum Capacity {
    /// The slots of this engine.
    Slots(wasmtime::Engine),
    /// The limit on instances that are allocated on demand, by any engine.
    OnDemand(OnDemandLimit),
}

/// The limit on instances that are allocated on demand. Clones share it.
#[derive(Clone)]
pub(super) struct OnDemandLimit(Arc<Semaphore>);

/// The permit of one instance that is allocated on demand, released when it is dropped. An instance in a slot has none.
pub(super) type OnDemandPermit = Option<OwnedSemaphorePermit>;

/// The limit on instances that are allocated on demand is reached.
#[derive(Debug, Error)]
#[error("maximum concurrent limit of {ON_DEMAND_INSTANCES} for instances allocated on demand reached")]
pub(super) struct OnDemandLimitReached;

impl Default for OnDemandLimit {
    fn default() -> OnDemandLimit {
        OnDemandLimit(Arc::new(Semaphore::new(ON_DEMAND_INSTANCES)))
    }
}

impl OnDemandLimit {
    /// The number of instances that exist.
    pub fn instances(&self) -> u64 {
        ON_DEMAND_INSTANCES.saturating_sub(self.0.available_permits()) as u64
    }
}

impl Capacity {
    /// Whether dropping an instance of one frees capacity of the other.
    pub fn is_same(&self, other: &Capacity) -> bool {
        match (self, other) {
            (Capacity::Slots(one), Capacity::Slots(other)) => wasmtime::Engine::same(one, other),
            (Capacity::OnDemand(one), Capacity::OnDemand(other)) => Arc::ptr_eq(&one.0, &other.0),
            _ => false,
        }
    }

    /// Reserves capacity for another instance. Wasmtime itself does that for one in a slot.
    pub fn permit(&self) -> Result<OnDemandPermit, OnDemandLimitReached> {
        match self {
            Capacity::Slots(_) => Ok(None),
            Capacity::OnDemand(limit) => {
                limit.0.clone().try_acquire_owned().map(Some).map_err(|_| OnDemandLimitReached)
            }
        }
    }
}

/// Whether an instance could not be created because there is no capacity left.
pub(super) fn is_exhausted(error: &wasmtime::Error) -> bool {
    error.is::<wasmtime::PoolConcurrencyLimitError>() || error.is::<OnDemandLimitReached>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_on_demand_share_a_limit_and_release_it_when_dropped() {
        let limit = OnDemandLimit::default();
        let (one, other) = (Capacity::OnDemand(limit.clone()), Capacity::OnDemand(limit.clone()));
        let mut permits: Vec<_> = (0..ON_DEMAND_INSTANCES).map(|_| one.permit().unwrap()).collect();
        assert!(one.permit().is_err() && other.permit().is_err());
        assert_eq!(limit.instances(), ON_DEMAND_INSTANCES as u64);
        permits.pop();
        assert!(other.permit().is_ok());
    }

    #[test]
    fn capacity_is_separate_for_each_engine_and_for_instances_on_demand() {
        let (engine, other) = (wasmtime::Engine::default(), wasmtime::Engine::default());
        let limit = OnDemandLimit::default();
        let [one, same, elsewhere] = [&engine, &engine, &other].map(|engine| Capacity::Slots(engine.clone()));
        assert!(one.is_same(&same) && !one.is_same(&elsewhere));
        assert!(Capacity::OnDemand(limit.clone()).is_same(&Capacity::OnDemand(limit.clone())));
        assert!(!Capacity::OnDemand(limit).is_same(&Capacity::OnDemand(OnDemandLimit::default())));
        assert!(!one.is_same(&Capacity::OnDemand(OnDemandLimit::default())));
    }
}
