//! Spans of a recorder: starting and ending them, their attributes, events, links and status.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{SpanId, SpanKind};

use super::Recorder;
use crate::trace::ended_span::{EndedSpan, EndedSpanEvent, EndedSpanLink};
use crate::trace::ids;
use crate::trace::limits::GuestRecordLimits;
use crate::trace::otlp::{Attribute, Attributes, Value};
use crate::trace::segment::{Event, Link, Span, SpanRef, Status};

/// The most spans of one request. A guest that starts more gets handles without effect.
const MAX_SPANS: usize = 4096;
/// The most links of one span.
const MAX_LINKS: usize = 128;

/// The duration of a span that has not ended.
const NOT_ENDED: Duration = Duration::MAX;

impl Recorder {
    /// Starts a span under `parent`.
    pub fn start(&mut self, name: impl Into<Cow<'static, str>>, kind: SpanKind, parent: SpanRef) -> SpanRef {
        if !self.segment.sampled {
            return SpanRef::NONE;
        }
        // If the parent was dropped because of the limits, the server span becomes the parent.
        let parent = self.span(parent).map_or(self.server_span_id, |span| span.span_id);
        self.push_started(name.into(), kind, parent)
    }

    /// Starts a span under a parent that may not be recorded here: a guest's own SDK may have created it.
    pub fn start_under_id(&mut self, name: impl Into<Cow<'static, str>>, kind: SpanKind, parent: SpanId) -> SpanRef {
        if !self.segment.sampled {
            return SpanRef::NONE;
        }
        self.push_started(name.into(), kind, parent)
    }

    /// Whether a span with this id is recorded here.
    pub fn contains_span(&self, span: SpanId) -> bool {
        self.segment.spans.iter().any(|known| known.span_id == span)
    }

    /// Upper bounds on what is recorded of the spans and log records of a guest's own SDK.
    pub fn guest_limits(&self) -> GuestRecordLimits {
        self.limits.for_guest(MAX_LINKS)
    }

