//! The kinds of guest: a component that was linked for its kind, and what instances of every kind have in common.

pub(super) mod lean;
pub(super) mod standard;
mod store;

use std::sync::Arc;

use self::lean::LeanPre;
use self::standard::StandardPre;
use super::context::ServiceContext;
use super::gauge::Gauge;
use super::symbolizer::Symbolizer;

/// A component that was compiled and linked as its kind asks for.
#[derive(Clone)]
pub(super) enum Linked {
    /// Exports `spandrel:service/handler`.
    Lean(LeanPre),
    /// Exports a `wasi:http` handler.
    Standard(StandardPre),
}

/// One instance: a store, the guest in it, and the request that it is serving.
pub trait Guest: Sized + Send + 'static {
    /// What it is made from.
    type Pre: Clone + Send + Sync;

    /// Instantiates a component under the limits of `context`. The instance counts in `gauge` while it lives.
    fn instantiate(
        made_from: (&Self::Pre, &Arc<Symbolizer>),
        context: &Arc<ServiceContext>,
        gauge: Arc<Gauge>,
    ) -> impl Future<Output = wasmtime::Result<Self>> + Send;

    /// Whether the last call ended as calls should. An instance that is not healthy must not serve again.
    fn is_healthy(&self) -> bool;

    /// Requests that it has served.
    fn served(&self) -> u32;
}
