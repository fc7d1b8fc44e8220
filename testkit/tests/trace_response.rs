//! Every response contains its trace id, so that clients can find its trace.

use testkit::raw::Connection;
use testkit::{Answer, Client, Shop, TraceId};

/// The trace id and span id in a response.
#[track_caller]
fn named(answer: &Answer) -> (&str, &str) {
    let fields: Vec<_> = answer.headers.get_all("traceresponse").iter().collect();
    assert_eq!(fields.len(), 1, "{:?}", answer.headers);
    let parts: Vec<_> = answer.header("traceresponse").split('-').collect();
    let ["00", trace, span, _flags] = parts[..] else { panic!("{parts:?}") };
    (trace, span)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_names_its_trace_and_server_span() {
    let shop = Shop::oddities().limits("oddities", "request_body = 4").start().await;
    let asked = [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/status/204", 204),
        ("GET", "/status/503", 503),
        ("GET", "/trap", 500),
        ("GET", "/nothing", 404),
        ("PATCH", "/health", 405),
        ("POST", "/echo/a/b", 413),
    ];
    for (method, path, status) in asked {
        let body = if status == 413 { "a body" } else { "" };
        let answer = shop.request(method, "oddities", path).body(body).send().await;
        assert_eq!(answer.status, status, "{method} {path}");
        let tree = shop.trace(&answer.trace, 1).await;
        let server = tree.roots()[0];
        assert_eq!(named(&answer), (&*answer.trace.to_string(), &*server.span_id), "{method} {path}");
    }
    let untraced = shop.request("GET", "oddities", "/health").untraced().send().await;
    let tree = shop.trace(&TraceId::from(named(&untraced).0), 1).await;
    assert_eq!(tree.roots()[0].span_id, named(&untraced).1);
}

#[tokio::test(flavor = "multi_thread")]
async fn traceresponse_is_sent_over_http_2_and_for_rejected_heads() {
    let shop = Shop::oddities().start().await;
    let answer = Client::h2c().request("GET", shop.address("oddities"), "/health").send().await;
    assert_eq!(named(&answer).0, answer.trace.to_string());
    let mut connection = Connection::open(shop.address("oddities")).await;
    connection.send("GET /health HTTP/1.1\r\n\r\n").await;
    let (head, body) = connection.response().await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
    let field = head.lines().find_map(|line| line.strip_prefix("traceresponse: ")).expect("the field").to_owned();
    let trace = field.split('-').nth(1).expect("a trace");
    assert!(body.contains(&format!("\"trace_id\":\"{trace}\"")), "{body}");
    shop.trace(&TraceId::from(trace), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn problem_details_of_host_and_guests_contain_the_trace_id() {
    let shop = Shop::oddities().start().await;
    let by_the_host = shop.get("oddities", "/nothing").await;
    let by_the_guest = shop.post("oddities", "/add/key/no-number").await;
    for (answer, status) in [(by_the_host, 404), (by_the_guest, 422)] {
        answer.assert_problem(status, "");
        assert_eq!(answer.json()["trace_id"], answer.trace.to_string(), "{}", answer.text());
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    }
    let plain = shop.get("oddities", "/health").await;
    assert!(!plain.text().contains(&plain.trace.to_string()), "no problem, no member");
}

#[tokio::test(flavor = "multi_thread")]
async fn response_header_false_turns_traceresponse_off() {
    let shop = Shop::oddities().head("[telemetry]\nresponse_header = false").start().await;
    let answer = shop.get("oddities", "/nothing").await;
    assert!(!answer.headers.contains_key("traceresponse"), "{:?}", answer.headers);
    assert_eq!(answer.json()["trace_id"], answer.trace.to_string(), "problems name it all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_telemetry_responses_name_no_trace() {
    let shop = Shop::oddities().env("OTEL_SDK_DISABLED", "true").start().await;
    let answer = shop.get("oddities", "/nothing").await;
    assert!(!answer.headers.contains_key("traceresponse"), "{:?}", answer.headers);
    assert_eq!(answer.json().get("trace_id"), None);
}
