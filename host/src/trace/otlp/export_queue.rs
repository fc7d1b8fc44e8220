//! One signal's way out: a bounded queue and the task that empties it.
//!
//! A few requests may be under way at once, so that a collector far away is no bottleneck. While it takes nothing, those
//! are tried again and the rest waits in the queue; what then finds the queue full is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::batch::{self, Payload};
use super::encode::{self, Encoded};
use super::outage::Outage;
use super::retry::Backoff;
use super::transport::Transport;
use super::verdict::Verdict;
use crate::trace::counters::{Counters, DropReason, ExportOutcome, SignalKind};
use crate::trace::queue::{PushOutcome, Queue};
use crate::trace::segment::Segment;
use crate::trace::settings::Batch;

/// The most requests that are under way at once.
const AT_ONCE: usize = 8;
/// The pause between tries once the host is stopping.
const LAST_PAUSE: Duration = Duration::from_millis(200);

/// Spans or log records on their way out.
pub(in crate::trace) struct ExportQueue {
    signal: SignalKind,
    transport: Arc<Transport>,
    queue: Queue<Encoded>,
    batch: Batch,
    outage: Outage,
    counters: Arc<Counters>,
    /// Items that have left the queue and have not arrived.
    under_way: AtomicU64,
}

impl ExportQueue {
    pub(super) fn new(
        signal: SignalKind,
        transport: Arc<Transport>,
        batch: Batch,
        (counters, outage): (Arc<Counters>, Outage),
    ) -> ExportQueue {
        let queue = Queue::new(batch.queue_size, batch.export_size);
        ExportQueue { signal, transport, queue, batch, outage, counters, under_way: AtomicU64::new(0) }
    }

    /// Puts what a segment holds of this signal in the queue, or counts it as lost. Never waits.
    pub fn submit(&self, segment: &Segment, weight: usize) {
        let items = self.items(segment);
        if items == 0 {
            return;
        }
        // A full queue is no reason to encode anything.
        let pushed = match self.queue.check(weight) {
            PushOutcome::Queued => self.queue.push(self.encode(segment), weight),
            refused => refused,
        };
        match pushed {
            PushOutcome::Queued => {}
            PushOutcome::Full => {
                self.counters.dropped(self.signal, DropReason::QueueFull, items);
                self.outage.dropped(items);
            }
            PushOutcome::Closed => self.counters.dropped(self.signal, DropReason::Shutdown, items),
        }
    }

    /// How much waits, and how much can.
    pub fn queue(&self) -> (usize, usize) {
        (self.queue.len(), self.queue.capacity())
    }

    /// Takes batch after batch off the queue until the queue is closed and empty.
    pub async fn run(self: Arc<Self>) {
        let mut under_way = JoinSet::new();
        loop {
            self.queue.wait_for_items().await;
            if !self.queue.is_closed() {
                let _ = tokio::time::timeout(self.batch.delay, self.queue.wait_for_batch()).await;
            }
            while under_way.try_join_next().is_some() {}
            while under_way.len() >= AT_ONCE || (self.outage.is_on() && !under_way.is_empty()) {
                under_way.join_next().await;
            }
            let batch = self.queue.take(self.batch.export_size);
            if batch.is_empty() && self.queue.is_closed() {
                break;
            }
            self.under_way.fetch_add(batch.iter().map(|encoded| encoded.items).sum(), Ordering::Relaxed);
            for payload in batch::requests(&batch, self.batch.export_size) {
                under_way.spawn(self.clone().deliver(payload));
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Tells the task to send what is there and end.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Counts what has not arrived as lost. For when the task was stopped.
    pub fn abandon(&self) {
        let waiting: u64 = self.queue.take(usize::MAX).iter().map(|encoded| encoded.items).sum();
        let left = waiting + self.under_way.swap(0, Ordering::Relaxed);
        if left > 0 {
            self.counters.dropped(self.signal, DropReason::Shutdown, left);
        }
        if left > 0 && !self.outage.is_absent() {
            tracing::warn!(left, "the collector did not take the last {} in time", self.outage.what());
        }
    }

    fn items(&self, segment: &Segment) -> u64 {
        match self.signal {
            SignalKind::Logs => segment.logs.len() as u64,
            _ => segment.spans.len() as u64,
        }
    }

    fn encode(&self, segment: &Segment) -> Encoded {
        match self.signal {
            SignalKind::Logs => encode::logs(segment),
            _ => encode::spans(segment),
        }
    }

    /// Tries until the collector takes the request or refuses it for good.
    async fn deliver(self: Arc<Self>, payload: Payload) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let verdict = self.transport.send(self.signal, payload.body.clone()).await;
            let count = |outcome| self.counters.export(self.signal, outcome, began.elapsed());
            match verdict {
                Verdict::Accepted { rejected, message } => {
                    count(ExportOutcome::Accepted);
                    if self.settle(payload.items) {
                        self.taken(payload.items, rejected, &message);
                    }
                    return;
                }
                Verdict::Retry { after, reason, is_silent } => {
                    count(ExportOutcome::Failed);
                    self.outage.failed(&reason, is_silent);
                    if self.outage.is_absent() && self.queue.is_closed() {
                        // The host is stopping, and there is nobody to wait for. What is left is counted as lost.
                        return;
                    }
                    self.pause(backoff.pause(after)).await;
                }
                Verdict::Refused(reason) => {
                    count(ExportOutcome::Rejected);
                    if self.settle(payload.items) {
                        self.counters.dropped(self.signal, DropReason::Rejected, payload.items);
                        self.outage.refused(payload.items, &reason);
                    }
                    return;
                }
            }
        }
    }

    /// Whether so many are still to be accounted for, which they then are no more: what arrives while the host gives up
    /// was counted as lost already.
    fn settle(&self, items: u64) -> bool {
        let ours = |left: u64| left.checked_sub(items);
        self.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, ours).is_ok()
    }

    fn taken(&self, items: u64, rejected: u64, message: &str) {
        let rejected = rejected.min(items);
        self.counters.exported(self.signal, items - rejected);
        self.counters.dropped(self.signal, DropReason::Rejected, rejected);
        self.outage.accepted(rejected, message);
    }

    /// Waits for the next try. A host that is stopping has no time for long pauses.
    async fn pause(&self, pause: Duration) {
        if self.queue.is_closed() {
            return tokio::time::sleep(pause.min(LAST_PAUSE)).await;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.queue.wait_until_closed() => {}
        }
    }
}
