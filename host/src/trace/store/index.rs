//! The stored traces and their indexes: by id, by service and span name, and by retention class.
//!
//! Traces are numbered in order of arrival. Every index is a sorted set of these numbers, so that the latest traces
//! come first without sorting, and a search can iterate over the smallest of several sets.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use opentelemetry::trace::{SpanKind, TraceId};

use super::held::{Held, SpanView, kind_name};
use super::pace::Pace;
use super::query::{Sieve, TraceQuery};
use super::summary::TraceSummary;

/// One trace may take this fraction of the store. Later parts of it are left out.
const TRACE_SHARE: usize = 4;
/// Failed traces, and slow ones, are each kept up to this fraction of the store, however old they are.
const KEPT_SHARE: usize = 4;
/// The overhead of the index for one trace: its entries in maps and sets.
const PER_TRACE: usize = 512;
/// The overhead for one part.
const PER_PART: usize = 128;
/// The overhead for a span name that no other trace has: a map entry with its vector, and the first node of a set.
const PER_OPERATION: usize = 256 + size_of::<Operation>();
/// How many changed traces are remembered for subscribers.
const CHANGED: usize = 64;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
type Numbers = BTreeSet<u64>;

/// The retention class of a trace: how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    Plain,
    Slow,
    Failed,
}

/// One trace.
pub(super) struct Entry {
    pub summary: TraceSummary,
    parts: Vec<Part>,
    bytes: usize,
    worth: Worth,
}

struct Part {
    held: Held,
    terms: Box<[u32]>,
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
    services: Map<Arc<str>, Service>,
    plain: Kept,
    slow: Kept,
    failed: Kept,
    changed: VecDeque<u64>,
}

/// The traces of one retention class.
#[derive(Default)]
pub(super) struct Kept {
    pub traces: Numbers,
    pub bytes: usize,
}

#[derive(Default)]
struct Service {
    traces: Numbers,
    operations: Map<Box<str>, Vec<Operation>>,
}

/// Spans of one name and kind.
struct Operation {
    kind: Option<SpanKind>,
    traces: Numbers,
    pace: Pace,
}

/// A candidate for a search, shared so that it can be examined without the lock.
pub(super) struct Candidate {
    pub summary: TraceSummary,
    pub bytes: usize,
    pub parts: Vec<Held>,
    /// The parts that may contain the wanted span.
    pub likely: Vec<Held>,
}

