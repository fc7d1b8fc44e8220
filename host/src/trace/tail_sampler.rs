//! Tail sampling: the local part of a trace is held until all of it has ended, then kept or dropped as a whole.
//!
//! A trace has ended when none of its requests is in progress at this host: several may come from outside at once, and
//! a call may outlive its caller. The held spans are bounded: above the limit, the trace held longest is kept, since an
//! unneeded trace is better than a missed failure. Later segments of a kept trace are kept too.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TraceId;

use super::sampler;
use super::segment::{FinishedSegment, Segment};
use super::settings::TailPolicy;

/// The most ids of kept traces that are remembered.
const MAX_KEPT_IDS: usize = 4096;

/// The tail sampler.
pub(super) struct TailSampler {
    policy: TailPolicy,
    /// The most spans to hold.
    capacity: usize,
    /// The number of requests in progress, by trace.
    open: HashMap<TraceId, usize>,
    held: HashMap<TraceId, HeldTrace>,
    /// Traces in the order in which they were first held, with their numbers. Some may have been released already.
    order: VecDeque<(TraceId, u64)>,
    next_number: u64,
    weight: usize,
    kept: HashSet<TraceId>,
    /// The ids in `kept`, in the order of the decisions.
    decisions: VecDeque<TraceId>,
}

struct HeldTrace {
    /// Distinguishes this entry from an earlier one of the same trace.
    number: u64,
    segments: Vec<FinishedSegment>,
}

impl TailSampler {
    pub fn new(policy: TailPolicy, capacity: usize) -> TailSampler {
        TailSampler {
            policy,
            capacity,
            open: HashMap::new(),
            held: HashMap::new(),
            order: VecDeque::new(),
            next_number: 0,
            weight: 0,
            kept: HashSet::new(),
            decisions: VecDeque::new(),
        }
    }

    /// Registers a request of a sampled trace. Its segment must be passed to [`TailSampler::end`].
    pub fn begin(&mut self, trace: TraceId) {
        *self.open.entry(trace).or_default() += 1;
    }

    /// Registers the end of a request, and returns the segments of traces that are kept.
    pub fn end(&mut self, finished: FinishedSegment) -> Vec<FinishedSegment> {
        let trace = finished.segment.trace_id;
        if !finished.segment.sampled {
            return vec![finished];
        }
        let ends = self.end_request(trace);
        if self.kept.contains(&trace) {
            return vec![finished];
        }
        self.hold(trace, finished);
        let mut out = Vec::new();
        if ends {
            let segments = self.release(trace);
            let kept = self.keeps(trace, &segments);
            if kept {
                self.remember(trace);
            }
            out.extend(exported(kept, segments));
        }
        while self.weight > self.capacity {
            let Some((oldest, number)) = self.order.pop_front() else { break };
            if self.held.get(&oldest).is_some_and(|held| held.number == number) {
                out.extend(self.release(oldest));
                self.remember(oldest);
            }
        }
        out
    }

    /// Counts a request as ended, and returns whether it was the last one of its trace in progress.
    fn end_request(&mut self, trace: TraceId) -> bool {
        match self.open.get_mut(&trace) {
            Some(open) if *open > 1 => {
                *open -= 1;
                false
            }
            _ => {
                self.open.remove(&trace);
                true
            }
        }
    }

    /// Returns all held segments, when the host stops.
    pub fn flush(&mut self) -> Vec<FinishedSegment> {
        self.weight = 0;
        self.order.clear();
        self.held.drain().flat_map(|(_, held)| held.segments).collect()
    }

    fn hold(&mut self, trace: TraceId, finished: FinishedSegment) {
        self.weight += finished.weight;
        if let Some(held) = self.held.get_mut(&trace) {
            return held.segments.push(finished);
        }
        self.next_number += 1;
        self.held.insert(trace, HeldTrace { number: self.next_number, segments: vec![finished] });
        self.order.push_back((trace, self.next_number));
        // Released entries are removed from the order now and then, so that it stays bounded.
        if self.order.len() > 2 * self.held.len() + 64 {
            let held = &self.held;
            self.order.retain(|(trace, number)| held.get(trace).is_some_and(|held| held.number == *number));
        }
    }

    fn release(&mut self, trace: TraceId) -> Vec<FinishedSegment> {
        let segments = self.held.remove(&trace).map(|held| held.segments).unwrap_or_default();
        self.weight -= segments.iter().map(|finished| finished.weight).sum::<usize>();
        segments
    }

    fn remember(&mut self, trace: TraceId) {
        if self.kept.insert(trace) {
            self.decisions.push_back(trace);
        }
        if self.decisions.len() > MAX_KEPT_IDS
            && let Some(oldest) = self.decisions.pop_front()
        {
            self.kept.remove(&oldest);
        }
    }

    fn keeps(&self, trace: TraceId, segments: &[FinishedSegment]) -> bool {
        let by_policy = |FinishedSegment { segment, .. }: &FinishedSegment| {
            self.policy.keeps(segment.has_error(), segment.root().map_or(Duration::ZERO, |root| root.duration))
        };
        segments.iter().any(by_policy) || sampler::keeps(self.policy.rate, trace)
    }
}

