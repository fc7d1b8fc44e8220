//! Records the spans of one request at one service. Owned by whoever serves the request: no locks, no shared state.
//!
//! Where the trace is not sampled every call returns at once; only ids, baggage and log records are kept. A recorder
//! that is dropped before it was finished ends its spans as cancelled: the caller went away.
//!
//! Long because: the methods of one type share private state, and splitting them would open it to the whole module.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{SpanId, SpanKind, TraceId};

use super::baggage::Baggage;
use super::context::{Incoming, TraceContext};
use super::ended_span::{EndedSpan, EndedSpanEvent, EndedSpanLink};
use super::guest_metrics::GuestPoint;
use super::identity;
use super::limits::RecordLimits;
use super::otlp::{Attribute, Attributes, Value};
use super::pipeline::Pipeline;
use super::resource::Resource;
use super::segment::{Event, Link, LogRecord, Segment, Severity, Span, SpanRef, Status};

/// The most spans that one request may leave. A guest that starts more gets handles that mean nothing.
const MAX_SPANS: usize = 4096;
/// The most links of one span.
const MAX_LINKS: usize = 128;
/// The most log records that one request may leave.
const MAX_LOG_RECORDS: usize = 1024;

/// The duration of a span that has not ended.
const NOT_ENDED: Duration = Duration::MAX;

/// The room for the spans of a usual request, taken at once.
const INITIAL_SPANS: usize = 8;

/// The spans of one request.
pub struct Recorder {
    /// Where the segment goes; none for a recorder that stands in for another.
    pipeline: Option<Pipeline>,
    segment: Segment,
    baggage: Baggage,
    /// The server span's id, which exists even where nothing is recorded.
    server_span_id: SpanId,
    /// What goes out in place of our own spans where the host takes no part in traces.
    passthrough: Option<TraceContext>,
    /// Whether the trace id is known to be random.
    random: bool,
    /// Whether the caller debugs the trace.
    debug: bool,
    /// The wall clock is read once, with this; everything else is measured from here. Unsampled requests go without.
    started: Option<(Instant, SystemTime)>,
    limits: RecordLimits,
    dropped_spans: u32,
    dropped_logs: u32,
}

/// What a new recorder is told.
pub(super) struct RecorderOptions {
    pub resource: Arc<Resource>,
    pub parent: Option<TraceContext>,
    pub baggage: Baggage,
    pub sampled: bool,
    /// Whether the host takes part in traces at all. If not, what came is passed on as it is.
    pub is_enabled: bool,
    pub name: Cow<'static, str>,
    pub kind: SpanKind,
}

impl Pipeline {
    /// Decides whether the trace is recorded, and starts the request's own span.
    pub fn record(
        &self,
        resource: &Arc<Resource>,
        incoming: &Incoming,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
    ) -> Recorder {
        let parent = incoming.parent.as_ref().filter(|parent| parent.is_valid());
        let trace_id = parent.map_or_else(identity::trace_id, |parent: &TraceContext| parent.trace_id);
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
            dropped_spans: 0,
            dropped_logs: 0,
        };
        if !is_enabled {
            recorder.server_span_id = parent.as_ref().map_or(SpanId::INVALID, |parent| parent.span_id);
            recorder.passthrough = Some(parent.unwrap_or_else(TraceContext::none));
            return recorder;
        }
        recorder.server_span_id = identity::span_id();
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

