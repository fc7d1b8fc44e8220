//! Bodies: a request lasts until its response has been sent, and slow clients do not block other requests.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use testkit::collector::Metric;
use testkit::raw::Connection;
use testkit::{Shop, Span};
use tokio::net::TcpStream;

/// More than the socket buffers between a host and a client can hold.
const LARGE: usize = 8_000_000;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

fn has_error_type(span: &Span, error_type: &str) -> bool {
    span.attributes.get("error.type") == Some(&json!(error_type))
}

fn size(span: &Span) -> u64 {
    span.attribute("http.response.body.size").as_u64().unwrap()
}

async fn wait_for_active(shop: &Shop, count: f64) {
    let is_there = |metric: &Metric| metric.points.iter().map(|point| point.value).sum::<f64>() == count;
    shop.collector().wait_for_metric("http.server.active_requests", is_there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_span_has_the_size_of_the_sent_body() {
    let shop = Shop::oddities().start().await;
    for (method, bytes, sent) in [("GET", 0, 0), ("GET", 100, 100), ("GET", LARGE, LARGE), ("HEAD", 100, 0)] {
        let answer = shop.request(method, "oddities", &format!("/huge/{bytes}")).send().await;
        assert_eq!(answer.header("content-length"), bytes.to_string());
        let tree = shop.trace(&answer.trace, 1).await;
        assert_eq!(size(&tree.spans()[0]), sent as u64, "{method} of {bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_active_until_its_body_is_sent_and_cancelled_if_its_client_disconnects() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send(get(&format!("/huge/{LARGE}"))).await;
    connection.read_until("\r\n\r\n").await;
    wait_for_active(&shop, 1.0).await;
    let of_service = |spans: Vec<Span>| spans.into_iter().filter(|span| span.service == "oddities").count();
    assert_eq!(of_service(shop.collector().spans()), 0, "the span ended before the body did");
    drop(connection);
    let span = shop.collector().wait_for_span("a cut", |span| has_error_type(span, "cancelled")).await;
    assert!(size(&span) < LARGE as u64, "{}", size(&span));
    span.assert_attribute("http.response.status_code", 200);
    wait_for_active(&shop, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_disconnected_after_idle_timeout() {
    let shop = Shop::oddities().limits("oddities", "idle_timeout = \"1s\"").with_console().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send(get(&format!("/huge/{LARGE}"))).await;
    let span = shop.collector().wait_for_span("a slow reader", |span| has_error_type(span, "timeout")).await;
    assert!(span.is_error());
    assert!(size(&span) < LARGE as u64);
    assert!(connection.rest().await.len() < LARGE, "the connection is closed within the body");
    let serving = shop.admin().status("oddities").await["serving"].clone();
    assert_eq!(
        (&serving["error_rate"], &serving["abandoned"]),
        (&json!(0.0), &json!(1)),
        "no fault of the guest: {serving}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_2_stream_that_is_not_read_is_reset_after_idle_timeout_and_its_connection_continues() {
    let shop = Shop::oddities().limits("oddities", "idle_timeout = \"1s\"").start().await;
    let address = shop.address("oddities");
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let handshake = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(65_535)
        .handshake(stream);
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = |path: &str| Request::get(format!("http://{address}{path}")).body(Empty::<Bytes>::new()).unwrap();
    let stalled = sender.send_request(request(&format!("/huge/{LARGE}"))).await.unwrap();
    let span = shop.collector().wait_for_span("a slow reader", |span| has_error_type(span, "timeout")).await;
    assert!(size(&span) < LARGE as u64);
    assert_eq!(sender.send_request(request("/health")).await.unwrap().status(), 200);
    assert!(stalled.collect().await.is_err(), "a body that was given up looks whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_pauses_for_longer_than_idle_timeout_is_rejected() {
    let shop = Shop::oddities().limits("oddities", "idle_timeout = \"500ms\"").start().await;
    for framing in ["content-length: 5", "transfer-encoding: chunked"] {
        let mut connection = Connection::open(shop.address("oddities")).await;
        connection.send(format!("POST /echo/a/b HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n")).await;
        let (head, body) = connection.response().await;
        assert!(head.starts_with("http/1.1 408"), "{framing}: {head}");
        assert!(body.contains("500ms"), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_with_too_large_a_content_length_is_rejected_before_it_arrives() {
    let shop = Shop::oddities().limits("oddities", "request_body = \"1KiB\"").start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("POST /echo/a/b HTTP/1.1\r\nhost: x\r\ncontent-length: 2000\r\n\r\n").await;
    assert!(connection.response().await.0.starts_with("http/1.1 413"));
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_in_progress_do_not_count_toward_the_concurrency_limit() {
    let shop = Shop::oddities().limits("oddities", "concurrency = 1").start().await;
    let mut uploads = Vec::new();
    for _ in 0..3 {
        let mut connection = Connection::open(shop.address("oddities")).await;
        connection.send("POST /echo/a/b HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe").await;
        uploads.push(connection);
    }
    wait_for_active(&shop, 3.0).await;
    assert_eq!(shop.get("oddities", "/health").await.status, 200);
    for mut upload in uploads {
        upload.send("llo").await;
        let (head, body) = upload.response().await;
        assert!(head.starts_with("http/1.1 200") && body.contains("\"body\":\"hello\""), "{head}{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_waits_for_a_response_body_that_is_being_sent() {
    let shop = Shop::oddities().start().await;
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send(get(&format!("/huge/{LARGE}"))).await;
    connection.read_until("\r\n\r\n").await;
    let stopping = tokio::spawn(shop.shut_down());
    let body = connection.rest().await;
    assert_eq!(body.len(), LARGE);
    let collector = stopping.await.unwrap();
    let span = collector.wait_for_span("the whole body", |span| span.name == "GET /huge/{bytes}").await;
    assert!(!span.is_error());
    assert_eq!(size(&span), LARGE as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_but_without_long_pauses_gets_the_whole_body() {
    let shop = Shop::oddities().limits("oddities", "idle_timeout = \"6s\"").start().await;
    let address = shop.address("oddities");
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("/huge/{LARGE}")).header("host", "x").body(Empty::<Bytes>::new()).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    // The whole body takes longer than `idle_timeout`, and each pause is far shorter.
    const DURATION: Duration = Duration::from_secs(9);
    let (mut read, began) = (0, tokio::time::Instant::now());
    while let Some(frame) = body.frame().await {
        read += frame.unwrap().data_ref().unwrap().len();
        tokio::time::sleep_until(began + DURATION.mul_f64(read as f64 / LARGE as f64)).await;
    }
    assert_eq!(read, LARGE);
    assert!(began.elapsed() >= DURATION, "{:?}", began.elapsed());
}
