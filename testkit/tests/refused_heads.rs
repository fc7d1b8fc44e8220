//! Malformed request heads: they are answered with a reason, traced and counted, and affect no other request.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::json;
use testkit::raw::Connection;
use testkit::{Client, Shop, Span, TraceId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends these bytes and returns head and body of the response.
async fn sent(address: SocketAddr, bytes: &[u8]) -> (String, String) {
    let mut connection = Connection::open(address).await;
    connection.send(bytes).await;
    connection.response().await
}

/// The trace id of a response, which must be the same in head and body.
#[track_caller]
fn named(head: &str, body: &str) -> TraceId {
    let field = head.lines().find_map(|line| line.strip_prefix("traceresponse: ")).unwrap_or_else(|| panic!("{head}"));
    let trace = field.split('-').nth(1).expect("a trace");
    assert!(body.contains(&format!("\"trace_id\":\"{trace}\"")), "{body}");
    TraceId::from(trace)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_head_gets_problem_details_a_span_and_is_counted() {
    // A client may need a while for the heads that it sends whole.
    let shop = Shop::oddities().start().await;
    let impatient = Shop::oddities().head("[limits]\nhead_timeout = \"3s\"").start().await;
    let long = "x".repeat(300_000);
    let many: String = (0..101).map(|number| format!("x-{number}: 1\r\n")).collect();
    let heads: [(Vec<u8>, u16, &str); 10] = [
        (b"GET /health?a=\xff HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), 400, "malformed_head"),
        (b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), 400, "malformed_head"),
        (b"G\xffT / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), 400, "malformed_head"),
        (b"GET / HTTP/1.1\r\nh\xffst: x\r\n\r\n".to_vec(), 400, "malformed_head"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx-one: a\x00b\r\n\r\n".to_vec(), 400, "malformed_head"),
        (b"GET / HTTP/7.1\r\nhost: x\r\n\r\n".to_vec(), 400, "malformed_head"),
        (b"GET / HT".to_vec(), 408, "head_timeout"),
        (format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n").into(), 414, "target_too_long"),
        (format!("GET / HTTP/1.1\r\nx-long: {long}\r\n\r\n").into(), 431, "fields_too_large"),
        (format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n").into(), 431, "fields_too_large"),
    ];
    for (bytes, status, error_type) in &heads {
        let shop = if *error_type == "head_timeout" { &impatient } else { &shop };
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let (head, body) = sent(shop.address("oddities"), bytes).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{shown}: {head}");
        assert!(head.contains("content-type: application/problem+json"), "{shown}: {head}");
        let tree = shop.trace(&named(&head, &body), 1).await;
        let server = tree.line("oddities HTTP SERVER");
        server.assert_attribute("http.response.status_code", *status);
        server.assert_attribute("error.type", *error_type);
        server.assert_attribute("network.peer.address", "127.0.0.1");
        assert!(!server.is_error(), "{shown}: what a client did is no failure of the server");
        let is_counted = |metric: &testkit::collector::Metric| {
            metric.points.iter().any(|point| {
                point.attributes.get("http.response.status_code") == Some(&json!(status))
                    && point.attributes.get("error.type") == Some(&json!(error_type))
            })
        };
        shop.collector().wait_for_metric("http.server.request.duration", is_counted).await;
    }
    assert_eq!(shop.get("oddities", "/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_head_after_a_valid_one_is_answered_second() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\nGET /?\xff HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(connection.response().await.0.starts_with("http/1.1 200"));
    let (head, body) = connection.response().await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
    shop.trace(&named(&head, &body), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_response_that_resembles_a_rejection_is_sent_unchanged() {
    for head in ["[telemetry]\nresponse_header = false", ""] {
        let shop = Shop::oddities().head(head).start().await;
        let mut connection = Connection::open(shop.address("oddities")).await;
        connection.send("GET /status/400 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        let came = connection.rest().await;
        assert!(came.starts_with("HTTP/1.1 400 Bad Request\r\n") && came.ends_with("\r\n\r\n"), "{came}");
        let is_refusal = |span: &Span| span.attributes.contains_key("error.type");
        shop.collector().wait_for_span("its own", |span| span.name == "GET /status/{status}").await;
        assert!(!shop.collector().spans().iter().any(is_refusal));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_malformed_heads_is_counted_and_does_not_fill_the_queue() {
    let shop = Shop::oddities().start().await;
    let began = Instant::now();
    for _ in 0..200 {
        let (head, _) = sent(shop.address("oddities"), b"GET /\xff HTTP/1.1\r\n\r\n").await;
        assert!(head.starts_with("http/1.1 400"), "{head}");
    }
    let most = 20 * (began.elapsed().as_secs() as usize + 2);
    let is_counted = |metric: &testkit::collector::Metric| {
        metric
            .points
            .iter()
            .any(|point| point.attributes.get("error.type") == Some(&json!("malformed_head")) && point.count == 200)
    };
    shop.collector().wait_for_metric("http.server.request.duration", is_counted).await;
    let spans = shop.shut_down().await.spans();
    let refused = spans.iter().filter(|span| span.name == "HTTP").count();
    assert!((20..=most).contains(&refused), "{refused} spans, {most} at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn header_values_need_not_be_utf_8() {
    let shop = Shop::oddities().start().await;
    let (head, body) =
        sent(shop.address("oddities"), b"GET /echo/a/b HTTP/1.1\r\nhost: x\r\nx-test: \xff\r\n\r\n").await;
    assert!(head.starts_with("http/1.1 200"), "{head}{body}");
}

/// A SETTINGS frame, and HEADERS of stream 1 with `:method GET`, `:scheme http`, `:authority x` and this `:path`.
fn http2_request(path: &[u8]) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x41, 0x01, b'x', 0x44, path.len() as u8];
    block.extend_from_slice(path);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&[0, 0, block.len() as u8, 0x01, 0x05, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_2_a_malformed_target_ends_only_the_stream_or_the_connection() {
    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;
    let shop = Shop::oddities().start().await;
    for path in [&b"/\xff"[..], b"/?a=\xff", b"/ "] {
        let mut stream = tokio::net::TcpStream::connect(shop.address("oddities")).await.expect("it listens");
        stream.write_all(&http2_request(path)).await.expect("it reads");
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("a frame");
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).await.expect("all of it");
            assert_ne!(head[3], 1, "no HEADERS come for {path:?}");
            if matches!(head[3], RST_STREAM | GOAWAY) {
                break;
            }
        }
    }
    let answer = Client::h2c().request("GET", shop.address("oddities"), "/health").send().await;
    assert_eq!(answer.status, 200);
}
