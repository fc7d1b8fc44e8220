//! The store of a new instance of any kind: its WASI context, its limits, and how it gives way to others.

use std::sync::Arc;

use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{FsPerms, WasiCtx};

use crate::component::context::ServiceContext;
use crate::component::guest_output::GuestOutput;
use crate::component::instance_counts::InstanceCounts;
use crate::component::store_data::StoreData;
use crate::config::Access;

/// A store for an instance that prints to `stdout` and `stderr` and counts in `counts` while it lives.
///
/// Fails where a folder under `[[service.files]]` cannot be opened.
pub(super) fn new_store(
    engine: &wasmtime::Engine,
    (stdout, stderr): (&GuestOutput, &GuestOutput),
    context: &Arc<ServiceContext>,
    counts: Arc<InstanceCounts>,
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
        Store::new(engine, StoreData::new(wasi.build(), (stdout.clone(), stderr.clone()), context.clone(), counts));
    store.limiter(|data| data);
    // What one call hands to the host is in the host's memory, too.
    store.set_hostcall_fuel(usize::try_from(context.limits.memory).unwrap_or(usize::MAX));
    store.set_epoch_deadline(1);
    // Tokio's own yield, and not Wasmtime's: only after it are timers and sockets looked at before the guest goes on.
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))));
    Ok(store)
}
