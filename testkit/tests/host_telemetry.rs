//! Telemetry of the host itself: traces of start, reload, watch, swap and shutdown, and its log as log records.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::collector::LogRecord;
use testkit::raw::Connection;
use testkit::{Client, Collector, PATIENCE, ShopBuilder, Site, Span, artifacts, variant};

/// A host with short export intervals, and one service whose component is a separate file.
fn site(collector: &Collector, protocol: &str) -> (Site, ShopBuilder) {
    let endpoint = if protocol == "grpc" { collector.endpoint() } else { collector.http_endpoint() };
    let site = Site::new(&["one", "two"])
        .env("OTEL_SDK_DISABLED", "false")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("OTEL_BSP_SCHEDULE_DELAY", "20")
        .env("OTEL_BLRP_SCHEDULE_DELAY", "20");
    site.replace("one.wasm", &variant("oddities", 0));
    let builder = ShopBuilder::empty().console_port(site.console().port());
    let builder = builder.service("one", &site.path("one.wasm"), site.address("one").port());
    site.write(&builder);
    (site, builder)
}

/// The root span of the latest operation with this name.
async fn root(collector: &Collector, name: &str) -> Span {
    let is_root = |span: &Span| span.service == "spandrel" && span.name == name && span.parent.is_none();
    collector.wait_for_span(name, is_root).await
}

/// A step of `root`.
async fn step(collector: &Collector, root: &Span, name: &str) -> Span {
    let is_step = |span: &Span| span.name == name && span.parent.as_ref() == Some(&root.span_id);
    collector.wait_for_span(name, is_step).await
}

