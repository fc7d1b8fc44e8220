//! The traces that were finished last, for the console. Bounded in spans; the oldest trace goes first, as a whole.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{SpanId, TraceId};

use super::segment::{Finished, Segment, Span};
use super::store_sampler::StoreSampler;

/// One trace may fill this part of the store. After that its own oldest segments go.
const SHARE: usize = 4;

/// The store of recent traces.
pub struct TraceStore {
    /// The most spans that are held; 0 holds none.
    capacity: usize,
    sampler: StoreSampler,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// In the order in which the traces were first heard of.
    order: VecDeque<TraceId>,
    traces: HashMap<TraceId, Parts, foldhash::fast::RandomState>,
    weight: usize,
}

/// What is held of one trace.
#[derive(Default)]
struct Parts {
    segments: VecDeque<Finished>,
    weight: usize,
}

/// One trace, as far as it ran through this host and is still held.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its id.
    pub trace_id: TraceId,
    /// Its segments, in no promised order.
    pub segments: Vec<Arc<Segment>>,
}

/// Which traces are asked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Only traces with a span of this service.
    pub service: Option<String>,
    /// Only traces in which such a span has this name.
    pub operation: Option<String>,
    /// Only traces that took at least this long.
    pub min_duration: Option<Duration>,
    /// Only traces that took at most this long.
    pub max_duration: Option<Duration>,
    /// Only traces that began at this time or later.
    pub after: Option<SystemTime>,
    /// Only traces that began at this time or earlier.
    pub before: Option<SystemTime>,
    /// Only traces in which something failed.
    pub errors_only: bool,
    /// At most this many, the latest first; 0 is as many as there are.
    pub limit: usize,
}

impl TraceStore {
    pub(super) fn new(capacity: usize) -> TraceStore {
        TraceStore { capacity, sampler: StoreSampler::new(capacity), held: Mutex::default() }
    }

    pub(super) fn add(&self, finished: Finished) {
        if self.capacity == 0 || !self.sampler.takes(finished.segment.trace_id, finished.weight, Instant::now()) {
            return;
        }
        let mut held = self.lock();
        let gone = held.add(finished, self.capacity);
        // Freeing takes longer than forgetting, and others wait for the lock.
        drop(held);
        drop(gone);
    }

    /// The segments of one trace that are held.
    pub fn segments(&self, trace_id: TraceId) -> Vec<Arc<Segment>> {
        self.lock().traces.get(&trace_id).map(Parts::shared).unwrap_or_default()
    }

    /// One trace.
    pub fn trace(&self, trace_id: TraceId) -> Option<Trace> {
        let segments = self.segments(trace_id);
        (!segments.is_empty()).then_some(Trace { trace_id, segments })
    }

    /// The traces that fit a query, the latest first.
    pub fn find(&self, query: &Query) -> Vec<Trace> {
        let held: Vec<_> = {
            let held = self.lock();
            held.traces.iter().map(|(id, parts)| Trace { trace_id: *id, segments: parts.shared() }).collect()
        };
        let mut found: Vec<_> = held.into_iter().filter(|trace| query.fits(trace)).collect();
        found.sort_by_cached_key(|trace| std::cmp::Reverse(trace.start()));
        if query.limit > 0 {
            found.truncate(query.limit);
        }
        found
    }

    /// The services that the held traces ran through, in order of name.
    pub fn services(&self) -> Vec<String> {
        let held = self.lock();
        let segments = held.traces.values().flat_map(|parts| &parts.segments);
        let names: BTreeSet<_> = segments.map(|finished| finished.segment.resource.name()).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Adds a segment and gives back what has to go for it.
    fn add(&mut self, finished: Finished, capacity: usize) -> Vec<Finished> {
        let trace = finished.segment.trace_id;
        let parts = self.traces.entry(trace).or_default();
        if parts.segments.is_empty() {
            self.order.push_back(trace);
        }
        self.weight += finished.weight;
        parts.weight += finished.weight;
        parts.segments.push_back(finished);
        let mut gone = Vec::new();
        while parts.weight > capacity / SHARE && parts.segments.len() > 1 {
            let Some(oldest) = parts.segments.pop_front() else { break };
            parts.weight -= oldest.weight;
            self.weight -= oldest.weight;
            gone.push(oldest);
        }
        while self.weight > capacity {
            let Some(oldest) = self.order.pop_front() else { break };
            let Some(parts) = self.traces.remove(&oldest) else { continue };
            self.weight -= parts.weight;
            gone.extend(parts.segments);
        }
        gone
    }
}

impl Parts {
    fn shared(&self) -> Vec<Arc<Segment>> {
        self.segments.iter().map(|finished| finished.segment.clone()).collect()
    }
}

impl Trace {
    /// Every span with its segment.
    pub fn spans(&self) -> impl Iterator<Item = (&Arc<Segment>, &Span)> {
        self.segments.iter().flat_map(|segment| segment.spans.iter().map(move |span| (segment, span)))
    }

