//! The tail rule: the local part of a trace is held until it ends, then kept or dropped as one.
//!
//! What is held is bounded. Where there is more than that, the trace that was held longest is kept: better too much
//! than a failure that nobody sees.

use std::collections::VecDeque;
use std::sync::Arc;

use opentelemetry::trace::TraceId;

use super::segment::Segment;
use super::settings::Keep;

/// Holds traces until they end.
pub(super) struct Keeper {
    rule: Keep,
    /// The most spans that are held.
    capacity: usize,
    held: VecDeque<(TraceId, Vec<Arc<Segment>>)>,
    spans: usize,
}

impl Keeper {
    pub fn new(rule: Keep, capacity: usize) -> Keeper {
        Keeper { rule, capacity, held: VecDeque::new(), spans: 0 }
    }

    /// Takes a segment and gives back those whose traces are decided to be kept.
    pub fn take(&mut self, segment: Arc<Segment>) -> Vec<Arc<Segment>> {
        if !segment.sampled {
            return vec![segment];
        }
        let (trace, ends) = (segment.trace_id, segment.is_local_root());
        self.spans += segment.spans.len();
        match self.held.iter_mut().find(|(held, _)| *held == trace) {
            Some((_, segments)) => segments.push(segment),
            None => self.held.push_back((trace, vec![segment])),
        }
        let mut kept = Vec::new();
        if ends && let Some(at) = self.held.iter().position(|(held, _)| *held == trace) {
            let segments = self.forget(at);
            match self.keeps(&segments) {
                true => kept.extend(segments),
                // Log records are not sampled: they go out without their spans.
                false => kept.extend(segments.iter().filter_map(only_logs)),
            }
        }
        while self.spans > self.capacity && !self.held.is_empty() {
            kept.extend(self.forget(0));
        }
        kept
    }

    /// Gives back everything that is held, when the host stops.
    pub fn flush(&mut self) -> Vec<Arc<Segment>> {
        self.spans = 0;
        std::mem::take(&mut self.held).into_iter().flat_map(|(_, segments)| segments).collect()
    }

    fn forget(&mut self, at: usize) -> Vec<Arc<Segment>> {
        let segments = self.held.remove(at).map(|(_, segments)| segments).unwrap_or_default();
        self.spans -= segments.iter().map(|segment| segment.spans.len()).sum::<usize>();
        segments
    }

    fn keeps(&self, segments: &[Arc<Segment>]) -> bool {
        let slow = |segment: &Arc<Segment>| {
            let limit = self.rule.slower_than;
            limit.is_some_and(|limit| segment.root().is_some_and(|root| root.duration > limit))
        };
        (self.rule.errors && segments.iter().any(|segment| segment.has_error()))
            || segments.iter().any(slow)
            || fastrand::f64() < self.rule.rate
    }
}

fn only_logs(segment: &Arc<Segment>) -> Option<Arc<Segment>> {
    let (spans, shared) = (Vec::new(), Vec::new());
    let logs = Segment { sampled: false, spans, shared, ..Segment::clone(segment) };
    (!segment.logs.is_empty()).then(|| Arc::new(logs))
}
