//! `wasi:otel`: spans, log records and metrics of a guest's own SDK.
//!
//! They are exported with the service's Resource and within the limits for guests. Spans are added to the request's
//! trace. A span without a parent, or with an unknown parent in another trace, becomes a child of the server span. A
//! span whose own id is unusable gets a new one. A span is recorded when the guest ends it, even if the guest fails
//! afterwards.

mod metrics;
mod time;
mod value;

use std::time::SystemTime;

use wasmtime::component::{Access, HasSelf};

use self::time::{interval, log_time, system_time};
use self::value::{GuestAttributes, GuestValue};
use super::caller::with_caller;
use super::operation;
use crate::component::standard_bindings::wasi::otel::{logs, tracing as wit, types};
use crate::component::{ServiceContext, StoreData};
use crate::trace::{
    Attribute, AttributeLimits, EndedSpan, EndedSpanEvent, EndedSpanLink, Recorder, Severity, SpanId, SpanKind,
    SpanRef, Status, TraceId,
};

/// The limits for the attributes of events and links that exceed their own limit: none are read.
const NO_ATTRIBUTES: AttributeLimits = AttributeLimits { count: 0, value_length: None };
/// The longest `tracestate` in bytes.
const MAX_TRACE_STATE: usize = 512;

impl types::Host for StoreData {}

impl wit::Host for StoreData {
    /// A span is recorded when it ends, because only then its name is known.
    fn on_start(&mut self, _: wit::SpanContext) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl wit::HostWithStore<StoreData> for HasSelf<StoreData> {
    fn on_end(access: Access<'_, StoreData, Self>, span: wit::SpanData) -> wasmtime::Result<()> {
        with_caller(access, |data| data.add_ended_span(span));
        Ok(())
    }

    fn outer_span_context(access: Access<'_, StoreData, Self>) -> wasmtime::Result<wit::SpanContext> {
        Ok(with_caller(access, |data| data.server_span_context()))
    }

    fn current_span_context(access: Access<'_, StoreData, Self>) -> wasmtime::Result<wit::SpanContext> {
        Ok(with_caller(access, |data| data.server_span_context()))
    }
}

impl StoreData {
    fn add_ended_span(&self, span: wit::SpanData) {
        let Some(request) = self.http.request() else { return };
        let replaced = request.recorder.with(|recorder| {
            let replaced = own_id(&span.span_context.span_id, recorder.server_span_id()).err();
            if let Some(span) = record(recorder, span) {
                operation::record(recorder, span, self.context());
            }
            replaced
        });
        if let Some(reason) = replaced {
            self.log_first_new_id(reason);
        }
    }

    /// The guest refers to the span by its own id, so that children and log records of the span are not found below it.
    fn log_first_new_id(&self, reason: &'static str) {
        let ServiceContext { name, span_id_replaced, .. } = &**self.context();
        span_id_replaced.call_once(|| {
            tracing::warn!(
                service = &**name,
                reason,
                "a span of the guest has an unusable id and gets a new one; further ones are not logged"
            );
        });
    }

