//! The store of recent traces for the console: bounded in bytes, searched through indexes.
//!
//! A request adds its segment to an inbox, whose lock is only ever held briefly. A background task moves the inbox into
//! the index several times per 100 ms; a query does so first, so that it sees every request that has ended. When the
//! store is full, whole traces are evicted, oldest first; failed and slow ones are kept longer. Under load only a
//! sample of the traces is stored. Omitted traces are counted.

mod dependencies;
mod index;
mod latency_baseline;
mod query;
mod record;
mod sampler;
mod stored_part;
mod summary;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant};

use opentelemetry::trace::{SpanKind, TraceId};
use tokio::sync::{Notify, broadcast};

pub use self::dependencies::Dependency;
pub use self::query::{TimeScope, TraceQuery, parse_trace_id};
pub use self::record::{
    AnyValue, Pairs, SpanGroup, StoredEvent, StoredLink, StoredLog, StoredResource, StoredScope, StoredSpan,
    StoredStatus, StoredTrace,
};
pub(super) use self::stored_part::StoredPart;
pub use self::summary::{RootSpan, ServiceSpans, TraceSummary};

use self::index::{Added, Candidate, Entry, Index, RetentionClass};
use self::query::PreparedQuery;
use self::sampler::StoreSampler;

/// The inbox may take this fraction of the store's capacity.
const INBOX_SHARE: usize = 8;
/// How many parts are indexed under one lock.
const BATCH_SIZE: usize = 64;
/// How long the background task waits before it indexes the inbox.
const INBOX_DELAY: Duration = Duration::from_millis(20);
/// How often subscribers are notified.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(200);
/// The capacity of a subscriber's channel. A subscriber that is slower misses summaries.
const CHANNEL_CAPACITY: usize = 256;
/// How many traces a search examines before it releases the lock.
const SEARCH_STEPS: usize = 1024;
/// The most bytes of traces that are decoded for one answer, unless a single trace exceeds it.
const MAX_DECODED_BYTES: usize = 16 << 20;
/// The most candidates that are examined span by span without the lock at a time.
const MAX_CANDIDATES: usize = 64;

/// The store of recent traces.
pub struct TraceStore {
    /// The capacity in bytes; 0 turns the store off.
    capacity: usize,
    sampler: StoreSampler,
    inbox: Mutex<Inbox>,
    index: Mutex<Index>,
    arrived: Arc<Notify>,
    live: broadcast::Sender<Arc<TraceSummary>>,
    omitted: OmittedTraces,
}

#[derive(Default)]
struct Inbox {
    waiting: Vec<StoredPart>,
    bytes: usize,
}

/// How many traces were omitted, by reason.
#[derive(Default)]
struct OmittedTraces {
    sampled: AtomicU64,
    overflow: AtomicU64,
    too_large: AtomicU64,
    evicted: AtomicU64,
}

/// Statistics of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// The capacity in bytes; 0 if the store is turned off.
    pub capacity: usize,
    /// Bytes in use.
    pub bytes: usize,
    /// Stored traces.
    pub traces: usize,
    /// Stored traces that failed.
    pub failed: usize,
    /// Stored traces that were slow and did not fail.
    pub slow: usize,
    /// Traces that were not sampled because of load.
    pub sampled_out: u64,
    /// Traces that were omitted, completely or partly, because the inbox was full.
    pub overflowed: u64,
    /// Traces that were truncated because they are too large.
    pub too_large: u64,
    /// Traces that were evicted for newer ones.
    pub evicted: u64,
}

/// A span name of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The name.
    pub name: String,
    /// The kind, if the spans of this name have one.
    pub kind: Option<SpanKind>,
}

impl TraceStore {
    /// A store with this capacity in bytes. Without [`TraceStore::run`], parts are indexed only when a query asks for
    /// them.
    pub(super) fn new(capacity: usize) -> TraceStore {
        TraceStore {
            capacity,
            sampler: StoreSampler::new(capacity),
            inbox: Mutex::default(),
            index: Mutex::new(Index::new(capacity)),
            arrived: Arc::default(),
            live: broadcast::Sender::new(CHANNEL_CAPACITY),
            omitted: OmittedTraces::default(),
        }
    }

    /// Whether the store is turned on.
    pub fn is_on(&self) -> bool {
        self.capacity > 0
    }

