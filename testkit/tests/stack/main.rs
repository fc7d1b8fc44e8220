//! The shop with the real Collector, Jaeger, OpenSearch and Prometheus, and the repository's configuration files.
//!
//! There is one long test, since the programs start slowly. If they are not available, it prints why it is skipped.

mod jaeger;
mod load;
mod opensearch;
mod running;
mod same_answers;
mod shop;

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::Client;

use load::Load;
use running::Stack;
use shop::Shop;

const INDEXED: Duration = Duration::from_secs(120);

/// Siblings are sorted by name.
const RECOMMENDATIONS: &str = "\
user-service GET /users/{user_id}/recommendations server
  user-service get_user_recommendations internal
    user-service GET client
      product-service GET /products/recommend server
        product-service recommend_products internal
          product-service apply_pricing_logic internal
          product-service calculate_user_score internal
          product-service enrich_with_inventory internal
            product-service GET client
              inventory-service GET /inventory/{product_id} server
                inventory-service get_inventory internal
                  inventory-service calculate_shipping_time internal
                  inventory-service check_warehouse_capacity internal
            product-service GET client
              inventory-service GET /inventory/{product_id} server
                inventory-service get_inventory internal
                  inventory-service calculate_shipping_time internal
                  inventory-service check_warehouse_capacity internal
            product-service GET client
              inventory-service GET /inventory/{product_id} server
                inventory-service get_inventory internal
                  inventory-service calculate_shipping_time internal
                  inventory-service check_warehouse_capacity internal
          product-service filter_products_by_category internal
";

