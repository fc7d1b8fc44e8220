//! The Tokio runtime of the process.

use tokio::runtime::{Builder, Runtime};

use crate::batching;

/// The number of task polls after which a worker checks for I/O events and for tasks of the global queue. A poll may
/// run a guest for hundreds of microseconds, so with Tokio's default of 61 polls new requests would wait too long.
const POLLS_PER_IO_CHECK: u32 = 8;

/// A multi-threaded runtime with a worker per core.
pub fn runtime() -> std::io::Result<Runtime> {
    let mut workers = Builder::new_multi_thread();
    workers.enable_all().event_interval(POLLS_PER_IO_CHECK).global_queue_interval(POLLS_PER_IO_CHECK);
    workers.on_thread_park(batching::thread_is_idle).build()
}
