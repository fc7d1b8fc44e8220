//! Limits: traps, endless loops, excessive memory, floods of requests and broken clients.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::origin::{Manner, Origin};
use testkit::raw::Connection;
use testkit::{Client, ODDITIES_PORT, Outcome, PATIENCE, Shop, ShopBuilder, Site, artifacts};

/// A host whose misbehaving component may call `origin` and itself.
async fn calling(origin: &Origin) -> testkit::ShopBuilder {
    let allow = format!("allow = [\"http://localhost:{ODDITIES_PORT}\", \"{}\"]", origin.url());
    Shop::oddities().outbound("oddities", &allow)
}

fn hanging() -> Manner {
    Manner { delay: Duration::MAX, ..Manner::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_500_and_an_exception_event_with_message_and_backtrace() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/panic/the%20shelf%20fell").await;
    answer.assert_problem(500, "");
    assert!(!answer.text().contains("shelf"), "the message is not for the client: {}", answer.text());
    let tree = shop.whole_trace(&answer.trace).await;
    let server = tree.line("oddities GET /panic/{message} SERVER");
    assert!(server.is_error());
    server.assert_attribute("error.type", "wasm_trap");
    server.assert_attribute("http.response.status_code", 500);
    let exception = server.event("exception").expect("an exception event");
    let text = |key: &str| exception.attributes.get(key).and_then(Value::as_str).unwrap_or_default();
    assert!(text("exception.message").contains("the shelf fell"), "{:#?}", exception.attributes);
    assert!(!text("exception.type").is_empty());
    let frame = |line: &&str| line.contains("at oddities::failures::shelf_falls_down (");
    let frame =
        text("exception.stacktrace").lines().find(frame).unwrap_or_else(|| panic!("{}", text("exception.stacktrace")));
    assert!(frame.contains("src/failures.rs:"), "a function of the component has its place in the source: {frame}");
    assert!(tree.line("oddities panic INTERNAL").is_error(), "an open guest span ends as an error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_discards_the_instance_and_affects_no_other_request() {
    let shop = Shop::oddities().start().await;
    let count = async || shop.get("oddities", "/count").await.json().as_u64().unwrap_or_default();
    let (first, second) = (count().await, count().await);
    assert_eq!((first, second), (1, 2), "instances are reused");
    for (path, kind) in [("/trap", "wasm_trap"), ("/overflow", "stack_overflow")] {
        let answer = shop.get("oddities", path).await;
        answer.assert_problem(500, "");
        assert_eq!(count().await, 1, "the instance after {path} is fresh");
        let tree = shop.trace(&answer.trace, 1).await;
        let server = tree.one(&format!("GET {path}"));
        server.assert_attribute("error.type", kind);
        assert!(server.event("exception").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_overflow_is_reported_with_the_recursive_function() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/overflow").await;
    let tree = shop.whole_trace(&answer.trace).await;
    let server = tree.one("GET /overflow");
    let text =
        |key: &str| server.event("exception").and_then(|event| event.attributes[key].as_str()).unwrap_or_default();
    assert_eq!(text("exception.type"), "stack_overflow");
    let message = text("exception.message");
    assert!(message.starts_with("stack overflow: ") && message.contains("overflow::deeper"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_out_of_memory_error_is_one_log_record_with_the_limit() {
    let shop = Shop::oddities().limits("oddities", "memory = \"16MiB\"").start().await;
    let answer = shop.get("oddities", "/grow").await;
    answer.assert_problem(500, "");
    let collector = shop.shut_down().await;
    let tree = collector.trace(&answer.trace);
    tree.one("GET /grow").assert_attribute("error.type", "out_of_memory");
    let records: Vec<_> =
        collector.logs().into_iter().filter(|record| record.trace_id == answer.trace.as_str()).collect();
    let [record] = records.as_slice() else { panic!("{records:#?}") };
    let message = "out of memory: an allocation of 1 MiB failed; the limit is 16 MiB (limits.memory)";
    assert_eq!((record.body.as_str(), record.severity.as_str()), (Some(message), "ERROR"));
    assert_eq!(record.attributes["exception.type"], "out_of_memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_needs_more_memory_at_its_start_is_refused_with_the_value_to_set() {
    let refused = Shop::oddities().limits("oddities", "memory = \"64KiB\"").try_start().await.err().expect("refused");
    let (_, value) = refused.split_once("Raise `memory` in `[service.limits]` to \"").expect("a remedy");
    let (value, _) = value.split_once('"').expect("a value in quotes");
    let memory = format!("memory = \"{value}\"");
    assert!(Shop::oddities().limits("oddities", &memory).try_start().await.is_ok(), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_are_open_at_a_trap_end_with_the_status_error() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/leak-and-panic").await;
    answer.assert_problem(500, "");
    shop.whole_trace(&answer.trace).await.assert_text(
        &[],
        "
        oddities GET /leak-and-panic SERVER ERROR
          oddities outer_open INTERNAL ERROR
            oddities inner_open INTERNAL ERROR
        ",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_a_guest_left_open_end_with_the_request() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/leak").await;
    assert_eq!(answer.status, 200);
    let again = shop.get("oddities", "/health").await;
    let tree = shop.trace(&answer.trace, 3).await;
    for name in ["outer_leak", "inner_leak"] {
        let server = tree.one("GET /leak");
        assert!(tree.one(name).end <= server.end, "{name}");
    }
    let tree = shop.whole_trace(&again.trace).await;
    tree.assert_text(&[], "oddities GET /health SERVER");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_isolation_request_no_instance_serves_two_requests() {
    let shop = Shop::oddities().keys("oddities", "isolation = \"request\"").start().await;
    for _ in 0..5 {
        assert_eq!(shop.get("oddities", "/count").await.json(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_in_an_endless_loop_results_in_a_504() {
    let shop = Shop::oddities().limits("oddities", "request_timeout = \"1s\"").start().await;
    let began = Instant::now();
    let answer = shop.get("oddities", "/spin").await;
    answer.assert_problem(504, "");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let tree = shop.whole_trace(&answer.trace).await;
    let server = tree.line("oddities GET /spin SERVER");
    server.assert_attribute("error.type", "timeout");
    assert!(server.is_error());
    assert!(tree.line("oddities spin INTERNAL").is_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_sleeps_too_long_results_in_a_504() {
    let shop = Shop::oddities().limits("oddities", "request_timeout = \"5s\"").start().await;
    let answer = shop.get("oddities", "/nap/10").await;
    assert_eq!(answer.text(), "awake");
    let answer = shop.get("oddities", "/nap/60000").await;
    answer.assert_problem(504, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_waits_too_long_for_a_call_results_in_a_504() {
    let origin = Origin::start(hanging()).await;
    let shop = calling(&origin).await.limits("oddities", "request_timeout = \"1s\"").start().await;
    let answer = shop.get("oddities", &format!("/call?url={}/", origin.url())).await;
    let timed_out = answer.status == 504 || answer.json()["outcome"] == "timed-out";
    assert!(timed_out, "{}: {}", answer.status, answer.text());
    let tree = shop.whole_trace(&answer.trace).await;
    let client = tree.line("oddities GET CLIENT");
    assert!(client.is_error());
    client.assert_attribute("error.type", "timeout");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_in_endless_loops_do_not_block_other_services() {
    let component = testkit::artifacts::component("oddities");
    let shop = Shop::oddities().limits("oddities", "request_timeout = \"15s\"").service("calm", &component, 8007);
    let shop = std::sync::Arc::new(shop.with_console().start().await);
    let spinning: Vec<_> = (0..4)
        .map(|_| {
            let shop = shop.clone();
            tokio::spawn(async move { shop.get("oddities", "/spin").await.status })
        })
        .collect();
    for _ in 0..10 {
        assert_eq!(shop.get("calm", "/health").await.status, 200);
        let healthz = testkit::Client::default().request("GET", shop.console(), "/healthz");
        assert_eq!(healthz.send().await.status, 200);
    }
    assert!(spinning.iter().all(|task| !task.is_finished()), "the others were answered only after the spinning ended");
    for task in spinning {
        assert_eq!(task.await.expect("no panic"), 504);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_cannot_exceed_its_memory_limit() {
    let shop = Shop::oddities().limits("oddities", "memory = \"16MiB\"").start().await;
    let got: u32 = shop.get("oddities", "/allocate/64").await.text().parse().expect("a number");
    assert!((4..16).contains(&got), "{got} MiB");
    let answer = shop.get("oddities", "/grow").await;
    answer.assert_problem(500, "");
    assert_eq!(shop.get("oddities", "/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_memory_is_bounded_when_guests_allocate() {
    // In a process of its own: the tests that run at the same time allocate, too.
    let site = Site::new(&["oddities"]);
    let manifest = ShopBuilder::empty().console_port(site.console().port());
    let (component, address) = (artifacts::component("oddities"), site.address("oddities"));
    let manifest = manifest.service("oddities", &component, address.port());
    site.write(&manifest.limits("oddities", "memory = \"32MiB\""));
    let host = site.serve();
    let allocate = async || {
        let answer = Client::default().request("GET", address, "/allocate/1000").send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    allocate().await;
    let before = host.memory();
    for _ in 0..50 {
        allocate().await;
    }
    let grown = host.memory().saturating_sub(before) >> 20;
    assert!(grown < 200, "the process grew by {grown} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_a_loop_end_with_508() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/circle").await;
    answer.assert_problem(508, "");
    let tree = shop.whole_trace(&answer.trace).await;
    let servers = tree.named("GET /circle").len();
    assert!((2..100).contains(&servers), "{servers} services deep");
    assert!(tree.spans().iter().any(|span| span.attribute("error.type") == "loop_detected"), "{}", tree.text(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_the_limit_of_concurrency_get_503_and_retry_after() {
    let origin = Origin::start(hanging()).await;
    // Without a timeout, only the end of the clients can free the places.
    let shop = calling(&origin).await.limits("oddities", "concurrency = 2\nrequest_timeout = \"600s\"");
    let shop = shop.with_console().start().await;
    let shop = std::sync::Arc::new(shop);
    let path = format!("/call?url={}/", origin.url());
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let (shop, path) = (shop.clone(), path.clone());
            tokio::spawn(async move { shop.get("oddities", &path).await })
        })
        .collect();
    origin.wait_until_asked(2).await;
    let answer = shop.get("oddities", "/health").await;
    answer.assert_problem(503, "");
    assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{:#?}", answer.headers);
    let counted = shop.collector().wait_for_metric("spandrel.requests.rejected", |metric| {
        metric.service == "oddities" && metric.points.iter().any(|point| point.value >= 1.0)
    });
    assert!(counted.await.points[0].attributes.contains_key("reason"));
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    let mut freed = false;
    let deadline = Instant::now() + PATIENCE;
    while !freed && Instant::now() < deadline {
        freed = shop.get("oddities", "/health").await.status == 200;
    }
    assert!(freed, "requests whose clients went away give their places back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_length_over_the_limit_gets_413_before_the_body_is_sent() {
    let shop = Shop::oddities().limits("oddities", "request_body = \"1KiB\"").start().await;
    for expect in ["", "expect: 100-continue\r\n"] {
        let mut connection = Connection::open(shop.address("oddities")).await;
        connection.send(format!("POST /echo/a/b HTTP/1.1\r\nhost: x\r\n{expect}content-length: 1025\r\n\r\n")).await;
        let (head, _) = connection.response().await;
        assert!(head.starts_with("http/1.1 413"), "{expect}: {head}");
    }
    let mut connection = Connection::open(shop.address("oddities")).await;
    let (large, body) = (64 << 20, "x".repeat(4 << 20));
    connection.send(format!("POST /echo/a/b HTTP/1.1\r\nhost: x\r\ncontent-length: {large}\r\n\r\n{body}")).await;
    let (head, _) = connection.response().await;
    assert!(head.starts_with("http/1.1 413"), "a client that goes on sending gets its answer: {head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_block_their_port_other_ports_or_the_console() {
    let component = testkit::artifacts::component("oddities");
    let head = "[limits]\nconnections = 50\nhead_timeout = \"12s\"";
    let shop = Shop::oddities().head(head).service("calm", &component, 8007).with_console().start().await;
    let mut silent = Vec::new();
    for start in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HT", "\u{16}\u{3}\u{1}"].iter().cycle().take(60) {
        let mut connection = Connection::open(shop.address("oddities")).await;
        connection.send(start).await;
        silent.push(connection);
    }
    let began = Instant::now();
    assert_eq!(shop.get("calm", "/health").await.status, 200);
    let healthz = testkit::Client::default().request("GET", shop.console(), "/healthz");
    assert_eq!(healthz.send().await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(8), "they waited: {:?}", began.elapsed());
    assert_eq!(shop.get("oddities", "/health").await.status, 200, "the port is free again after a while");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_header_fields_make_a_response_invalid() {
    let shop = Shop::oddities().start().await;
    assert_eq!(shop.get("oddities", "/fields/90").await.headers.get_all("x-field").iter().count(), 90);
    for count in [1_025, 24_577, 32_769, 100_000] {
        shop.get("oddities", &format!("/fields/{count}")).await.assert_problem(500, "more than 1024 header fields");
    }
    assert_eq!(shop.get("oddities", "/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_the_host_holds_for_a_guest_is_limited() {
    let shop = Shop::oddities().limits("oddities", "memory = \"32MiB\"").start().await;
    let left: u32 = shop.get("oddities", "/leave/1000/1000000").await.text().parse().expect("a number");
    assert!((5..34).contains(&left), "{left} MB");
    let again: u32 = shop.get("oddities", "/leave/1000/1000000").await.text().parse().expect("a number");
    assert!((5..34).contains(&again), "what one request left is gone with it: {again} MB");
    // The guest's memory may not suffice for as many responses as the host may hold.
    let many = shop.get("oddities", "/many/64/1000000").await;
    assert!(many.status == 500 || many.json().as_u64() < Some(34), "{}", many.text());
    for _ in 0..3 {
        assert_eq!(shop.get("oddities", "/many/12/1000000").await.json(), 12, "an instance that is full goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_gets_413() {
    let shop = Shop::oddities().limits("oddities", "request_body = \"1KiB\"").start().await;
    let fits = shop.request("POST", "oddities", "/echo/a/b").body(vec![b'x'; 1024]).send().await;
    assert_eq!(fits.json()["length"], 1024);
    let answer = shop.request("POST", "oddities", "/echo/a/b").body(vec![b'x'; 1025]).send().await;
    answer.assert_problem(413, "");
    let mut chunked = Connection::open(shop.address("oddities")).await;
    chunked.send("POST /echo/a/b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for _ in 0..3 {
        chunked.send(format!("200\r\n{}\r\n", "x".repeat(512))).await;
    }
    chunked.send("0\r\n\r\n").await;
    assert!(chunked.response().await.0.starts_with("http/1.1 413"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_gets_431() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("GET /health HTTP/1.1\r\nhost: x\r\n").await;
    connection.send(format!("x-long: {}\r\n\r\n", "y".repeat(2 << 20))).await;
    let came = connection.rest().await;
    assert!(came.starts_with("HTTP/1.1 431"), "{came}");
    let mut connection = Connection::open(shop.address("oddities")).await;
    let many: String = (0..2000).map(|number| format!("x-{number}: y\r\n")).collect();
    connection.send(format!("GET /health HTTP/1.1\r\nhost: x\r\n{many}\r\n")).await;
    let came = connection.rest().await;
    assert!(came.starts_with("HTTP/1.1 431"), "{came}");
    assert_eq!(shop.get("oddities", "/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_in_time_gets_408() {
    let shop = Shop::oddities().limits("oddities", "request_timeout = \"1s\"").start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("POST /echo/a/b HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc").await;
    let came = connection.rest().await;
    assert!(came.starts_with("HTTP/1.1 408"), "{came}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_arrive_in_time_ends_the_connection() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("GET /health HTTP/1.1\r\nhost: ").await;
    let came = connection.rest().await;
    assert!(came.starts_with("HTTP/1.1 408"), "{came}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_http_is_rejected() {
    let shop = Shop::oddities().start().await;
    for garbage in
        ["\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", "HELLO\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET  /\r\n\r\n"]
    {
        let mut connection = Connection::open(shop.address("oddities")).await;
        connection.send(garbage).await;
        let came = connection.rest().await;
        assert!(came.starts_with("HTTP/1.1 4"), "{garbage:?}: {came}");
    }
    assert_eq!(shop.get("oddities", "/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicting_lengths_cannot_smuggle_a_request() {
    let shop = Shop::oddities().start().await;
    let heads = [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: x\r\n",
        "transfer-encoding: gzip\r\n",
        "content-length: -1\r\n",
    ];
    for head in heads {
        let mut connection = Connection::open(shop.address("oddities")).await;
        connection.send(format!("POST /echo/a/b HTTP/1.1\r\nhost: x\r\n{head}\r\nhello")).await;
        let came = connection.rest().await;
        assert!(came.starts_with("HTTP/1.1 4"), "{head}: {came}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_request_body_affects_no_other_request() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("POST /echo/a/b HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc").await;
    drop(connection);
    assert_eq!(shop.get("oddities", "/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_or_too_large_response_is_a_500() {
    let shop = Shop::oddities().limits("oddities", "response_body = \"1KiB\"").start().await;
    assert_eq!(shop.get("oddities", "/huge/1024").await.body.len(), 1024);
    for path in ["/huge/1025", "/bad-header", "/status/9999", "/status/99"] {
        let answer = shop.get("oddities", path).await;
        answer.assert_problem(500, "");
        assert_eq!(answer.header("x-smuggled"), "");
        let tree = shop.trace(&answer.trace, 1).await;
        assert!(tree.spans().iter().all(|span| span.is_error()), "{path}");
        assert!(tree.spans()[0].attribute("error.type").is_string(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_without_a_route_get_404_and_other_methods_405_with_allow() {
    let shop = Shop::start().await;
    shop.get("product-service", "/nothing").await.assert_problem(404, "");
    let answer = shop.request("DELETE", "product-service", "/products").send().await;
    answer.assert_problem(405, "");
    assert!(answer.header("allow").split(", ").any(|method| method == "GET"), "{}", answer.header("allow"));
    let tree = shop.trace(&answer.trace, 1).await;
    assert_eq!(tree.spans()[0].outcome, Outcome::Unset);
    let answer = shop.get("inventory-service", "/inventory/1/reserve").await;
    answer.assert_problem(405, "");
    assert_eq!(answer.header("allow"), "POST");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_requests_are_served_and_dropped_spans_are_counted() {
    let nowhere = format!("http://{}", testkit::process::free_address());
    let shop = Shop::oddities().env("OTEL_EXPORTER_OTLP_ENDPOINT", &nowhere).env("OTEL_BSP_MAX_QUEUE_SIZE", "64");
    let shop = shop.env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16").with_console().start().await;
    let began = Instant::now();
    for _ in 0..200 {
        assert_eq!(shop.get("oddities", "/health").await.status, 200);
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    let mut dropped = 0.0;
    let deadline = Instant::now() + PATIENCE;
    while dropped < 1.0 && Instant::now() < deadline {
        let page = testkit::Client::default().request("GET", shop.console(), "/metrics").send().await.text();
        dropped = sum_of(&page, "spandrel_trace_spans_dropped");
    }
    assert!(dropped >= 1.0, "no drops in /metrics");
}

/// The sum of all samples whose name has this prefix.
fn sum_of(page: &str, name: &str) -> f64 {
    let samples = page.lines().filter(|line| line.starts_with(name));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_concurrent_calls_all_return() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/fan/3/4").await;
    assert_eq!(answer.json(), 1 + 4 + 16 + 64, "{}", answer.text());
    let tree = shop.whole_trace(&answer.trace).await;
    assert_eq!(tree.named("GET /fan/{depth}/{width}").len(), 85);
    assert_eq!(tree.roots().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_stopped_when_its_client_disconnects() {
    let shop = Shop::oddities().limits("oddities", "request_timeout = \"1s\"").limits("oddities", "concurrency = 1");
    let shop = shop.start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("GET /spin HTTP/1.1\r\nhost: x\r\n\r\n").await;
    drop(connection);
    let deadline = Instant::now() + PATIENCE;
    let mut status = 0;
    while status != 200 && Instant::now() < deadline {
        status = shop.get("oddities", "/health").await.status.as_u16();
    }
    assert_eq!(status, 200);
}
