//! The store of a new instance of any kind: its WASI context, its limits and its epoch deadline.

use std::sync::Arc;

use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{FsPerms, WasiCtx};

use crate::component::capacity::OnDemandPermit;
use crate::component::context::ServiceContext;
use crate::component::guest_output::GuestOutput;
use crate::component::instance_counts::InstanceCounts;
use crate::component::store_data::StoreData;
use crate::config::Access;

/// Creates the store of an instance that prints to `stdout` and `stderr` and, as long as it lives, is
/// counted and keeps its permit.
///
/// Fails if a folder under `[[service.files]]` cannot be opened.
pub(super) fn new_store(
    engine: &wasmtime::Engine,
    (stdout, stderr): (&GuestOutput, &GuestOutput),
    context: &Arc<ServiceContext>,
    counted: (Arc<InstanceCounts>, OnDemandPermit),
) -> wasmtime::Result<Store<StoreData>> {
    let mut wasi = WasiCtx::builder();
    wasi.stdout(stdout.clone()).stderr(stderr.clone()).allow_tcp(false).allow_udp(false);
    for (name, value) in &context.env {
        wasi.env(name, value);
    }
    for folder in &context.files {
        let permissions = match folder.access {
            Access::Read => FsPerms::ReadOnly,
            Access::Write => FsPerms::ReadWrite,
        };
        wasi.preopened_dir(&folder.host, &folder.guest, permissions)?;
    }
    let mut store =
        Store::new(engine, StoreData::new(wasi.build(), (stdout.clone(), stderr.clone()), context.clone(), counted));
    store.limiter(|data| data);
    // The arguments of a host call are copied to host memory, so they have the same limit.
    store.set_hostcall_fuel(usize::try_from(context.limits.memory).unwrap_or(usize::MAX));
    store.set_epoch_deadline(1);
    // Uses Tokio's yield instead of Wasmtime's, because only then does Tokio poll timers and sockets before the guest
    // continues.
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))));
    Ok(store)
}
