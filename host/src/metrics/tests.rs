//! Tests of the metrics.

use std::{collections::BTreeSet, time::Duration};

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};

use super::*;

fn metrics() -> Metrics {
    Metrics::new(vec![KeyValue::new("service.name", "spandrel")])
}

fn shop(metrics: &Metrics) -> Arc<ServiceMetrics> {
    let resource = vec![KeyValue::new("service.name", "shop"), KeyValue::new("service.version", "1.0.0")];
    metrics.service("shop", resource)
}

fn server_request<'a>(method: &'a http::Method, route: Option<&'a Arc<str>>, status: u16) -> ServerRequest<'a> {
    ServerRequest {
        method,
        scheme: "http",
        route,
        status,
        error_type: None,
        version: Some(http::Version::HTTP_11),
        duration: Duration::from_millis(2),
        trace: None,
    }
}

fn client_request(address: &str, port: u16) -> ClientRequest<'_> {
    ClientRequest {
        method: &http::Method::GET,
        address,
        port,
        status: Some(200),
        error_type: None,
        duration: Duration::from_millis(3),
    }
}

/// The sample lines of one metric, without the scope labels, which all lines have.
fn samples(page: &str, name: &str) -> Vec<String> {
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    page.lines().filter(of_name).map(without_scope).collect()
}

/// A sample line without the labels of its scope, which other labels follow.
pub(super) fn without_scope(line: &str) -> String {
    let mut line = line.to_owned();
    while let Some(start) = line.find("otel_scope_") {
        let end = line[start..].find(',').map_or(line.len(), |length| start + length + 1);
        line.replace_range(start..end, "");
    }
    line
}

fn names(metrics: &Metrics) -> BTreeSet<String> {
    let collected = metrics.collect();
    let scopes = collected.iter().flat_map(|resource| resource.scope_metrics());
    scopes.flat_map(|scope| scope.metrics()).map(|metric| metric.name().to_owned()).collect()
}

/// A host that has recorded every metric at least once.
fn busy_host() -> Metrics {
    let metrics = metrics();
    let shop = shop(&metrics);
    drop(shop.start_server_request(&http::Method::GET, "http"));
    shop.record_server_request(&server_request(&http::Method::GET, Some(&Arc::from("/users/{user_id}")), 200));
    shop.record_client_request(&client_request("localhost", 8000));
    shop.record_operation("user_scoring", "calculate_user_score", Duration::from_micros(40), false);
    shop.count_rejected("concurrency");
    shop.count_instantiation();
    shop.record_pool_wait(Duration::ZERO);
    shop.observe_pool(|| PoolStats {
        generation: 7,
        live: 4,
        idle: 3,
        memory_bytes: 4 << 20,
        memory_high_water_bytes: 2 << 20,
    });
    metrics.count_swap("shop", "swapped");
    metrics.observe_pipeline(|| PipelineStats {
        queue_length: 5,
        queue_capacity: 2048,
        exported: 100,
        dropped: vec![("queue_full", 2)],
        exported_logs: 50,
        dropped_logs: vec![("rejected", 1)],
    });
    metrics.exports()("traces", "accepted", Duration::from_millis(7));
    metrics.observe_instances(|| 9);
    metrics.observe_state_failures(|| 1);
    metrics.observe_code_cache(|| CodeCacheStats { hits: 3, misses: 1 });
    metrics
}

