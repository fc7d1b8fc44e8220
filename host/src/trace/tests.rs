//! Helpers for the tests of this module, and tests of recording as a whole.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use opentelemetry::trace::{SpanId, SpanKind, TraceId};

use super::context::{Incoming, TraceContext};
use super::otlp::{Attribute, Attributes, Value};
use super::pipeline::Pipeline;
use super::printers::Printers;
use super::propagation::Propagators;
use super::resource::Resource;
use super::segment::{LogRecord, Segment, Severity, Span, SpanRef, Status};
use super::settings::{AttributeLimits, Exporter, RootSampler, Settings, SpanLimits, TailPolicy};
use super::store::TraceQuery;

/// A span of one millisecond; 0 means no parent.
pub(super) fn span(id: u64, parent: u64, name: &'static str, kind: SpanKind) -> Span {
    Span {
        span_id: SpanId::from(id),
        parent: SpanId::from(parent),
        parent_is_remote: false,
        name: name.into(),
        kind,
        start: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        duration: Duration::from_millis(1),
        attributes: Attributes::default(),
        dropped_attributes: 0,
        events: Vec::new(),
        dropped_events: 0,
        links: Vec::new(),
        dropped_links: 0,
        status: Status::Unset,
    }
}

/// The segment of a sampled request.
pub(super) fn segment(service: &str, trace: u128, spans: Vec<Span>) -> Segment {
    let empty = Segment::empty(Resource::new(service, "1.0.0", &[]), TraceId::from(trace));
    Segment { sampled: true, spans, ..empty }
}

/// A log record.
pub(super) fn log(severity: Severity, body: &str) -> LogRecord {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    LogRecord {
        time,
        severity,
        body: body.to_owned(),
        attributes: Attributes::default(),
        dropped_attributes: 0,
        span_id: SpanId::from(1_u64),
    }
}

/// A pipeline that only feeds the store of recent traces.
fn stored(change: impl FnOnce(&mut Settings)) -> Pipeline {
    let mut settings = Settings { store_bytes: 64 << 20, ..Settings::default() };
    for signal in [&mut settings.traces, &mut settings.metrics, &mut settings.logs] {
        signal.exporters.clear();
    }
    change(&mut settings);
    Pipeline::start(settings).unwrap()
}

fn shop() -> Arc<Resource> {
    Resource::new("shop", "1.0.0", &[])
}

fn caller(sampled: bool) -> Incoming {
    let parent = TraceContext::valid(TraceId::from(7_u128), SpanId::from(9_u64), sampled);
    Incoming { parent, ..Incoming::default() }
}

/// The only segment in the store of a pipeline.
fn only(pipeline: &Pipeline) -> Arc<Segment> {
    let mut segments = pipeline.store().segments();
    assert_eq!(segments.len(), 1);
    segments.remove(0)
}

#[tokio::test]
async fn spans_keep_their_parents_attributes_and_order() {
    let pipeline = stored(|_| ());
    let mut recorder = pipeline.record(&shop(), &caller(true), "GET /", SpanKind::Server);
    let inner = recorder.start("inner", SpanKind::Internal, recorder.server());
    recorder.set(inner, "a", 1);
    let call = recorder.start("GET", SpanKind::Client, inner);
    recorder.set(inner, "a", 2);
    recorder.event(call, "sent", []);
    recorder.end(call);
    recorder.end(inner);
    let named = recorder.context_of(call).span_id;
    recorder.finish(None);
    let segment = only(&pipeline);
    let [server, inner, call] = segment.spans.as_slice() else { panic!("{segment:#?}") };
    assert_eq!((server.parent, server.parent_is_remote), (SpanId::from(9_u64), true));
    assert_eq!((inner.parent, call.parent, call.span_id), (server.span_id, inner.span_id, named));
    assert_eq!(inner.attributes.iter().collect::<Vec<_>>(), [Attribute::new("a", 2)]);
    assert_eq!(call.events[0].name, "sent");
    let end = |span: &Span| span.start + span.duration;
    assert!(server.start <= inner.start && inner.start <= call.start);
    assert!(end(call) <= end(inner) && end(inner) <= end(server));
}

#[tokio::test]
async fn open_spans_of_an_aborted_request_end_as_errors() {
    let pipeline = stored(|_| ());
    let mut recorder = pipeline.record(&shop(), &Incoming::default(), "GET /", SpanKind::Server);
    let done = recorder.start("done", SpanKind::Internal, recorder.server());
    recorder.end(done);
    recorder.start("open", SpanKind::Internal, recorder.server());
    recorder.finish(Some(("wasm_trap", "unreachable")));
    let segment = only(&pipeline);
    assert_eq!(segment.spans[1].status, Status::Unset);
    assert_eq!(segment.spans[2].status, Status::Error("unreachable".to_owned()));
    assert_eq!(segment.spans[2].attributes.get("error.type"), Some(Value::Text("wasm_trap")));
}

