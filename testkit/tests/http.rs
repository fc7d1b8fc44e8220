//! The HTTP protocol, independent of services.

use http::Version;
use serde_json::json;
use testkit::raw::Connection;
use testkit::{Client, PATIENCE, Shop, Span};

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_alive_for_the_next_request() {
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
async fn pipelined_requests_are_answered_in_order() {
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
async fn http_2_with_prior_knowledge_is_served() {
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
async fn over_http_2_a_guest_sees_the_authority_as_host() {
    let shop = Shop::oddities().start().await;
    let answer = Client::h2c().request("GET", shop.address("oddities"), "/echo/a/b").send().await;
    assert_eq!(answer.json()["headers"]["host"], shop.address("oddities").to_string(), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_the_response_of_get_without_the_body() {
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
async fn a_malformed_body_is_rejected_and_a_truncated_one_counts_as_cancelled() {
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
async fn expect_100_continue_is_answered() {
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
async fn http_1_0_requests_are_served() {
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
async fn routes_may_use_other_methods() {
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
async fn large_bodies_are_received_and_sent() {
    let shop = Shop::oddities().start().await;
    let answer = shop.request("POST", "oddities", "/echo/a/b").body(vec![b'x'; 1 << 20]).send().await;
    assert_eq!(answer.json()["length"], 1 << 20);
    let answer = shop.get("oddities", &format!("/huge/{}", 8 << 20)).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 8 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_without_content_have_no_body() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("GET /status/204 HTTP/1.1\r\nhost: x\r\n\r\nGET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let head = connection.read_until("\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 204") && !head.contains("content-length"), "{head}");
    assert!(connection.response().await.0.starts_with("http/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_must_have_exactly_one_host() {
    let shop = Shop::oddities().start().await;
    for hosts in
        ["", "host: a\r\nhost: b\r\n", "host: a\r\nhost: a\r\n", "host: me@a\r\n", "host: a b\r\n", "host: a:x\r\n"]
    {
        let mut connection = Connection::open(shop.address("oddities")).await;
        connection.send(format!("GET /health HTTP/1.1\r\n{hosts}\r\n")).await;
        let (head, body) = connection.response().await;
        assert!(head.starts_with("http/1.1 400") && head.contains("application/problem+json"), "{hosts}: {head}{body}");
        connection.send("GET /health HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(connection.response().await.0.starts_with("http/1.1 200"), "{hosts}: the connection goes on");
    }
    let refused = |span: &Span| span.attributes.get("http.response.status_code") == Some(&json!(400));
    let span = shop.collector().wait_for_span("a refused request", refused).await;
    assert_eq!(span.name, "GET /health");
    for (client, host) in [(Client::default(), "me@a"), (Client::h2c(), "other.example"), (Client::h2c(), "me@a")] {
        let request = client.request("GET", shop.address("oddities"), "/health").header("host", host);
        request.send().await.assert_problem(400, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_of_an_absolute_target_replaces_the_host_field() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("GET http://shop.example:81/echo/a/b?q=1 HTTP/1.1\r\nhost: other\r\n\r\n").await;
    let (head, body) = connection.response().await;
    assert!(head.starts_with("http/1.1 200"), "{head}{body}");
    let seen: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&seen["headers"]["host"], &seen["query"]), (&json!("shop.example:81"), &json!("q=1")));
    let named = |span: &Span| span.attributes.get("server.address") == Some(&json!("shop.example"));
    let span = shop.collector().wait_for_span("the request", named).await;
    assert_eq!((&span.attributes["server.port"], &span.attributes["url.path"]), (&json!(81), &json!("/echo/a/b")));
}

#[tokio::test(flavor = "multi_thread")]
async fn options_for_the_server_lists_all_methods() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let head = connection.read_until("\r\n\r\n").await.to_lowercase();
    assert!(
        head.starts_with("http/1.1 204") && head.contains("allow: delete, get, head, options, post, put\r\n"),
        "{head}"
    );
    connection.send("GET * HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(connection.response().await.0.starts_with("http/1.1 400"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_transfer_coding_is_rejected() {
    let shop = Shop::oddities().start().await;
    for coding in ["gzip, chunked", "x-unknown, chunked"] {
        let mut connection = Connection::open(shop.address("oddities")).await;
        let head = format!("POST /echo/a/b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: {coding}\r\n\r\n0\r\n\r\n");
        connection.send(head).await;
        let (head, body) = connection.response().await;
        assert!(head.starts_with("http/1.1 501"), "{coding}: {head}{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_fields_are_removed_from_requests_and_responses() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    let fields = "x-test: 1\r\ncontent-type: text/plain\r\nconnection: keep-alive, X-Test\r\n";
    connection.send(format!("GET /echo/a/b HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).await;
    let seen: serde_json::Value = serde_json::from_str(&connection.response().await.1).expect("JSON");
    assert_eq!(seen["headers"]["x-test"], json!(null));
    assert_eq!(seen["headers"]["content-type"], "text/plain");
    connection.send("GET /hop-by-hop HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (head, _) = connection.response().await;
    assert!(head.contains("x-end: 1") && !head.contains("x-hop"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_without_content_have_no_body_over_http_2() {
    let shop = Shop::oddities().start().await;
    let client = Client::h2c();
    for (method, path, status, length) in [
        ("HEAD", "/health", 200, "41"),
        ("HEAD", "/nothing", 404, "133"),
        ("GET", "/status/204", 204, ""),
        ("GET", "/status/304", 304, ""),
        ("HEAD", "/status/204", 204, ""),
    ] {
        let answer = client.request(method, shop.address("oddities"), path).send().await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (status, 0), "{method} {path}");
        assert_eq!(answer.header("content-length").len(), length.len(), "{method} {path}: {:?}", answer.headers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_fields_of_a_trusted_proxy_are_used() {
    let shop = Shop::oddities().keys("oddities", "trusted_proxies = [\"127.0.0.0/8\"]").start().await;
    let forwarded = "for=6.6.6.6, for=\"[2001:db8::1]:4711\";proto=https;host=\"shop.example\", for=127.0.0.2";
    let answer = shop.request("GET", "oddities", "/health").header("forwarded", forwarded).send().await;
    let older = shop.request("GET", "oddities", "/health").header("x-forwarded-for", "6.6.6.6, 1.1.1.1");
    let older = older.header("x-forwarded-proto", "https").send().await;
    let malformed = shop.request("GET", "oddities", "/health").header("forwarded", "for=nobody").send().await;
    let told = |span: &Span| {
        let keys = ["client.address", "network.peer.address", "url.scheme", "server.address", "server.port"];
        keys.map(|key| span.attribute(key).clone())
    };
    let tree = shop.trace(&answer.trace, 1).await;
    assert_eq!(
        told(&tree.spans()[0]),
        [json!("2001:db8::1"), json!("127.0.0.1"), json!("https"), json!("shop.example"), json!(443)]
    );
    let tree = shop.trace(&older.trace, 1).await;
    assert_eq!(told(&tree.spans()[0])[..3], [json!("1.1.1.1"), json!("127.0.0.1"), json!("https")]);
    let tree = shop.trace(&malformed.trace, 1).await;
    assert_eq!(told(&tree.spans()[0])[..3], [json!("127.0.0.1"), json!("127.0.0.1"), json!("http")]);
    let is_https = |metric: &testkit::collector::Metric| {
        metric.points.iter().any(|point| point.attributes.get("url.scheme") == Some(&json!("https")))
    };
    shop.collector().wait_for_metric("http.server.request.duration", is_https).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_fields_of_other_peers_are_ignored() {
    let shop = Shop::oddities().keys("oddities", "trusted_proxies = [\"10.0.0.0/8\", \"192.0.2.1\"]").start().await;
    let answer = shop.request("GET", "oddities", "/health").header("x-forwarded-for", "1.1.1.1");
    let answer = answer.header("x-forwarded-proto", "https").send().await;
    let tree = shop.trace(&answer.trace, 1).await;
    let span = &tree.spans()[0];
    span.assert_attribute("client.address", "127.0.0.1");
    span.assert_attribute("url.scheme", "http");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_kept_for_keep_alive() {
    let shop = Shop::oddities().head("[limits]\nhead_timeout = \"3s\"\nkeep_alive = \"12s\"").start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    for is_first in [true, false] {
        connection.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(connection.response().await.0.starts_with("http/1.1 200"));
        if is_first {
            // Longer than `head_timeout`, and shorter than `keep_alive`.
            let idle = std::time::Duration::from_secs(5);
            tokio::time::sleep_until(tokio::time::Instant::now() + idle).await;
        }
    }
    let ended = tokio::time::timeout(PATIENCE, connection.rest()).await.expect("it ends some time");
    assert_eq!(ended, "");
}
