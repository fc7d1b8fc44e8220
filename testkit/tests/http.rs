//! The protocol: what any HTTP client may expect of a server.

use http::Version;
use serde_json::json;
use testkit::raw::Connection;
use testkit::{Client, Shop, Span};

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_for_the_next_request() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    for _ in 0..3 {
        connection.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let (head, body) = connection.response().await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert_eq!(body, "{\"status\":\"healthy\",\"service\":\"oddities\"}");
    }
    connection.send("GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(connection.rest().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_a_guest_does_not_end_the_connection() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    for (path, status) in [("/trap", 500), ("/nothing", 404), ("/health", 200)] {
        connection.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        let (head, _) = connection.response().await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{path}: {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_their_order() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    let requests: String = (0..5).map(|id| format!("GET /echo/n/{id} HTTP/1.1\r\nhost: x\r\n\r\n")).collect();
    connection.send(requests).await;
    for id in 0..5 {
        let (_, body) = connection.response().await;
        assert!(body.contains(&format!("\"params\":[\"n\",\"{id}\"]")), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_spoken_to_whoever_begins_with_it() {
    let shop = Shop::oddities().start().await;
    let client = Client::h2c();
    let requests =
        (0..50).map(|id| client.request("POST", shop.address("oddities"), &format!("/echo/h2/{id}")).body("hi"));
    let mut running = tokio::task::JoinSet::new();
    requests.for_each(|request| {
        running.spawn(request.send());
    });
    for answer in running.join_all().await {
        assert_eq!(answer.version, Version::HTTP_2);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["body"], "hi");
        let tree = shop.trace(&answer.trace, 1).await;
        let server = tree.line("oddities POST /echo/{first}/{second} SERVER");
        server.assert_attribute("network.protocol.version", "2");
        server.assert_attribute("server.port", shop.address("oddities").port());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_2_a_guest_sees_the_host_all_the_same() {
    let shop = Shop::oddities().start().await;
    let answer = Client::h2c().request("GET", shop.address("oddities"), "/echo/a/b").send().await;
    assert_eq!(answer.json()["headers"]["host"], shop.address("oddities").to_string(), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_get_without_the_body() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("HEAD /health HTTP/1.1\r\nhost: x\r\n\r\nGET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let head = connection.read_until("\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-length: 41"), "{head}");
    let (head, body) = connection.response().await;
    assert!(head.starts_with("http/1.1 200") && body.len() == 41, "{head}{body}");
    let asked = shop.request("HEAD", "oddities", "/health").send().await;
    let tree = shop.trace(&asked.trace, 1).await;
    tree.spans()[0].assert_attribute("http.request.method", "HEAD");
    tree.spans()[0].assert_attribute("http.route", "/health");
    assert_eq!(tree.spans()[0].name, "HEAD /health");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_malformed_is_refused_and_one_that_breaks_off_is_a_client_that_left() {
    let shop = Shop::oddities().start().await;
    let head = "POST /echo/a/b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel";
    let mut malformed = Connection::open(shop.address("oddities")).await;
    malformed.send(format!("{head}lo\r\nno length\r\n")).await;
    assert!(malformed.response().await.0.starts_with("http/1.1 400"));
    let status = |span: &Span| span.attributes.get("http.response.status_code").cloned();
    let refused = shop.collector().wait_for_span("the malformed one", |span| status(span) == Some(400.into())).await;
    assert_eq!(refused.attributes.get("error.type"), None, "a 4xx is no error of the server");
    let mut leaving = Connection::open(shop.address("oddities")).await;
    leaving.send(head).await;
    let is_served = |metric: &testkit::collector::Metric| metric.points.iter().any(|point| point.value == 1.0);
    shop.collector().wait_for_metric("http.server.active_requests", is_served).await;
    drop(leaving);
    let is_cancelled = |span: &Span| span.attributes.get("error.type") == Some(&json!("cancelled"));
    let left = shop.collector().wait_for_span("the one whose client left", is_cancelled).await;
    assert_eq!((status(&left), left.name.as_str()), (None, "POST /echo/{first}/{second}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_bodies_arrive_whole() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("POST /echo/a/b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    connection.send("5\r\nhello\r\n").await;
    connection.send("6;ext=1\r\n world\r\n0\r\ntrailer: x\r\n\r\n").await;
    let (_, body) = connection.response().await;
    assert!(body.contains("\"body\":\"hello world\""), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_to_be_told_to_continue_is_told() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("POST /echo/a/b HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n").await;
    let told = connection.read_until("\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 100"), "{told}");
    connection.send("hello").await;
    let (head, body) = connection.response().await;
    assert!(head.starts_with("http/1.1 200") && body.contains("hello"), "{head}{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_is_answered() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("GET /health HTTP/1.0\r\n\r\n").await;
    let came = connection.rest().await;
    assert!(came.starts_with("HTTP/1.0 200") || came.starts_with("HTTP/1.1 200"), "{came}");
    assert!(came.ends_with('}'), "{came}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_sees_path_query_headers_and_body_as_they_were_sent() {
    let shop = Shop::oddities().start().await;
    let request = shop.request("POST", "oddities", "/echo/a%20b/%C3%A9%2Fx?q=1&r=%20&q=2");
    let answer = request.header("X-Test", "Value").header("content-type", "text/plain").body("körper").send().await;
    let seen = answer.json();
    assert_eq!(seen["params"], serde_json::json!(["a b", "é/x"]));
    assert_eq!(seen["query"], "q=1&r=%20&q=2");
    assert_eq!(seen["headers"]["x-test"], "Value");
    assert_eq!(seen["headers"]["content-type"], "text/plain");
    assert_eq!(seen["body"], "körper");
    let bare = shop.get("oddities", "/echo/a/b").await.json();
    assert_eq!((&bare["query"], &bare["length"]), (&serde_json::Value::Null, &serde_json::json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_have_their_routes() {
    let shop = Shop::oddities().start().await;
    for method in ["PUT", "DELETE"] {
        let answer = shop.request(method, "oddities", "/items/7").send().await;
        assert_eq!(answer.json(), "7", "{method}");
    }
    let answer = shop.request("PATCH", "oddities", "/items/7").send().await;
    answer.assert_problem(405, "");
    assert_eq!(answer.header("allow"), "DELETE, PUT");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_go_both_ways() {
    let shop = Shop::oddities().start().await;
    let answer = shop.request("POST", "oddities", "/echo/a/b").body(vec![b'x'; 1 << 20]).send().await;
    assert_eq!(answer.json()["length"], 1 << 20);
    let answer = shop.get("oddities", &format!("/huge/{}", 8 << 20)).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 8 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_content_have_none() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("GET /status/204 HTTP/1.1\r\nhost: x\r\n\r\nGET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let head = connection.read_until("\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 204") && !head.contains("content-length"), "{head}");
    assert!(connection.response().await.0.starts_with("http/1.1 200"));
}