impl Index {
    pub fn new(capacity: usize) -> Index {
        Index { capacity, ..Index::default() }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn kept(&self, worth: Worth) -> &Kept {
        match worth {
            Worth::Plain => &self.plain,
            Worth::Slow => &self.slow,
            Worth::Failed => &self.failed,
        }
    }

    fn kept_mut(&mut self, worth: Worth) -> &mut Kept {
        match worth {
            Worth::Plain => &mut self.plain,
            Worth::Slow => &mut self.slow,
            Worth::Failed => &mut self.failed,
        }
    }

    /// Adds a part to its trace.
    pub fn add(&mut self, held: Held) -> Added {
        let id = held.trace_id();
        let number = *self.numbers.entry(id).or_insert_with(|| {
            self.next += 1;
            self.next
        });
        let entry = self.entries.entry(number).or_insert_with(|| Entry::new(id));
        let terms = held.terms();
        let mut bytes = held.bytes() + terms.len() * size_of::<u32>() + PER_PART;
        if entry.parts.is_empty() {
            bytes += PER_TRACE;
        } else if entry.bytes + bytes > self.capacity / TRACE_SHARE {
            return if std::mem::replace(&mut entry.summary.is_cut, true) {
                Added::TraceStillFull
            } else {
                Added::TraceFull
            };
        }
        let (before, worth) = (entry.bytes, entry.worth);
        let entered = enter(&mut self.services, &held, number);
        let owned = entry.summary.bytes();
        entry.summary.add(&held, &entered.service);
        entry.bytes += bytes + entered.bytes + entry.summary.bytes().saturating_sub(owned);
        entry.parts.push(Part { held, terms });
        entry.worth = entry.worth_now(entered.is_slow);
        let (after, now) = (entry.bytes, entry.worth);
        self.bytes += after - before;
        self.move_between(number, (worth, before), (now, after));
        self.note(number);
        Added::Yes
    }

    fn move_between(&mut self, number: u64, (from, before): (Worth, usize), (to, after): (Worth, usize)) {
        let kept = self.kept_mut(from);
        kept.traces.remove(&number);
        kept.bytes -= before;
        let kept = self.kept_mut(to);
        kept.traces.insert(number);
        kept.bytes += after;
    }

    fn note(&mut self, number: u64) {
        if self.changed.back() == Some(&number) {
            return;
        }
        if self.changed.len() >= CHANGED {
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
        let mut gone = Vec::new();
        while self.bytes > self.capacity {
            let Some(number) = self.oldest() else { break };
            gone.extend(self.remove(number));
        }
        gone
    }

    fn oldest(&self) -> Option<u64> {
        let share = self.capacity / KEPT_SHARE;
        let over = [&self.failed, &self.slow].into_iter().filter(|kept| kept.bytes > share);
        let first = over.chain([&self.plain, &self.slow, &self.failed]);
        first.filter_map(|kept| kept.traces.first()).next().copied()
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.numbers.remove(&entry.summary.trace_id);
        self.bytes -= entry.bytes;
        let kept = self.kept_mut(entry.worth);
        kept.traces.remove(&number);
        kept.bytes -= entry.bytes;
        entry.parts.iter().for_each(|part| leave(&mut self.services, &part.held, number));
        Some(entry)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The parts of one trace.
    pub fn parts(&self, id: TraceId) -> Vec<Held> {
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
        sieve: &Sieve<'_>,
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
                found.extend(entry.candidate(sieve));
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
    pub fn walk(&self, cursor: u64, most: usize, visit: &mut dyn FnMut(&TraceSummary, Vec<Held>)) -> Option<u64> {
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
        Entry { summary: TraceSummary::empty(id), parts: Vec::new(), bytes: 0, worth: Worth::Plain }
    }

    fn worth_now(&self, slow: bool) -> Worth {
        let least = if slow { Worth::Slow } else { Worth::Plain };
        let failed = if self.summary.errors > 0 { Worth::Failed } else { Worth::Plain };
        self.worth.max(least).max(failed)
    }

    fn parts(&self) -> Vec<Held> {
        self.parts.iter().map(|part| part.held.clone()).collect()
    }

    fn candidate(&self, sieve: &Sieve<'_>) -> Option<Candidate> {
        if !sieve.may_fit(&self.summary) {
            return None;
        }
        let likely = self.parts.iter().filter(|part| sieve.may_hold(&part.terms));
        let likely: Vec<_> = likely.map(|part| part.held.clone()).collect();
        (!likely.is_empty()).then(|| Candidate {
            summary: self.summary.clone(),
            bytes: self.bytes,
            parts: self.parts(),
            likely,
        })
    }
}

/// The result of indexing a part under its service.
struct Entered {
    /// The service's name.
    service: Arc<str>,
    /// Whether the request was slow compared with others of its name.
    is_slow: bool,
    /// The memory that new span names take.
    bytes: usize,
}

/// Indexes the spans of a part under its service.
fn enter(services: &mut Map<Arc<str>, Service>, held: &Held, number: u64) -> Entered {
    let name = match services.get_key_value(held.service()) {
        Some((name, _)) => name.clone(),
        None => Arc::from(held.service()),
    };
    let service = services.entry(name.clone()).or_default();
    service.traces.insert(number);
    let mut bytes = 0;
    for span in held.spans() {
        let operation = service.operation(span);
        if operation.traces.is_empty() {
            bytes += span.name().len() + PER_OPERATION;
        }
        operation.traces.insert(number);
    }
    let is_slow = held.root().is_some_and(|root| service.operation(root).pace.is_slow(root.duration()));
    Entered { service: name, is_slow, bytes }
}

fn leave(services: &mut Map<Arc<str>, Service>, held: &Held, number: u64) {
    let Some(service) = services.get_mut(held.service()) else { return };
    service.traces.remove(&number);
    for span in held.spans() {
        let Some(kinds) = service.operations.get_mut(span.name()) else { continue };
        kinds.iter_mut().for_each(|each| _ = each.traces.remove(&number));
        kinds.retain(|each| !each.traces.is_empty());
        if kinds.is_empty() {
            service.operations.remove(span.name());
        }
    }
    if service.traces.is_empty() {
        services.remove(held.service());
    }
}

impl Service {
    fn operation(&mut self, span: SpanView<'_>) -> &mut Operation {
        let kinds = self.operations.entry(span.name().into()).or_default();
        let known = kinds.iter().position(|each| each.kind.as_ref() == span.kind());
        let at = known.unwrap_or_else(|| {
            kinds.push(Operation { kind: span.kind().cloned(), traces: Numbers::new(), pace: Pace::default() });
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
        let kept = [Worth::Plain, Worth::Slow, Worth::Failed].map(|worth| self.kept(worth));
        assert_eq!(self.bytes, kept.iter().map(|kept| kept.bytes).sum::<usize>());
        assert_eq!(self.entries.len(), kept.iter().map(|kept| kept.traces.len()).sum::<usize>());
        for service in self.services.values() {
            let sets = service.operations.values().flatten().map(|operation| &operation.traces);
            let mut sets = sets.chain([&service.traces]);
            assert!(sets.all(|set| !set.is_empty() && set.iter().all(|number| self.entries.contains_key(number))));
        }
    }
}
