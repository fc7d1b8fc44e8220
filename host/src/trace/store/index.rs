//! The stored traces and their indexes: by id, by service and span name, and by retention class.
//!
//! Traces are numbered in order of arrival. Every index is a sorted set of these numbers, so that the latest traces
//! come first without sorting, and a search can iterate over the smallest of several sets.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use opentelemetry::trace::{SpanKind, TraceId};

use super::latency_baseline::LatencyBaseline;
use super::query::{PreparedQuery, TraceQuery};
use super::stored_part::{SpanView, StoredPart, kind_name};
use super::summary::TraceSummary;

/// One trace may take this fraction of the store. Later parts of it are left out.
const TRACE_SHARE: usize = 4;
/// Failed traces, and slow ones, are each kept up to this fraction of the store, however old they are.
const RETAINED_SHARE: usize = 4;
/// The overhead of the index for one trace: its entries in maps and sets.
const PER_TRACE: usize = 512;
/// The overhead for one part.
const PER_PART: usize = 128;
/// The overhead for a span name that no other trace has: a map entry with its vector, and the first node of a set.
const PER_OPERATION: usize = 256 + size_of::<IndexedOperation>();
/// How many changed traces are remembered for subscribers.
const MAX_CHANGED: usize = 64;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
type Numbers = BTreeSet<u64>;

/// The retention class of a trace: how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RetentionClass {
    Plain,
    Slow,
    Failed,
}

/// One trace.
pub(super) struct Entry {
    pub summary: TraceSummary,
    parts: Vec<IndexedPart>,
    bytes: usize,
    class: RetentionClass,
}

struct IndexedPart {
    stored: StoredPart,
    tag_hashes: Box<[u32]>,
}

/// The result of adding a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    Yes,
    /// The trace is too large. This is the first part of it that is left out.
    TraceFull,
    /// The trace is too large, and parts of it were left out before.
    TraceStillFull,
}

#[derive(Default)]
pub(super) struct Index {
    capacity: usize,
    bytes: usize,
    next: u64,
    numbers: Map<TraceId, u64>,
    entries: BTreeMap<u64, Entry>,
    services: Map<Arc<str>, IndexedService>,
    plain: RetainedTraces,
    slow: RetainedTraces,
    failed: RetainedTraces,
    changed: VecDeque<u64>,
}

/// The traces of one retention class.
#[derive(Default)]
pub(super) struct RetainedTraces {
    pub traces: Numbers,
    pub bytes: usize,
}

#[derive(Default)]
struct IndexedService {
    traces: Numbers,
    operations: Map<Box<str>, Vec<IndexedOperation>>,
}

/// Spans of one name and kind.
struct IndexedOperation {
    kind: Option<SpanKind>,
    traces: Numbers,
    latency: LatencyBaseline,
}

/// A candidate for a search, shared so that it can be examined without the lock.
pub(super) struct Candidate {
    pub summary: TraceSummary,
    pub bytes: usize,
    pub parts: Vec<StoredPart>,
    /// The parts that may contain the wanted span.
    pub likely: Vec<StoredPart>,
}