/// Log records are not sampled: they are exported without their spans.
fn exported(kept: bool, segments: Vec<FinishedSegment>) -> Vec<FinishedSegment> {
    if kept {
        segments
    } else {
        segments.into_iter().filter(|finished| !finished.segment.logs.is_empty()).map(only_logs).collect()
    }
}

fn only_logs(finished: FinishedSegment) -> FinishedSegment {
    let FinishedSegment { segment, weight } = finished;
    let spans = Vec::new();
    let logs = Segment {
        sampled: false,
        spans,
        resource: segment.resource.clone(),
        trace_id: segment.trace_id,
        state: None,
        shared: segment.shared.clone(),
        logs: segment.logs.clone(),
    };
    FinishedSegment { segment: Arc::new(logs), weight }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::SpanKind;

    use super::*;
    use crate::trace::segment::{Severity, Status};
    use crate::trace::tests::{log, segment, span};

    fn tail_sampler(policy: TailPolicy) -> TailSampler {
        TailSampler::new(policy, 1000)
    }

    /// A sampler with this many requests of trace 1 in progress.
    fn serving(policy: TailPolicy, open: usize) -> TailSampler {
        let mut tail_sampler = tail_sampler(policy);
        (0..open).for_each(|_| tail_sampler.begin(TraceId::from(1_u128)));
        tail_sampler
    }

    const NOTHING: TailPolicy = TailPolicy { errors: false, slower_than: None, rate: 0.0 };
    const ERRORS: TailPolicy = TailPolicy { errors: true, ..NOTHING };

    /// A segment of trace 1.
    fn finished(change: impl FnOnce(&mut Segment)) -> FinishedSegment {
        let mut made = segment("shop", 1, vec![span(1, 0, "work", SpanKind::Server)]);
        change(&mut made);
        FinishedSegment { segment: Arc::new(made), weight: 1 }
    }

    fn fail(segment: &mut Segment) {
        segment.spans[0].status = Status::Error(String::new());
    }

    #[test]
    fn a_trace_is_held_until_its_last_request_ends_and_then_kept_whole() {
        let mut tail_sampler = serving(ERRORS, 3);
        assert!(tail_sampler.end(finished(fail)).is_empty());
        assert!(tail_sampler.end(finished(|_| ())).is_empty());
        assert_eq!(tail_sampler.end(finished(|_| ())).len(), 3);
        assert_eq!(tail_sampler.weight, 0);
        assert!(tail_sampler.open.is_empty());
    }

    #[test]
    fn the_last_request_may_decide() {
        let mut tail_sampler = serving(ERRORS, 2);
        assert!(tail_sampler.end(finished(|_| ())).is_empty(), "another request of the trace is in progress");
        assert_eq!(tail_sampler.end(finished(fail)).len(), 2);
    }

    #[test]
    fn of_a_dropped_trace_only_the_log_records_are_exported() {
        let mut tail_sampler = serving(ERRORS, 2);
        assert!(tail_sampler.end(finished(|segment| segment.logs.push(log(Severity::Info, "hello")))).is_empty());
        let out = tail_sampler.end(finished(|_| ()));
        assert_eq!(out.len(), 1);
        assert!(out[0].segment.spans.is_empty() && !out[0].segment.logs.is_empty());
    }

    #[test]
    fn slow_traces_and_a_ratio_of_the_others_are_kept() {
        let slow = |segment: &mut Segment| segment.spans[0].duration = Duration::from_millis(300);
        let policy = TailPolicy { slower_than: Some(Duration::from_millis(250)), ..NOTHING };
        assert_eq!(serving(policy, 1).end(finished(slow)).len(), 1);
        assert_eq!(serving(policy, 1).end(finished(|_| ())).len(), 0);
        assert_eq!(serving(TailPolicy { rate: 1.0, ..NOTHING }, 1).end(finished(|_| ())).len(), 1);
    }

    #[test]
    fn later_segments_of_a_kept_trace_are_kept_and_those_of_a_dropped_one_follow_the_policy() {
        let next = |tail_sampler: &mut TailSampler, change: fn(&mut Segment)| {
            tail_sampler.begin(TraceId::from(1_u128));
            tail_sampler.end(finished(change)).len()
        };
        let mut kept = tail_sampler(ERRORS);
        assert_eq!([next(&mut kept, fail), next(&mut kept, |_| ())], [1, 1]);
        let mut dropped = tail_sampler(ERRORS);
        assert_eq!([next(&mut dropped, |_| ()), next(&mut dropped, |_| ()), next(&mut dropped, fail)], [0, 0, 1]);
    }

    #[test]
    fn held_segments_are_bounded_and_the_oldest_trace_is_kept() {
        let mut tail_sampler = TailSampler::new(ERRORS, 10);
        let mut out = 0;
        for trace in 1..1000_u128 {
            (0..2).for_each(|_| tail_sampler.begin(TraceId::from(trace)));
            let made = segment("shop", trace, vec![span(2, 1, "work", SpanKind::Server)]);
            out += tail_sampler.end(FinishedSegment { segment: Arc::new(made), weight: 1 }).len();
        }
        assert_eq!(out, 989);
        assert!(tail_sampler.held.len() == 10 && tail_sampler.order.len() < 100);
        assert_eq!(tail_sampler.flush().len(), 10);
    }
}
