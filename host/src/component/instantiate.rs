//! Creates instances. If no capacity is left, idle instances of any service are evicted.

use std::sync::Arc;

use super::capacity::is_exhausted;
use super::compiled::Compiled;
use super::context::ServiceContext;
use super::guest::{Guest, StartFailure};
use super::idle::IdleInstances;
use super::instance_counts::InstanceCounts;

/// Instantiates a component. Fails if no capacity is left and no instance that shares it is idle.
pub(super) async fn instantiate<G: Guest>(
    (pre, compiled): (&G::Pre, &Compiled),
    context: &Arc<ServiceContext>,
    counts: &Arc<InstanceCounts>,
    idle: &IdleInstances,
) -> Result<G, StartFailure> {
    loop {
        let instance = match compiled.capacity.permit() {
            Ok(permit) => G::instantiate((pre, &compiled.symbolizer), context, (counts.clone(), permit)).await,
            Err(reached) => Err(wasmtime::Error::from(reached).into()),
        };
        match instance {
            Err(StartFailure { error, .. }) if is_exhausted(&error) && idle.reclaim(&compiled.capacity) => {}
            instance => return instance,
        }
    }
}
