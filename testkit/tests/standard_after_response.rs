//! 0.3 guests that work after their response: they count toward limits, drains wait for them, and their spans arrive.

use std::time::Duration;

use testkit::collector::LogRecord;
use testkit::{Client, Shop, ShopBuilder};

const SERVICE: &str = "standard-p3";

fn limited(limits: &str) -> ShopBuilder {
    Shop::standard().limits(SERVICE, limits)
}

fn has_body<'a>(text: &'a str) -> impl Fn(&LogRecord) -> bool + 'a {
    move |record| record.body.as_str().is_some_and(|body| body.contains(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn work_after_the_response_counts_toward_concurrency_until_it_ends() {
    let shop = limited("concurrency = 1\nrequest_timeout = \"5s\"").with_console().start().await;
    assert_eq!(shop.get(SERVICE, "/after?ms=60000").await.text(), "answered\n");
    let answer = shop.get(SERVICE, "/hello").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(shop.admin().status(SERVICE).await["in_flight"], 1);
    // The guest is stopped five seconds after its response.
    shop.admin().wait_until(SERVICE, |status| status["in_flight"] == 0).await;
    assert_eq!(shop.get(SERVICE, "/hello").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_waits_for_work_after_the_response() {
    let shop = Shop::standard().start().await;
    let answer = shop.get(SERVICE, "/after?ms=500&url=http://localhost:8022/hello").await;
    assert_eq!(answer.text(), "answered\n");
    let collector = shop.shut_down().await;
    let tree = collector.trace(&answer.trace);
    tree.assert_text(&[], "standard-p3 GET SERVER\n  standard-p3 GET CLIENT\n    standard-p2 GET SERVER\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_outlasts_the_drain_is_stopped_and_its_spans_are_exported() {
    let shop = limited("request_timeout = \"60s\"").head("[shutdown]\ndrain = \"300ms\"").start().await;
    for path in ["/after?ms=60000", "/spin-after-response"] {
        assert_eq!(shop.get(SERVICE, path).await.text(), "answered\n", "{path}");
    }
    let answer = shop.get(SERVICE, "/after?ms=60000").await;
    // The guests would end after a minute.
    let collector = tokio::time::timeout(Duration::from_secs(30), shop.shut_down()).await.expect("an end");
    assert_eq!(collector.trace(&answer.trace).spans().len(), 1);
    let record =
        collector.wait_for_log("the guest that was stopped", has_body("the guest was stopped: the host")).await;
    assert_eq!(record.severity, "WARN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_stopped_after_its_response_has_a_log_record_in_its_trace() {
    let shop = limited("request_timeout = \"3s\"").start().await;
    let answer = shop.get(SERVICE, "/spin-after-response").await;
    assert_eq!(answer.text(), "answered\n");
    let record = shop.collector().wait_for_log("the guest that was stopped", has_body("the guest was stopped: ")).await;
    assert_eq!((record.trace_id, record.severity.as_str()), (answer.trace.to_string(), "WARN"));
    let tree = shop.trace(&answer.trace, 1).await;
    let server = tree.line("standard-p3 GET SERVER");
    assert!(!server.is_error(), "the client has its whole answer");
    let busy = server.attributes["spandrel.guest.cpu_time"].as_f64().expect("a number");
    assert!(busy > 0.1, "what it cost after the response is in it: {busy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_after_the_response_is_an_exception_event_without_the_status_error() {
    let shop = Shop::standard().start().await;
    let shared = Shop::standard().keys(SERVICE, "concurrency_per_instance = 4").start().await;
    for (shop, service, path, message) in [
        (&shop, SERVICE, "/trap-after-response", "a trap after the response ("),
        (&shop, SERVICE, "/trap-after-response?ms=0", "a trap after the response ("),
        (&shared, SERVICE, "/trap-after-response", "a trap after the response ("),
        (&shared, SERVICE, "/trap-after-response?ms=0", "a trap after the response ("),
        (&shop, "standard-p2", "/trap-after-response", "a trap after the response ("),
        (&shop, "standard-p2", "/exit-after-response", "Exited with i32 exit status 1"),
    ] {
        for client in [Client::default(), Client::h2c()] {
            let answer = client.request("GET", shop.address(service), path).send().await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "answered\n"), "{service} {path}");
            let tree = shop.trace(&answer.trace, 1).await;
            let server = tree.line(&format!("{service} GET SERVER"));
            assert!(!server.is_error(), "{service} {path}");
            let exception = server.event("exception").expect("an exception");
            let found = exception.attributes["exception.message"].as_str().unwrap_or_default();
            assert!(found.starts_with(message), "{service} {path}: {found}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_of_a_swap_waits_for_work_after_the_response() {
    let shop = limited("request_timeout = \"60s\"").with_console().head("[swap]\ndrain = \"200ms\"").start().await;
    let answer = shop.get(SERVICE, "/after?ms=60000").await;
    assert_eq!(answer.text(), "answered\n");
    let component = std::fs::read(testkit::artifacts::component("standard-p2")).expect("a component");
    let swapped = shop.admin().swap(SERVICE, component).await;
    assert_eq!(swapped.status, 200, "{}", swapped.text());
    let drain = shop.collector().wait_for_span("the drain", |span| span.name == "drain").await;
    drain.assert_attribute("error.type", "drain_timeout");
}
