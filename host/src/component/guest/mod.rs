//! The kinds of guest behind one face: a component that was linked for its kind, and an instance of it.

pub(super) mod lean;

use std::sync::Arc;

use self::lean::{LeanInstance, LeanPre};
use super::context::ServiceContext;
use super::gauge::Gauge;
use super::invocation::{Handled, Invocation};
use super::symbolizer::Symbolizer;
use crate::http::routes::Route;

/// A component that was compiled and linked as its kind asks for.
pub(super) enum Linked {
    /// Exports `spandrel:service/handler`.
    Lean(LeanPre),
}

/// One instance: a store, the guest in it, and the request that it is serving.
pub(super) enum Instance {
    /// Serves one request at a time.
    Lean(LeanInstance),
}

impl Instance {
    /// Instantiates a component under the limits of `context`. The instance counts in `gauge` while it lives.
    pub async fn new(
        engine: &wasmtime::Engine,
        (linked, symbolizer): (&Linked, &Arc<Symbolizer>),
        context: &Arc<ServiceContext>,
        gauge: Arc<Gauge>,
    ) -> wasmtime::Result<Instance> {
        match linked {
            Linked::Lean(pre) => LeanInstance::new(engine, (pre, symbolizer), context, gauge).await.map(Instance::Lean),
        }
    }

    /// Asks the guest for its endpoints.
    pub async fn routes(&mut self) -> wasmtime::Result<Vec<Route>> {
        match self {
            Instance::Lean(instance) => instance.routes().await,
        }
    }

    /// Runs the guest's handler under the service's deadline.
    pub async fn handle(&mut self, invocation: Invocation) -> Handled {
        match self {
            Instance::Lean(instance) => instance.handle(invocation).await,
        }
    }

    /// Whether the last call ended as calls should. An instance that is not healthy must not serve again.
    pub fn is_healthy(&self) -> bool {
        match self {
            Instance::Lean(instance) => instance.is_healthy(),
        }
    }

    /// Requests that it has served.
    pub fn served(&self) -> u32 {
        match self {
            Instance::Lean(instance) => instance.served(),
        }
    }
}