    fn server_span_context(&self) -> wit::SpanContext {
        let context = self.http.request().map(|request| {
            request.recorder.with(|recorder| {
                let context = recorder.context_of(recorder.server());
                let members = context.state.as_deref().unwrap_or_default().split(',');
                let members = members.filter_map(|member| member.trim().split_once('='));
                wit::SpanContext {
                    trace_id: context.trace_id.to_string(),
                    span_id: context.span_id.to_string(),
                    trace_flags: flags(context.sampled),
                    is_remote: true,
                    trace_state: members.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
                }
            })
        });
        context.unwrap_or_else(|| wit::SpanContext {
            trace_id: TraceId::INVALID.to_string(),
            span_id: SpanId::INVALID.to_string(),
            trace_flags: flags(false),
            is_remote: false,
            trace_state: Vec::new(),
        })
    }
}

fn flags(sampled: bool) -> wit::TraceFlags {
    if sampled { wit::TraceFlags::SAMPLED } else { wit::TraceFlags::empty() }
}

/// Records a span. `None` if the trace is not sampled or a limit is reached.
fn record(recorder: &mut Recorder, span: wit::SpanData) -> Option<SpanRef> {
    let context = &span.span_context;
    if !recorder.is_recording() {
        return None;
    }
    let is_same_trace = trace_id(&context.trace_id) == Some(recorder.trace_id());
    let own = own_id(&context.span_id, recorder.server_span_id()).ok();
    // A span is not its own parent. In another trace, the parent may be a span of the guest that was recorded here.
    let parent = span_id(&span.parent_span_id).filter(|parent| own != Some(*parent));
    let parent = parent.filter(|parent| is_same_trace || recorder.contains_span(*parent));
    let received = SystemTime::now();
    let (start, end) = interval(span.start_time, span.end_time, received);
    let limits = recorder.guest_limits();
    let mut bytes = limits.bytes;
    let attributes = GuestAttributes::parse(span.attributes, limits.span, &mut bytes);
    let mut events = Vec::with_capacity(span.events.len());
    for event in span.events {
        let limits = if events.len() < limits.events { limits.event } else { NO_ATTRIBUTES };
        events.push((
            event.name,
            system_time(event.time).unwrap_or(received),
            GuestAttributes::parse(event.attributes, limits, &mut bytes),
        ));
    }
    let given_links = span.links.len();
    let mut links = Vec::with_capacity(given_links);
    for (trace_id, span_id, state, attributes) in span.links.into_iter().filter_map(link) {
        let limits = if links.len() < limits.links { limits.event } else { NO_ATTRIBUTES };
        links.push((trace_id, span_id, state, GuestAttributes::parse(attributes, limits, &mut bytes)));
    }
    let invalid_links = u32::try_from(given_links - links.len()).unwrap_or(u32::MAX);
    recorder.add_ended(EndedSpan {
        span_id: own,
        parent: parent.unwrap_or(recorder.server_span_id()),
        name: span.name,
        kind: span_kind(span.span_kind),
        start,
        end,
        attributes: attributes.borrowed(),
        host_attributes: scope_attributes(Some(&span.instrumentation_scope)).collect(),
        dropped_attributes: span.dropped_attributes,
        events: events.iter().map(|(name, time, attributes)| EndedSpanEvent {
            name: name.clone(),
            time: *time,
            attributes: attributes.borrowed(),
        }),
        dropped_events: span.dropped_events,
        links: links.iter().map(|(trace_id, span_id, state, attributes)| EndedSpanLink {
            trace_id: *trace_id,
            span_id: *span_id,
            state: state.clone(),
            attributes: attributes.borrowed(),
        }),
        dropped_links: span.dropped_links.saturating_add(invalid_links),
        status: match span.status {
            wit::Status::Unset => Status::Unset,
            wit::Status::Ok => Status::Ok,
            wit::Status::Error(message) => Status::Error(message),
        },
    })
}

/// A link to another span; `None` if its context is invalid.
fn link(link: wit::Link) -> Option<(TraceId, SpanId, String, Vec<types::KeyValue>)> {
    let context = link.span_context;
    let (trace_id, span_id) = (trace_id(&context.trace_id)?, span_id(&context.span_id)?);
    let members = context.trace_state.iter().map(|(key, value)| format!("{key}={value}"));
    let state = members.collect::<Vec<_>>().join(",");
    let state = if is_valid_trace_state(&state) { state } else { String::new() };
    Some((trace_id, span_id, state, link.attributes))
}

/// Whether a text can be the `tracestate` of a link: printable, and no longer than [`MAX_TRACE_STATE`].
fn is_valid_trace_state(text: &str) -> bool {
    text.len() <= MAX_TRACE_STATE && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
}

/// The scope as attributes, because all records of a request are exported in one scope.
fn scope_attributes(scope: Option<&types::InstrumentationScope>) -> impl Iterator<Item = Attribute<'_>> {
    let scope = scope.filter(|scope| !scope.name.is_empty());
    let name = scope.map(|scope| Attribute::new("otel.scope.name", scope.name.as_str()));
    let version = scope.and_then(|scope| scope.version.as_deref()).filter(|version| !version.is_empty());
    name.into_iter().chain(version.map(|version| Attribute::new("otel.scope.version", version)))
}

fn span_kind(kind: wit::SpanKind) -> SpanKind {
    match kind {
        wit::SpanKind::Client => SpanKind::Client,
        wit::SpanKind::Server => SpanKind::Server,
        wit::SpanKind::Producer => SpanKind::Producer,
        wit::SpanKind::Consumer => SpanKind::Consumer,
        wit::SpanKind::Internal => SpanKind::Internal,
    }
}