#[test]
fn every_program_accepts_its_configuration() {
    if programs_can_be_had() {
        running::check_configuration();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_walk_holds_with_the_real_programs() {
    if !programs_can_be_had() {
        return;
    }
    let mut stack = Stack::start();
    let shop = Shop::start(&stack);

    walk(&shop).await;
    jaeger_has_one_whole_trace(&stack).await;
    jaeger_knows_the_three_services(&stack).await;
    opensearch_answers_the_documented_queries(&stack).await;
    the_collector_tells_the_demos_metrics(&stack).await;
    prometheus_scrapes_them(&stack).await;
    for program in ["collector", "jaeger"] {
        the_host_serves_while_it_is_killed_and_spans_flow_again(&stack, &shop, program).await;
    }

    shop.stop();
    for pid in stack.stop() {
        assert!(!std::path::Path::new("/proc").join(&pid).exists(), "process {pid} was left behind");
    }
}

/// Compares the console with Jaeger, which stores traces in memory here, since its index is not part of the comparison.
#[tokio::test(flavor = "multi_thread")]
async fn the_console_and_jaeger_give_the_same_answers_over_the_same_spans() {
    if let Some(programs) = programs() {
        same_answers::compare(&programs).await;
    }
}

fn programs_can_be_had() -> bool {
    programs().is_some()
}

/// Installs the programs, or prints why they are not available. The message bypasses the test harness, which would hide
/// it.
fn programs() -> Option<String> {
    let fetched = running::fetch();
    if let Err(reason) = &fetched {
        writeln!(std::io::stderr(), "SKIPPED, the real programs cannot be had: {reason}").ok();
    }
    fetched.ok()
}

/// The polling interval.
fn rounds() -> tokio::time::Interval {
    tokio::time::interval(Duration::from_millis(100))
}

/// Sends the requests of docs/stack.md, and for each query one request that it must not find.
async fn walk(shop: &Shop) {
    shop.recommendations(1, "walk-1").await;
    shop.recommendations(2, "walk-2").await;
    for (method, service, path) in [
        ("GET", "user-service", "/users/2/shopping-analysis"),
        ("GET", "product-service", "/products/recommend?category=electronics"),
        ("GET", "inventory-service", "/inventory/1"),
        ("POST", "inventory-service", "/inventory/1/reserve?quantity=2"),
    ] {
        let answer = shop.request(method, service, path).send().await;
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    }
}

async fn jaeger_has_one_whole_trace(stack: &Stack) {
    let trace = jaeger::trace(stack, "walk-1", 24).await;
    assert_eq!(trace.tree(), RECOMMENDATIONS);
    assert_eq!(trace.spans().len(), 24);
    trace.assert_no_warnings();
    for span in trace.spans() {
        for (key, value) in
            [("business.client_id", "web"), ("business.session_id", "walk-1"), ("business.user_id", "1")]
        {
            assert_eq!(jaeger::tag(span, key), Some(&json!(value)), "{key} of {span}");
        }
    }
    let recommending = trace.spans().iter().find(|span| span["operationName"] == "recommend_products");
    let recommending = recommending.expect("the tree has it");
    assert_eq!(jaeger::tag(recommending, "custom.operation_type"), Some(&json!("product_recommendation")));
    for key in ["performance.execution_time_ms", "feature_flag.recommendation_engine"] {
        assert!(jaeger::tag(recommending, key).is_some(), "no {key} on {recommending}");
    }
}

/// Jaeger lists a service when OpenSearch has indexed it, about a second after the trace.
async fn jaeger_knows_the_three_services(stack: &Stack) {
    let deadline = Instant::now() + INDEXED;
    loop {
        let answer = Client::default().request("GET", stack.address("jaeger"), "/api/services").send().await;
        let known = answer.json()["data"].clone();
        let known: Vec<&str> = known.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if ["user-service", "product-service", "inventory-service"].iter().all(|service| known.contains(service)) {
            return;
        }
        assert!(Instant::now() < deadline, "{known:?}");
        tokio::task::yield_now().await;
    }
}

async fn opensearch_answers_the_documented_queries(stack: &Stack) {
    let indices = opensearch::indices(stack).await;
    for kind in ["span", "service"] {
        let daily = |name: &&String| opensearch::is_daily(name, &format!("jaeger-jaeger-{kind}-"));
        assert!(indices.iter().any(|name| daily(&name)), "no index of each day's {kind}s in {indices:?}");
    }
    // shopping-analysis requests recommendations too, so there are four requests with one recommend_products each.
    let recommended = opensearch::found_by_filter(stack, &opensearch::saved_filter(), 4).await;
    for span in &recommended {
        assert_eq!(span["operationName"], "recommend_products");
        assert_eq!(span["process"]["serviceName"], "product-service");
    }
    let [of_a_user, timed, slow] = opensearch::documented_queries();
    // One request was for user 1, and all 24 spans of its trace have the attribute.
    let of_user_1 = opensearch::found(stack, &of_a_user, 24).await;
    assert!(of_user_1.iter().all(|span| span["traceID"] == of_user_1[0]["traceID"]), "{of_user_1:#?}");
    // The same condition, evaluated here. Spans still arrive, so both are repeated until they agree.
    let (deadline, mut rounds) = (Instant::now() + INDEXED, rounds());
    loop {
        rounds.tick().await;
        let all = opensearch::search(stack, &json!({ "query": { "match_all": {} } })).await;
        let times = || all.iter().filter_map(|span| opensearch::tag(span, "performance.execution_time_ms"));
        let slower = times().filter(|time| time.as_f64().expect("a number") > 1.0).count();
        // Two recommendations have seven each.
        assert!(times().count() >= 14, "{all:#?}");
        let found = (opensearch::search(stack, &timed).await.len(), opensearch::search(stack, &slow).await.len());
        if found == (times().count(), slower) {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?} instead of {:?}", (times().count(), slower));
    }
}

async fn the_collector_tells_the_demos_metrics(stack: &Stack) {
    let samples = |name: &str, service: &str| match service {
        "" => vec![name.to_owned()],
        _ => vec![format!("{name}{{"), format!("service_name=\"{service}\"")],
    };
    let mut wanted = Vec::new();
    for service in ["user-service", "product-service", "inventory-service"] {
        for name in ["http_requests_total", "otel_span_duration_ms_bucket", "otel_operations_total"] {
            wanted.push(samples(name, service));
        }
        wanted.push(samples("http_server_request_duration_seconds_bucket", service));
        wanted.push(samples("traces_span_metrics_calls_total", service));
        wanted.push(samples("traces_span_metrics_duration_milliseconds_bucket", service));
    }
    wanted.push(samples("memory_usage_mb", ""));
    wanted.push(samples("cpu_usage_percent", ""));
    let (deadline, mut rounds) = (Instant::now() + INDEXED, rounds());
    loop {
        rounds.tick().await;
        let answer = Client::default().request("GET", stack.address("collector-metrics"), "/metrics").send().await;
        let text = answer.text();
        let there = |parts: &Vec<String>| {
            let starts = |line: &&str| line.starts_with(&parts[0]) && parts[1..].iter().all(|part| line.contains(part));
            text.lines().any(|line| starts(&line))
        };
        let Some(missing) = wanted.iter().find(|parts| !there(parts)) else { return };
        assert!(Instant::now() < deadline, "{missing:?} is not in\n{text}");
    }
}

async fn prometheus_scrapes_them(stack: &Stack) {
    if !stack.has("prometheus") {
        return;
    }
    let (deadline, mut rounds) = (Instant::now() + INDEXED, rounds());
    loop {
        rounds.tick().await;
        // count(http_requests_total) by (service_name)
        let path = "/api/v1/query?query=count%28http_requests_total%29by%28service_name%29";
        let answer = Client::default().request("GET", stack.address("prometheus"), path).send().await.json();
        let count = answer["data"]["result"].as_array().map_or(0, Vec::len);
        if count == 3 {
            return;
        }
        assert!(Instant::now() < deadline, "not the three services: {answer}");
    }
}

async fn the_host_serves_while_it_is_killed_and_spans_flow_again(stack: &Stack, shop: &Shop, program: &str) {
    let load = Load::start(shop);
    load.wait_for_more(50).await;
    stack.kill(program);
    load.wait_for_more(50).await;
    let session = format!("after-the-end-of-{program}");
    // Sent as soon as the process is running again, before the host or the Collector has reconnected.
    let deadline = Instant::now() + Duration::from_secs(180);
    for attempt in 0.. {
        let session = format!("{session}-{attempt}");
        shop.recommendations(1, &session).await;
        if jaeger::arrives(stack, &session, 24, Duration::from_secs(30)).await {
            break;
        }
        assert!(Instant::now() < deadline, "no whole trace since {program} was killed\n{}", stack.said());
    }
    let served = load.stop().await;
    assert!(served > 100, "only {served} requests were served");
}
