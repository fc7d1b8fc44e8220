//! What instances of every kind of guest have in common.

use std::sync::Arc;

use crate::component::context::ServiceContext;
use crate::component::instance_counts::InstanceCounts;
use crate::component::symbolizer::Symbolizer;

/// One instance: a store, the guest in it, and the request that it is serving.
pub trait Guest: Sized + Send + 'static {
    /// What it is made from.
    type Pre: Clone + Send + Sync;

    /// Instantiates a component under the limits of `context`. The instance counts in `counts` while it lives.
    fn instantiate(
        made_from: (&Self::Pre, &Arc<Symbolizer>),
        context: &Arc<ServiceContext>,
        counts: Arc<InstanceCounts>,
    ) -> impl Future<Output = wasmtime::Result<Self>> + Send;

    /// The engine that it runs in.
    fn engine(pre: &Self::Pre) -> &wasmtime::Engine;

    /// Whether the last call ended as calls should. An instance that is not healthy must not serve again.
    fn is_healthy(&self) -> bool;

    /// ConcurrentRequests that it has served.
    fn served(&self) -> u32;
}