    /// Adds a part of a trace to the inbox, unless it is not sampled or the inbox is full.
    pub(super) fn add(&self, part: StoredPart) {
        if self.capacity == 0 {
            return;
        }
        let bytes = part.bytes();
        if !self.sampler.admits(part.trace_id(), bytes, part.has_error(), Instant::now()) {
            return count(&self.omitted.sampled, part.ends_trace());
        }
        let mut inbox = self.inbox();
        if inbox.bytes + bytes > (self.capacity / INBOX_SHARE).max(1) && !inbox.waiting.is_empty() {
            drop(inbox);
            return count(&self.omitted.overflow, part.ends_trace());
        }
        let is_first = inbox.waiting.is_empty();
        inbox.bytes += bytes;
        inbox.waiting.push(part);
        drop(inbox);
        if is_first {
            self.arrived.notify_one();
        }
    }

    /// Indexes the contents of the inbox periodically, until the store is dropped.
    pub(super) async fn run(store: Weak<TraceStore>) {
        let Some(arrived) = store.upgrade().map(|store| store.arrived.clone()) else { return };
        let mut last_notified = Instant::now();
        loop {
            arrived.notified().await;
            loop {
                tokio::time::sleep(INBOX_DELAY).await;
                let Some(store) = store.upgrade() else { return };
                // A search may hold the lock for a moment, and this must not block a worker thread.
                while store.index_batch(TryLock) == BatchOutcome::More {
                    tokio::task::yield_now().await;
                }
                if last_notified.elapsed() >= NOTIFY_INTERVAL {
                    last_notified = Instant::now();
                    store.notify();
                }
                if store.is_idle() {
                    break;
                }
            }
        }
    }