#[tokio::test]
async fn a_dropped_recorder_reports_the_request_as_cancelled() {
    let pipeline = stored(|_| ());
    drop(pipeline.record(&shop(), &Incoming::default(), "GET /", SpanKind::Server));
    assert_eq!(only(&pipeline).spans[0].attributes.get("error.type"), Some(Value::Text("cancelled")));
}

#[tokio::test]
async fn an_unsampled_request_records_nothing_and_propagates_its_context() {
    let pipeline = stored(|settings| settings.sampler.root = RootSampler::AlwaysOff);
    let mut recorder = pipeline.record(&shop(), &caller(false), "GET /", SpanKind::Server);
    let span = recorder.start("inner", SpanKind::Internal, recorder.server());
    assert_eq!(span, SpanRef::NONE);
    recorder.set(span, "a", 1);
    recorder.fail(recorder.server(), "timeout", String::new());
    let context = recorder.context_of(span);
    assert!(!context.sampled && context.is_valid() && context.span_id != SpanId::from(9_u64));
    recorder.finish(None);
    assert!(pipeline.store().segments().is_empty());
}

#[tokio::test]
async fn without_readers_of_spans_the_callers_context_is_propagated_unchanged() {
    let pipeline = stored(|settings| settings.disabled = true);
    let recorder = pipeline.record(&shop(), &caller(true), "GET /", SpanKind::Server);
    let context = recorder.context_of(recorder.server());
    assert_eq!((context.span_id, context.sampled), (SpanId::from(9_u64), true));
    let recorder = pipeline.record(&shop(), &Incoming::default(), "GET /", SpanKind::Server);
    let mut headers = HeaderMap::new();
    Propagators::default().inject(&recorder.context_of(recorder.server()), None, &mut headers);
    assert!(headers.is_empty(), "no trace starts here: {headers:?}");
    assert_ne!(recorder.trace_id(), TraceId::INVALID, "the request still has an id");
}

#[tokio::test]
async fn limits_are_enforced_and_dropped_records_are_counted_on_the_span() {
    let limits = SpanLimits { attributes: 2, events: 1, event_attributes: 1, value_length: Some(3) };
    let pipeline = stored(|settings| settings.limits = limits);
    let attributes = || ["a", "b", "c"].map(|key| Attribute::new(key, "text"));
    let mut recorder = pipeline.record(&shop(), &Incoming::default(), "GET /", SpanKind::Server);
    let server = recorder.server();
    recorder.set_guest_attributes(server, attributes());
    recorder.set(server, "d", 1);
    recorder.event(server, "one", attributes());
    recorder.event(server, "two", attributes());
    recorder.fail(server, "timeout", "too late".to_owned());
    recorder.finish(None);
    let segment = only(&pipeline);
    let server = &segment.spans[0];
    assert_eq!((server.attributes.len(), server.dropped_attributes), (4, 1), "attributes of the host are not limited");
    assert_eq!(server.attributes.get("a"), Some(Value::Text("tex")));
    assert_eq!((server.events.len(), server.dropped_events), (1, 1));
    assert_eq!((server.events[0].attributes.len(), server.events[0].dropped_attributes), (1, 2));
}

#[tokio::test]
async fn a_request_that_exceeds_the_limits_reports_the_number_of_dropped_records() {
    let pipeline = stored(|settings| settings.store_bytes = 64 << 20);
    let mut recorder = pipeline.record(&shop(), &Incoming::default(), "GET /", SpanKind::Server);
    for _ in 0..10_000 {
        recorder.start("again", SpanKind::Internal, recorder.server());
        recorder.log(recorder.server(), Severity::Info, "again".to_owned(), []);
    }
    recorder.finish(None);
    let segment = only(&pipeline);
    assert_eq!(segment.spans.len(), 4096);
    assert_eq!(segment.spans[0].attributes.get("spandrel.spans.dropped"), Some(Value::Int(10_001 - 4096)));
    assert_eq!(segment.logs.len(), 1025);
    assert_eq!(segment.logs[1024].body, "8976 more log records of this request were left out");
    assert!(pipeline.counters().dropped_spans().contains(&("request_limit", 10_001 - 4096)));
    assert!(pipeline.counters().dropped_log_records().contains(&("request_limit", 8976)));
}

