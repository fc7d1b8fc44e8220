//! What a request cost the machine.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::{Duration, Instant};

use crate::trace::Recorder;

/// The cost of one request at one service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Time for which the guest, and the host functions that it called, kept a thread busy. Waiting for answers and
    /// the work of other services in the same process are not in it.
    pub busy: Duration,
    /// The instance's linear memory when the request ended, in bytes. Linear memory never shrinks, so this is also
    /// its highest value.
    pub memory: u64,
    /// Whether the instance had served requests before.
    pub reused: bool,
}

impl Cost {
    /// Puts it on the request's server span.
    pub fn record(&self, recorder: &mut Recorder) {
        let server = recorder.server();
        recorder.set(server, "spandrel.guest.cpu_time", self.busy.as_secs_f64());
        recorder.set(server, "spandrel.guest.memory", self.memory as i64);
        recorder.set(server, "spandrel.instance.reused", self.reused);
    }
}

/// Runs a future and adds the time that it kept a thread busy to `busy`, also where the future is dropped half-way.
pub async fn measured<T>(busy: &mut Duration, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|context| {
        let start = Instant::now();
        let polled = future.as_mut().poll(context);
        *busy += start.elapsed();
        polled
    })
    .await
}
