//! The threads that everything runs on.

use tokio::runtime::{Builder, Runtime};

/// After so many polls of tasks a worker looks for what came over the network. A poll may run guests for hundreds of
/// microseconds, and Tokio's own 61 of them would let new requests wait for that long.
const POLLS_PER_LOOK: u32 = 8;

/// A runtime with a worker for each core.
pub fn runtime() -> std::io::Result<Runtime> {
    let mut workers = Builder::new_multi_thread();
    workers.enable_all().event_interval(POLLS_PER_LOOK).global_queue_interval(POLLS_PER_LOOK).build()
}