#[tokio::test]
async fn records_of_the_host_are_kept_whatever_a_guest_has_recorded() {
    let pipeline = stored(|settings| settings.limits.event_attributes = 0);
    let mut recorder = pipeline.record(&shop(), &Incoming::default(), "GET /", SpanKind::Server);
    let server = recorder.server();
    let large = "x".repeat(1 << 20);
    for key in ["a", "b", "c", "d", "e"] {
        recorder.set_guest_attributes(server, [Attribute::new(key, &large)]);
    }
    for _ in 0..2000 {
        recorder.log(server, Severity::Info, "x".repeat(4096), []);
    }
    let prepared = [Attribute::new("http.route", "/")].into_iter().collect();
    recorder.set_prepared(server, &prepared);
    recorder.set(server, "http.response.status_code", 500);
    recorder.record_exception(server, "no shelf".to_owned(), &[Attribute::new("exception.type", "panic")]);
    recorder.fail(server, "wasm_trap", String::new());
    recorder.finish(None);
    let segment = only(&pipeline);
    let server = &segment.spans[0];
    for (key, value) in
        [("http.route", "/".into()), ("http.response.status_code", 500.into()), ("error.type", "wasm_trap".into())]
    {
        assert_eq!(server.attributes.get(key), Some(value), "{key}");
    }
    assert_eq!(server.dropped_attributes, 2);
    assert_eq!(server.events[0].attributes.get("exception.type"), Some("panic".into()));
    assert!(segment.logs.iter().any(|record| record.body == "no shelf" && record.span_id == server.span_id));
}

#[tokio::test]
async fn a_tail_policy_decides_for_all_services_of_a_trace() {
    let policy = TailPolicy { errors: true, slower_than: None, rate: 0.0 };
    let pipeline = stored(|settings| settings.tail_policy = Some(policy));
    for fails in [false, true] {
        let outer = pipeline.record(&shop(), &Incoming::default(), "GET /", SpanKind::Server);
        let incoming = Incoming { parent: Some(outer.context_of(outer.server())), ..Incoming::default() };
        let other = Resource::new("other", "1.0.0", &[]);
        let mut inner = pipeline.record(&other, &incoming, "GET /inner", SpanKind::Server);
        if fails {
            inner.fail(inner.server(), "500", String::new());
        }
        inner.finish(None);
        outer.finish(None);
    }
    let traces = pipeline.store().find(&TraceQuery::default());
    assert_eq!(traces.len(), 1);
    assert_eq!(traces[0].groups.len(), 2);
}

/// A terminal that captures its output.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_terminal_prints_each_trace_once_and_completely() {
    let mut settings = Settings { store_bytes: 0, ..Settings::default() };
    for signal in [&mut settings.metrics, &mut settings.logs] {
        signal.exporters.clear();
    }
    settings.traces.exporters = vec![Exporter::Console];
    let screen = Screen::default();
    let pipeline =
        Pipeline::start_with(settings, Printers { traces: Box::new(screen.clone()), ..Printers::default() }).unwrap();
    let outer = pipeline.record(&shop(), &Incoming::default(), "GET /", SpanKind::Server);
    // A service of this host that is called over the network: its caller looks like a remote one.
    let parent = TraceContext { remote: true, ..outer.context_of(outer.server()) };
    let incoming = Incoming { parent: Some(parent), ..Incoming::default() };
    let other = Resource::new("other-service", "1.0.0", &[]);
    pipeline.record(&other, &incoming, "GET /inner", SpanKind::Server).finish(Some(("timeout", "late")));
    outer.finish(None);
    pipeline.shutdown(Duration::from_secs(10)).await;
    let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].ends_with("(2 spans in 2 services)"), "{text}");
    assert!(lines[1].contains("shop           GET /") && lines[2].contains("other-service    GET /inner"), "{text}");
    assert!(lines[2].ends_with("ERROR timeout: late"), "{text}");
}

#[tokio::test]
async fn log_records_are_printed_if_selected_whatever_the_sampling_decision() {
    let printed = |exporters: &[Exporter]| {
        let (exporters, bodies) = (exporters.to_vec(), Arc::<Mutex<Vec<String>>>::default());
        let kept = bodies.clone();
        let print = move |segment: &Segment| {
            kept.lock().unwrap().extend(segment.logs.iter().map(|record| record.body.clone()));
        };
        let policy = TailPolicy { errors: true, slower_than: None, rate: 0.0 };
        let mut settings = Settings { store_bytes: 0, tail_policy: Some(policy), ..Settings::default() };
        settings.traces.exporters.clear();
        settings.metrics.exporters.clear();
        settings.logs.exporters = exporters;
        let printers = Printers { logs: Some(Box::new(print)), ..Printers::default() };
        let pipeline = Pipeline::start_with(settings, printers).unwrap();
        for sampled in [true, false] {
            let mut recorder = pipeline.record(&shop(), &caller(sampled), "GET /", SpanKind::Server);
            recorder.log(recorder.server(), Severity::Info, format!("sampled: {sampled}"), []);
            recorder.finish(None);
        }
        std::mem::take(&mut *bodies.lock().unwrap())
    };
    assert_eq!(printed(&[Exporter::Console]), ["sampled: true", "sampled: false"]);
    assert!(printed(&[]).is_empty());
}

