//! The recording collector, tested with an exporter that shares no code with the host.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use testkit::{Behaviour, Collector, TraceId};

fn export() -> ExportTraceServiceRequest {
    let span = Span { trace_id: vec![1; 16], span_id: vec![2; 8], name: "one".to_owned(), ..Span::default() };
    let scope = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans: vec![scope], ..Default::default() }] }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_collector_records_accepted_exports_and_no_rejected_ones() {
    let collector = Collector::start();
    let mut client = TraceServiceClient::connect(collector.endpoint()).await.expect("it listens");
    collector.behave(Behaviour::Refuse { retry_after: Some(std::time::Duration::from_secs(3)) });
    let refused = client.export(export()).await.expect_err("it refuses");
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert!(!refused.details().is_empty(), "no time to try again");
    collector.behave(Behaviour::Accept);
    client.export(export()).await.expect("it accepts");
    let tree = collector.wait_for_trace(&TraceId::from("01".repeat(16).as_str()), 1).await;
    assert_eq!(tree.one("one").span_id, "02".repeat(8));
    assert_eq!(collector.arrivals().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_collector_closes_its_connections_and_restarts_on_the_same_port() {
    let mut collector = Collector::start();
    let endpoint = collector.endpoint();
    let mut client = TraceServiceClient::connect(endpoint.clone()).await.expect("it listens");
    client.export(export()).await.expect("it accepts");
    collector.stop();
    assert!(TraceServiceClient::connect(endpoint.clone()).await.is_err());
    collector.start_again();
    assert_eq!(collector.endpoint(), endpoint);
    let mut client = TraceServiceClient::connect(endpoint).await.expect("it listens again");
    client.export(export()).await.expect("it accepts");
    assert_eq!(collector.spans().len(), 2);
}
