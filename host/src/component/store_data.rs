//! What a Wasmtime store holds for one instance, and the limits that Wasmtime asks it about.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::account::MemoryAccount;
use super::client_call::ClientCall;
use super::context::ServiceContext;
use super::exhaustion::MemoryUse;
use super::guest_output::GuestOutput;
use super::instance_counts::InstanceCounts;
use super::invocation::GuestRequest;
use crate::hostfn::outgoing::HttpState;

/// The most elements of one table. Interpreters for other languages have large ones.
pub(super) const TABLE_ELEMENTS: usize = 100_000;

/// The most handles of host resources that an instance has at a time.
const HANDLES: usize = 10_000;
/// What may be left of what the host held for a request, in bytes. An instance with more is not used again.
const LEFTOVERS: u64 = 64 * 1024;

/// What host functions work on.
pub struct StoreData {
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    context: Arc<ServiceContext>,
    counts: Arc<InstanceCounts>,
    pub(crate) account: Arc<MemoryAccount>,
    /// Counts the instance's requests, so that handles of one are not taken for handles of another.
    pub(crate) sequence: u16,
    /// The request being served; none while the component is instantiated or asked for its routes.
    pub(crate) request: Option<GuestRequest>,
    /// The calls to other services that are under way.
    pub(crate) calls: Vec<ClientCall>,
    /// What `wasi:http` works on, with the request that a standard guest is serving.
    pub(crate) http: HttpState,
}

impl StoreData {
    /// The data of a new instance, which counts as live in `counts` until it is dropped.
    pub(super) fn new(
        wasi: WasiCtx,
        output: (GuestOutput, GuestOutput),
        context: Arc<ServiceContext>,
        counts: Arc<InstanceCounts>,
    ) -> StoreData {
        counts.live.fetch_add(1, Ordering::Relaxed);
        let account = MemoryAccount::new(context.limits.memory);
        let (mut table, calls) = (ResourceTable::new(), Vec::new());
        table.set_max_capacity(HANDLES);
        let http = HttpState::new(context.clone(), output);
        StoreData { wasi, table, context, counts, account, sequence: 0, request: None, calls, http }
    }

    /// Linear memory of the instance in bytes, over all of its memories.
    pub(super) fn memory(&self) -> u64 {
        self.account.memory()
    }

    /// What is to be known of its memory when the instance has trapped. It tells of refusals once.
    pub(super) fn memory_use(&self) -> MemoryUse {
        MemoryUse { limit: self.account.limit(), growth_denied: self.account.take_growth_denied() }
    }

    /// Whether more is left of what the host held for a request than may stay with an idle instance.
    pub(super) fn exceeds_idle_reservation(&self) -> bool {
        self.account.held().saturating_sub(self.http.reserved_for_metrics()) > LEFTOVERS
    }

    /// Makes `request` the one that host functions work on.
    pub(super) fn begin(&mut self, request: GuestRequest) {
        self.sequence = self.sequence.wrapping_add(1);
        self.account.take_growth_denied();
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
        // An instance may be made of several memories: what counts is what this one adds.
        let added = desired.saturating_sub(current) as u64;
        let fits = self.account.grow(added);
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