#[tokio::test]
async fn guests_do_not_displace_attributes_of_the_host_and_log_records_have_separate_limits() {
    let pipeline = stored(|settings| {
        settings.limits.attributes = 2;
        settings.limits.value_length = Some(3);
        settings.log_limits = AttributeLimits { count: 1, value_length: None };
    });
    let given = || ["a", "b", "c", "d"].map(|key| Attribute::new(key, "text"));
    let mut recorder = pipeline.record(&shop(), &Incoming::default(), "GET /", SpanKind::Server);
    let server = recorder.server();
    recorder.set_shared_attributes(given());
    recorder.set(server, "http.request.method", "GET");
    recorder.set_guest_attributes(server, given());
    recorder.set(server, "http.response.status_code", 200);
    recorder.log(server, Severity::Info, "hello".to_owned(), given());
    let of_host = [Attribute::new("x", "1"), Attribute::new("y", "2")];
    recorder.log_under_id(
        recorder.server_span_id(),
        Severity::Info,
        String::new(),
        given(),
        &of_host,
        SystemTime::UNIX_EPOCH,
    );
    recorder.finish(None);
    let segment = only(&pipeline);
    assert_eq!(segment.spans[0].attributes.get("http.response.status_code"), Some(Value::Int(200)));
    assert_eq!((segment.spans[0].attributes.len(), segment.spans[0].dropped_attributes), (4, 2));
    assert_eq!(segment.shared.len(), 4);
    let [record, early] = [&segment.logs[1], &segment.logs[0]];
    assert_eq!((record.attributes.get("a"), record.dropped_attributes), (Some(Value::Text("text")), 3));
    assert_eq!((early.attributes.len(), early.dropped_attributes), (3, 3));
}

#[tokio::test]
async fn log_records_of_a_request_are_in_the_order_of_their_times() {
    let pipeline = stored(|_| {});
    let mut recorder = pipeline.record(&shop(), &Incoming::default(), "GET /", SpanKind::Server);
    recorder.log(recorder.server(), Severity::Info, "logged".to_owned(), []);
    let before = SystemTime::now() - Duration::from_secs(1);
    for body in ["printed first", "printed second"] {
        recorder.log_of_host(Severity::Info, body.to_owned(), &[], Some(before));
    }
    recorder.finish(None);
    let segment = only(&pipeline);
    let bodies: Vec<_> = segment.logs.iter().map(|record| record.body.as_str()).collect();
    assert_eq!(bodies, ["printed first", "printed second", "logged"]);
}

#[tokio::test]
async fn a_tail_policy_waits_for_all_requests_of_a_trace_in_progress() {
    let policy = TailPolicy { errors: true, slower_than: None, rate: 0.0 };
    let pipeline = stored(|settings| settings.tail_policy = Some(policy));
    let [first, mut last] = [1, 2].map(|_| pipeline.record(&shop(), &caller(true), "GET /", SpanKind::Server));
    first.finish(None);
    last.fail(last.server(), "500", "no".to_owned());
    last.finish(None);
    let traces = pipeline.store().find(&TraceQuery::default());
    assert_eq!(traces.iter().map(|trace| trace.spans().count()).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn under_a_tail_policy_only_matches_of_the_request_itself_are_certain() {
    let policy = TailPolicy { errors: true, slower_than: Some(Duration::from_millis(250)), rate: 0.5 };
    let (slow, fast) = (Duration::from_millis(251), Duration::from_millis(1));
    let pipeline = stored(|settings| settings.tail_policy = Some(policy));
    assert!(pipeline.is_certainly_exported(true, fast) && pipeline.is_certainly_exported(false, slow));
    assert!(!pipeline.is_certainly_exported(false, fast));
    assert!(stored(|_| ()).is_certainly_exported(false, fast));
}

#[tokio::test]
async fn a_request_with_a_denial_is_not_recorded() {
    let pipeline = stored(|_| ());
    let denied = Incoming { denied: true, ..Incoming::default() };
    let recorder = pipeline.record(&shop(), &denied, "GET /", SpanKind::Server);
    assert!(!recorder.is_recording() && !recorder.context_of(recorder.server()).sampled);
}

#[tokio::test]
async fn the_debug_flag_is_propagated_if_the_trace_is_sampled() {
    for (root, passed) in [(RootSampler::AlwaysOn, true), (RootSampler::AlwaysOff, false)] {
        let pipeline = stored(|settings| settings.sampler = super::settings::Sampler { root, parent_based: false });
        let parent = caller(true).parent.map(|parent| TraceContext { debug: true, ..parent });
        let incoming = Incoming { parent, ..Incoming::default() };
        let recorder = pipeline.record(&shop(), &incoming, "GET /", SpanKind::Server);
        assert_eq!(recorder.context_of(recorder.server()).debug, passed, "{root:?}");
    }
}
