//! The interface common to instances of all kinds of guest.

use std::sync::Arc;

use crate::component::context::ServiceContext;
use crate::component::instance_counts::InstanceCounts;
use crate::component::symbolizer::Symbolizer;

/// An instance: a store, the guest in it, and the request that it serves.
pub trait Guest: Sized + Send + 'static {
    /// The linked component that it is created from.
    type Pre: Clone + Send + Sync;

    /// Instantiates a component under the limits of `context`. The instance is counted in `counts` as long as it lives.
    fn instantiate(
        made_from: (&Self::Pre, &Arc<Symbolizer>),
        context: &Arc<ServiceContext>,
        counts: Arc<InstanceCounts>,
    ) -> impl Future<Output = wasmtime::Result<Self>> + Send;

    /// The engine of the component.
    fn engine(pre: &Self::Pre) -> &wasmtime::Engine;

    /// Whether the last call ended normally. An unhealthy instance must not serve again.
    fn is_healthy(&self) -> bool;

    /// The number of requests that it has served.
    fn served(&self) -> u32;
}
