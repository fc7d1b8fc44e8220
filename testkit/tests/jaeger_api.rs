//! Jaeger's query API of the console: requests over the same spans, compared with recorded responses of Jaeger.

use std::net::SocketAddr;

use serde_json::Value;
use testkit::{Client, Site, Spandrel, jaeger, process};

/// Responses of Jaeger 2.13, with its store in memory.
const ANSWERS: &str = include_str!("jaeger/answers.json");

/// A host without services whose console receives spans.
fn serve() -> (Site, Spandrel, SocketAddr) {
    let (site, otlp) = (Site::new(&[]), process::free_address());
    let console = format!("[console]\nlisten = \"{}\"\notlp = \"{otlp}\"\n", site.console());
    site.replace("services.toml", console.as_bytes());
    let mut host = site.serve();
    host.wait_until_listening(otlp);
    (site, host, otlp)
}

#[tokio::test]
async fn every_request_has_the_response_of_jaeger() {
    let (site, _host, otlp) = serve();
    jaeger::send_spans(otlp).await;
    let answers: Vec<Value> = serde_json::from_str(ANSWERS).expect("JSON");
    assert_eq!(answers.len(), jaeger::REQUESTS.lines().count());
    for recorded in answers {
        let path = recorded["request"].as_str().expect("a path");
        let answer = jaeger::ask(site.console(), path).await;
        assert_eq!(answer["status"], recorded["status"], "{path}: {answer:#}");
        assert_eq!(answer["body"], jaeger::normal(recorded["body"].clone()), "{path}");
    }
}

#[tokio::test]
async fn the_newer_names_of_parameters_are_accepted() {
    let (site, _host, otlp) = serve();
    jaeger::send_spans(otlp).await;
    let times = |min, max| format!("{min}=2026-01-31T11%3A59%3A59Z&{max}=2026-01-31T12%3A00%3A10.5%2B00%3A00");
    let older = times("query.start_time_min", "query.start_time_max");
    let newer = times("query.startTimeMin", "query.startTimeMax");
    let ask = async |query: String| jaeger::ask(site.console(), &format!("/api/v3/traces?{query}")).await;
    let expected = ask(format!("query.service_name=browser&query.num_traces=5&{older}")).await;
    assert_eq!(expected["status"], 200);
    assert_eq!(ask(format!("query.serviceName=browser&query.searchDepth=5&{newer}")).await, expected);
    let tagged =
        ask(format!("query.serviceName=browser&query.attributes=%7B%22span.kind%22%3A%22client%22%7D&{newer}")).await;
    assert_eq!(tagged, expected);
}

#[tokio::test]
async fn an_empty_store_has_empty_responses_without_errors() {
    let (site, _host, _) = serve();
    for path in ["/api/services", "/api/traces?service=a", "/api/dependencies", "/api/v3/services"] {
        assert_eq!(jaeger::ask(site.console(), path).await["status"], 200, "{path}");
    }
}

#[tokio::test]
async fn otlp_json_and_gzip_are_accepted_and_invalid_requests_rejected_as_otlp_specifies() {
    use std::io::Write;
    let (site, _host, otlp) = serve();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(jaeger::SPANS.as_bytes()).expect("it can be packed");
    let packed = packed.finish().expect("it can be packed");
    let post = async |kind: &str, encoding: &str, body: Vec<u8>| {
        let request = Client::default().request("POST", otlp, "/v1/traces").untraced();
        let request = request.header("content-type", kind).header("content-encoding", encoding);
        request.body(body).send().await
    };
    let taken = post("application/json; charset=utf-8", "gzip", packed.clone()).await;
    assert_eq!((taken.status.as_u16(), taken.header("content-type")), (200, "application/json"));
    let services = jaeger::ask(site.console(), "/api/services").await;
    assert_eq!(services["body"]["total"], 5);
    let bomb = {
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&vec![b' '; 64 << 20]).expect("it can be packed");
        bomb.finish().expect("it can be packed")
    };
    for (kind, encoding, body, status) in [
        ("application/json", "gzip", b"no gzip".to_vec(), 400),
        ("application/json", "identity", b"{".to_vec(), 400),
        ("application/x-protobuf", "identity", b"\xff\xff".to_vec(), 400),
        ("application/json", "br", b"{}".to_vec(), 415),
        ("text/plain", "identity", b"{}".to_vec(), 415),
        ("application/json", "gzip", bomb, 413),
        ("application/json", "identity", vec![b' '; 9 << 20], 413),
    ] {
        let answer = post(kind, encoding, body).await;
        assert_eq!(answer.status.as_u16(), status, "{kind} {encoding}: {}", answer.text());
    }
    let get = Client::default().request("GET", otlp, "/v1/traces").untraced().send().await;
    assert_eq!((get.status.as_u16(), get.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn otlp_grpc_is_accepted_on_the_same_port_and_spans_without_ids_are_a_partial_success() {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
    let (site, _host, otlp) = serve();
    let mut request: ExportTraceServiceRequest = serde_json::from_str(jaeger::SPANS).expect("OTLP JSON");
    request.resource_spans[0].scope_spans[0].spans[0].span_id.clear();
    let mut client = TraceServiceClient::connect(format!("http://{otlp}")).await.expect("it listens");
    let answer = client.export(request).await.expect("it is taken").into_inner();
    assert_eq!(answer.partial_success.map(|part| part.rejected_spans), Some(1));
    assert_eq!(jaeger::ask(site.console(), "/api/services").await["body"]["total"], 5);
}

#[tokio::test]
async fn cors_allows_pages_of_this_machine_to_send_spans_and_no_others() {
    let (_site, _host, otlp) = serve();
    for (origin, allowed) in [
        ("http://localhost:3000", true),
        ("http://127.0.0.1:5173", true),
        ("http://[::1]:80", true),
        ("https://evil.example", false),
        ("http://localhost.evil.example", false),
        ("null", false),
    ] {
        let asked = Client::default().request("OPTIONS", otlp, "/v1/traces").untraced().header("origin", origin);
        let asked = asked.header("access-control-request-method", "POST");
        let answer = asked.header("access-control-request-headers", "content-type").send().await;
        assert_eq!(answer.header("access-control-allow-origin") == origin, allowed, "{origin}: {:?}", answer.headers);
    }
}

#[tokio::test]
async fn a_store_of_size_zero_rejects_spans() {
    let (site, otlp) = (Site::new(&[]), process::free_address());
    let console = format!("[console]\nlisten = \"{}\"\notlp = \"{otlp}\"\ntraces = \"0\"\n", site.console());
    site.replace("services.toml", console.as_bytes());
    let mut host = site.serve();
    host.wait_until_listening(otlp);
    jaeger::send_spans(otlp).await;
    assert_eq!(jaeger::ask(site.console(), "/api/services").await["body"]["total"], 0);
}