impl Index {
    pub fn new(capacity: usize) -> Index {
        Index { capacity, ..Index::default() }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn retained(&self, class: RetentionClass) -> &RetainedTraces {
        match class {
            RetentionClass::Plain => &self.plain,
            RetentionClass::Slow => &self.slow,
            RetentionClass::Failed => &self.failed,
        }
    }

    fn retained_mut(&mut self, class: RetentionClass) -> &mut RetainedTraces {
        match class {
            RetentionClass::Plain => &mut self.plain,
            RetentionClass::Slow => &mut self.slow,
            RetentionClass::Failed => &mut self.failed,
        }
    }

    /// Adds a part to its trace.
    pub fn add(&mut self, part: StoredPart) -> Added {
        let id = part.trace_id();
        let number = *self.numbers.entry(id).or_insert_with(|| {
            self.next += 1;
            self.next
        });
        let entry = self.entries.entry(number).or_insert_with(|| Entry::new(id));
        let tag_hashes = part.tag_hashes();
        let mut bytes = part.bytes() + tag_hashes.len() * size_of::<u32>() + PER_PART;
        if entry.parts.is_empty() {
            bytes += PER_TRACE;
        } else if entry.bytes + bytes > self.capacity / TRACE_SHARE {
            return if std::mem::replace(&mut entry.summary.is_cut, true) {
                Added::TraceStillFull
            } else {
                Added::TraceFull
            };
        }
        let (before, class) = (entry.bytes, entry.class);
        let indexed = index_spans(&mut self.services, &part, number);
        let owned = entry.summary.bytes();
        entry.summary.add(&part, &indexed.service);
        entry.bytes += bytes + indexed.bytes + entry.summary.bytes().saturating_sub(owned);
        entry.parts.push(IndexedPart { stored: part, tag_hashes });
        entry.class = entry.updated_class(indexed.is_slow);
        let (after, now) = (entry.bytes, entry.class);
        self.bytes += after - before;
        self.reclassify(number, (class, before), (now, after));
        self.mark_changed(number);
        Added::Yes
    }

    fn reclassify(
        &mut self,
        number: u64,
        (from, before): (RetentionClass, usize),
        (to, after): (RetentionClass, usize),
    ) {
        let retained = self.retained_mut(from);
        retained.traces.remove(&number);
        retained.bytes -= before;
        let retained = self.retained_mut(to);
        retained.traces.insert(number);
        retained.bytes += after;
    }

    fn mark_changed(&mut self, number: u64) {
        if self.changed.back() == Some(&number) {
            return;
        }
        if self.changed.len() >= MAX_CHANGED {
            self.changed.pop_front();
        }
        self.changed.push_back(number);
    }

    /// Whether there are changes to send to subscribers.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The traces that have changed since the last call; only the latest of them if there were many.
    pub fn changed(&mut self) -> Vec<TraceSummary> {
        let numbers: BTreeSet<u64> = self.changed.drain(..).collect();
        numbers.iter().filter_map(|number| Some(self.entries.get(number)?.summary.clone())).collect()
    }

    /// Removes traces until the store fits its capacity: whole traces, oldest first. Failed and slow ones are removed
    /// before the others only if they exceed their share.
    pub fn evict(&mut self) -> Vec<Entry> {
        let mut evicted = Vec::new();
        while self.bytes > self.capacity {
            let Some(number) = self.oldest() else { break };
            evicted.extend(self.remove(number));
        }
        evicted
    }

    fn oldest(&self) -> Option<u64> {
        let share = self.capacity / RETAINED_SHARE;
        let over = [&self.failed, &self.slow].into_iter().filter(|class| class.bytes > share);
        let first = over.chain([&self.plain, &self.slow, &self.failed]);
        first.filter_map(|class| class.traces.first()).next().copied()
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.numbers.remove(&entry.summary.trace_id);
        self.bytes -= entry.bytes;
        let retained = self.retained_mut(entry.class);
        retained.traces.remove(&number);
        retained.bytes -= entry.bytes;
        entry.parts.iter().for_each(|part| unindex_spans(&mut self.services, &part.stored, number));
        Some(entry)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The parts of one trace.
    pub fn parts(&self, id: TraceId) -> Vec<StoredPart> {
        let entry = self.numbers.get(&id).and_then(|number| self.entries.get(number));
        entry.map(Entry::parts).unwrap_or_default()
    }

    /// The summary of one trace.
    pub fn summary(&self, id: TraceId) -> Option<TraceSummary> {
        Some(self.entries.get(self.numbers.get(&id)?)?.summary.clone())
    }

    /// The services, in order of name.
    pub fn services(&self) -> Vec<String> {
        let mut names: Vec<_> = self.services.keys().map(|name| String::from(&**name)).collect();
        names.sort_unstable();
        names
    }

    /// The span names of a service with their kinds, sorted.
    pub fn operations(&self, service: &str) -> Vec<(String, Option<SpanKind>)> {
        let Some(service) = self.services.get(service) else { return Vec::new() };
        let operations = service.operations.iter();
        let named =
            operations.flat_map(|(name, kinds)| kinds.iter().map(|each| (String::from(&**name), each.kind.clone())));
        let mut named: Vec<_> = named.collect();
        named.sort_unstable_by(|a, b| (&a.0, a.1.as_ref().map(kind_name)).cmp(&(&b.0, b.1.as_ref().map(kind_name))));
        named
    }

    /// Visits at most `steps` traces below `cursor`, latest first, and collects at most `most` that may match. Returns
    /// the cursor to continue with, if there are more.
    pub fn candidates(
        &self,
        query: &TraceQuery,
        prepared: &PreparedQuery<'_>,
        cursor: u64,
        (steps, most): (usize, usize),
        found: &mut Vec<Candidate>,
    ) -> Option<u64> {
        let mut left = steps;
        for number in self.numbers_for(query, cursor) {
            if left == 0 || found.len() >= most {
                return Some(number + 1);
            }
            left -= 1;
            if let Some(entry) = self.entries.get(&number) {
                found.extend(entry.candidate(prepared));
            }
        }
        None
    }

    /// The smallest index that contains every matching trace, latest first.
    fn numbers_for(&self, query: &TraceQuery, cursor: u64) -> Box<dyn Iterator<Item = u64> + '_> {
        let failed = query.errors_only.then_some(&self.failed.traces);
        let Some(service) = &query.service else {
            return match failed {
                Some(failed) => Box::new(failed.range(..cursor).rev().copied()),
                None => Box::new(self.entries.range(..cursor).rev().map(|(number, _)| *number)),
            };
        };
        let Some(service) = self.services.get(service.as_str()) else { return Box::new(std::iter::empty()) };
        let narrow = match &query.operation {
            None => Some(&service.traces),
            Some(operation) => match service.operations.get(operation.as_str()).map(Vec::as_slice) {
                None => return Box::new(std::iter::empty()),
                Some([only]) => Some(&only.traces),
                Some(_) => Some(&service.traces),
            },
        };
        let sets = [narrow, failed].into_iter().flatten();
        match sets.min_by_key(|set| set.len()) {
            Some(smallest) => Box::new(smallest.range(..cursor).rev().copied()),
            None => Box::new(std::iter::empty()),
        }
    }

    /// Visits the parts of the traces below `cursor` that overlap the time range, latest first, `most` traces per call.
    pub fn walk(&self, cursor: u64, most: usize, visit: &mut dyn FnMut(&TraceSummary, Vec<StoredPart>)) -> Option<u64> {
        let mut left = most;
        for (number, entry) in self.entries.range(..cursor).rev() {
            if left == 0 {
                return Some(number + 1);
            }
            left -= 1;
            visit(&entry.summary, entry.parts());
        }
        None
    }
}

impl Entry {
    fn new(id: TraceId) -> Entry {
        Entry { summary: TraceSummary::empty(id), parts: Vec::new(), bytes: 0, class: RetentionClass::Plain }
    }

