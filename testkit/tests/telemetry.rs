//! Telemetry: exported data, protocols, and failures of the collector.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::collector::{Arrival, Protocol, Signal};
use testkit::raw::Connection;
use testkit::{Behaviour, Client, Collector, Outcome, PATIENCE, Shop, Span, TraceId, poll};

/// Excludes the host's own spans, for tests that count exports: only requests with a sampled traceparent are recorded.
const REQUESTS_ONLY: (&str, &str) = ("OTEL_TRACES_SAMPLER", "parentbased_always_off");

/// Sends `count` requests one after the other, and returns their trace ids.
async fn requests(shop: &Shop, count: usize) -> Vec<TraceId> {
    let mut traces = Vec::new();
    for _ in 0..count {
        let answer = shop.get("oddities", "/health").await;
        assert_eq!(answer.status, 200);
        traces.push(answer.trace);
    }
    traces
}

/// Asserts that the span of each of these traces was received exactly once.
#[track_caller]
fn assert_complete(collector: &Collector, traces: &[TraceId]) {
    for trace in traces {
        let spans = collector.trace(trace).spans().len();
        assert_eq!(spans, 1, "spans of trace {trace}");
    }
}

/// Whether an export contains spans of requests.
fn is_of_spans(arrival: &Arrival) -> bool {
    arrival.signal == Signal::Traces && arrival.is_of_requests()
}

