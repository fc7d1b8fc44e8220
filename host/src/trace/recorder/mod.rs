//! Records the spans and log records of one request at one service. A recorder has one owner: no locks, no shared
//! state.
//!
//! If the trace is not sampled, every call returns at once; only ids, baggage and log records are kept. A recorder that
//! is dropped before it is finished ends its spans as cancelled: the client has disconnected.

mod logs;
mod spans;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{SpanId, SpanKind, TraceId};

use super::baggage::Baggage;
use super::context::{Incoming, TraceContext};
use super::guest_metrics::GuestPoint;
use super::ids;
use super::limits::RecordLimits;
use super::otlp::{Attribute, Attributes};
use super::pipeline::Pipeline;
use super::resource::Resource;
use super::segment::{Segment, Span, SpanRef};

/// The initial capacity for spans: as many as a typical request records.
const INITIAL_SPANS: usize = 8;

/// The recorder of one request.
pub struct Recorder {
    /// The pipeline that receives the segment; `None` for a detached recorder.
    pipeline: Option<Pipeline>,
    segment: Segment,
    baggage: Baggage,
    /// The id of the server span. It exists even if nothing is recorded.
    server_span_id: SpanId,
    /// The context to propagate instead of spans of the host, if the host does not take part in traces.
    passthrough: Option<TraceContext>,
    /// Whether the trace id is known to be random.
    random: bool,
    /// Whether the caller has set B3's debug flag.
    debug: bool,
    /// When recording started. The wall clock is read only then; all other times are measured from here. `None` if the
    /// trace is not sampled.
    started: Option<(Instant, SystemTime)>,
    limits: RecordLimits,
    /// The number of attributes that the host has set on the server span, which do not count toward the guest's limit.
    host_attributes: usize,
    dropped_spans: u32,
    dropped_logs: u32,
}

/// The parameters of a new recorder.
pub(super) struct RecorderOptions {
    pub resource: Arc<Resource>,
    pub parent: Option<TraceContext>,
    pub baggage: Baggage,
    pub sampled: bool,
    /// Whether the host takes part in traces. If not, the context of the request is propagated unchanged.
    pub is_enabled: bool,
    pub name: Cow<'static, str>,
    pub kind: SpanKind,
}

impl Pipeline {
    /// Makes the sampling decision and starts the server span.
    pub fn record(
        &self,
        resource: &Arc<Resource>,
        incoming: &Incoming,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
    ) -> Recorder {
        let parent = incoming.parent.as_ref().filter(|parent| parent.is_valid());
        let trace_id = parent.map_or_else(ids::trace_id, |parent: &TraceContext| parent.trace_id);
        let (is_enabled, sampled) = (self.is_enabled(), self.samples(parent, incoming.denied, trace_id));
        let options = RecorderOptions {
            resource: resource.clone(),
            parent: parent.cloned(),
            baggage: incoming.baggage.clone(),
            sampled,
            is_enabled,
            name: name.into(),
            kind,
        };
        Recorder::begin(self.clone(), trace_id, options)
    }
}

impl Recorder {
    pub(super) fn begin(pipeline: Pipeline, trace_id: TraceId, options: RecorderOptions) -> Recorder {
        let RecorderOptions { resource, parent, baggage, sampled, is_enabled, name, kind } = options;
        let limits = pipeline.record_limits();
        let mut recorder = Recorder {
            pipeline: Some(pipeline),
            segment: Segment { sampled, ..Segment::empty(resource, trace_id) },
            baggage,
            server_span_id: SpanId::INVALID,
            passthrough: None,
            random: parent.as_ref().is_none_or(|parent| parent.random),
            debug: sampled && parent.as_ref().is_some_and(|parent| parent.debug),
            started: None,
            limits,
            host_attributes: 0,
            dropped_spans: 0,
            dropped_logs: 0,
        };
        if !is_enabled {
            recorder.server_span_id = parent.as_ref().map_or(SpanId::INVALID, |parent| parent.span_id);
            recorder.passthrough = Some(parent.unwrap_or_else(TraceContext::none));
            return recorder;
        }
        recorder.server_span_id = ids::span_id();
        let (parent, remote, state) = match parent {
            Some(parent) => (parent.span_id, parent.remote, parent.state),
            None => (SpanId::INVALID, false, None),
        };
        recorder.segment.state = state;
        if sampled {
            recorder.segment.spans.reserve(INITIAL_SPANS);
            let (id, start) = (recorder.server_span_id, SystemTime::now());
            recorder.started = Some((Instant::now(), start));
            recorder.push(id, parent, start, name, kind);
            if let Some(root) = recorder.segment.spans.first_mut() {
                root.parent_is_remote = remote;
            }
        }
        recorder
    }

    /// A recorder that records and exports nothing, used as a placeholder.
    pub fn detached() -> Recorder {
        Recorder {
            pipeline: None,
            segment: Segment::empty(DETACHED.with(Arc::clone), TraceId::INVALID),
            baggage: Baggage::default(),
            server_span_id: SpanId::INVALID,
            passthrough: Some(TraceContext::none()),
            random: false,
            debug: false,
            started: None,
            limits: RecordLimits::none(),
            host_attributes: 0,
            dropped_spans: 0,
            dropped_logs: 0,
        }
    }