    /// The span whose parent is not in this trace, the earliest where there are several.
    pub fn root(&self) -> Option<(&Arc<Segment>, &Span)> {
        let ids: HashSet<SpanId> = self.spans().map(|(_, span)| span.span_id).collect();
        self.spans().filter(|(_, span)| !ids.contains(&span.parent)).min_by_key(|(_, span)| span.start)
    }

    /// When the first span began.
    pub fn start(&self) -> SystemTime {
        self.spans().map(|(_, span)| span.start).min().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// From the beginning of the first span to the end of the last.
    pub fn duration(&self) -> Duration {
        let end = self.spans().map(|(_, span)| span.start + span.duration).max();
        end.and_then(|end| end.duration_since(self.start()).ok()).unwrap_or_default()
    }
}

impl Query {
    fn fits(&self, trace: &Trace) -> bool {
        let (start, duration) = (trace.start(), trace.duration());
        self.min_duration.is_none_or(|least| duration >= least)
            && self.max_duration.is_none_or(|most| duration <= most)
            && self.after.is_none_or(|after| start >= after)
            && self.before.is_none_or(|before| start <= before)
            && (!self.errors_only || trace.segments.iter().any(|segment| segment.has_error()))
            && self.names(trace)
    }

    fn names(&self, trace: &Trace) -> bool {
        trace.spans().any(|(segment, span)| {
            self.service.as_deref().is_none_or(|service| service == segment.resource.name())
                && self.operation.as_deref().is_none_or(|operation| operation == span.name)
        })
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::SpanKind;

    use super::*;
    use crate::trace::segment::Status;
    use crate::trace::tests::{segment, span};

    fn add(recent: &TraceStore, service: &str, trace: u128, parent: u64, change: impl FnOnce(&mut Segment)) {
        let mut made = segment(service, trace, vec![span(parent + 1, parent, "GET /", SpanKind::Server)]);
        change(&mut made);
        recent.add(Finished { weight: made.spans.len(), segment: Arc::new(made) });
    }

    fn ids(recent: &TraceStore, query: Query) -> Vec<u128> {
        let id = |trace: Trace| u128::from_be_bytes(trace.trace_id.to_bytes());
        recent.find(&query).into_iter().map(id).collect()
    }

    #[test]
    fn segments_of_a_trace_are_found_together() {
        let recent = TraceStore::new(100);
        add(&recent, "product", 1, 1, |_| ());
        add(&recent, "user", 1, 0, |_| ());
        let trace = recent.trace(TraceId::from(1_u128)).unwrap();
        assert_eq!(trace.spans().count(), 2);
        assert_eq!(trace.root().unwrap().0.resource.name(), "user");
        assert_eq!(recent.services(), ["product", "user"]);
    }

    #[test]
    fn the_oldest_trace_goes_first_and_whole() {
        let recent = TraceStore::new(8);
        for trace in 1..=5 {
            add(&recent, "product", trace, 1, |_| ());
            add(&recent, "user", trace, 0, |_| ());
        }
        assert!(recent.trace(TraceId::from(1_u128)).is_none());
        assert_eq!(ids(&recent, Query::default()).len(), 4);
        assert!(recent.find(&Query::default()).iter().all(|trace| trace.segments.len() == 2));
    }

    #[test]
    fn one_endless_trace_does_not_push_out_all_others() {
        let recent = TraceStore::new(8);
        add(&recent, "user", 1, 0, |_| ());
        for _ in 0..100 {
            add(&recent, "user", 2, 0, |_| ());
        }
        assert!(recent.trace(TraceId::from(1_u128)).is_some());
        assert_eq!(recent.segments(TraceId::from(2_u128)).len(), 2);
    }

    #[test]
    fn queries_choose_by_service_name_duration_and_outcome() {
        let recent = TraceStore::new(100);
        let second = Duration::from_secs(1);
        add(&recent, "user", 1, 0, |segment| segment.spans[0].duration = second);
        add(&recent, "user", 2, 0, |segment| segment.spans[0].status = Status::Error(String::new()));
        add(&recent, "product", 3, 0, |segment| segment.spans[0].start += second);
        let query = |change: fn(&mut Query)| {
            let mut query = Query::default();
            change(&mut query);
            ids(&recent, query)
        };
        assert_eq!(query(|query| query.min_duration = Some(Duration::from_millis(500))), [1]);
        assert_eq!(query(|query| query.errors_only = true), [2]);
        assert_eq!(query(|query| query.service = Some("product".to_owned())), [3]);
        assert!(query(|query| query.operation = Some("GET /other".to_owned())).is_empty());
        assert_eq!(query(|query| query.limit = 1), [3], "the latest comes first");
    }

    #[test]
    fn a_store_without_room_holds_nothing() {
        let recent = TraceStore::new(0);
        add(&recent, "user", 1, 0, |_| ());
        assert!(recent.find(&Query::default()).is_empty());
    }
}
