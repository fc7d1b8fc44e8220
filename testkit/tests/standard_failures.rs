//! Misbehaving standard components: other requests are not affected, and the trace describes the failure.

use testkit::{Shop, ShopBuilder};

const BOTH: [&str; 2] = ["standard-p2", "standard-p3"];

fn limited(limit: &str) -> ShopBuilder {
    BOTH.iter().fold(Shop::standard(), |shop, service| shop.limits(service, limit))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_a_guest_passes_on_is_complete_although_the_guest_traps() {
    for setting in ["isolation = \"instance\"", "concurrency_per_instance = 4"] {
        let shop = Shop::standard().keys("standard-p3", setting).start().await;
        let passed_on = |path: &str, trap: u32| {
            let url = format!("http://localhost:8022{path}");
            shop.request("GET", "standard-p3", &format!("/forward?trap={trap}&url={url}"))
        };
        let ended = passed_on("/hello", 20).send().await;
        assert_eq!(ended.text(), "hello\n", "{setting}");
        let running = passed_on("/drip?lines=100", 100).send().await;
        assert_eq!(running.text().lines().count(), 100, "{setting}");
        for answer in [ended, running] {
            let tree = shop.trace(&answer.trace, 3).await;
            let server = tree.line("standard-p3 GET SERVER");
            assert!(server.event("exception").is_some(), "{setting}");
            assert!(!server.is_error(), "{setting}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_a_500_and_an_exception_with_function_names() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let answer = shop.get(service, "/trap").await;
        assert_eq!(answer.status, 500, "{service}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json", "{service}");
        let tree = shop.trace(&answer.trace, 1).await;
        let server = tree.line(&format!("{service} GET SERVER"));
        assert!(server.is_error(), "{service}");
        server.assert_attribute("error.type", "wasm_trap");
        let exception = server.event("exception").unwrap_or_else(|| panic!("{service}: no exception"));
        let message = exception.attributes["exception.message"].as_str().unwrap_or_default();
        assert!(message.starts_with("a trap before the head (") && message.contains("failures.rs:"), "{message}");
        let stacktrace = exception.attributes["exception.stacktrace"].as_str().unwrap_or_default();
        assert!(stacktrace.contains("failures"), "{service}: {stacktrace}");
        assert_eq!(shop.get(service, "/hello").await.status, 200, "{service} serves on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_after_the_response_head_is_an_error_on_the_span() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let request = shop.request("GET", service, "/trap-after-head");
        let trace = testkit::TraceId::fresh();
        assert!(request.in_trace(&trace).try_send().await.is_err(), "{service}: the body looks whole");
        let tree = shop.trace(&trace, 1).await;
        let server = tree.line(&format!("{service} GET SERVER"));
        assert!(server.is_error(), "{service}");
        server.assert_attribute("error.type", "wasm_trap");
        server.assert_attribute("http.response.status_code", 200);
        assert!(server.event("exception").is_some(), "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_returns_no_response_is_a_500() {
    let shop = Shop::standard().start().await;
    // The 0.2 guest returns without a response. The 0.3 guest waits for nothing, so that its runtime panics.
    for (service, error_type) in BOTH.into_iter().zip(["no_response", "wasm_trap"]) {
        let answer = shop.get(service, "/no-response").await;
        assert_eq!(answer.status, 500, "{service}: {}", answer.text());
        let tree = shop.trace(&answer.trace, 1).await;
        tree.line(&format!("{service} GET SERVER")).assert_attribute("error.type", error_type);
        assert_eq!(shop.get(service, "/hello").await.status, 200, "{service} serves on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_of_0_3_whose_task_ends_without_a_response_is_a_500() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("no_response.wasm");
    std::fs::write(&file, wat::parse_str(include_str!("no_response.wat")).expect("good WebAssembly text"))
        .expect("written");
    let services = [("alone", 1), ("shared", 4)];
    let shop = services.iter().zip(8_100..).fold(ShopBuilder::empty(), |shop, ((name, most), port)| {
        shop.service(name, &file, port).keys(name, &format!("concurrency_per_instance = {most}"))
    });
    let shop = shop.start().await;
    for (service, _) in services {
        let answer = shop.get(service, "/").await;
        assert_eq!(answer.status, 500, "{service}: {}", answer.text());
        let tree = shop.trace(&answer.trace, 1).await;
        tree.line(&format!("{service} GET SERVER")).assert_attribute("error.type", "no_response");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_code_instead_of_a_response_is_a_500() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let answer = shop.get(service, "/refuse").await;
        assert!(answer.status.is_server_error(), "{service}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json", "{service}");
        assert!(shop.trace(&answer.trace, 1).await.line(&format!("{service} GET SERVER")).is_error(), "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_in_an_endless_loop_gets_a_504_and_does_not_block_others() {
    let shop = limited("request_timeout = \"4s\"").start().await;
    for service in BOTH {
        let (spun, other) = tokio::join!(shop.get(service, "/spin"), shop.get(service, "/hello"));
        assert_eq!(spun.status, 504, "{service}: {}", spun.text());
        assert_eq!(other.status, 200, "{service}: {}", other.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_sleeps_past_the_limit_gets_a_504() {
    let shop = limited("request_timeout = \"300ms\"").start().await;
    for service in BOTH {
        let answer = shop.get(service, "/sleep?ms=60000").await;
        assert_eq!(answer.status, 504, "{service}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_cannot_exceed_its_memory_limit() {
    let shop = limited("memory = \"16MiB\"").start().await;
    for service in BOTH {
        let answer = shop.get(service, "/grow").await;
        assert_eq!(answer.status, 500, "{service}: {}", answer.text());
        assert_eq!(shop.get(service, "/hello").await.status, 200, "{service} serves on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_ends_the_instance_but_not_the_host() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let answer = shop.get(service, "/exit").await;
        assert_eq!(answer.status, 500, "{service}: {}", answer.text());
        assert_eq!(shop.get(service, "/hello").await.status, 200, "{service} serves on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_after_the_response_is_completed() {
    let shop = Shop::standard().start().await;
    let answer = shop.get("standard-p3", "/after?ms=100").await;
    assert_eq!(answer.text(), "answered\n");
    let fits = |record: &testkit::collector::LogRecord| record.body == "after the response: nothing to ask";
    let record = shop.collector().wait_for_log("the work after the response", fits).await;
    assert_eq!(record.trace_id, answer.trace.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_after_the_response_does_not_affect_the_response() {
    let shop = Shop::standard().start().await;
    for path in ["/trap-after-response", "/spin-after-response"] {
        assert_eq!(shop.get("standard-p3", path).await.text(), "answered\n", "{path}");
        assert_eq!(shop.get("standard-p3", "/hello").await.text(), "hello\n", "after {path}");
    }
}
