//! Creates instances. If no capacity is left, idle instances of any service are evicted.

use std::pin::Pin;
use std::sync::Arc;

use super::capacity::is_exhausted;
use super::compiled::Compiled;
use super::context::ServiceContext;
use super::guest::{Guest, StartFailure};
use super::idle::IdleInstances;
use super::instance_counts::InstanceCounts;
use crate::boxed::boxed;

/// The future that creates an instance.
type Instantiation<'a, G> = Pin<Box<dyn Future<Output = Result<G, StartFailure>> + Send + 'a>>;

/// Instantiates a component. Fails if no capacity is left and no instance that shares it is idle.
///
/// The future is boxed, because the futures of requests are nested deeply enough.
pub(super) fn instantiate<'a, G: Guest>(
    (pre, compiled): (&'a G::Pre, &'a Compiled),
    context: &'a Arc<ServiceContext>,
    counts: &'a Arc<InstanceCounts>,
    idle: &'a IdleInstances,
) -> Instantiation<'a, G> {
    boxed(move || async move {
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
    })
}
