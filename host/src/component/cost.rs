//! What a request cost in CPU time and memory.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::batching;
use crate::trace::Recorder;

/// The cost of one request at one service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// CPU time of the guest and of the host functions that it called. Time spent waiting, and CPU time of other
    /// services in the same process, are excluded.
    pub busy: Duration,
    /// The instance's linear memory at the end of the request, in bytes. Linear memory never shrinks, so this is also
    /// its peak.
    pub memory: u64,
    /// Whether the instance had served requests before.
    pub reused: bool,
}

impl Cost {
    /// Sets the cost on the request's server span.
    pub fn record(&self, recorder: &mut Recorder) {
        let server = recorder.server();
        recorder.set(server, "spandrel.guest.cpu_time", self.busy.as_secs_f64());
        recorder.set(server, "spandrel.guest.memory", self.memory as i64);
        recorder.set(server, "spandrel.instance.reused", self.reused);
    }
}

/// Polls a future and adds the CPU time of each poll to `busy`, even if the future is dropped before it completes.
pub async fn measured<T>(busy: &mut Duration, mut future: Pin<&mut impl Future<Output = T>>) -> T {
    poll_fn(|context| {
        let start = Instant::now();
        let polled = future.as_mut().poll(context);
        let time = start.elapsed();
        *busy += time;
        batching::guest_ran(time);
        polled
    })
    .await
}
