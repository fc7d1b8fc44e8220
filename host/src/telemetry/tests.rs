//! Tests of the host's own telemetry: traces of operations, their log records, and their export.

use std::net::TcpListener;
use std::time::Instant;

use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::trace::{
    AnyValue, Exporter, Otlp, RootSampler, Sampler, Settings, SpanId, StoredSpan, StoredStatus, StoredTrace, TraceQuery,
};

/// Settings that export nothing.
fn local() -> Settings {
    let mut settings = Settings::default();
    for signal in [&mut settings.traces, &mut settings.metrics, &mut settings.logs] {
        signal.exporters.clear();
    }
    settings
}

/// Settings that export spans and log records to this endpoint.
fn exported_to(endpoint: &str) -> Settings {
    let mut settings = local();
    let otlp = Otlp { endpoint: endpoint.to_owned(), ..Otlp::standard() };
    for signal in [&mut settings.traces, &mut settings.logs] {
        signal.exporters = vec![Exporter::Otlp];
        signal.otlp = otlp.clone();
    }
    settings
}

fn start(settings: Settings, logs: &LogExport) -> (Pipeline, HostTelemetry) {
    let pipeline = Pipeline::start(settings).unwrap();
    let own = Resource::new("spandrel", "1.0.0", &[]);
    let telemetry = HostTelemetry::start(&pipeline, &own, logs).unwrap();
    (pipeline, telemetry)
}

fn traces(pipeline: &Pipeline) -> Vec<StoredTrace> {
    pipeline.store().find(&TraceQuery::default())
}

#[track_caller]
fn span<'a>(trace: &'a StoredTrace, name: &str) -> &'a StoredSpan {
    let found: Vec<_> = trace.spans().map(|(_, span)| span).filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {trace:#?}");
    found[0]
}

fn text<'a>(span: &'a StoredSpan, key: &str) -> Option<&'a str> {
    match span.attribute(key)? {
        AnyValue::Text(text) => Some(text),
        _ => None,
    }
}

#[tokio::test]
async fn an_operation_and_its_steps_are_one_trace() {
    let (pipeline, telemetry) = start(local(), &LogExport::default());
    let operation = telemetry.operation("swap", "swap_refused");
    operation.set("spandrel.service", "shop".to_owned());
    operation.set("spandrel.component.generation", 2_i64);
    assert_eq!(operation.step("compile", async { Ok::<_, &str>(7) }).await, Ok(7));
    assert_eq!(operation.step("verify", async { Err::<(), _>("it drops a route") }).await, Err("it drops a route"));
    operation.start("publish").end();
    assert!(traces(&pipeline).is_empty(), "it has not ended");
    drop(operation);
    let all = traces(&pipeline);
    let [trace] = all.as_slice() else { panic!("{all:#?}") };
    assert_eq!(&*trace.groups[0].resource.service, "spandrel");
    let root = span(trace, "swap");
    assert_eq!((root.parent, &root.status), (SpanId::INVALID, &StoredStatus::Unset));
    assert_eq!(text(root, "spandrel.service"), Some("shop"));
    assert_eq!(root.attribute("spandrel.component.generation"), Some(&AnyValue::Int(2)));
    for name in ["compile", "verify", "publish"] {
        let step = span(trace, name);
        assert_eq!(step.parent, root.span_id);
        assert!(step.start >= root.start && step.start + step.duration <= root.start + root.duration, "{trace:#?}");
    }
    let failed = span(trace, "verify");
    assert_eq!(text(failed, "error.type"), Some("verify"));
    assert_eq!(failed.status, StoredStatus::Error("it drops a route".to_owned()));
    assert_eq!(span(trace, "compile").attributes.len(), 0, "nothing but what was set");
}

#[tokio::test]
async fn a_failed_operation_and_its_unfinished_steps_are_errors_with_its_error_type() {
    let (pipeline, telemetry) = start(local(), &LogExport::default());
    let operation = telemetry.operation("swap", "swap_refused");
    let given_up = operation.step("probe", std::future::pending::<Result<(), &str>>());
    assert!(tokio::time::timeout(Duration::from_millis(1), given_up).await.is_err());
    operation.fail("a newer swap took over");
    drop(operation);
    let [trace] = traces(&pipeline).try_into().unwrap();
    for (name, message) in [("swap", "a newer swap took over"), ("probe", "the operation ended before this step did")] {
        assert_eq!(text(span(&trace, name), "error.type"), Some("swap_refused"));
        assert_eq!(span(&trace, name).status, StoredStatus::Error(message.to_owned()));
    }
}

#[tokio::test]
async fn a_nested_operation_belongs_to_the_same_trace() {
    let (pipeline, telemetry) = start(local(), &LogExport::default());
    let outer = telemetry.operation("watch", "watch_failed");
    let inner = outer.operation("reload", "manifest_refused");
    inner.start("listen").end();
    drop(inner);
    drop(outer);
    let [trace] = traces(&pipeline).try_into().unwrap();
    assert_eq!(span(&trace, "reload").parent, span(&trace, "watch").span_id);
    assert_eq!(span(&trace, "listen").parent, span(&trace, "reload").span_id);
}