/// Waits until at least this many spans were dropped for one reason, and returns the reason.
async fn wait_for_drops(collector: &Collector, least: f64) -> Value {
    let fits = |metric: &testkit::collector::Metric| metric.points.iter().any(|point| point.value >= least);
    let metric = collector.wait_for_metric("spandrel.trace.spans.dropped", fits).await;
    let point = metric.points.iter().find(|point| point.value >= least).expect("the point that fits");
    point.attributes.get("reason").cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_signals_are_exported_over_grpc_and_http() {
    for http in [false, true] {
        let builder = if http { Shop::oddities().over_http() } else { Shop::oddities() };
        let builder = builder.env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue,authorization=Basic%20abc");
        let shop = builder.env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip").start().await;
        let answer = shop.get("oddities", "/log/hello").await;
        assert_eq!(answer.status, 200);
        shop.trace(&answer.trace, 2).await;
        shop.collector().wait_for_log("of the trace", |record| record.trace_id == answer.trace.as_str()).await;
        shop.collector().wait_for_metric("http.server.request.duration", |_| true).await;
        let expected = if http { Protocol::Http } else { Protocol::Grpc };
        for arrival in shop.collector().arrivals() {
            assert_eq!(arrival.protocol, expected);
            let header = |name: &str| arrival.headers.get(name).map(String::as_str);
            assert_eq!(header("x-tenant"), Some("blue"), "{arrival:#?}");
            assert_eq!(header("authorization"), Some("Basic abc"), "{arrival:#?}");
            let encoding = if http { "content-encoding" } else { "grpc-encoding" };
            assert_eq!(header(encoding), Some("gzip"), "{arrival:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_signal_can_have_its_own_endpoint() {
    let traces = Collector::start();
    let url = format!("{}/v1/traces", traces.http_endpoint());
    let shop = Shop::oddities()
        .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &url)
        .env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
        .start()
        .await;
    let answer = shop.get("oddities", "/log/hello").await;
    traces.wait_for_trace(&answer.trace, 2).await;
    shop.collector().wait_for_metric("http.server.request.duration", |_| true).await;
    assert!(shop.collector().spans().is_empty());
    assert!(traces.arrivals().iter().all(|arrival| arrival.signal == Signal::Traces));
}

#[tokio::test(flavor = "multi_thread")]
async fn retryable_errors_are_retried_and_nothing_is_lost() {
    for http in [false, true] {
        let builder = if http { Shop::oddities().over_http() } else { Shop::oddities() };
        let shop = builder.start().await;
        shop.collector().behave(Behaviour::Refuse { retry_after: Some(Duration::from_secs(1)) });
        let traces = requests(&shop, 20).await;
        let refused = || shop.collector().arrivals().iter().filter(|arrival| is_of_spans(arrival)).count();
        poll::until(PATIENCE, || (refused() > 0).then_some(())).await.expect("an export came");
        // The host may have exported spans of its start before.
        assert!(shop.collector().spans().iter().all(|span| span.service == "spandrel"));
        shop.collector().behave(Behaviour::Accept);
        let last = traces.last().expect("a trace");
        shop.trace(last, 1).await;
        let collector = shop.shut_down().await;
        assert_complete(&collector, &traces);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requested_retry_delay_is_respected() {
    let shop = Shop::oddities().env(REQUESTS_ONLY.0, REQUESTS_ONLY.1).start().await;
    shop.collector().behave(Behaviour::Refuse { retry_after: Some(Duration::from_secs(2)) });
    requests(&shop, 1).await;
    let spans = || -> Vec<Instant> {
        let arrivals = shop.collector().arrivals();
        arrivals.iter().filter(|arrival| is_of_spans(arrival)).map(|arrival| arrival.at).collect()
    };
    let times = poll::until(PATIENCE, || Some(spans()).filter(|times| times.len() >= 2)).await.expect("a second try");
    let pause = times[1].duration_since(times[0]);
    assert!(pause >= Duration::from_millis(1900), "tried again after {pause:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_spans_are_exported_when_the_collector_returns() {
    let mut shop = Shop::oddities().env(REQUESTS_ONLY.0, REQUESTS_ONLY.1).start().await;
    let before = requests(&shop, 5).await;
    // A batch whose response is lost is sent again.
    let are_delivered = |metric: &testkit::collector::Metric| metric.points.iter().any(|point| point.value >= 5.0);
    shop.collector().wait_for_metric("spandrel.trace.spans.exported", are_delivered).await;
    shop.collector_mut().stop();
    let during = requests(&shop, 50).await;
    shop.collector_mut().start_again();
    shop.collector().wait_for_trace_within(&during[49], 1, 3 * PATIENCE).await;
    let after = requests(&shop, 5).await;
    let collector = shop.shut_down().await;
    assert_complete(&collector, &[before, during, after].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_retried_if_the_collector_is_killed_during_the_export() {
    let mut shop = Shop::oddities().start().await;
    shop.collector().behave(Behaviour::Hang);
    let traces = requests(&shop, 5).await;
    let came = || shop.collector().arrivals().iter().any(is_of_spans);
    poll::until(PATIENCE, || came().then_some(())).await.expect("an export is under way");
    shop.collector_mut().stop();
    shop.collector().behave(Behaviour::Accept);
    shop.collector_mut().start_again();
    shop.collector().wait_for_trace_within(&traces[4], 1, 3 * PATIENCE).await;
    let collector = shop.shut_down().await;
    assert_complete(&collector, &traces);
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_errors_are_counted_and_not_retried() {
    let shop = Shop::oddities().env(REQUESTS_ONLY.0, REQUESTS_ONLY.1).start().await;
    shop.collector().behave(Behaviour::Reject);
    let traces = requests(&shop, 3).await;
    let sent = || -> usize {
        let arrivals = shop.collector().arrivals();
        arrivals.iter().filter(|arrival| is_of_spans(arrival)).map(|arrival| arrival.items).sum()
    };
    poll::until(PATIENCE, || (sent() >= 3).then_some(())).await.expect("the spans were sent");
    shop.collector().behave(Behaviour::Accept);
    wait_for_drops(shop.collector(), 3.0).await;
    let collector = shop.shut_down().await;
    assert!(traces.iter().all(|trace| collector.trace(trace).spans().is_empty()), "they were sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_rejected_by_a_partial_success_are_counted() {
    let shop = Shop::oddities().start().await;
    shop.collector().behave(Behaviour::Partial { rejected: 2 });
    let traces = requests(&shop, 3).await;
    shop.trace(&traces[2], 1).await;
    wait_for_drops(shop.collector(), 2.0).await;
    let collector = shop.shut_down().await;
    assert_complete(&collector, &traces);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_collector_does_not_slow_requests() {
    // A request that waits for the collector waits for ten minutes.
    let builder = Shop::oddities().env("OTEL_BSP_MAX_QUEUE_SIZE", "128").env("OTEL_EXPORTER_OTLP_TIMEOUT", "600000");
    let shop = builder.limits("oddities", "request_timeout = \"20m\"").start().await;
    shop.collector().behave(Behaviour::Hang);
    for _ in 0..400 {
        let answer = shop.request("GET", "oddities", "/health").patience(PATIENCE).send().await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_do_not_fit_into_the_queue_are_dropped_and_counted() {
    let shop = Shop::oddities()
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "32")
        .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
        .env("OTEL_METRICS_EXPORTER", "none")
        .with_console()
        .start()
        .await;
    shop.collector().behave(Behaviour::Hang);
    requests(&shop, 200).await;
    let page = Client::default().request("GET", shop.console(), "/metrics").send().await.text();
    let samples =
        page.lines().filter(|line| line.starts_with("spandrel_trace_spans_dropped") && line.contains("reason="));
    let dropped: f64 = samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    assert!((100.0..=200.0).contains(&dropped), "{dropped} dropped:\n{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_sdk_exports_nothing() {
    let shop = Shop::oddities().env("OTEL_SDK_DISABLED", "true").start().await;
    requests(&shop, 5).await;
    let collector = shop.shut_down().await;
    assert!(collector.arrivals().is_empty(), "{:#?}", collector.arrivals());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_exporter_can_be_turned_off() {
    let shop = Shop::oddities().env("OTEL_TRACES_EXPORTER", "none").env("OTEL_LOGS_EXPORTER", "none").start().await;
    assert_eq!(shop.get("oddities", "/log/hello").await.status, 200);
    let collector = shop.shut_down().await;
    let signals: Vec<_> = collector.arrivals().iter().map(|arrival| arrival.signal).collect();
    assert!(signals.contains(&Signal::Metrics), "{signals:?}");
    assert!(!signals.contains(&Signal::Traces) && !signals.contains(&Signal::Logs), "{signals:?}");
}

/// How many of 200 new traces are recorded, and how many of 50 with a sampled traceparent.
async fn sampled(sampler: &str, argument: &str) -> (usize, usize) {
    let shop = Shop::oddities().env("OTEL_TRACES_SAMPLER", sampler).env("OTEL_TRACES_SAMPLER_ARG", argument);
    let shop = shop.start().await;
    for number in 0..250 {
        let request = shop.request("GET", "oddities", "/health");
        let request = if number < 200 { request.untraced() } else { request };
        assert_eq!(request.send().await.status, 200);
    }
    let spans = shop.shut_down().await.spans();
    let roots = spans.iter().filter(|span| span.parent.is_none() && span.name == "GET /health").count();
    (roots, spans.iter().filter(|span| span.parent.is_some() && span.name == "GET /health").count())
}

#[tokio::test(flavor = "multi_thread")]
async fn samplers_follow_the_specification() {
    assert_eq!(sampled("always_on", "").await, (200, 50));
    assert_eq!(sampled("always_off", "").await, (0, 0));
    assert_eq!(sampled("parentbased_always_off", "").await, (0, 50));
    let (roots, children) = sampled("parentbased_traceidratio", "0.5").await;
    assert!((60..140).contains(&roots), "{roots} of 200");
    assert_eq!(children, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_context_is_propagated_in_the_configured_formats() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let (parent, b3) = ("00f067aa0ba902b7", format!("{trace}-00f067aa0ba902b7-1"));
    let jaeger = format!("{trace}:{parent}:0:1");
    let cases = [
        ("b3", vec![("b3", b3.as_str())]),
        ("b3multi", vec![("x-b3-traceid", trace), ("x-b3-spanid", parent), ("x-b3-sampled", "1")]),
        ("jaeger", vec![("uber-trace-id", jaeger.as_str())]),
    ];
    for (propagator, headers) in cases {
        let origin = testkit::origin::Origin::start(Default::default()).await;
        let shop = Shop::oddities()
            .env("OTEL_PROPAGATORS", propagator)
            .outbound("oddities", &format!("allow = [\"{}\"]", origin.url()))
            .start()
            .await;
        let mut request = shop.request("GET", "oddities", &format!("/call?url={}/", origin.url())).untraced();
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        assert_eq!(request.send().await.status, 200, "{propagator}");
        let tree = shop.whole_trace(&TraceId::from(trace)).await;
        let server = tree.line("oddities GET /call SERVER");
        assert_eq!(server.parent.as_deref(), Some(parent), "{propagator}");
        let asked = origin.asked();
        let name = headers[0].0;
        let sent = asked[0].headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert!(sent.contains(trace), "{propagator}: {name}: {sent}");
        assert!(!asked[0].headers.contains_key("traceparent"), "{propagator}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_have_the_attributes_of_the_environment() {
    let attributes = "deployment.environment.name=staging,team=shop%20floor";
    let shop = Shop::oddities().env("OTEL_RESOURCE_ATTRIBUTES", attributes).start().await;
    let answer = shop.get("oddities", "/health").await;
    let tree = shop.trace(&answer.trace, 1).await;
    let resource = &tree.spans()[0].resource;
    assert_eq!(resource["deployment.environment.name"], "staging");
    assert_eq!(resource["team"], "shop floor");
    assert_eq!(resource["service.name"], "oddities");
}

#[tokio::test(flavor = "multi_thread")]
async fn span_limits_apply_to_guests() {
    let shop = Shop::oddities()
        .env("OTEL_SPAN_EVENT_COUNT_LIMIT", "5")
        .env("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "100")
        .env("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "16")
        .start()
        .await;
    let answer = shop.get("oddities", "/absurd/3/20/5000").await;
    assert_eq!(answer.status, 200);
    let tree = shop.whole_trace(&answer.trace).await;
    let absurd = tree.named("absurd");
    assert_eq!(absurd.len(), 3);
    for span in absurd {
        assert_eq!((span.events.len(), span.dropped_events), (5, 15));
        assert_eq!(span.attribute("long").as_str().map(str::len), Some(100));
        assert!(span.attributes.len() <= 16);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_spans_of_a_request_is_limited() {
    let shop = Shop::oddities().env("OTEL_BSP_MAX_QUEUE_SIZE", "200000").start().await;
    let answer = shop.get("oddities", "/absurd/50000/0/10").await;
    let health = shop.get("oddities", "/health").await;
    assert_eq!(health.status, 200);
    let tree = shop.whole_trace(&answer.trace).await;
    assert_eq!(tree.spans().len(), 4096);
    let dropped = tree.roots()[0].attribute("spandrel.spans.dropped").as_u64().unwrap();
    assert!(dropped > 45_000, "{dropped} spans were left out");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_span_has_the_cost_of_the_request() {
    let shop = Shop::oddities().start().await;
    let first = shop.get("oddities", "/allocate/8").await;
    let second = shop.get("oddities", "/health").await;
    let tree = shop.trace(&first.trace, 1).await;
    let span = tree.line("oddities GET /allocate/{mebibytes} SERVER");
    let memory = span.attribute("spandrel.guest.memory").as_u64().unwrap_or_default();
    assert!((8 << 20..32 << 20).contains(&memory), "{memory} bytes");
    let busy = span.attribute("spandrel.guest.cpu_time").as_f64().unwrap_or_default();
    assert!(busy > 0.0 && busy < 10.0, "{busy} s");
    span.assert_attribute("spandrel.instance.reused", false);
    let tree = shop.trace(&second.trace, 1).await;
    tree.spans()[0].assert_attribute("spandrel.instance.reused", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_client_disconnected_is_counted_and_traced() {
    let shop = Shop::oddities().limits("oddities", "request_timeout = \"60s\"").start().await;
    let mut client = Connection::open(shop.address("oddities")).await;
    client.send("GET /flood/100000000 HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let is_served = |metric: &testkit::collector::Metric| metric.points.iter().any(|point| point.value == 1.0);
    shop.collector().wait_for_metric("http.server.active_requests", is_served).await;
    drop(client);
    let is_cancelled = |span: &Span| span.attributes.get("error.type") == Some(&json!("cancelled"));
    let span = shop.collector().wait_for_span("the request that was given up", is_cancelled).await;
    assert!(span.attribute("spandrel.guest.cpu_time").as_f64().is_some_and(|busy| busy > 0.0));
    let printed = shop.collector().wait_for_log("a line of it", |record| record.trace_id == span.trace_id).await;
    assert!(printed.body.as_str().is_some_and(|line| line.starts_with("line ")), "{printed:?}");
    let is_counted = |metric: &testkit::collector::Metric| {
        let mut points = metric.points.iter();
        points.any(|point| point.attributes.get("error.type") == Some(&json!("cancelled")) && point.count == 1)
    };
    shop.collector().wait_for_metric("http.server.request.duration", is_counted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_in_the_pool_wait_metric() {
    let shop = Shop::oddities().start().await;
    for _ in 0..3 {
        shop.get("oddities", "/health").await;
    }
    let three = |metric: &testkit::collector::Metric| metric.points.iter().any(|point| point.count == 3);
    shop.collector().wait_for_metric("spandrel.pool.wait.duration", three).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guest_output_becomes_log_records_with_service_and_trace() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/print/hello").await;
    assert_eq!(answer.status, 200);
    for text in ["out hello", "err hello", "no newline hello"] {
        let record = shop.collector().wait_for_log(text, |record| record.body == text).await;
        assert_eq!((record.service.as_str(), record.trace_id.as_str()), ("oddities", answer.trace.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_a_guest_is_limited_and_its_request_is_served() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/flood/20000").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let collector = shop.shut_down().await;
    let bytes: usize = collector.logs().iter().filter_map(|record| Some(record.body.as_str()?.len())).sum();
    assert!((1000..1 << 20).contains(&bytes), "{bytes} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_events_of_a_guest_are_log_records_with_trace_and_span_id() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/log/hello").await;
    let tree = shop.trace(&answer.trace, 2).await;
    let span = tree.line("oddities log INTERNAL");
    for (text, severity, attribute) in [("informed hello", 9, "shelf"), ("warned hello", 13, "fragile")] {
        let record = shop.collector().wait_for_log(text, |record| record.body == text).await;
        assert_eq!(record.trace_id, answer.trace.as_str());
        assert_eq!(record.span_id, span.span_id);
        assert_eq!(record.severity_number, severity);
        assert!(record.attributes.contains_key(attribute), "{record:#?}");
    }
    let failed = shop.collector().wait_for_log("failed hello", |record| record.body == "failed hello").await;
    assert_eq!(failed.severity_number, 17);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exception_is_also_a_log_record() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/panic/the%20shelf%20fell").await;
    let is_exception = |record: &testkit::collector::LogRecord| record.attributes.contains_key("exception.message");
    let record = shop.collector().wait_for_log("an exception", is_exception).await;
    assert_eq!((record.service.as_str(), record.trace_id.as_str()), ("oddities", answer.trace.as_str()));
    assert!(!record.span_id.is_empty());
    assert!(record.attributes["exception.stacktrace"].as_str().is_some_and(|text| text.contains("shelf_falls_down")));
    let collector = shop.shut_down().await;
    let records = collector.logs().into_iter().filter(|record| record.trace_id == answer.trace.as_str()).count();
    assert_eq!(records, 1, "the standard error of a panic is not a second log record");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_the_shop_have_services_and_units() {
    let shop = Shop::start().await;
    let answer = shop.get("user-service", "/users/1/recommendations").await;
    assert_eq!(answer.status, 200);
    let collector = shop.shut_down().await;
    let last = |service: &str, name: &str| {
        let all = collector.metrics().into_iter().rev();
        let found = { all }.find(|metric| metric.service == service && metric.name == name);
        found.unwrap_or_else(|| panic!("no {name} of {service}"))
    };
    for (service, route) in [
        ("user-service", "/users/{user_id}/recommendations"),
        ("product-service", "/products/recommend"),
        ("inventory-service", "/inventory/{product_id}"),
    ] {
        let duration = last(service, "http.server.request.duration");
        assert_eq!((duration.kind, duration.unit.as_str()), ("histogram", "s"));
        let point = duration.points.iter().find(|point| point.attributes["http.route"] == route).expect("the route");
        assert_eq!(point.attributes["http.request.method"], "GET");
        assert_eq!(point.attributes["http.response.status_code"], 200);
        assert_eq!(point.attributes["url.scheme"], "http");
        let bounds = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
        assert_eq!(point.bounds, bounds);
        assert_eq!(point.count, if service == "inventory-service" { 3 } else { 1 });
        let active = last(service, "http.server.active_requests");
        assert_eq!(active.kind, "up-down counter");
        assert!(active.points.iter().all(|point| point.value == 0.0), "{active:#?}");
    }
    let calls = last("product-service", "http.client.request.duration");
    assert_eq!(calls.points[0].attributes["server.port"], 8002);
    assert_eq!(calls.points[0].count, 3);
    for name in ["process.memory.usage", "process.cpu.time"] {
        assert!(last("spandrel", name).points[0].value > 0.0, "{name}");
    }
    assert!(last("product-service", "spandrel.instances.live").points[0].value >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn exemplars_of_durations_refer_to_exported_traces() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/health").await;
    let points_there = |metric: &testkit::collector::Metric| {
        let mut exemplars = metric.points.iter().flat_map(|point| &point.exemplars);
        exemplars.any(|(_, trace)| trace == answer.trace.as_str())
    };
    shop.collector().wait_for_metric("http.server.request.duration", points_there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_the_old_demo_are_on_the_prometheus_page() {
    let shop = Shop::builder().with_console().start().await;
    assert_eq!(shop.get("user-service", "/users/1/recommendations").await.status, 200);
    let page = Client::default().request("GET", shop.console(), "/metrics").send().await;
    assert!(page.header("content-type").starts_with("text/plain"), "{}", page.header("content-type"));
    let names = [
        "http_requests_total",
        "otel_span_duration_ms_bucket",
        "otel_operations_total",
        "memory_usage_mb",
        "cpu_usage_percent",
        "http_server_request_duration_seconds_bucket",
        "http_server_active_requests",
        "http_client_request_duration_seconds_count",
        "process_memory_usage_bytes",
        "process_cpu_time_seconds_total",
    ];
    let missing: Vec<_> =
        names.iter().filter(|name| !page.text().lines().any(|line| line.starts_with(**name))).collect();
    assert!(missing.is_empty(), "{missing:?} are not in\n{}", page.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn cardinality_is_bounded_for_any_client_input() {
    let shop = Shop::oddities().start().await;
    for number in 0..300 {
        let request = shop.request(&format!("M{number}"), "oddities", &format!("/no/{number}"));
        request.header("x-client-id", &number.to_string()).send().await;
        shop.get("oddities", &format!("/items/{number}?x={number}")).await;
        shop.get("oddities", &format!("/status/{}", 200 + number)).await;
    }
    let collector = shop.shut_down().await;
    let metrics = collector.metrics();
    let last = metrics
        .iter()
        .rev()
        .find(|metric| metric.service == "oddities" && metric.name == "http.server.request.duration");
    let points = &last.expect("the metric").points;
    assert!(points.len() < 400, "{} series", points.len());
    let methods: BTreeSet<_> = points.iter().map(|point| point.attributes["http.request.method"].to_string()).collect();
    assert_eq!(methods, BTreeSet::from(["\"GET\"".to_owned(), "\"_OTHER\"".to_owned()]));
    let routes: Vec<_> = points.iter().filter_map(|point| point.attributes.get("http.route")).collect();
    assert!(routes.iter().all(|route| route.as_str().is_some_and(|route| route.contains('{'))), "{routes:?}");
}

/// The traces of this many requests that took less than 400 ms. On a busy machine, others may take longer.
async fn quick_requests(shop: &Shop, count: usize) -> Vec<TraceId> {
    let (mut traces, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while traces.len() < count {
        assert!(Instant::now() < deadline, "only {} requests were quick", traces.len());
        let began = Instant::now();
        let trace = requests(shop, 1).await;
        if began.elapsed() < Duration::from_millis(400) {
            traces.extend(trace);
        }
    }
    traces
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_sampling_exports_failed_and_slow_traces_and_drops_the_rest() {
    let telemetry = "[telemetry]\nkeep = [\"errors\", \"slower than 500ms\"]\nkeep_rate = 0.0";
    let shop = Shop::oddities().head(telemetry).start().await;
    let plain = quick_requests(&shop, 10).await;
    let failed = shop.get("oddities", "/leak-and-panic").await.trace;
    let slow = shop.get("oddities", "/nap/700").await.trace;
    let collector = shop.shut_down().await;
    assert_eq!(collector.trace(&failed).spans().len(), 3);
    assert_eq!(collector.trace(&slow).spans().len(), 1);
    assert!(plain.iter().all(|trace| collector.trace(trace).spans().is_empty()), "a trace without cause was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_without_a_set_status_has_none() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/status/302").await;
    let tree = shop.trace(&answer.trace, 1).await;
    assert_eq!(tree.spans()[0].outcome, Outcome::Unset);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_emitted_is_documented() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/telemetry.md");
    let text = std::fs::read_to_string(path).expect("docs/telemetry.md");
    let shop = Shop::builder().start().await;
    let paths = ["/users/1/recommendations", "/users/1/shopping-analysis", "/users/9", "/nothing", "/health"];
    for path in paths {
        shop.request("GET", "user-service", path).header("x-client-id", "c").header("x-session-id", "s").send().await;
    }
    shop.post("inventory-service", "/inventory/1/reserve?quantity=1").await;
    let mut emitted = emitted(&shop.shut_down().await);
    let oddities = Shop::oddities().with_console().limits("oddities", "request_timeout = \"500ms\"").start().await;
    for path in ["/panic/x", "/trap", "/spin", "/print/x", "/log/x", "/huge/20000000", "/call?url=http://localhost:1/"]
    {
        oddities.get("oddities", path).await;
    }
    let unchanged = std::fs::read(testkit::artifacts::component("oddities")).expect("the component");
    oddities.admin().swap("oddities", unchanged).await;
    oddities.admin().swap("oddities", b"no component".to_vec()).await;
    // Attributes that the fixture sets need not be documented; those that the host adds must be.
    let collector = oddities.shut_down().await;
    emitted.extend(emitted_by_host(&collector));
    let undocumented: Vec<_> = emitted.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(undocumented.is_empty(), "docs/telemetry.md says nothing of {undocumented:#?}");
}

/// The names of all telemetry in the collector.
fn emitted(collector: &Collector) -> BTreeSet<String> {
    let mut names = emitted_by_host(collector);
    names.extend(collector.spans().iter().flat_map(|span| span.attributes.keys().cloned()));
    names.extend(collector.logs().iter().flat_map(|record| record.attributes.keys().cloned()));
    names
}

fn json_text(value: &serde_json::Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Whether a value of `error.type` is a status code, which are documented as a group.
fn is_status(kind: &str) -> bool {
    kind.len() == 3 && kind.parse::<u16>().is_ok()
}

/// The names of telemetry that the host creates: Resources, server and client spans with events, metrics.
fn emitted_by_host(collector: &Collector) -> BTreeSet<String> {
    let spans = collector.spans();
    let mut names = BTreeSet::new();
    for span in &spans {
        names.extend(span.resource.keys().cloned());
        if matches!(span.kind, testkit::Kind::Server | testkit::Kind::Client) || span.service == "spandrel" {
            names.extend(span.attributes.get("error.type").and_then(json_text).filter(|kind| !is_status(kind)));
            names.extend(span.attributes.keys().cloned());
            names.extend(span.events.iter().map(|event| event.name.clone()));
            names.extend(span.events.iter().flat_map(|event| event.attributes.keys().cloned()));
        }
    }
    for metric in collector.metrics() {
        names.insert(metric.name);
        names.extend(metric.points.into_iter().flat_map(|point| point.attributes.into_keys()));
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn guest_spans_of_one_request_have_different_ids() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/absurd/100/1/1").await;
    let tree = shop.trace(&answer.trace, 101).await;
    let ids: BTreeSet<_> = tree.spans().iter().map(|span: &Span| span.span_id.clone()).collect();
    assert_eq!(ids.len(), 101);
    assert!(tree.spans().iter().all(|span| span.span_id != "0".repeat(16)));
    assert_eq!(json!(tree.named("absurd").len()), 100);
}