    fn updated_class(&self, slow: bool) -> RetentionClass {
        let least = if slow { RetentionClass::Slow } else { RetentionClass::Plain };
        let failed = if self.summary.errors > 0 { RetentionClass::Failed } else { RetentionClass::Plain };
        self.class.max(least).max(failed)
    }

    fn parts(&self) -> Vec<StoredPart> {
        self.parts.iter().map(|part| part.stored.clone()).collect()
    }

    fn candidate(&self, prepared: &PreparedQuery<'_>) -> Option<Candidate> {
        if !prepared.may_match(&self.summary) {
            return None;
        }
        let likely = self.parts.iter().filter(|part| prepared.may_match_part(&part.tag_hashes));
        let likely: Vec<_> = likely.map(|part| part.stored.clone()).collect();
        (!likely.is_empty()).then(|| Candidate {
            summary: self.summary.clone(),
            bytes: self.bytes,
            parts: self.parts(),
            likely,
        })
    }
}

/// The result of indexing a part under its service.
struct IndexedSpans {
    /// The service's name.
    service: Arc<str>,
    /// Whether the request was slow compared with others of its name.
    is_slow: bool,
    /// The memory that new span names take.
    bytes: usize,
}

/// Indexes the spans of a part under its service.
fn index_spans(services: &mut Map<Arc<str>, IndexedService>, part: &StoredPart, number: u64) -> IndexedSpans {
    let name = match services.get_key_value(part.service()) {
        Some((name, _)) => name.clone(),
        None => Arc::from(part.service()),
    };
    let service = services.entry(name.clone()).or_default();
    service.traces.insert(number);
    let mut bytes = 0;
    for span in part.spans() {
        let operation = service.operation(span);
        if operation.traces.is_empty() {
            bytes += span.name().len() + PER_OPERATION;
        }
        operation.traces.insert(number);
    }
    let is_slow = part.root().is_some_and(|root| service.operation(root).latency.observe(root.duration()));
    IndexedSpans { service: name, is_slow, bytes }
}

fn unindex_spans(services: &mut Map<Arc<str>, IndexedService>, part: &StoredPart, number: u64) {
    let Some(service) = services.get_mut(part.service()) else { return };
    service.traces.remove(&number);
    for span in part.spans() {
        let Some(kinds) = service.operations.get_mut(span.name()) else { continue };
        kinds.iter_mut().for_each(|each| _ = each.traces.remove(&number));
        kinds.retain(|each| !each.traces.is_empty());
        if kinds.is_empty() {
            service.operations.remove(span.name());
        }
    }
    if service.traces.is_empty() {
        services.remove(part.service());
    }
}

impl IndexedService {
    fn operation(&mut self, span: SpanView<'_>) -> &mut IndexedOperation {
        let kinds = self.operations.entry(span.name().into()).or_default();
        let known = kinds.iter().position(|each| each.kind.as_ref() == span.kind());
        let at = known.unwrap_or_else(|| {
            kinds.push(IndexedOperation {
                kind: span.kind().cloned(),
                traces: Numbers::new(),
                latency: LatencyBaseline::default(),
            });
            kinds.len() - 1
        });
        &mut kinds[at]
    }
}

#[cfg(test)]
impl Index {
    /// Checks that every number refers to a trace and that the counters are correct.
    pub fn check(&self) {
        assert_eq!(self.bytes, self.entries.values().map(|entry| entry.bytes).sum::<usize>());
        assert_eq!(self.numbers.len(), self.entries.len());
        let retained =
            [RetentionClass::Plain, RetentionClass::Slow, RetentionClass::Failed].map(|class| self.retained(class));
        assert_eq!(self.bytes, retained.iter().map(|class| class.bytes).sum::<usize>());
        assert_eq!(self.entries.len(), retained.iter().map(|class| class.traces.len()).sum::<usize>());
        for service in self.services.values() {
            let sets = service.operations.values().flatten().map(|operation| &operation.traces);
            let mut sets = sets.chain([&service.traces]);
            assert!(sets.all(|set| !set.is_empty() && set.iter().all(|number| self.entries.contains_key(number))));
        }
    }
}