#[tokio::test]
async fn lines_logged_within_an_operation_are_log_records_of_its_trace() {
    let logs = LogExport::default();
    let (pipeline, telemetry) = start(local(), &logs);
    let log = Dispatch::new(Registry::default().with(logs));
    let operation = telemetry.operation("reload", "manifest_refused");
    let within = tracing::instrument::WithSubscriber::with_subscriber(
        operation.run(async {
            tokio::task::yield_now().await;
            tracing::warn!(services = 3, "applied in part");
        }),
        log.clone(),
    );
    within.await;
    tracing::dispatcher::with_default(&log, || {
        tracing::info!("this belongs to no operation");
        operation.log(|| tracing::info!(spandrel.service = "shop", "logged by the operation"));
    });
    let id = operation_id(&operation);
    drop(operation);
    let [trace] = traces(&pipeline).try_into().unwrap();
    let logged: Vec<_> = trace.groups[0].logs.iter().map(|log| (log.body.as_str(), &*log.severity_text)).collect();
    assert_eq!(logged, [("applied in part", "WARN"), ("logged by the operation", "INFO")]);
    let [first, second] = trace.groups[0].logs.as_slice() else { panic!("{trace:#?}") };
    assert_eq!((first.span_id, second.span_id), (id, id));
    assert_eq!(first.attributes, [("services".to_owned(), AnyValue::Int(3))]);
    assert_eq!(second.attributes, [("spandrel.service".to_owned(), AnyValue::Text("shop".to_owned()))]);
}

fn operation_id(operation: &Operation) -> SpanId {
    use opentelemetry::trace::TraceContextExt;
    let mut id = SpanId::INVALID;
    let remember = || id = opentelemetry::Context::current().span().span_context().span_id();
    operation.log(remember);
    id
}

#[tokio::test]
async fn steps_end_correctly_if_the_process_has_another_subscriber_with_spans() {
    let (pipeline, telemetry) = start(local(), &LogExport::default());
    let other = Dispatch::new(Registry::default().with(LevelFilter::INFO));
    let _default = tracing::dispatcher::set_default(&other);
    let theirs = tracing::info_span!("theirs");
    let _entered = theirs.enter();
    let operation = telemetry.operation("start", "start_failed");
    assert_eq!(operation.step("compile", async { Ok::<_, &str>(()) }).await, Ok(()));
    drop(operation);
    let [trace] = traces(&pipeline).try_into().unwrap();
    assert_eq!(span(&trace, "compile").parent, span(&trace, "start").span_id);
    assert_eq!(tracing::Span::current().id(), theirs.id());
}

#[tokio::test]
async fn log_records_exist_in_a_process_without_a_subscriber() {
    let (pipeline, telemetry) = start(local(), &LogExport::default());
    let operation = telemetry.operation("swap", "swap_refused");
    operation.log(|| tracing::info!("swapped"));
    drop(operation);
    let [trace] = traces(&pipeline).try_into().unwrap();
    assert_eq!(trace.groups[0].logs.len(), 1);
}

#[tokio::test]
async fn lines_of_other_crates_and_of_the_exporters_are_not_exported() {
    let logs = LogExport::default();
    let (pipeline, telemetry) = start(local(), &logs);
    let log = Dispatch::new(Registry::default().with(logs));
    let operation = telemetry.operation("start", "start_failed");
    tracing::dispatcher::with_default(&log, || {
        operation.log(|| {
            tracing::warn!(target: "h2", "other");
            tracing::warn!(target: "hyper::proto", "other");
            tracing::warn!(target: "tonic::transport", "other");
            tracing::warn!(target: "opentelemetry_sdk", "other");
            tracing::warn!(target: "spandrels", "other");
            tracing::warn!(target: "spandrel::trace::otlp::outage", "exporter");
            tracing::warn!(target: "spandrel::trace::sdk::runtime_exporter", "exporter");
            tracing::warn!(target: "spandrel::trace::otlps", "own");
            tracing::warn!(target: "spandrel", "own");
        });
    });
    drop(operation);
    let [trace] = traces(&pipeline).try_into().unwrap();
    let logged: Vec<_> = trace.groups[0].logs.iter().map(|log| log.body.as_str()).collect();
    assert_eq!(logged, ["own", "own"]);
}

#[tokio::test]
async fn the_sampler_and_otel_sdk_disabled_apply_to_operations_of_the_host() {
    let off = Sampler { root: RootSampler::AlwaysOff, parent_based: true };
    for settings in [Settings { sampler: off, ..local() }, Settings { disabled: true, ..local() }] {
        let (pipeline, telemetry) = start(settings, &LogExport::default());
        let operation = telemetry.operation("swap", "swap_refused");
        assert_eq!(operation.step("compile", async { Ok::<_, &str>(()) }).await, Ok(()));
        operation.fail("no");
        drop(operation);
        assert!(traces(&pipeline).is_empty());
    }
}

/// Shuts down the telemetry of a host with queued records, and returns how long that took.
async fn shutdown_time(endpoint: &str, limit: Duration) -> Duration {
    let (_pipeline, telemetry) = start(exported_to(endpoint), &LogExport::default());
    let operation = telemetry.operation("shutdown", "drain_timeout");
    operation.log(|| tracing::info!("stopping"));
    drop(operation);
    let began = Instant::now();
    telemetry.shutdown(limit).await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_collector_delays_the_shutdown_by_at_most_the_limit() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    // The exporters alone would wait for ten seconds.
    let limit = Duration::from_millis(300);
    let took = shutdown_time(&format!("http://{}", silent.local_addr().unwrap()), limit).await;
    assert!(took >= limit && took < limit + Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_collector_does_not_delay_the_shutdown() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let limit = Duration::from_secs(60);
    let took = shutdown_time(&format!("http://{address}"), limit).await;
    assert!(took < limit / 6, "{took:?}");
}

#[tokio::test]
async fn dropping_the_telemetry_does_not_wait_for_a_collector() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let (pipeline, telemetry) = start(exported_to(&endpoint), &LogExport::default());
    drop(telemetry.operation("start", "start_failed"));
    let began = Instant::now();
    drop((pipeline, telemetry));
    // The SDK alone would wait five seconds, on the only thread that could export.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}
