//! What a Wasmtime store holds for one instance, and the limits that Wasmtime asks it about.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::client_call::ClientCall;
use super::context::ServiceContext;
use super::gauge::Gauge;
use super::invocation::GuestRequest;

/// What host functions work on.
pub struct StoreData {
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    context: Arc<ServiceContext>,
    gauge: Arc<Gauge>,
    memory: u64,
    /// Counts the instance's requests, so that handles of one are not taken for handles of another.
    pub(crate) sequence: u16,
    /// The request being served; none while the component is instantiated or asked for its routes.
    pub(crate) request: Option<GuestRequest>,
    /// The calls to other services that are under way.
    pub(crate) calls: Vec<ClientCall>,
}

impl StoreData {
    /// The data of a new instance, which counts as live in `gauge` until it is dropped.
    pub(super) fn new(wasi: WasiCtx, context: Arc<ServiceContext>, gauge: Arc<Gauge>) -> StoreData {
        gauge.live.fetch_add(1, Ordering::Relaxed);
        let (table, calls) = (ResourceTable::new(), Vec::new());
        StoreData { wasi, table, context, gauge, memory: 0, sequence: 0, request: None, calls }
    }

    /// Linear memory of the instance in bytes, over all of its memories.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    /// Makes `request` the one that host functions work on.
    pub(super) fn begin(&mut self, request: GuestRequest) {
        self.sequence = self.sequence.wrapping_add(1);
        self.request = Some(request);
    }

    pub(crate) fn context(&self) -> &Arc<ServiceContext> {
        &self.context
    }
}

impl Drop for StoreData {
    fn drop(&mut self) {
        self.gauge.live.fetch_sub(1, Ordering::Relaxed);
        self.gauge.memory.fetch_sub(self.memory, Ordering::Relaxed);
    }
}

impl WasiView for StoreData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl ResourceLimiter for StoreData {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // An instance may be made of several memories: what counts is what this one adds.
        let total = self.memory + (desired - current) as u64;
        let fits = total <= self.context.limits.memory;
        if fits {
            self.gauge.memory.fetch_add(total - self.memory, Ordering::Relaxed);
            self.gauge.memory_high_water.fetch_max(total, Ordering::Relaxed);
            self.memory = total;
        }
        Ok(fits)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= 40_000)
    }
}