/// Ids may lack leading zeros, because one SDK formats them as numbers.
fn span_id(text: &str) -> Option<SpanId> {
    let id = is_hex(text, 16).then(|| u64::from_str_radix(text, 16).ok())?.map(SpanId::from)?;
    (id != SpanId::INVALID).then_some(id)
}

fn trace_id(text: &str) -> Option<TraceId> {
    let id = is_hex(text, 32).then(|| u128::from_str_radix(text, 16).ok())?.map(TraceId::from)?;
    (id != TraceId::INVALID).then_some(id)
}

/// The id of a span of the guest, or why it cannot be used.
fn own_id(text: &str, server: SpanId) -> Result<SpanId, &'static str> {
    match span_id(text) {
        Some(id) if id == server => Err("the id is that of the server span"),
        Some(id) => Ok(id),
        None if text.is_empty() => Err("the id is empty"),
        None if is_hex(text, 16) => Err("the id is zero"),
        None if is_hex(text, text.len()) => Err("the id has more than 16 digits"),
        None => Err("the id is not hexadecimal"),
    }
}

fn is_hex(text: &str, max_digits: usize) -> bool {
    text.len() <= max_digits && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

impl logs::Host for StoreData {}

impl logs::HostWithStore<StoreData> for HasSelf<StoreData> {
    fn on_emit(access: Access<'_, StoreData, Self>, record: logs::LogRecord) -> wasmtime::Result<()> {
        with_caller(access, |data| data.emit(record));
        Ok(())
    }
}

impl StoreData {
    fn emit(&self, record: logs::LogRecord) {
        let Some(request) = self.http.request() else { return };
        let time = log_time(record.timestamp, record.observed_timestamp);
        let severity = severity(record.severity_number, record.severity_text.as_deref());
        let body = record.body.map(|body| GuestValue::parse(body).into_text()).unwrap_or_default();
        let mut limits = request.recorder.with(|recorder| recorder.guest_limits());
        let attributes = GuestAttributes::parse(record.attributes.unwrap_or_default(), limits.log, &mut limits.bytes);
        let event_name = record.event_name.as_deref().filter(|name| !name.is_empty());
        let event_name = event_name.map(|name| Attribute::new("event.name", name));
        let of_host: Vec<_> =
            event_name.into_iter().chain(scope_attributes(record.instrumentation_scope.as_ref())).collect();
        let (trace, span) = (record.trace_id.as_deref().map(trace_id), record.span_id.as_deref().and_then(span_id));
        request.recorder.with(|recorder| {
            // In another trace, it may be a span of the guest that was recorded here.
            let is_same_trace = trace.is_none_or(|trace| trace == Some(recorder.trace_id()));
            let span = span.filter(|span| is_same_trace || recorder.contains_span(*span));
            let span = span.unwrap_or(recorder.server_span_id());
            recorder.log_under_id(span, severity, body, attributes.borrowed(), &of_host, time);
        });
    }
}

/// The severity by `SeverityNumber`, in steps of four, otherwise by the text, such as `FATAL` or `FATAL2`.
fn severity(number: Option<u8>, text: Option<&str>) -> Severity {
    let text = text.map(|text| text.trim_end_matches(['2', '3', '4']).to_ascii_uppercase());
    match (number, text.as_deref()) {
        (Some(1..=4), _) | (_, Some("TRACE")) => Severity::Trace,
        (Some(5..=8), _) | (_, Some("DEBUG")) => Severity::Debug,
        (Some(9..=12), _) => Severity::Info,
        (Some(13..=16), _) | (_, Some("WARN" | "WARNING")) => Severity::Warn,
        (Some(17..=20), _) | (_, Some("ERROR")) => Severity::Error,
        (Some(21..), _) | (_, Some("FATAL")) => Severity::Fatal,
        _ => Severity::Info,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::standard_bindings::wasi::clocks::wall_clock::Datetime;
    use crate::trace::{Incoming, Pipeline, Resource, Settings, StoredSpan, TraceQuery};

    /// A span of a guest in the trace of the recorder, with this id and this parent.
    fn guest_span(recorder: &Recorder, id: SpanId, parent: SpanId) -> wit::SpanData {
        let time = Datetime { seconds: 1_700_000_000, nanoseconds: 0 };
        wit::SpanData {
            span_context: wit::SpanContext {
                trace_id: recorder.trace_id().to_string(),
                span_id: id.to_string(),
                trace_flags: flags(true),
                is_remote: false,
                trace_state: Vec::new(),
            },
            parent_span_id: parent.to_string(),
            span_kind: wit::SpanKind::Internal,
            name: "step".to_owned(),
            start_time: time,
            end_time: time,
            attributes: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
            status: wit::Status::Unset,
            instrumentation_scope: types::InstrumentationScope {
                name: "sdk".to_owned(),
                version: None,
                schema_url: None,
                attributes: Vec::new(),
            },
            dropped_attributes: 0,
            dropped_events: 0,
            dropped_links: 0,
        }
    }

    /// The server span of a request, and what is stored of a guest's span.
    fn stored(span: impl FnOnce(&Recorder) -> wit::SpanData) -> (StoredSpan, StoredSpan) {
        let mut settings = Settings { store_bytes: 1 << 20, ..Settings::default() };
        for signal in [&mut settings.traces, &mut settings.metrics, &mut settings.logs] {
            signal.exporters.clear();
        }
        let pipeline = Pipeline::start(settings).unwrap();
        let shop = Resource::new("shop", "1.0.0", &[]);
        let mut recorder = pipeline.record(&shop, &Incoming::default(), "GET /", SpanKind::Server);
        let span = span(&recorder);
        record(&mut recorder, span);
        recorder.finish(None);
        let traces = pipeline.store().find(&TraceQuery::default());
        let spans: Vec<_> = traces[0].spans().map(|(_, span)| span.clone()).collect();
        let [server, guest] = spans.try_into().unwrap();
        (server, guest)
    }

    #[tokio::test]
    async fn a_span_that_is_its_own_parent_becomes_a_child_of_the_server_span() {
        let own = SpanId::from(7);
        let (server, guest) = stored(|recorder| guest_span(recorder, own, own));
        assert_eq!((guest.span_id, guest.parent), (own, server.span_id));
    }

    #[tokio::test]
    async fn times_that_cannot_be_represented_become_the_time_of_receipt() {
        let time = Datetime { seconds: u64::MAX, nanoseconds: u32::MAX };
        let before = SystemTime::now();
        let (_, guest) = stored(|recorder| {
            let events = vec![wit::Event { name: "event".to_owned(), time, attributes: Vec::new() }];
            let span = guest_span(recorder, SpanId::from(7), recorder.server_span_id());
            wit::SpanData { start_time: time, end_time: time, events, ..span }
        });
        let receipt = before..=SystemTime::now();
        for time in [guest.start, guest.start + guest.duration, guest.events[0].time] {
            assert!(receipt.contains(&time), "{time:?} is not within {receipt:?}");
        }
    }

    #[test]
    fn ids_are_parsed_without_their_leading_zeros() {
        assert_eq!(span_id("00f067aa0ba902b7"), span_id("f067aa0ba902b7"));
        assert_eq!(trace_id("0af7651916cd43dd8448eb211c80319c"), trace_id("af7651916cd43dd8448eb211c80319c"));
        for none in ["", "0", "0000000000000000", "x", "+1", "0123456789abcdef0"] {
            assert_eq!(span_id(none), None, "{none}");
        }
    }

    #[test]
    fn an_unusable_id_is_explained() {
        let server = SpanId::from(0x1234);
        let check = |id: &str, expected: Option<&str>| assert_eq!(own_id(id, server).err(), expected, "{id}");
        check("f067aa0ba902b7", None);
        check("", Some("the id is empty"));
        check("0000000000000000", Some("the id is zero"));
        check("0123456789abcdef0123456789abcd", Some("the id has more than 16 digits"));
        check("not hexadecimal!", Some("the id is not hexadecimal"));
        check("0000000000001234", Some("the id is that of the server span"));
    }

    #[test]
    fn a_severity_is_derived_from_its_number_or_its_text() {
        assert_eq!(severity(Some(18), None), Severity::Error);
        assert_eq!(severity(None, Some("warn")), Severity::Warn);
        assert_eq!(severity(None, Some("Fatal2")), Severity::Fatal);
        assert_eq!(severity(None, None), Severity::Info);
    }
}