    /// Adds a span that a guest's own SDK has recorded. `None` if the trace is not sampled or a limit is reached.
    pub fn add_ended<'a, A, B, C>(
        &mut self,
        ended: EndedSpan<
            'a,
            A,
            impl IntoIterator<Item = EndedSpanEvent<B>>,
            impl IntoIterator<Item = EndedSpanLink<C>>,
        >,
    ) -> Option<SpanRef>
    where
        A: IntoIterator<Item = Attribute<'a>>,
        B: IntoIterator<Item = Attribute<'a>>,
        C: IntoIterator<Item = Attribute<'a>>,
    {
        let EndedSpan { span_id, parent, name, kind, start, end, attributes, events, links, status, .. } = ended;
        if !self.segment.sampled {
            return None;
        }
        if self.segment.spans.len() >= MAX_SPANS || !self.limits.reserve(size_of::<Span>()) {
            self.dropped_spans += 1;
            return None;
        }
        let span = self.push(span_id.unwrap_or_else(ids::span_id), parent, start, name.into(), kind);
        self.set_guest_attributes(span, attributes);
        self.set_uncounted(span, ended.host_attributes);
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
        Some(span)
    }

    /// Updates the name of a span.
    pub fn rename(&mut self, span: SpanRef, name: impl Into<Cow<'static, str>>) {
        let Some(span) = self.segment.spans.get_mut(span.index() as usize) else { return };
        span.name = self.limits.name(name.into());
    }

    /// Sets an attribute of the host, replacing one with the same key. The limits on a guest's attributes do not apply.
    pub fn set<'a>(&mut self, span: SpanRef, key: &'a str, value: impl Into<Value<'a>>) {
        let is_server = span == self.server();
        let Some(span) = self.segment.spans.get_mut(span.index() as usize) else { return };
        let before = span.attributes.len();
        self.limits.set_unlimited(&mut span.attributes, Attribute::new(key, value));
        if is_server {
            self.host_attributes += span.attributes.len() - before;
        }
    }

    /// Sets attributes of the host that were encoded once for many requests.
    pub fn set_prepared(&mut self, span: SpanRef, attributes: &Attributes) {
        let is_server = span == self.server();
        let Some(span) = self.segment.spans.get_mut(span.index() as usize) else { return };
        let before = span.attributes.len();
        if self.limits.span_attributes().value_length.is_some() {
            attributes.iter().for_each(|attribute| self.limits.set_unlimited(&mut span.attributes, attribute));
        } else {
            self.limits.charge(attributes.size());
            span.attributes.append(attributes);
        }
        if is_server {
            self.host_attributes += span.attributes.len() - before;
        }
    }

    /// Sets attributes of a guest within the span limits, replacing those with the same keys.
    pub fn set_guest_attributes<'a>(&mut self, span: SpanRef, attributes: impl IntoIterator<Item = Attribute<'a>>) {
        let mut limits = self.limits.span_attributes();
        if span == self.server() {
            limits.count = limits.count.saturating_add(self.host_attributes);
        }
        let Some(span) = self.segment.spans.get_mut(span.index() as usize) else { return };
        for attribute in attributes {
            let dropped = !self.limits.set(&mut span.attributes, attribute, limits);
            span.dropped_attributes = span.dropped_attributes.saturating_add(u32::from(dropped));
        }
    }

    /// Sets attributes that the host takes from a guest's input. Only the limits on bytes apply to them.
    fn set_uncounted<'a>(&mut self, span: SpanRef, attributes: Vec<Attribute<'a>>) {
        let limits = self.limits.span_attributes().without_count();
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

    /// Marks a span as failed. `kind` becomes `error.type`.
    pub fn fail(&mut self, span: SpanRef, kind: &str, message: String) {
        let Some(span) = self.segment.spans.get_mut(span.index() as usize) else { return };
        // The limits do not apply: a failed span must be recognizable however many attributes it has.
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

    /// Ends a span now, unless it has ended already.
    pub fn end(&mut self, span: SpanRef) {
        self.end_at(span, Instant::now());
    }

    /// Ends a span at an earlier time, unless it has ended already.
    pub fn end_at(&mut self, span: SpanRef, at: Instant) {
        let Some((started, epoch)) = self.started else { return };
        let Some(span) = self.span_mut(span).filter(|span| span.duration == NOT_ENDED) else { return };
        let end = epoch + at.saturating_duration_since(started);
        span.duration = end.duration_since(span.start).unwrap_or_default();
    }

    /// The duration of a span that has ended.
    pub fn duration(&self, span: SpanRef) -> Option<Duration> {
        self.span(span).map(|span| span.duration).filter(|duration| *duration != NOT_ENDED)
    }

    /// The value of a string attribute.
    pub fn text_attribute(&self, span: SpanRef, key: &str) -> Option<&str> {
        match self.span(span)?.attributes.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The name of a span.
    pub fn name(&self, span: SpanRef) -> &str {
        self.span(span).map_or("", |span| &span.name)
    }

    /// Whether a span has the status code `ERROR`.
    pub fn has_failed(&self, span: SpanRef) -> bool {
        self.span(span).is_some_and(|span| matches!(span.status, Status::Error(_)))
    }

    fn push_started(&mut self, name: Cow<'static, str>, kind: SpanKind, parent: SpanId) -> SpanRef {
        if self.segment.spans.len() >= MAX_SPANS || !self.limits.reserve(size_of::<Span>()) {
            self.dropped_spans += 1;
            return SpanRef::NONE;
        }
        let start = self.now();
        self.push(ids::span_id(), parent, start, name, kind)
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

    pub(super) fn push(
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

    pub(super) fn end_open_spans(&mut self, abort: Option<(&str, &str)>) {
        let mut now = None;
        for span in (0..self.segment.spans.len() as u32).rev().map(SpanRef::from_index) {
            if self.span(span).is_none_or(|span| span.duration != NOT_ENDED) {
                continue;
            }
            if let Some((kind, message)) = abort.filter(|_| !self.has_failed(span)) {
                self.fail(span, kind, message.to_owned());
            }
            self.end_at(span, *now.get_or_insert_with(Instant::now));
        }
    }
}
