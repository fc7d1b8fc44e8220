//! Calls of standard components: allowed origins, propagated context, and traces across kinds of components.

use std::net::SocketAddr;

use testkit::origin::{Manner, Origin};
use testkit::{ODDITIES_PORT, STANDARD, Shop, ShopBuilder, TraceId, artifacts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const BOTH: [&str; 2] = ["standard-p2", "standard-p3"];

fn url(service: &str, path: &str) -> String {
    let (_, port) = STANDARD.into_iter().find(|(name, _)| *name == service).expect("a standard component");
    format!("http://localhost:{port}{path}")
}

fn allowing(origin: &str) -> ShopBuilder {
    allowing_all(&[origin.to_owned()])
}

fn allowing_all(origins: &[String]) -> ShopBuilder {
    BOTH.iter().fold(Shop::standard(), |shop, service| shop.outbound(service, &format!("allow = {origins:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_between_0_2_and_0_3_is_local_and_in_one_trace() {
    let shop = Shop::standard().start().await;
    for (from, to) in [("standard-p2", "standard-p3"), ("standard-p3", "standard-p2")] {
        let answer = shop.get(from, &format!("/fetch?url={}", url(to, "/hello"))).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "hello\n"), "{from}");
        let tree = shop.trace(&answer.trace, 3).await;
        let expected = format!("{from} GET SERVER\n  {from} GET CLIENT\n    {to} GET SERVER\n");
        tree.assert_text(&[], &expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_through_a_call_in_both_directions() {
    let limits = "request_body = \"64MiB\"\nresponse_body = \"64MiB\"";
    let shop = BOTH.iter().fold(Shop::standard(), |shop, service| shop.limits(service, limits)).start().await;
    // The 0.2 guest sends its whole request before it reads the response, so that the echo must be buffered.
    for (from, path, to, size) in [
        ("standard-p2", "/fetch", "standard-p3", 10_000),
        ("standard-p3", "/fetch", "standard-p2", 3_000_000),
        ("standard-p3", "/forward", "standard-p2", 3_000_000),
        ("standard-p3", "/forward", "standard-p3", 3_000_000),
    ] {
        let body = shop.get("standard-p2", &format!("/large?size={size}")).await.body;
        let request = shop.request("POST", from, &format!("{path}?url={}", url(to, "/echo")));
        let answer = request.body(body.clone()).send().await;
        assert_eq!(answer.status, 200, "{from}{path}: {}", answer.text());
        assert!(answer.body == body, "{from}{path} to {to}: {} bytes came back", answer.body.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_an_origin_that_is_not_allowed_fails_with_the_error_code_of_wasi_http() {
    let origin = Origin::start(Manner::default()).await;
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let answer = shop.get(service, &format!("/fetch?url={}/", origin.url())).await;
        assert_eq!(answer.status, 502, "{service}");
        assert_eq!(answer.text(), "HttpRequestDenied\n", "{service}");
        let tree = shop.trace(&answer.trace, 2).await;
        let client = tree.line(&format!("{service} GET CLIENT"));
        assert!(client.is_error(), "{service}");
        client.assert_attribute("error.type", "denied");
    }
    assert!(origin.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn network_requests_carry_the_context_of_the_client_span() {
    let origin = Origin::start(Manner::default()).await;
    let shop = allowing(&origin.url()).start().await;
    for (index, service) in BOTH.into_iter().enumerate() {
        let request = shop.request("POST", service, &format!("/fetch?url={}/x?y=z", origin.url())).body("a body");
        let answer = request.header("x-client-id", "c1").send().await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "{}"), "{service}");
        let asked = &origin.asked()[index];
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/x?y=z"), "{service}");
        assert_eq!(asked.body, "a body", "{service}");
        let tree = shop.trace(&answer.trace, 2).await;
        let client = tree.line(&format!("{service} POST CLIENT"));
        let traceparent = asked.headers["traceparent"].to_str().unwrap();
        assert!(traceparent.contains(&client.trace_id) && traceparent.contains(&client.span_id), "{traceparent}");
        client.assert_attribute("server.port", origin.port());
        client.assert_attribute("http.response.status_code", 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn path_and_query_of_a_call_are_sent_as_the_guest_wrote_them() {
    let origin = Origin::start(Manner::default()).await;
    let shop = allowing(&origin.url()).start().await;
    let path = r"/a/../b/./%7e\c?x='{y}'|%27";
    let encoded = "/a/../b/./%257e%5cc%3fx='%7by%7d'%7c%2527";
    for (index, service) in BOTH.into_iter().enumerate() {
        let answer = shop.get(service, &format!("/fetch?url={}{encoded}", origin.url())).await;
        assert_eq!(answer.status, 200, "{service}: {}", answer.text());
        assert_eq!(origin.asked()[index].path, path, "{service}");
        assert!(!origin.asked()[index].headers.contains_key("accept"), "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_connection_is_an_error_code_that_says_what_failed_and_an_error_on_the_span() {
    let silent = respond_to_connections(b"").await;
    let other = respond_to_connections(b"220 this is no HTTP\r\n").await;
    // The resolver rejects a label of 64 characters without a question to a name server.
    let unknown = format!("{}.invalid", "x".repeat(64));
    let cases = [
        (format!("http://{}", testkit::process::free_address()), "ConnectionRefused"),
        (format!("http://{silent}"), "HttpProtocolError"),
        (format!("http://{other}"), "HttpProtocolError"),
        (format!("https://{silent}"), "TlsProtocolError"),
        (format!("https://{other}"), "TlsProtocolError"),
        (format!("http://{unknown}"), "DnsError("),
    ];
    let origins: Vec<_> = cases.iter().map(|(origin, _)| origin.clone()).collect();
    let shop = allowing_all(&origins).start().await;
    for (origin, expected) in cases {
        for service in BOTH {
            let answer = shop.get(service, &format!("/fetch?url={origin}/")).await;
            assert_eq!(answer.status, 502, "{service} {origin}");
            assert!(answer.text().starts_with(expected), "{service} {origin}: {}", answer.text());
            let tree = shop.trace(&answer.trace, 2).await;
            let client = tree.line(&format!("{service} GET CLIENT"));
            assert!(client.is_error(), "{service} {origin}");
            client.assert_attribute("error.type", "unreachable");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_code_of_a_response_body_says_whether_it_was_malformed_or_ended_early() {
    let mut cases = Vec::new();
    for (response, expected) in [
        (&b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno size\r\n"[..], "HttpProtocolError"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", "ConnectionTerminated"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", "ConnectionTerminated"),
    ] {
        cases.push((format!("http://{}", respond_to_connections(response).await), expected));
    }
    let origins: Vec<_> = cases.iter().map(|(origin, _)| origin.clone()).collect();
    let shop = allowing_all(&origins).start().await;
    for (case, (origin, expected)) in cases.iter().enumerate() {
        let answer = shop.get("standard-p3", &format!("/fetch-all?times=1&url={origin}/")).await;
        assert_eq!(answer.text(), format!("[\"{expected}\"]"), "case {case}");
    }
}

/// A server that reads something, sends these bytes and closes the connection, for each connection.
async fn respond_to_connections(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.read(&mut [0; 4096]).await;
            let _ = connection.write_all(bytes).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_have_separate_client_spans() {
    let shop = Shop::standard().start().await;
    let path = format!("/fetch-all?times=3&url={}", url("standard-p2", "/sleep?ms=20"));
    let answer = shop.get("standard-p3", &path).await;
    assert_eq!(answer.text(), "[200,200,200]");
    let tree = shop.trace(&answer.trace, 7).await;
    let pair = "  standard-p3 GET CLIENT\n    standard-p2 GET SERVER\n";
    tree.assert_text(&[], &format!("standard-p3 GET SERVER\n{}", pair.repeat(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traceparent_set_by_the_guest_is_sent() {
    let origin = Origin::start(Manner::default()).await;
    let shop = allowing(&origin.url()).start().await;
    for (index, service) in BOTH.into_iter().enumerate() {
        let own = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";
        let answer = shop.get(service, &format!("/fetch?traceparent={own}&url={}/", origin.url())).await;
        assert_eq!(answer.status, 200, "{service}: {}", answer.text());
        let asked = origin.asked()[index].headers["traceparent"].to_str().unwrap().to_owned();
        assert!(asked.starts_with("00-0123456789abcdef0123456789abcdef-"), "{service}: {asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lean_callee_reads_the_client_span_whatever_context_a_guest_sets() {
    let origin = Origin::start(Manner::default()).await;
    let lean = format!("http://localhost:{ODDITIES_PORT}");
    let shop = Shop::standard().service("oddities", &artifacts::component("oddities"), ODDITIES_PORT);
    let outbound = format!("allow = [\"{lean}\", \"{}\"]\nbaggage = true", origin.url());
    let shop = BOTH.iter().fold(shop, |shop, service| shop.outbound(service, &outbound)).start().await;
    for service in BOTH {
        for own in
            ["garbage", "00-TRACE-00f067aa0ba902b7-01", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"]
        {
            let trace = TraceId::fresh();
            let own = own.replace("TRACE", trace.as_str());
            let fields = format!("traceparent={own}&tracestate=guest%3D1&baggage=guest%3D1");
            let send = async |url: String| {
                let request = shop.request("GET", service, &format!("/fetch?{fields}&url={url}")).in_trace(&trace);
                let answer = request.header("baggage", "tenant=blue").send().await;
                assert_eq!(answer.status, 200, "{service} {own}: {}", answer.text());
                answer
            };
            send(format!("{}/", origin.url())).await;
            let over_network = origin.asked().pop().expect("a request").headers;
            assert_eq!(over_network["baggage"], "guest=1", "{service} {own}");
            let state = over_network.get("tracestate").map(|state| state.to_str().unwrap());
            assert_eq!(state, (own != "garbage").then_some("guest=1"), "{service} {own}");
            let local = send(format!("{lean}/echo/a/b")).await.json()["headers"].clone();
            for name in ["tracestate", "baggage"] {
                let expected = over_network.get(name).map(|value| value.to_str().unwrap());
                assert_eq!(local[name].as_str(), expected, "{service} {own}: {name}");
            }
            let context = local["traceparent"].as_str().expect("a context");
            if own.starts_with("00-0123") {
                assert_eq!(context, over_network["traceparent"], "{service}: the context of another trace is sent");
                continue;
            }
            let tree = shop.trace(&trace, 5).await;
            let callee = tree.line("oddities GET /echo/{first}/{second} SERVER");
            let client = tree.parent(callee).expect("a client span");
            assert!(context.starts_with(&format!("00-{trace}-{}-", client.span_id)), "{service} {own}: {context}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lean_and_standard_components_call_each_other_in_one_trace() {
    let oddities = artifacts::component("oddities");
    let origin = format!("\"http://localhost:{ODDITIES_PORT}\", \"{}\"", url("standard-p2", ""));
    let shop = Shop::standard()
        .service("oddities", &oddities, ODDITIES_PORT)
        .outbound("oddities", &format!("allow = [{origin}]"))
        .outbound("standard-p3", &format!("allow = [{origin}]"))
        .start()
        .await;
    let inner = url("standard-p2", "/hello");
    let lean = format!("http://localhost:{ODDITIES_PORT}/call?url={inner}");
    let answer = shop.get("standard-p3", &format!("/fetch?url={}", lean.replace('?', "%3F"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let tree = shop.trace(&answer.trace, 5).await;
    let servers = ["standard-p3 GET SERVER", "oddities GET /call SERVER", "standard-p2 GET SERVER"];
    let clients = ["oddities GET CLIENT", "standard-p3 GET CLIENT"];
    for line in servers.into_iter().chain(clients) {
        tree.line(line);
    }
    assert_eq!(tree.roots().len(), 1, "{}", tree.text(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_the_conventions_do_not_list_is_recorded_as_other_at_both_ends_of_a_call() {
    let shop = Shop::standard().start().await;
    for (from, to) in [("standard-p2", "standard-p3"), ("standard-p3", "standard-p2")] {
        let request = shop.request("PROPFIND", from, &format!("/fetch?url={}", url(to, "/hello")));
        let tree = shop.trace(&request.send().await.trace, 3).await;
        for span in [format!("{from} HTTP CLIENT"), format!("{to} HTTP SERVER")] {
            let span = tree.line(&span);
            span.assert_attribute("http.request.method", "_OTHER");
            span.assert_attribute("http.request.method_original", "PROPFIND");
        }
    }
}
