//! The export of one signal: a bounded queue and the task that exports its contents in batches.
//!
//! Several requests may be in flight, so that the latency of a distant collector does not limit throughput. While the
//! collector accepts nothing, these requests are retried and later records stay in the queue; records that do not fit
//! into the queue are dropped and counted.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::batch::{self, Payload};
use super::encode::{self, Encoded};
use super::export_result::ExportResult;
use super::outage::OutageReporter;
use super::retry::Backoff;
use super::transport::Transport;
use crate::trace::counters::{Counters, DropReason, ExportOutcome, SignalKind};
use crate::trace::queue::{PushOutcome, Queue};
use crate::trace::segment::Segment;
use crate::trace::settings::Batch;

/// The most requests in flight.
const MAX_IN_FLIGHT: usize = 8;
/// The longest delay between attempts when the host is stopping.
const SHUTDOWN_RETRY_DELAY: Duration = Duration::from_millis(200);
/// The records of several requests are joined up to this size, in bytes.
const JOINED_SIZE: usize = 32 << 10;

thread_local! {
    /// The buffer in which this thread encodes.
    static ENCODED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The export queue of spans or of log records.
pub(in crate::trace) struct ExportQueue {
    signal: SignalKind,
    transport: Arc<Transport>,
    queue: Queue<Encoded>,
    batch: Batch,
    outage: OutageReporter,
    counters: Arc<Counters>,
    /// Records that have left the queue and are not yet accounted for.
    in_flight: AtomicU64,
}

impl ExportQueue {
    pub(super) fn new(
        signal: SignalKind,
        transport: Arc<Transport>,
        batch: Batch,
        (counters, outage): (Arc<Counters>, OutageReporter),
    ) -> ExportQueue {
        let queue = Queue::new(batch.queue_size, batch.export_size);
        ExportQueue { signal, transport, queue, batch, outage, counters, in_flight: AtomicU64::new(0) }
    }

    /// Adds a segment's records of this signal to the queue, or counts them as dropped. Never blocks.
    pub fn submit(&self, segment: &Segment, weight: usize) {
        let items = self.items(segment);
        if items == 0 {
            return;
        }
        // Nothing is encoded if the queue is full.
        let outcome = match self.queue.check(weight) {
            PushOutcome::Queued => self.push(segment, weight, items),
            refused => refused,
        };
        match outcome {
            PushOutcome::Queued => {}
            PushOutcome::Full => {
                self.counters.dropped(self.signal, DropReason::QueueFull, items);
                self.outage.dropped(items);
            }
            PushOutcome::Closed => self.counters.dropped(self.signal, DropReason::Shutdown, items),
        }
    }

    /// The length and the capacity of the queue.
    pub fn queue(&self) -> (usize, usize) {
        (self.queue.len(), self.queue.capacity())
    }

    /// Exports batches until the queue is closed and empty.
    pub async fn run(self: Arc<Self>) {
        let mut in_flight = JoinSet::new();
        loop {
            self.queue.wait_for_items().await;
            if !self.queue.is_closed() {
                let _ = tokio::time::timeout(self.batch.delay, self.queue.wait_for_batch()).await;
            }
            while in_flight.try_join_next().is_some() {}
            while in_flight.len() >= MAX_IN_FLIGHT || (self.outage.is_failing() && !in_flight.is_empty()) {
                in_flight.join_next().await;
            }
            let batch = self.queue.take(self.batch.export_size);
            if batch.is_empty() && self.queue.is_closed() {
                break;
            }
            self.in_flight.fetch_add(batch.iter().map(|encoded| encoded.items).sum(), Ordering::Relaxed);
            for payload in batch::requests(batch, self.batch.export_size) {
                in_flight.spawn(self.clone().export(payload));
            }
        }
        while in_flight.join_next().await.is_some() {}
    }

    /// Makes the task export the remaining records and end.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Counts all records that have not been delivered as dropped. Called after the task was aborted.
    pub fn drop_remaining(&self) {
        let waiting: u64 = self.queue.take(usize::MAX).iter().map(|encoded| encoded.items).sum();
        let left = waiting + self.in_flight.swap(0, Ordering::Relaxed);
        if left > 0 {
            self.counters.dropped(self.signal, DropReason::Shutdown, left);
        }
        if left > 0 && !self.outage.is_absent() {
            tracing::warn!(left, "the collector did not take the last {} in time", self.outage.items());
        }
    }

    fn items(&self, segment: &Segment) -> u64 {
        match self.signal {
            SignalKind::Logs => segment.logs.len() as u64,
            _ => segment.spans.len() as u64,
        }
    }

    /// Encodes a segment's records and adds them to the queue: to its last entry if that has the same Resource, because
    /// an allocation for each request would be freed by another thread.
    fn push(&self, segment: &Segment, weight: usize, items: u64) -> PushOutcome {
        // The buffer is gone while its thread ends.
        let mut encoded = ENCODED.try_with(Cell::take).unwrap_or_default();
        match self.signal {
            SignalKind::Logs => encode::logs(segment, &mut encoded),
            _ => encode::spans(segment, &mut encoded),
        }
        let join = |last: &mut Encoded| {
            let fits = last.bytes.len() + encoded.len() <= JOINED_SIZE;
            let fits = fits && Arc::ptr_eq(&last.resource, &segment.resource);
            if fits {
                last.bytes.extend_from_slice(&encoded);
                last.items += items;
            }
            fits
        };
        let make = || Encoded { resource: segment.resource.clone(), items, bytes: encoded.clone() };
        let outcome = self.queue.push(weight, join, make);
        if encoded.capacity() <= JOINED_SIZE {
            encoded.clear();
            let _ = ENCODED.try_with(|buffer| buffer.set(encoded));
        }
        outcome
    }

    /// Sends a request until the collector accepts or rejects it.
    async fn export(self: Arc<Self>, payload: Payload) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let result = self.transport.send(self.signal, payload.body.clone()).await;
            let count = |outcome| self.counters.export(self.signal, outcome, began.elapsed());
            match result {
                ExportResult::Accepted { rejected, message } => {
                    count(ExportOutcome::Accepted);
                    if self.finish(payload.items) {
                        self.accepted(payload.items, rejected, &message);
                    }
                    return;
                }
                ExportResult::Retry { after, reason, connection_refused } => {
                    count(ExportOutcome::Failed);
                    self.outage.failed(&reason, connection_refused);
                    if self.outage.is_absent() && self.queue.is_closed() {
                        // The host is stopping and there is no collector. The remaining records are counted as dropped.
                        return;
                    }
                    self.wait(backoff.next_delay(after)).await;
                }
                ExportResult::Rejected(reason) => {
                    count(ExportOutcome::Rejected);
                    if self.finish(payload.items) {
                        self.counters.dropped(self.signal, DropReason::Rejected, payload.items);
                        self.outage.rejected(payload.items, &reason);
                    }
                    return;
                }
            }
        }
    }

    /// Marks this many records as accounted for. Returns false if they were already counted as dropped because the host
    /// was stopping.
    fn finish(&self, items: u64) -> bool {
        let remaining = |left: u64| left.checked_sub(items);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, remaining).is_ok()
    }

    fn accepted(&self, items: u64, rejected: u64, message: &str) {
        let rejected = rejected.min(items);
        self.counters.exported(self.signal, items - rejected);
        self.counters.dropped(self.signal, DropReason::Rejected, rejected);
        self.outage.accepted(rejected, message);
    }

    /// Waits before the next attempt; only briefly if the host is stopping.
    async fn wait(&self, delay: Duration) {
        if self.queue.is_closed() {
            return tokio::time::sleep(delay.min(SHUTDOWN_RETRY_DELAY)).await;
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.queue.wait_until_closed() => {}
        }
    }
}
