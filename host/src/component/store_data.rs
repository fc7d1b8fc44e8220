//! The data of a Wasmtime store, one per instance, and the resource limits that Wasmtime enforces through it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::account::MemoryAccount;
use super::capacity::OnDemandPermit;
use super::client_call::ClientCall;
use super::context::ServiceContext;
use super::exhaustion::MemoryUse;
use super::guest_output::GuestOutput;
use super::instance_counts::InstanceCounts;
use super::invocation::GuestRequest;
use crate::hostfn::outgoing::HttpState;

/// The most elements of one table. Language interpreters have large tables.
pub(super) const TABLE_ELEMENTS: usize = 100_000;

/// The most handles of host resources that an instance may have.
const MAX_RESOURCES: usize = 10_000;
/// The most bytes of host memory that may stay reserved between requests. An instance that exceeds it is not reused.
const MAX_IDLE_RESERVATION: u64 = 64 * 1024;

/// The state that host functions work on.
pub struct StoreData {
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    context: Arc<ServiceContext>,
    counts: Arc<InstanceCounts>,
    _permit: OnDemandPermit,
    pub(crate) account: Arc<MemoryAccount>,
    /// The number of the current request, so that a handle from an earlier request is recognized as stale.
    pub(crate) sequence: u16,
    /// The current request; `None` while the component is instantiated or declares its routes.
    pub(crate) request: Option<GuestRequest>,
    /// The pending calls to other services.
    pub(crate) calls: Vec<ClientCall>,
    /// The state of `wasi:http`, with the current request of a standard guest.
    pub(crate) http: HttpState,
}

impl StoreData {
    /// The data of a new instance, which counts as live in `counts`, and keeps `permit`, until it is dropped.
    pub(super) fn new(
        wasi: WasiCtx,
        output: (GuestOutput, GuestOutput),
        context: Arc<ServiceContext>,
        (counts, permit): (Arc<InstanceCounts>, OnDemandPermit),
    ) -> StoreData {
        counts.live.fetch_add(1, Ordering::Relaxed);
        let account = MemoryAccount::new(context.limits.memory);
        let (mut table, calls) = (ResourceTable::new(), Vec::new());
        table.set_max_capacity(MAX_RESOURCES);
        let http = HttpState::new(context.clone(), output);
        StoreData { wasi, table, context, counts, _permit: permit, account, sequence: 0, request: None, calls, http }
    }

    /// The linear memory of the instance in bytes, over all of its memories.
    pub(super) fn memory(&self) -> u64 {
        self.account.memory()
    }

    /// The memory use to report for a trap. Resets whether growth was denied.
    pub(super) fn memory_use(&self) -> MemoryUse {
        MemoryUse { limit: self.account.limit(), growth_denied: self.account.take_denied().is_some() }
    }

    /// Whether more host memory is still reserved than an idle instance may keep.
    pub(super) fn exceeds_idle_reservation(&self) -> bool {
        self.account.reserved().saturating_sub(self.http.reserved_for_metrics()) > MAX_IDLE_RESERVATION
    }

    /// Sets the current request.
    pub(super) fn begin(&mut self, request: GuestRequest) {
        self.sequence = self.sequence.wrapping_add(1);
        self.account.take_denied();
        self.request = Some(request);
    }

    pub(crate) fn context(&self) -> &Arc<ServiceContext> {
        &self.context
    }
}

impl Drop for StoreData {
    fn drop(&mut self) {
        self.counts.live.fetch_sub(1, Ordering::Relaxed);
        self.counts.memory.fetch_sub(self.memory(), Ordering::Relaxed);
    }
}

impl WasiView for StoreData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for StoreData {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let HttpState { context, outgoing, .. } = &mut self.http;
        WasiHttpCtxView { ctx: context, table: &mut self.table, hooks: outgoing }
    }
}

impl ResourceLimiter for StoreData {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // An instance may have several memories; the growth of this one is added to the total.
        let added = desired.saturating_sub(current) as u64;
        let fits = self.account.try_grow(added);
        if fits {
            self.counts.memory.fetch_add(added, Ordering::Relaxed);
            self.counts.memory_high_water.fetch_max(self.memory(), Ordering::Relaxed);
            let total = self.memory();
            self.http.set_memory(total);
        }
        Ok(fits)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}