    /// Sets the Resource of everything recorded.
    pub fn set_resource(&mut self, resource: &Arc<Resource>) {
        if !Arc::ptr_eq(&self.segment.resource, resource) {
            self.segment.resource = resource.clone();
        }
    }

    /// Whether spans are recorded.
    pub fn is_recording(&self) -> bool {
        self.segment.sampled
    }

    /// Whether the host takes part in the trace. If not, the context of the request is propagated unchanged.
    pub fn is_enabled(&self) -> bool {
        self.passthrough.is_none()
    }

    /// Whether responses carry `traceresponse`.
    pub fn has_response_header(&self) -> bool {
        self.pipeline.as_ref().is_some_and(Pipeline::has_response_header)
    }

    /// Whether the spans are certain to be exported if the request ends with this outcome.
    pub fn is_certainly_exported(&self, failed: bool, duration: Duration) -> bool {
        self.pipeline.as_ref().is_some_and(|pipeline| pipeline.is_certainly_exported(failed, duration))
    }

    /// The trace id.
    pub fn trace_id(&self) -> TraceId {
        self.segment.trace_id
    }

    /// The server span.
    pub fn server(&self) -> SpanRef {
        SpanRef::from_index(0)
    }

    /// When recording started. `None` if the trace is not sampled.
    pub fn started_at(&self) -> Option<Instant> {
        self.started.map(|(started, _)| started)
    }

    /// The id of the server span.
    pub fn server_span_id(&self) -> SpanId {
        self.server_span_id
    }

    /// Sets the attributes of every span of this request. They replace those set before.
    pub fn set_shared_attributes<'a>(&mut self, attributes: impl IntoIterator<Item = Attribute<'a>>) {
        let mut shared = Attributes::default();
        attributes.into_iter().for_each(|attribute| self.limits.set_unlimited(&mut shared, attribute));
        self.segment.shared = shared;
    }

    /// The baggage.
    pub fn baggage(&self) -> &Baggage {
        &self.baggage
    }

    /// Replaces the baggage for all later calls.
    pub fn set_baggage(&mut self, baggage: Baggage) {
        self.baggage = baggage;
    }

    /// Adds deltas of the metrics of a guest's own SDK.
    pub fn add_guest_metrics(&self, deltas: Vec<GuestPoint>) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.add_guest_metrics(&self.segment.resource, deltas);
        }
    }

    /// The context of a span, to be propagated. If nothing is recorded, it is that of the server span, unsampled; if
    /// the host does not take part in traces, it is that of the request.
    pub fn context_of(&self, span: SpanRef) -> TraceContext {
        if let Some(context) = &self.passthrough {
            return context.clone();
        }
        TraceContext {
            trace_id: self.segment.trace_id,
            span_id: self.span(span).map_or(self.server_span_id, |span| span.span_id),
            sampled: self.segment.sampled,
            state: self.segment.state.clone(),
            random: self.random,
            debug: self.debug,
            ..TraceContext::none()
        }
    }

    /// Ends all open spans and hands the segment to the pipeline in one step. If the request was aborted, `abort` holds
    /// `error.type` and the message: spans that the guest left open then end as errors.
    pub fn finish(mut self, abort: Option<(&str, &str)>) {
        self.close(abort);
    }

    /// The same as [`finish`](Self::finish). Later records are lost.
    pub(super) fn close(&mut self, abort: Option<(&str, &str)>) {
        let Some(pipeline) = self.pipeline.take() else { return };
        if self.segment.sampled {
            self.end_open_spans(abort);
        }
        if self.dropped_spans > 0 {
            self.set(self.server(), "spandrel.spans.dropped", i64::from(self.dropped_spans));
        }
        // The output of a guest is added when the guest has ended.
        self.segment.logs.sort_by_key(|record| record.time);
        if self.dropped_logs > 0 {
            self.log_dropped_records();
        }
        pipeline.count_dropped(self.dropped_spans, self.dropped_logs);
        let records = self.segment.spans.len().max(self.segment.logs.len());
        if records > 0 {
            // The Resource of this thread, since the cores share the segment's own. It is gone while the thread ends.
            let resource = DETACHED.try_with(Arc::clone).unwrap_or_else(|_| self.segment.resource.clone());
            let empty = Segment::empty(resource, self.segment.trace_id);
            let segment = std::mem::replace(&mut self.segment, empty);
            pipeline.submit(Arc::new(segment), self.limits.weight(records));
        }
    }

    fn now(&self) -> SystemTime {
        self.started.map_or_else(SystemTime::now, |(started, epoch)| epoch + started.elapsed())
    }

    fn span(&self, span: SpanRef) -> Option<&Span> {
        self.segment.spans.get(span.index() as usize)
    }

    fn span_mut(&mut self, span: SpanRef) -> Option<&mut Span> {
        self.segment.spans.get_mut(span.index() as usize)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.close(Some(("cancelled", "the client disconnected before the response was complete")));
    }
}

thread_local! {
    static DETACHED: Arc<Resource> = Resource::new("", "", &[]);
}