#[test]
fn a_server_request_has_the_attributes_of_the_semantic_conventions() {
    let metrics = metrics();
    let shop = shop(&metrics);
    let route = Arc::from("/users/{user_id}");
    shop.record_server_request(&server_request(&http::Method::GET, Some(&route), 503));
    let page = metrics.prometheus();
    assert_eq!(
        samples(&page, "http_server_request_duration_seconds_count"),
        [
            r#"http_server_request_duration_seconds_count{error_type="503",http_request_method="GET",http_response_status_code="503",http_route="/users/{user_id}",network_protocol_version="1.1",service_name="shop",url_scheme="http"} 1"#
        ]
    );
    let buckets = samples(&page, "http_server_request_duration_seconds_bucket");
    assert_eq!(buckets.len(), 15);
    assert!(buckets[0].contains(r#"le="0.005"} 1"#), "{}", buckets[0]);
    assert!(buckets[14].contains(r#"le="+Inf"} 1"#), "{}", buckets[14]);
}

#[test]
fn a_request_without_a_response_has_no_status() {
    let metrics = metrics();
    shop(&metrics).record_server_request(&ServerRequest {
        error_type: Some("cancelled"),
        ..server_request(&http::Method::GET, None, 0)
    });
    let page = metrics.prometheus();
    let count = samples(&page, "http_server_request_duration_seconds_count");
    assert!(count[0].contains(r#"error_type="cancelled""#));
    assert!(!count[0].contains("status_code"));
}

#[test]
fn a_request_is_active_until_its_guard_is_dropped() {
    let metrics = metrics();
    let shop = shop(&metrics);
    let first = shop.start_server_request(&http::Method::GET, "http");
    let second = shop.start_server_request(&http::Method::GET, "http");
    let active = |n: u32| {
        let page = metrics.prometheus();
        let labels = r#"{http_request_method="GET",service_name="shop",url_scheme="http"}"#;
        assert_eq!(samples(&page, "http_server_active_requests"), [format!("http_server_active_requests{labels} {n}")]);
    };
    active(2);
    drop(first);
    active(1);
    drop(second);
    active(0);
}

#[test]
fn the_series_that_clients_can_create_are_bounded() {
    let metrics = metrics();
    let shop = shop(&metrics);
    for n in 0..20_000u16 {
        let method = http::Method::from_bytes(format!("M{n}").as_bytes()).unwrap();
        shop.record_server_request(&server_request(&method, None, 404));
        let route = Arc::from(format!("/{n}"));
        shop.record_server_request(&server_request(&http::Method::GET, Some(&route), n));
    }
    let page = metrics.prometheus();
    let series = samples(&page, "http_server_request_duration_seconds_count");
    assert!(series.len() <= 1001, "{} series", series.len());
    let requests: u64 = samples(&page, "http_requests_total")
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(requests, 40_000, "requests beyond the limit are still counted");
}

#[test]
fn the_operation_series_that_guests_can_create_are_bounded() {
    let metrics = metrics();
    let shop = shop(&metrics);
    for n in 0..5000 {
        shop.record_operation(&format!("type {n}"), &format!("span {n}"), Duration::ZERO, n % 2 == 0);
    }
    let page = metrics.prometheus();
    let series = samples(&page, "otel_operations_total");
    assert!(series.len() <= 202, "{} series", series.len());
    assert!(series.iter().any(|line| line.contains(r#"operation_type="_OTHER""#)));
}

#[test]
fn operation_labels_of_guests_are_truncated() {
    let metrics = metrics();
    let shop = shop(&metrics);
    // The limit falls within a two-byte character.
    let long = format!("x{}", "ü".repeat(2 << 20));
    for (operation, span) in [(&*long, "span"), ("type", &long), (&long[..1001], &long), ("y", "y")] {
        shop.record_operation(operation, span, Duration::ZERO, false);
    }
    let page = metrics.prometheus();
    assert!(page.len() < 100_000, "{} bytes", page.len());
    let kept = format!("x{}", "ü".repeat(63));
    let operations = samples(&page, "otel_operations_total");
    let expected =
        format!(r#"otel_operations_total{{operation_type="{kept}",service_name="shop",status="success"}} 2"#);
    assert!(operations.len() == 3 && operations.contains(&expected), "{operations:?}");
    let spans = samples(&page, "otel_span_duration_ms_count");
    assert!(spans.len() == 4 && spans.iter().any(|line| line.contains(&format!(r#"span_name="{kept}""#))), "{spans:?}");
}

#[test]
fn origins_beyond_the_limit_are_counted_as_other() {
    let metrics = metrics();
    let shop = shop(&metrics);
    for port in 0..2000 {
        shop.record_client_request(&client_request("localhost", port));
    }
    let page = metrics.prometheus();
    let series = samples(&page, "http_client_request_duration_seconds_count");
    assert_eq!(series.len(), 501);
    let other = series.iter().find(|line| line.contains(r#"server_address="_OTHER""#)).unwrap();
    assert!(other.ends_with(" 1500"), "{other}");
}

#[test]
fn the_names_of_the_earlier_demo_are_on_the_page() {
    let page = busy_host().prometheus();
    assert_eq!(
        samples(&page, "http_requests_total"),
        [r#"http_requests_total{endpoint="/users/{user_id}",method="GET",service_name="shop",status="200"} 1"#]
    );
    assert_eq!(
        samples(&page, "otel_operations_total"),
        [r#"otel_operations_total{operation_type="user_scoring",service_name="shop",status="success"} 1"#]
    );
    assert_eq!(
        samples(&page, "otel_span_duration_ms_sum"),
        [
            r#"otel_span_duration_ms_sum{operation_type="user_scoring",service_name="shop",span_name="calculate_user_score"} 0.04"#
        ]
    );
    assert_eq!(samples(&page, "memory_usage_mb").len(), 1);
    assert_eq!(samples(&page, "cpu_usage_percent").len(), 1);
    assert_eq!(samples(&page, "process_cpu_time_seconds_total").len(), 1);
    assert_eq!(samples(&page, "process_memory_usage_bytes").len(), 1);
}

#[test]
fn one_family_holds_the_samples_of_all_services() {
    let metrics = metrics();
    for name in ["user-service", "product-service"] {
        let service = metrics.service(name, vec![KeyValue::new("service.name", name)]);
        service.record_server_request(&server_request(&http::Method::GET, None, 200));
    }
    let page = metrics.prometheus();
    assert_eq!(samples(&page, "http_requests_total").len(), 2);
    let declared = page.lines().filter(|line| *line == "# TYPE http_requests_total counter");
    assert_eq!(declared.count(), 1);
    assert_eq!(samples(&page, "target_info").len(), 3);
}

#[test]
fn an_exemplar_points_from_a_bucket_to_a_trace() {
    let metrics = metrics();
    let route = Arc::from("/users");
    shop(&metrics).record_server_request(&ServerRequest {
        trace: Some((TraceId::from(0xabc), SpanId::from(0xdef))),
        ..server_request(&http::Method::GET, Some(&route), 200)
    });
    let page = metrics.exposition(Exposition::OpenMetrics);
    let buckets = samples(&page, "http_server_request_duration_seconds_bucket");
    let with_exemplar: Vec<_> = buckets.iter().filter(|line| line.contains(" # {")).collect();
    assert_eq!(with_exemplar.len(), 1);
    assert!(buckets[13].contains(r#"le="10.0""#), "{}", buckets[13]);
    assert!(
        with_exemplar[0].contains(
            r#"le="0.005"} 1 # {trace_id="00000000000000000000000000000abc",span_id="0000000000000def"} 0.002"#
        )
    );
    assert!(page.contains("# TYPE http_requests counter\n") && page.ends_with("# EOF\n"));
    assert!(!metrics.prometheus().contains(" # {"), "the old format has no exemplars");
}

#[test]
fn exemplars_identify_their_data_point() {
    let metrics = metrics();
    let route = Arc::from("/users");
    shop(&metrics).record_server_request(&ServerRequest {
        trace: Some((TraceId::from(1), SpanId::from(2))),
        ..server_request(&http::Method::GET, Some(&route), 200)
    });
    let taken = metrics.exemplars();
    assert_eq!((taken.len(), taken[0].service.as_str()), (1, "shop"));
    assert!(metrics.exemplars().is_empty(), "an exemplar is taken once");
    let collected = metrics.collect();
    let found = collected.iter().flat_map(|r| r.scope_metrics()).flat_map(|s| s.metrics());
    let metric = found.into_iter().find(|metric| metric.name() == taken[0].metric).unwrap();
    let AggregatedMetrics::F64(MetricData::Histogram(histogram)) = metric.data() else {
        panic!("{metric:?}");
    };
    let point = histogram.data_points().next().unwrap();
    assert!(point.attributes().eq(taken[0].attributes.iter()));
}

#[test]
fn each_sample_names_its_scope() {
    let metrics = busy_host();
    let shop = shop(&metrics);
    let requested = InstrumentDescription { name: "orders", unit: "", description: "" };
    let orders = shop.guest_counter(&requested).unwrap();
    shop.guest_add(orders, 1, &[]);
    let page = metrics.prometheus();
    let own = format!(r#"otel_scope_name="spandrel",otel_scope_version="{}","#, env!("CARGO_PKG_VERSION"));
    for line in page.lines().filter(|line| !line.starts_with(['#']) && !line.starts_with("target_info")) {
        let expected = if line.starts_with("orders") { r#"{otel_scope_name="shop",service_name="# } else { &own };
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn units_are_declared_in_open_metrics() {
    let metrics = busy_host();
    let page = metrics.exposition(Exposition::OpenMetrics);
    for line in [
        "# UNIT http_server_request_duration_seconds seconds",
        "# UNIT process_memory_usage_bytes bytes",
        "# UNIT process_cpu_time_seconds seconds",
        "# UNIT cpu_usage_percent percent",
    ] {
        assert!(page.lines().any(|known| known == line), "{line}");
    }
    assert!(!page.contains("# UNIT http_requests") && !metrics.prometheus().contains("# UNIT"));
}

#[test]
fn a_swap_replaces_the_pool_that_is_read() {
    let metrics = metrics();
    let shop = shop(&metrics);
    for live in [3, 8] {
        shop.observe_pool(move || PoolStats { live, ..PoolStats::default() });
    }
    let page = metrics.prometheus();
    assert_eq!(samples(&page, "spandrel_instances_live"), [r#"spandrel_instances_live{service_name="shop"} 8"#]);
}

#[test]
fn swaps_are_counted_by_service_and_outcome() {
    let metrics = metrics();
    shop(&metrics);
    metrics.count_swap("shop", "swapped");
    metrics.count_swap("shop", "refused");
    metrics.count_swap("unknown", "refused");
    let page = metrics.prometheus();
    let swaps = samples(&page, "spandrel_component_swaps_total");
    assert_eq!(swaps.len(), 3);
    let refused = r#"spandrel_component_swaps_total{outcome="refused",service_name="spandrel"} 1"#;
    assert!(swaps.iter().any(|line| line == refused), "{swaps:?}");
}

#[test]
fn a_service_keeps_its_counts_until_it_is_removed() {
    let metrics = metrics();
    shop(&metrics).count_instantiation();
    shop(&metrics).count_instantiation();
    assert!(samples(&metrics.prometheus(), "spandrel_instantiations_total")[0].ends_with(" 2"));
    metrics.remove_service("shop");
    assert!(samples(&metrics.prometheus(), "spandrel_instantiations_total").is_empty());
}

#[test]
fn metrics_of_a_rejected_version_replace_nothing() {
    let metrics = metrics();
    shop(&metrics).count_instantiation();
    let other = metrics.service("shop", vec![KeyValue::new("service.version", "2.0.0")]);
    other.count_instantiation();
    assert_eq!(samples(&metrics.prometheus(), "target_info").len(), 2);
    assert!(!metrics.prometheus().contains("2.0.0"));
    metrics.report("shop", other);
    assert!(metrics.prometheus().contains("2.0.0"));
}

#[test]
fn final_values_of_retired_metrics_are_collected_once() {
    let metrics = metrics();
    let first = shop(&metrics);
    first.count_instantiation();
    let second = metrics.service("shop", vec![KeyValue::new("service.version", "2.0.0")]);
    metrics.report("shop", second.clone());
    assert_eq!(metrics.collect_retired().len(), 1);
    assert!(metrics.collect_retired().is_empty(), "once");
    metrics.report("shop", first);
    metrics.report("shop", second);
    assert_eq!(metrics.collect_retired().len(), 1, "what is reported again is not retired");
    metrics.remove_service("shop");
    assert_eq!(metrics.collect_retired().len(), 1);
}

#[test]
fn requests_on_several_threads_are_all_counted() {
    let metrics = metrics();
    let shop = shop(&metrics);
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let shop = &shop;
            threads.spawn(move || {
                for n in 0..1000 {
                    let route = Arc::from(format!("/{}", (n + thread) % 50));
                    let _active = shop.start_server_request(&http::Method::POST, "http");
                    shop.record_server_request(&server_request(&http::Method::POST, Some(&route), 201));
                }
            });
        }
    });
    let page = metrics.prometheus();
    let counts = samples(&page, "http_requests_total");
    assert_eq!(counts.len(), 50);
    assert!(counts.iter().all(|line| line.ends_with(" 80")), "{counts:#?}");
    assert!(samples(&page, "http_server_active_requests")[0].ends_with(" 0"));
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let page = include_str!("../../../docs/telemetry.md");
    let section = page.split("\n## Metrics\n").nth(1).expect("a section on metrics");
    let section = section.split("\n## ").next().unwrap_or_default();
    let documented: BTreeSet<String> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect();
    assert_eq!(documented, names(&busy_host()));
}