async fn line(collector: &Collector, text: &str) -> LogRecord {
    let has_text = |record: &LogRecord| record.body.as_str().is_some_and(|body| body.contains(text));
    let record = collector.wait_for_log(text, has_text).await;
    assert_eq!(record.service, "spandrel");
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn start_reload_watch_swap_and_shutdown_are_traces_with_their_log_lines() {
    for protocol in ["grpc", "http/protobuf"] {
        let collector = Collector::start();
        let (site, builder) = site(&collector, protocol);
        let host = site.serve();
        let start = root(&collector, "start").await;
        assert!(!start.is_error(), "{start}");
        assert_eq!(step(&collector, &start, "compile").await.attribute("spandrel.service"), "one");
        step(&collector, &start, "check").await;
        step(&collector, &start, "listen").await;

        // After this the host has polled the current files.
        assert_eq!(site.admin().swap("one", variant("oddities", 1)).await.status, 200);
        let swap = root(&collector, "swap").await;
        for name in ["compile", "verify", "warm", "probe", "publish", "drain"] {
            step(&collector, &swap, name).await;
        }
        let record = line(&collector, "swap: swapped").await;
        assert_eq!((&record.trace_id, &record.span_id), (&swap.trace_id, &swap.span_id));
        assert_eq!(record.attributes["spandrel.component.generation"], json!(2));

        site.write(&builder.service("two", &artifacts::component("oddities"), site.address("two").port()));
        let watch = root(&collector, "watch").await;
        assert_eq!(watch.attribute("file.path"), site.manifest().display().to_string().as_str());
        let reload = step(&collector, &watch, "reload").await;
        reload.assert_attribute("spandrel.reload.reason", "changed");
        assert_eq!(step(&collector, &reload, "compile").await.attribute("spandrel.service"), "two");
        for text in ["manifest applied", "service added"] {
            let record = line(&collector, text).await;
            assert_eq!((&record.trace_id, &record.span_id), (&reload.trace_id, &reload.span_id), "{text}");
            assert_eq!((record.severity.as_str(), record.severity_number), ("INFO", 9));
        }

        site.replace("one.wasm", &variant("oddities", 2));
        let is_of_file =
            |span: &Span| span.name == "watch" && span.attributes.get("spandrel.service") == Some(&json!("one"));
        collector.wait_for_span("the watch of the component", is_of_file).await;
        site.admin().wait_for_generation("one", 3).await;

        host.signal("TERM");
        let ended = host.wait(PATIENCE);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        let shutdown = root(&collector, "shutdown").await;
        for name in ["delay", "drain"] {
            step(&collector, &shutdown, name).await;
        }
        line(&collector, "stopping: draining the requests in flight").await;
        // Each line is exported once, and each exported line is on the terminal.
        for record in collector.logs().iter().filter(|record| record.service == "spandrel") {
            let body = record.body.as_str().expect("a text");
            let of_body = |other: &&LogRecord| other.body == record.body;
            assert!(ended.stdout.contains(body), "{body}: {ended:#?}");
            assert_eq!(collector.logs().iter().filter(of_body).count(), ended.stdout.matches(body).count(), "{body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_is_a_trace_with_the_reason() {
    let collector = Collector::start();
    let (site, _) = site(&collector, "grpc");
    site.replace("one.wasm", b"no component");
    let ended = site.begin().wait(PATIENCE);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    let start = root(&collector, "start").await;
    start.assert_attribute("error.type", "start_failed");
    step(&collector, &start, "check").await.assert_attribute("error.type", "check");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_manifest_is_a_trace_with_the_reason() {
    let collector = Collector::start();
    let (site, _) = site(&collector, "grpc");
    let host = site.serve();
    site.replace("services.toml", b"[[service]]\nnmae = \"one\"\n");
    let reload = collector.wait_for_span("the reload", |span| span.name == "reload" && span.is_error()).await;
    reload.assert_attribute("error.type", "manifest_refused");
    let record = line(&collector, "was not applied").await;
    assert_eq!((&record.trace_id, record.severity.as_str()), (&reload.trace_id, "WARN"));
    assert!(record.attributes["reason"].as_str().is_some_and(|reason| reason.contains("nmae")), "{record:#?}");
    host.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_are_turned_off_are_not_exported() {
    for (name, value, spans, logs) in [
        ("OTEL_LOGS_EXPORTER", "none", true, false),
        ("OTEL_TRACES_EXPORTER", "none", false, true),
        ("OTEL_TRACES_SAMPLER", "always_off", false, true),
        ("OTEL_SDK_DISABLED", "true", false, false),
        ("RUST_LOG", "warn", true, false),
    ] {
        let collector = Collector::start();
        let (site, _) = site(&collector, "grpc");
        let host = site.env(name, value).serve();
        // The start has completed.
        host.wait_for_line(&["console:"]).await;
        host.signal("TERM");
        let ended = host.wait(PATIENCE);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert_eq!(!collector.spans().is_empty(), spans, "{name}={value}: {:#?}", collector.spans());
        assert_eq!(!collector.logs().is_empty(), logs, "{name}={value}: {:#?}", collector.logs());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_filter_of_the_log_is_named_and_counts_as_not_set() {
    let (site, _) = site(&Collector::start(), "grpc");
    let host = site.env("RUST_LOG", "spandrel=infoo").serve();
    host.wait_for_line(&["WARN", "RUST_LOG is not a valid filter"]).await;
    host.wait_for_line(&["console:"]).await;
    host.signal("TERM");
    let ended = host.wait(PATIENCE);
    assert!(ended.stdout.contains(" INFO "), "{ended:#?}");
}

/// The warnings in a log.
fn warnings(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_the_host_logs_no_further_warning_and_stops_without_delay() {
    let mut collector = Collector::start();
    collector.stop();
    for protocol in ["grpc", "http/protobuf"] {
        let (site, _) = site(&collector, protocol);
        let site = site.env("RUST_LOG", "info,opentelemetry=trace").env("OTEL_METRICS_EXPORTER", "none");
        // A shutdown that waits for the collector always takes three seconds; on a busy machine another one can, too.
        let mut stops = Vec::new();
        while stops.iter().all(|stop| *stop >= Duration::from_secs(3)) {
            assert!(stops.len() < 5, "{stops:?}");
            let host = site.serve();
            // The export of the start has failed by now, or is in progress.
            host.wait_for_line(&["console:"]).await;
            host.signal("TERM");
            let began = Instant::now();
            let ended = host.wait(PATIENCE);
            stops.push(began.elapsed());
            assert_eq!(ended.code, Some(0), "{ended:#?}");
            assert_eq!(warnings(&ended.stdout), Vec::<&str>::new());
        }
    }
}

/// Asserts that three requests for `path` of a standard guest log one warning about it, which contains `text`.
async fn assert_warned_once(path: &str, status: u16, text: &str) {
    let collector = Collector::start();
    let (site, _) = site(&collector, "grpc");
    let proposals = artifacts::component("standard-proposals");
    let builder = ShopBuilder::empty().console_port(site.console().port());
    site.write(&builder.service("one", &proposals, site.address("one").port()));
    let host = site.serve();
    for _ in 0..3 {
        let request = Client::default().request("GET", site.address("one"), path);
        assert_eq!(request.send().await.status, status);
    }
    let record = line(&collector, text).await;
    assert_eq!((record.severity.as_str(), &record.attributes["service"]), ("WARN", &json!("one")));
    assert!(record.attributes["reason"].is_string(), "{:?}", record.attributes);
    host.signal("TERM");
    host.wait(PATIENCE);
    let is_warning = |record: &&LogRecord| record.body.as_str().is_some_and(|body| body.contains(text));
    assert_eq!(collector.logs().iter().filter(is_warning).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_metric_of_a_guest_that_is_rejected_is_logged_as_a_warning() {
    assert_warned_once("/otel/reserved-name", 500, "a metric of the guest is rejected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_unusable_span_id_of_a_guest_is_logged_as_a_warning() {
    assert_warned_once("/otel/absurd", 200, "a span of the guest has an unusable id").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_gets_no_backtrace_of_the_host_with_an_error() {
    let collector = Collector::start();
    let (site, _) = site(&collector, "grpc");
    let site = site.env("RUST_BACKTRACE", "1");
    let builder = ShopBuilder::empty().console_port(site.console().port());
    let builder = builder.service("one", &artifacts::component("standard-p2"), site.address("one").port());
    site.write(&builder.limits("one", "request_body = \"1KiB\""));
    let host = site.serve();
    let mut connection = Connection::open(site.address("one")).await;
    let head = "POST /count HTTP/1.1\r\nhost: one\r\ntransfer-encoding: chunked\r\n\r\n";
    // The guest panics with the debug text of the error that it gets when the body exceeds the limit.
    connection.send(format!("{head}800\r\n{}\r\n", "a".repeat(0x800))).await;
    let server = collector.wait_for_span("the request", |span| span.service == "one").await;
    server.assert_attribute("http.response.status_code", 413);
    let exception = server.event("exception").expect("the guest has trapped");
    let message = exception.attributes["exception.message"].as_str().unwrap_or_default();
    assert!(message.starts_with("the body broke off: ") && message.contains("limit"), "{message}");
    assert!(!message.to_lowercase().contains("backtrace"), "{message}");
    host.signal("TERM");
    host.wait(PATIENCE);
}
