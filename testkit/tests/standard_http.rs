//! Standard components: the request that a `wasi:http` component sees, and the response that the client gets.

use serde_json::json;
use testkit::raw::Connection;
use testkit::{Client, PATIENCE, Shop};

/// Both versions of the interface, which must behave in the same way.
const BOTH: [&str; 2] = ["standard-p2", "standard-p3"];

#[tokio::test(flavor = "multi_thread")]
async fn a_response_arrives_as_the_guest_wrote_it() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let answer = shop.get(service, "/hello").await;
        assert_eq!(answer.status, 200, "{service}: {}", answer.text());
        assert_eq!(answer.text(), "hello\n");
        assert_eq!(answer.header("content-type"), "text/plain");
        assert_eq!(answer.header("content-length"), "6");
        let twice: Vec<_> = answer.headers.get_all("x-twice").iter().collect();
        assert_eq!(twice, ["one", "two"], "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guest_sees_method_path_scheme_and_authority() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let request = shop.request("PROPFIND", service, "/echo-head?a=%20b&a=c").header("x-Test", "Seen");
        let seen = request.send().await.json();
        assert_eq!(seen["method"], "PROPFIND", "{service}: {seen}");
        assert_eq!(seen["path"], "/echo-head?a=%20b&a=c", "{service}");
        assert_eq!(seen["scheme"], "http", "{service}: {seen}");
        assert_eq!(seen["authority"], shop.address(service).to_string(), "{service}");
        assert!(seen["headers"].as_array().unwrap().contains(&json!(["x-test", "Seen"])), "{service}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_reaches_standard_components_too() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let seen = Client::h2c().request("GET", shop.address(service), "/echo-head").send().await.json();
        assert_eq!(seen["authority"], shop.address(service).to_string(), "{service}: {seen}");
        let answer = Client::h2c().request("POST", shop.address(service), "/echo").body("over HTTP/2").send().await;
        assert_eq!(answer.text(), "over HTTP/2", "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_the_response_head_without_the_body() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let mut connection = Connection::open(shop.address(service)).await;
        connection.send("HEAD /hello HTTP/1.1\r\nhost: x\r\n\r\nGET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let head = connection.read_until("\r\n\r\n").await.to_lowercase();
        assert!(head.starts_with("http/1.1 200") && head.contains("content-length: 6"), "{service}: {head}");
        let (next, body) = connection.response().await;
        assert!(next.starts_with("http/1.1 200"), "{service}: {next}");
        assert_eq!(body, "hello\n", "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_passed_on_with_or_without_a_body() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        for status in [201, 204, 304, 404, 418, 503] {
            let answer = shop.get(service, &format!("/status?code={status}")).await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (status, ""), "{service}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expect_100_continue_is_answered_when_the_guest_reads_the_body() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let mut connection = Connection::open(shop.address(service)).await;
        let head = "POST /count HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n";
        connection.send(head).await;
        let interim = connection.read_until("\r\n\r\n").await;
        assert!(interim.starts_with("HTTP/1.1 100"), "{service}: {interim}");
        connection.send("abc").await;
        let (_, body) = connection.response().await;
        assert_eq!(body, "{\"intact\":true,\"length\":3}", "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expect_100_continue_is_answered_before_the_head_of_a_response_to_a_body_that_the_guest_may_still_read() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        for (path, sent) in [("/echo", "abc"), ("/early", "early\n")] {
            let mut connection = Connection::open(shop.address(service)).await;
            let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n");
            connection.send(head).await;
            let interim = connection.read_until("\r\n\r\n").await;
            assert!(interim.starts_with("HTTP/1.1 100"), "{service}{path}: {interim}");
            connection.send("abc").await;
            let response = connection.read_until("\r\n0\r\n\r\n").await;
            assert!(response.contains(sent), "{service}{path}: {response}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_uploaded_after_its_response_is_not_read_as_the_next_request() {
    const BODY: usize = 300_000;
    let shop = Shop::standard().start().await;
    for service in BOTH {
        for expect in ["", "expect: 100-continue\r\n"] {
            let mut connection = Connection::open(shop.address(service)).await;
            let head = format!("POST /early HTTP/1.1\r\nhost: x\r\n{expect}content-length: {BODY}\r\n\r\n");
            connection.send(head).await;
            let response = connection.read_until("\r\n0\r\n\r\n").await;
            assert!(response.contains("early\n"), "{service}: {response}");
            assert!(!response.contains("connection: close"), "{service}: {response}");
            connection.send("x".repeat(BODY)).await;
            connection.send("GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
            let (head, body) = connection.response().await;
            assert!(head.starts_with("http/1.1 200"), "{service}: {head}");
            assert_eq!(body, "hello\n", "{service}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_without_the_whole_request_body_announces_that_the_connection_closes() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        for expect in ["", "expect: 100-continue\r\n"] {
            let mut connection = Connection::open(shop.address(service)).await;
            let head = format!("POST /early-deaf HTTP/1.1\r\nhost: x\r\n{expect}content-length: 10\r\n\r\n");
            connection.send(head).await;
            let (head, _) = connection.response().await;
            assert!(head.starts_with("http/1.1 413"), "{service}: {head}");
            assert!(head.contains("\r\nconnection: close\r\n"), "{service}: {head}");
        }
        // The body has arrived and is discarded.
        let mut connection = Connection::open(shop.address(service)).await;
        let request = "POST /early-deaf HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nwhole";
        for _ in 0..2 {
            connection.send(request).await;
            let (head, _) = connection.response().await;
            assert!(head.starts_with("http/1.1 413") && !head.contains("connection: close"), "{service}: {head}");
        }
    }
}

/// For several consecutive requests, the number of requests that the serving instance had served before.
async fn served(shop: &Shop, service: &str, times: usize) -> Vec<u64> {
    let mut served = Vec::new();
    for _ in 0..times {
        served.push(shop.get(service, "/instance").await.text().parse().expect("a number"));
    }
    served
}

/// Sends requests until a reused instance responds: an instance returns to the pool shortly after its response.
async fn is_reused(shop: &Shop, service: &str) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while served(shop, service, 1).await == [1] {
        assert!(std::time::Instant::now() < deadline, "{service}: no instance serves twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn components_of_0_2_have_an_instance_per_request_and_those_of_0_3_reuse_instances() {
    let shop = Shop::standard().start().await;
    assert_eq!(served(&shop, "standard-p2", 5).await, [1; 5]);
    is_reused(&shop, "standard-p3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn isolation_can_be_changed_for_both_versions() {
    let shop = Shop::standard()
        .keys("standard-p2", "isolation = \"instance\"")
        .keys("standard-p3", "isolation = \"request\"")
        .start()
        .await;
    is_reused(&shop, "standard-p2").await;
    assert_eq!(served(&shop, "standard-p3", 5).await, [1; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_replaced_after_requests_per_instance() {
    let shop = Shop::standard().keys("standard-p3", "requests_per_instance = 2").start().await;
    is_reused(&shop, "standard-p3").await;
    let served = served(&shop, "standard-p3", 20).await;
    assert!(served.iter().all(|count| *count <= 2), "{served:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_routes_name_the_spans() {
    let shop = Shop::standard().keys("standard-p2", "routes = [\"GET /hello\", \"/echo/**\"]").start().await;
    let named = shop.get("standard-p2", "/hello").await.trace;
    let unnamed = shop.get("standard-p2", "/random").await.trace;
    let undeclared = shop.get("standard-p3", "/hello").await.trace;
    let tree = shop.trace(&named, 1).await;
    tree.line("standard-p2 GET /hello SERVER").assert_attribute("http.route", "/hello");
    for (service, trace) in [("standard-p2", unnamed), ("standard-p3", undeclared)] {
        let tree = shop.trace(&trace, 1).await;
        let server = tree.line(&format!("{service} GET SERVER"));
        assert!(server.attribute("http.route").is_null(), "{:#?}", server.attributes);
        server.assert_has(&["http.request.method", "url.path", "url.scheme", "http.response.status_code"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_without_a_method_names_the_spans_of_all_methods() {
    let routes = "routes = [\"/echo/**\", \"/hello\", \"FETCH /health\"]";
    let shop = Shop::standard().keys("standard-p2", routes).start().await;
    for (method, path, name, recorded) in [
        ("TRACE", "/hello", "TRACE /hello", "TRACE"),
        ("QUERY", "/hello", "QUERY /hello", "QUERY"),
        ("HEAD", "/hello", "HEAD /hello", "HEAD"),
        ("PROPFIND", "/echo/x", "HTTP /echo/**", "_OTHER"),
        ("FETCH", "/health", "HTTP /health", "_OTHER"),
    ] {
        let trace = shop.request(method, "standard-p2", path).send().await.trace;
        let tree = shop.trace(&trace, 1).await;
        let server = tree.line(&format!("standard-p2 {name} SERVER"));
        server.assert_attribute("http.request.method", recorded);
        let route = name.split_once(' ').map(|(_, route)| route).unwrap_or_default();
        server.assert_attribute("http.route", route);
        match recorded {
            "_OTHER" => server.assert_attribute("http.request.method_original", method),
            _ => assert!(server.attribute("http.request.method_original").is_null(), "{:#?}", server.attributes),
        }
    }
}
