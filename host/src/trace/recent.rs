//! The traces that were finished last, for the console. Bounded in spans; the oldest segment goes first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanId, TraceId};

use super::segment::{Segment, Span};

/// The store of recent traces.
pub struct Recent {
    /// The most spans that are held; 0 holds none.
    capacity: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// In the order in which the segments came.
    order: VecDeque<Arc<Segment>>,
    traces: HashMap<TraceId, Vec<Arc<Segment>>>,
    spans: usize,
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

impl Recent {
    pub(super) fn new(capacity: usize) -> Recent {
        Recent { capacity, held: Mutex::default() }
    }

    pub(super) fn add(&self, segment: Arc<Segment>) {
        if self.capacity == 0 {
            return;
        }
        let mut guard = self.lock();
        let held = &mut *guard;
        held.spans += segment.spans.len();
        held.traces.entry(segment.trace_id).or_default().push(segment.clone());
        held.order.push_back(segment);
        let mut gone = Vec::new();
        while held.spans > self.capacity {
            let Some(oldest) = held.order.pop_front() else { break };
            held.spans -= oldest.spans.len();
            if let Some(segments) = held.traces.get_mut(&oldest.trace_id) {
                segments.retain(|segment| !Arc::ptr_eq(segment, &oldest));
                if segments.is_empty() {
                    held.traces.remove(&oldest.trace_id);
                }
            }
            gone.push(oldest);
        }
        // Freeing takes longer than forgetting, and others wait for the lock.
        drop(guard);
        drop(gone);
    }

    /// The segments of one trace that are held.
    pub fn segments(&self, trace_id: TraceId) -> Vec<Arc<Segment>> {
        self.lock().traces.get(&trace_id).cloned().unwrap_or_default()
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
            held.traces.iter().map(|(id, segments)| Trace { trace_id: *id, segments: segments.clone() }).collect()
        };
        let mut found: Vec<_> = held.into_iter().filter(|trace| query.fits(trace)).collect();
        found.sort_by_key(|trace| std::cmp::Reverse(trace.start()));
        if query.limit > 0 {
            found.truncate(query.limit);
        }
        found
    }

    /// The services that the held traces ran through, in order of name.
    pub fn services(&self) -> Vec<String> {
        let held = self.lock();
        let names: std::collections::BTreeSet<_> = held.order.iter().map(|segment| segment.source.name()).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trace {
    /// Every span with its segment.
    pub fn spans(&self) -> impl Iterator<Item = (&Arc<Segment>, &Span)> {
        self.segments.iter().flat_map(|segment| segment.spans.iter().map(move |span| (segment, span)))
    }

    /// The span whose parent is not in this trace, the earliest where there are several.
    pub fn root(&self) -> Option<(&Arc<Segment>, &Span)> {
        let ids: std::collections::HashSet<SpanId> = self.spans().map(|(_, span)| span.span_id).collect();
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
            self.service.as_deref().is_none_or(|service| service == segment.source.name())
                && self.operation.as_deref().is_none_or(|operation| operation == span.name)
        })
    }
}