    /// A recorder that records nothing and goes nowhere: it stands where another was taken from.
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
            dropped_spans: 0,
            dropped_logs: 0,
        }
    }

    /// Says that all that is recorded comes from `source`.
    pub fn set_resource(&mut self, resource: &Arc<Resource>) {
        if !Arc::ptr_eq(&self.segment.resource, resource) {
            self.segment.resource = resource.clone();
        }
    }

    /// Whether spans are kept.
    pub fn is_recording(&self) -> bool {
        self.segment.sampled
    }

    /// Whether the host takes part in the trace. If not, what came with the request is passed on as it is.
    pub fn is_enabled(&self) -> bool {
        self.passthrough.is_none()
    }

    /// The trace.
    pub fn trace_id(&self) -> TraceId {
        self.segment.trace_id
    }

    /// The request's own span.
    pub fn server(&self) -> SpanRef {
        SpanRef::from_index(0)
    }

    /// The id of the request's own span.
    pub fn server_span_id(&self) -> SpanId {
        self.server_span_id
    }

    /// Sets the attributes that stand on every span of this request, in place of any set before.
    pub fn set_shared_attributes<'a>(&mut self, attributes: impl IntoIterator<Item = Attribute<'a>>) {
        let mut shared = Attributes::default();
        attributes.into_iter().for_each(|attribute| self.limits.set_unlimited(&mut shared, attribute));
        self.segment.shared = shared;
    }

    /// What travels with the trace.
    pub fn baggage(&self) -> &Baggage {
        &self.baggage
    }

    /// Replaces what travels with the trace from here on.
    pub fn set_baggage(&mut self, baggage: Baggage) {
        self.baggage = baggage;
    }

    /// Starts a span under `parent`.
    pub fn start(&mut self, name: impl Into<Cow<'static, str>>, kind: SpanKind, parent: SpanRef) -> SpanRef {
        if !self.segment.sampled {
            return SpanRef::NONE;
        }
        // A parent that was dropped for want of limits: its child goes where it would have gone.
        let parent = self.span(parent).map_or(self.server_span_id, |span| span.span_id);
        self.push_started(name.into(), kind, parent)
    }

    /// Starts a span under one that need not be recorded here: a guest's own SDK may have made it.
    pub fn start_under_id(&mut self, name: impl Into<Cow<'static, str>>, kind: SpanKind, parent: SpanId) -> SpanRef {
        if !self.segment.sampled {
            return SpanRef::NONE;
        }
        self.push_started(name.into(), kind, parent)
    }

    fn push_started(&mut self, name: Cow<'static, str>, kind: SpanKind, parent: SpanId) -> SpanRef {
        if self.segment.spans.len() >= MAX_SPANS || !self.limits.reserve(size_of::<Span>()) {
            self.dropped_spans += 1;
            return SpanRef::NONE;
        }
        let start = self.now();
        self.push(identity::span_id(), parent, start, name, kind)
    }

    /// Whether a span of this id is recorded here.
    pub fn contains_span(&self, span: SpanId) -> bool {
        self.segment.spans.iter().any(|known| known.span_id == span)
    }

    /// Adds a span that a guest measured by itself, within the span limits.
    pub fn add_ended<'a, A, B, C>(
        &mut self,
        ended: EndedSpan<A, impl IntoIterator<Item = EndedSpanEvent<B>>, impl IntoIterator<Item = EndedSpanLink<C>>>,
    ) where
        A: IntoIterator<Item = Attribute<'a>>,
        B: IntoIterator<Item = Attribute<'a>>,
        C: IntoIterator<Item = Attribute<'a>>,
    {
        let EndedSpan { span_id, parent, name, kind, start, end, attributes, events, links, status, .. } = ended;
        if !self.segment.sampled {
            return;
        }
        if self.segment.spans.len() >= MAX_SPANS || !self.limits.reserve(size_of::<Span>()) {
            self.dropped_spans += 1;
            return;
        }
        let span = self.push(span_id, parent, start, name.into(), kind);
        self.set_guest_attributes(span, attributes);
        for EndedSpanEvent { name, time, attributes } in events {
            self.push_event(span, name, attributes, time);
        }
        links.into_iter().for_each(|link| self.push_link(span, link));
        let status = match status {
            Status::Error(message) => Status::Error(self.limits.message(message)),
            status => status,
        };
        if let Some(span) = self.segment.spans.get_mut(span.index() as usize) {
            span.duration = end.duration_since(start).unwrap_or_default();
            span.dropped_attributes = span.dropped_attributes.saturating_add(ended.dropped_attributes);
            span.dropped_events = span.dropped_events.saturating_add(ended.dropped_events);
            span.dropped_links = span.dropped_links.saturating_add(ended.dropped_links);
            span.status = status;
        }
    }

    fn push_link<'a>(&mut self, span: SpanRef, link: EndedSpanLink<impl IntoIterator<Item = Attribute<'a>>>) {
        let Some(span) = self.segment.spans.get_mut(span.index() as usize) else { return };
        if span.links.len() >= MAX_LINKS || !self.limits.reserve(size_of::<Link>() + link.state.len()) {
            span.dropped_links = span.dropped_links.saturating_add(1);
            return;
        }
        let EndedSpanLink { trace_id, span_id, state, attributes } = link;
        let (attributes, dropped_attributes) = self.limits.collect(attributes, self.limits.event_attributes());
        span.links.push(Link { trace_id, span_id, state, attributes, dropped_attributes });
    }

    /// Adds what is new in the metrics of a guest's own SDK.
    pub fn add_guest_metrics(&self, news: Vec<GuestPoint>) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.add_guest_metrics(&self.segment.resource, news);
        }
    }

    /// Gives a span another name.
    pub fn rename(&mut self, span: SpanRef, name: impl Into<Cow<'static, str>>) {
        let Some(span) = self.segment.spans.get_mut(span.index() as usize) else { return };
        span.name = self.limits.name(name.into());
    }

    /// Sets an attribute of the host's own, in place of one of the same key. However many a guest has set, it stands.
    pub fn set<'a>(&mut self, span: SpanRef, key: &'a str, value: impl Into<Value<'a>>) {
        if let Some(span) = self.segment.spans.get_mut(span.index() as usize) {
            self.limits.set_unlimited(&mut span.attributes, Attribute::new(key, value));
        }
    }

    /// Sets attributes of the host's own that many requests have in common.
    pub fn set_prepared(&mut self, span: SpanRef, attributes: &Attributes) {
        let Some(span) = self.segment.spans.get_mut(span.index() as usize) else { return };
        if self.limits.span_attributes().value_length.is_some() {
            return attributes.iter().for_each(|attribute| self.limits.set_unlimited(&mut span.attributes, attribute));
        }
        self.limits.charge(attributes.size());
        span.attributes.append(attributes);
    }

    /// Sets attributes that a guest gave, each in place of one of the same key and within the span limits.
    pub fn set_guest_attributes<'a>(&mut self, span: SpanRef, attributes: impl IntoIterator<Item = Attribute<'a>>) {
        let limits = self.limits.span_attributes();
        let Some(span) = self.segment.spans.get_mut(span.index() as usize) else { return };
        for attribute in attributes {
            let dropped = !self.limits.set(&mut span.attributes, attribute, limits);
            span.dropped_attributes = span.dropped_attributes.saturating_add(u32::from(dropped));
        }
    }

    /// Adds an event.
    pub fn event<'a>(
        &mut self,
        span: SpanRef,
        name: impl Into<Cow<'static, str>>,
        attributes: impl IntoIterator<Item = Attribute<'a>>,
    ) {
        self.push_event(span, name, attributes, self.now());
    }

    fn push_event<'a>(
        &mut self,
        span: SpanRef,
        name: impl Into<Cow<'static, str>>,
        attributes: impl IntoIterator<Item = Attribute<'a>>,
        time: SystemTime,
    ) {
        let Some(span) = self.segment.spans.get_mut(span.index() as usize) else { return };
        if span.events.len() >= self.limits.events() || !self.limits.reserve(size_of::<Event>()) {
            span.dropped_events += 1;
            return;
        }
        let (attributes, dropped_attributes) = self.limits.collect(attributes, self.limits.event_attributes());
        let name = self.limits.name(name.into());
        span.events.push(Event { name, time, attributes, dropped_attributes });
    }

    /// Adds an event and a log record that no limit holds for: an exception, which comes after whatever the guest
    /// recorded before, and is what one looks for.
    pub fn record_exception(&mut self, span: SpanRef, message: String, attributes: &[Attribute<'_>]) {
        let mut own = Attributes::default();
        attributes.iter().for_each(|attribute| self.limits.set_unlimited(&mut own, attribute.clone()));
        let (time, span_id) = (self.now(), self.span(span).map_or(self.server_span_id, |span| span.span_id));
        if let Some(span) = self.segment.spans.get_mut(span.index() as usize) {
            let (name, attributes) = (Cow::Borrowed("exception"), own.clone());
            span.events.push(Event { name, time, attributes, dropped_attributes: 0 });
        }
        self.push_log(Severity::Error, message, own, span_id);
    }

    /// Marks a span as failed. `kind` becomes `error.type`.
    pub fn fail(&mut self, span: SpanRef, kind: &str, message: String) {
        let Some(span) = self.segment.spans.get_mut(span.index() as usize) else { return };
        // A span may not hide that it failed by having many attributes.
        let kind = self.limits.error_type(kind);
        self.limits.set_unlimited(&mut span.attributes, Attribute::new("error.type", kind));
        span.status = Status::Error(self.limits.message(message));
    }

    /// Sets the status code `OK` of a span.
    pub fn set_ok(&mut self, span: SpanRef) {
        if let Some(span) = self.segment.spans.get_mut(span.index() as usize) {
            span.status = Status::Ok;
        }
    }

    /// Whether a span has the status code `OK`.
    pub fn is_ok(&self, span: SpanRef) -> bool {
        self.span(span).is_some_and(|span| span.status == Status::Ok)
    }

    /// Ends a span now, unless it has ended.
    pub fn end(&mut self, span: SpanRef) {
        self.end_at(span, Instant::now());
    }

    /// Ends a span at a time that has passed, unless it has ended.
    pub fn end_at(&mut self, span: SpanRef, at: Instant) {
        let Some((started, epoch)) = self.started else { return };
        let Some(span) = self.span_mut(span).filter(|span| span.duration == NOT_ENDED) else { return };
        let end = epoch + at.saturating_duration_since(started);
        span.duration = end.duration_since(span.start).unwrap_or_default();
    }

    /// How long an ended span took.
    pub fn duration(&self, span: SpanRef) -> Option<Duration> {
        self.span(span).map(|span| span.duration).filter(|duration| *duration != NOT_ENDED)
    }

    /// The value of a text attribute.
    pub fn text_attribute(&self, span: SpanRef, key: &str) -> Option<&str> {
        match self.span(span)?.attributes.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A span's name.
    pub fn name(&self, span: SpanRef) -> &str {
        self.span(span).map_or("", |span| &span.name)
    }

    /// Whether a span was marked as failed.
    pub fn has_failed(&self, span: SpanRef) -> bool {
        self.span(span).is_some_and(|span| matches!(span.status, Status::Error(_)))
    }

    /// A span as whoever it calls will see it. Where nothing is recorded this is the request's own span, unsampled;
    /// where the host takes no part in traces, it is what came with the request.
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

    /// Writes a log record that belongs to `span`. It is kept whether or not spans are.
    pub fn log<'a>(
        &mut self,
        span: SpanRef,
        severity: Severity,
        body: String,
        attributes: impl IntoIterator<Item = Attribute<'a>>,
    ) {
        self.log_at(span, severity, body, attributes, self.now());
    }

    /// Writes a log record of something that happened at a time that has passed.
    pub fn log_at<'a>(
        &mut self,
        span: SpanRef,
        severity: Severity,
        body: String,
        attributes: impl IntoIterator<Item = Attribute<'a>>,
        time: SystemTime,
    ) {
        let span_id = self.span(span).map_or(self.server_span_id, |span| span.span_id);
        self.log_under_id(span_id, severity, body, attributes, time);
    }

    /// The same for a span that need not be recorded here: a guest's own SDK may have made it.
    pub fn log_under_id<'a>(
        &mut self,
        span_id: SpanId,
        severity: Severity,
        body: String,
        attributes: impl IntoIterator<Item = Attribute<'a>>,
        time: SystemTime,
    ) {
        if self.segment.logs.len() >= MAX_LOG_RECORDS || !self.limits.reserve(size_of::<LogRecord>() + body.len()) {
            self.dropped_logs += 1;
            return;
        }
        let limits = self.limits.log_attributes();
        let (attributes, dropped_attributes) = self.limits.collect(attributes, limits);
        self.segment.logs.push(LogRecord { time, severity, body, attributes, dropped_attributes, span_id });
    }

    /// Ends what is still open and hands everything over in one step. Where the request was aborted, `abort` says why:
    /// the spans that a guest left open then end as errors of that kind.
    pub fn finish(mut self, abort: Option<(&str, &str)>) {
        self.close(abort);
    }

    fn close(&mut self, abort: Option<(&str, &str)>) {
        let Some(pipeline) = self.pipeline.take() else { return };
        if self.segment.sampled {
            self.end_open_spans(abort);
        }
        if self.dropped_spans > 0 {
            self.set(self.server(), "spandrel.spans.dropped", i64::from(self.dropped_spans));
        }
        if self.dropped_logs > 0 {
            self.log_dropped_records();
        }
        pipeline.count_dropped(self.dropped_spans, self.dropped_logs);
        let records = self.segment.spans.len().max(self.segment.logs.len());
        if records > 0 {
            let empty = Segment::empty(self.segment.resource.clone(), self.segment.trace_id);
            let segment = std::mem::replace(&mut self.segment, empty);
            pipeline.submit(Arc::new(segment), self.limits.weight(records));
        }
    }

    fn end_open_spans(&mut self, abort: Option<(&str, &str)>) {
        let now = Instant::now();
        for span in (0..self.segment.spans.len() as u32).rev().map(SpanRef::from_index) {
            let open = self.span(span).is_some_and(|span| span.duration == NOT_ENDED) && !self.has_failed(span);
            if let (true, Some((kind, message))) = (open, abort) {
                self.fail(span, kind, message.to_owned());
            }
            self.end_at(span, now);
        }
    }

    /// The last log record, beyond the limit, says how many there would have been.
    fn log_dropped_records(&mut self) {
        let body = format!("{} more log records of this request were left out", self.dropped_logs);
        self.push_log(Severity::Warn, body, Attributes::default(), self.server_span_id);
    }

    /// Writes a log record of the host's own, which no limit holds for.
    fn push_log(&mut self, severity: Severity, body: String, attributes: Attributes, span_id: SpanId) {
        let (time, dropped_attributes) = (self.now(), 0);
        self.segment.logs.push(LogRecord { time, severity, body, attributes, dropped_attributes, span_id });
    }

    fn push(
        &mut self,
        span_id: SpanId,
        parent: SpanId,
        start: SystemTime,
        name: Cow<'static, str>,
        kind: SpanKind,
    ) -> SpanRef {
        let index = self.segment.spans.len() as u32;
        self.segment.spans.push(Span {
            span_id,
            parent,
            parent_is_remote: false,
            name: self.limits.name(name),
            kind,
            start,
            duration: NOT_ENDED,
            attributes: Attributes::default(),
            dropped_attributes: 0,
            events: Vec::new(),
            dropped_events: 0,
            links: Vec::new(),
            dropped_links: 0,
            status: Status::Unset,
        });
        SpanRef::from_index(index)
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
        self.close(Some(("cancelled", "the caller went away before the answer")));
    }
}

thread_local! {
    static DETACHED: Arc<Resource> = Resource::new("", "", &[]);
}
