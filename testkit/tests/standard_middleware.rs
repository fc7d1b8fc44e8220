//! Middleware components, which pass requests on to another service.

use testkit::{Shop, ShopBuilder, artifacts};

const BEFORE_P2: &str = "middleware-p2";
const BEFORE_P3: &str = "middleware-p3";

/// Each middleware in front of the component of the other version.
fn builder() -> ShopBuilder {
    Shop::standard()
        .service(BEFORE_P2, &artifacts::component(BEFORE_P2), 8025)
        .keys(BEFORE_P2, "next = \"standard-p3\"")
        .service(BEFORE_P3, &artifacts::component(BEFORE_P3), 8026)
        .keys(BEFORE_P3, "next = \"standard-p2\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_middleware_of_0_3_changes_request_and_response_and_is_part_of_the_trace() {
    let shop = builder().start().await;
    let answer = shop.request("POST", BEFORE_P3, "/echo-head?x=y").body("a body").send().await;
    assert_eq!((answer.status.as_u16(), answer.header("x-response-passed")), (200, "yes"), "{}", answer.text());
    let head: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((head["method"].as_str(), head["path"].as_str()), (Some("POST"), Some("/echo-head?x=y")));
    assert!(head["headers"].to_string().contains("[\"x-request-passed\",\"yes\"]"), "{head}");
    let address = shop.address(BEFORE_P3).to_string();
    assert_eq!(head["authority"].as_str(), Some(address.as_str()), "the client's own word for the server");
    let tree = shop.trace(&answer.trace, 3).await;
    tree.assert_text(&[], "middleware-p3 POST SERVER\n  middleware-p3 POST CLIENT\n    standard-p2 POST SERVER\n");
    tree.line("middleware-p3 POST CLIENT").assert_attribute("server.address", "standard-p2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_middleware_of_0_2_passes_requests_on_unchanged_or_responds_itself() {
    let shop = builder().start().await;
    let refused = shop.get(BEFORE_P2, "/hello").await;
    assert_eq!(refused.status, 403);
    assert_eq!(shop.trace(&refused.trace, 1).await.spans().len(), 1);
    let passed = shop.request("POST", BEFORE_P2, "/echo?key=1").body("a body").send().await;
    assert_eq!((passed.status.as_u16(), passed.text().as_str()), (200, "a body"));
    let tree = shop.trace(&passed.trace, 3).await;
    tree.assert_text(&[], "middleware-p2 POST SERVER\n  middleware-p2 POST CLIENT\n    standard-p3 POST SERVER\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_through_a_middleware_in_both_directions() {
    let limits = "request_body = \"64MiB\"\nresponse_body = \"64MiB\"";
    let services = [BEFORE_P2, BEFORE_P3, "standard-p2", "standard-p3"];
    let shop = services.iter().fold(builder(), |shop, service| shop.limits(service, limits)).start().await;
    let body = shop.get("standard-p2", "/large?size=3000000").await.body;
    for middleware in [BEFORE_P2, BEFORE_P3] {
        let answer = shop.request("POST", middleware, "/echo?key=1").body(body.clone()).send().await;
        assert_eq!(answer.status, 200, "{middleware}: {}", answer.text());
        assert!(answer.body == body, "{middleware}: {} bytes came back", answer.body.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_behind_a_middleware_may_fail() {
    let shop = builder().start().await;
    for (middleware, next) in [(BEFORE_P2, "standard-p3"), (BEFORE_P3, "standard-p2")] {
        let answer = shop.get(middleware, "/trap?key=1").await;
        assert_eq!(answer.status, 500, "{middleware}: {}", answer.text());
        let tree = shop.trace(&answer.trace, 3).await;
        tree.line(&format!("{next} GET SERVER")).assert_attribute("error.type", "wasm_trap");
        assert_eq!(shop.get(middleware, "/hello?key=1").await.status, 200, "{middleware} serves on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn middlewares_that_call_each_other_end_with_508() {
    let shop = Shop::standard()
        .service(BEFORE_P3, &artifacts::component(BEFORE_P3), 8026)
        .keys(BEFORE_P3, "next = \"other\"")
        .service("other", &artifacts::component(BEFORE_P3), 8027)
        .keys("other", "next = \"middleware-p3\"");
    assert_eq!(shop.start().await.get(BEFORE_P3, "/").await.status, 508);
}

#[tokio::test(flavor = "multi_thread")]
async fn next_is_required_for_a_middleware_and_rejected_for_others() {
    for middleware in [BEFORE_P2, BEFORE_P3] {
        let alone = Shop::standard().service(middleware, &artifacts::component(middleware), 8025);
        let refused = alone.try_start().await.err().expect("refused");
        assert!(refused.contains("it is a middleware") && refused.contains("next = "), "{refused}");
    }
    let refused = Shop::standard().keys("standard-p2", "next = \"standard-p3\"").try_start().await.err();
    assert!(refused.as_ref().is_some_and(|refused| refused.contains("imports no `wasi:http` handler")), "{refused:?}");
}