    /// Subscribes to new and growing traces. A slow subscriber misses some, and under high load not all are sent.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<TraceSummary>> {
        self.live.subscribe()
    }

    /// The summaries of the matching traces, latest first.
    pub fn search(&self, query: &TraceQuery) -> Vec<TraceSummary> {
        let mut found: Vec<_> = self.matching(query).into_iter().map(|candidate| candidate.summary).collect();
        found.sort_by_key(|summary| std::cmp::Reverse(summary.start));
        found
    }

    /// The matching traces with all their spans. The earliest are left out if decoding all of them would take too much
    /// memory.
    pub fn find(&self, query: &TraceQuery) -> Vec<StoredTrace> {
        let mut found = self.matching(query);
        found.sort_by_key(|candidate| std::cmp::Reverse(candidate.summary.start));
        let mut bytes = 0_usize;
        let fitting = found.iter().take_while(|candidate| {
            let is_first = bytes == 0;
            bytes += candidate.bytes;
            is_first || bytes <= MAX_DECODED_BYTES
        });
        let fitting = fitting.count();
        found.truncate(fitting);
        found.into_iter().map(|found| decoded(found.summary.trace_id, &found.parts)).collect()
    }

    /// One trace.
    pub fn trace(&self, trace_id: TraceId) -> Option<StoredTrace> {
        self.index_inbox();
        let parts = self.index().parts(trace_id);
        (!parts.is_empty()).then(|| decoded(trace_id, &parts))
    }

    /// The summary of one trace.
    pub fn summary(&self, trace_id: TraceId) -> Option<TraceSummary> {
        self.index_inbox();
        self.index().summary(trace_id)
    }

    /// The services in the stored traces, sorted by name.
    pub fn services(&self) -> Vec<String> {
        self.index_inbox();
        self.index().services()
    }

    /// The span names of a service, of one kind or of any, sorted.
    pub fn operations(&self, service: &str, kind: Option<&SpanKind>) -> Vec<Operation> {
        self.index_inbox();
        let named = self.index().operations(service);
        let named = named.into_iter().filter(|(_, of)| kind.is_none_or(|kind| of.as_ref() == Some(kind)));
        named.map(|(name, kind)| Operation { name, kind }).collect()
    }

    /// The statistics of the store.
    pub fn stats(&self) -> StoreStats {
        self.index_inbox();
        let index = self.index();
        StoreStats {
            capacity: self.capacity,
            bytes: index.bytes(),
            traces: index.len(),
            failed: index.retained(RetentionClass::Failed).traces.len(),
            slow: index.retained(RetentionClass::Slow).traces.len(),
            sampled_out: self.omitted.sampled.load(Relaxed),
            overflowed: self.omitted.overflow.load(Relaxed),
            too_large: self.omitted.too_large.load(Relaxed),
            evicted: self.omitted.evicted.load(Relaxed),
        }
    }

    fn matching(&self, query: &TraceQuery) -> Vec<Candidate> {
        self.index_inbox();
        let prepared = PreparedQuery::new(query);
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        let (mut found, mut cursor) = (Vec::new(), Some(u64::MAX));
        while let Some(from) = cursor
            && found.len() < limit
        {
            let mut candidates = Vec::new();
            cursor = self.index().candidates(query, &prepared, from, (SEARCH_STEPS, MAX_CANDIDATES), &mut candidates);
            let fits = |found: &Candidate| {
                !prepared.needs_span_match() || found.likely.iter().any(|part| prepared.matches_part(part))
            };
            found.extend(candidates.into_iter().filter(fits));
        }
        found.truncate(limit);
        found
    }

    /// Indexes everything in the inbox.
    fn index_inbox(&self) {
        while self.index_batch(Wait) == BatchOutcome::More {}
    }

    /// Indexes one batch from the inbox.
    fn index_batch<'s>(&'s self, lock: impl Lock<'s>) -> BatchOutcome {
        let Some(mut index) = lock.lock(&self.index) else { return BatchOutcome::Busy };
        let (batch, more) = self.inbox().take(BATCH_SIZE);
        for part in batch {
            let first_cut = index.add(part) == Added::TraceFull;
            count(&self.omitted.too_large, first_cut);
        }
        let evicted = index.evict();
        drop(index);
        self.omitted.evicted.fetch_add(evicted.len() as u64, Relaxed);
        // Freeing evicted traces takes longer than removing them, so it happens outside the lock.
        drop::<Vec<Entry>>(evicted);
        if more { BatchOutcome::More } else { BatchOutcome::Drained }
    }

    /// Notifies subscribers.
    fn notify(&self) {
        let Some(mut index) = TryLock.lock(&self.index) else { return };
        let changed = index.changed();
        drop(index);
        if self.live.receiver_count() > 0 {
            changed.into_iter().for_each(|summary| _ = self.live.send(Arc::new(summary)));
        }
    }

    /// Whether the task may sleep until a part arrives.
    fn is_idle(&self) -> bool {
        self.inbox().waiting.is_empty() && TryLock.lock(&self.index).is_some_and(|index| !index.has_changed())
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TraceStore {
    fn drop(&mut self) {
        self.arrived.notify_one();
    }
}

/// The result of indexing one batch.
#[derive(PartialEq, Eq)]
enum BatchOutcome {
    Drained,
    More,
    /// The index is locked by another thread.
    Busy,
}

/// How the index is locked: blocking or not.
trait Lock<'s>: Copy {
    fn lock(self, index: &'s Mutex<Index>) -> Option<MutexGuard<'s, Index>>;
}

#[derive(Clone, Copy)]
struct Wait;

#[derive(Clone, Copy)]
struct TryLock;

impl<'s> Lock<'s> for Wait {
    fn lock(self, index: &'s Mutex<Index>) -> Option<MutexGuard<'s, Index>> {
        Some(index.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<'s> Lock<'s> for TryLock {
    fn lock(self, index: &'s Mutex<Index>) -> Option<MutexGuard<'s, Index>> {
        match index.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Inbox {
    /// Takes the first `most` parts, and returns whether there are more.
    fn take(&mut self, most: usize) -> (Vec<StoredPart>, bool) {
        if self.waiting.len() <= most {
            self.bytes = 0;
            return (std::mem::take(&mut self.waiting), false);
        }
        let batch: Vec<_> = self.waiting.drain(..most).collect();
        self.bytes = self.bytes.saturating_sub(batch.iter().map(StoredPart::bytes).sum());
        (batch, true)
    }
}

fn count(counter: &AtomicU64, happened: bool) {
    counter.fetch_add(u64::from(happened), Relaxed);
}

fn decoded(trace_id: TraceId, parts: &[StoredPart]) -> StoredTrace {
    StoredTrace { trace_id, groups: parts.iter().map(StoredPart::decode).collect() }
}
