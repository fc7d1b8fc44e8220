//! Delivery to collectors that are unavailable, slow or rejecting.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use opentelemetry::trace::SpanKind;

use super::collector::{Collector, ScriptedResponse};
use crate::trace::segment::Severity;
use crate::trace::settings::{Batch, Exporter, Otlp, Protocol, Settings};
use crate::trace::{Incoming, Pipeline, Resource};

pub const LIMIT: Duration = Duration::from_secs(10);

/// Settings that export spans without delay, to this collector only.
pub fn settings(address: SocketAddr, protocol: Protocol) -> Settings {
    let endpoint = match protocol {
        Protocol::Grpc => format!("http://{address}"),
        Protocol::HttpProtobuf => format!("http://{address}/v1/traces"),
    };
    let mut settings = Settings::default();
    settings.traces.otlp = Otlp { endpoint, is_configured: true, protocol, ..Otlp::standard() };
    settings.batch.delay = Duration::from_millis(5);
    settings.logs.exporters.clear();
    settings.metrics.exporters.clear();
    settings
}

/// An address that nothing listens on.
pub fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn request(pipeline: &Pipeline) {
    requests(pipeline, 1);
}

/// Records this many requests with one span each.
pub fn requests(pipeline: &Pipeline, count: usize) {
    let resource = Resource::new("shop", "1.0.0", &[]);
    for _ in 0..count {
        pipeline.record(&resource, &Incoming::default(), "GET /", SpanKind::Server).finish(None);
    }
}

pub fn dropped(pipeline: &Pipeline) -> Vec<(&'static str, u64)> {
    pipeline.counters().dropped_spans().into_iter().filter(|(_, count)| *count > 0).collect()
}

#[tokio::test]
async fn spans_arrive_over_grpc() {
    let collector = Collector::grpc().await;
    let mut settings = settings(collector.address, Protocol::Grpc);
    settings.traces.otlp.headers = vec![("authorization".to_owned(), "Bearer x".to_owned())];
    settings.traces.otlp.gzip = true;
    let pipeline = Pipeline::start(settings).unwrap();
    request(&pipeline);
    collector.wait(|seen| seen.spans() == 1).await;
    let headers = collector.see(|seen| seen.arrivals[0].1.clone());
    let has = |name: &str, value: &str| headers.iter().any(|(known, is)| known == name && is.starts_with(value));
    assert!(has("authorization", "Bearer x") && has("grpc-encoding", "gzip"), "{headers:?}");
    assert!(has("user-agent", "OTel-OTLP-Exporter-Spandrel/"), "{headers:?}");
    pipeline.shutdown(LIMIT).await;
    assert_eq!(pipeline.counters().exported_spans(), 1);
}

#[tokio::test]
async fn spans_arrive_over_http_with_gzip_and_headers() {
    let collector = Collector::http().await;
    let mut settings = settings(collector.address, Protocol::HttpProtobuf);
    settings.traces.otlp.headers = vec![("x-tenant".to_owned(), "shop".to_owned())];
    settings.traces.otlp.gzip = true;
    let pipeline = Pipeline::start(settings).unwrap();
    request(&pipeline);
    collector.wait(|seen| seen.spans() == 1).await;
    let headers = collector.see(|seen| seen.arrivals[0].1.clone());
    for (name, value) in
        [("content-type", "application/x-protobuf"), ("content-encoding", "gzip"), ("x-tenant", "shop")]
    {
        assert!(headers.iter().any(|(known, is)| known == name && is == value), "{name} of {headers:?}");
    }
}

#[tokio::test]
async fn a_requested_delay_is_followed_and_then_everything_is_delivered() {
    let pause = Duration::from_secs(1);
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let collector = match protocol {
            Protocol::Grpc => Collector::grpc().await,
            Protocol::HttpProtobuf => Collector::http().await,
        };
        let collector = collector.with_responses([ScriptedResponse::Retry(Some(pause))]);
        let pipeline = Pipeline::start(settings(collector.address, protocol)).unwrap();
        requests(&pipeline, 20);
        collector.wait(|seen| seen.spans() == 20).await;
        let times: Vec<_> = collector.see(|seen| seen.arrivals.iter().map(|(at, _)| *at).collect());
        assert!(times[1].duration_since(times[0]) >= pause - Duration::from_millis(50), "{protocol:?}");
        assert!(dropped(&pipeline).is_empty());
    }
}

#[tokio::test]
async fn a_requested_delay_of_zero_causes_no_busy_loop() {
    for (protocol, collector) in
        [(Protocol::Grpc, Collector::grpc().await), (Protocol::HttpProtobuf, Collector::http().await)]
    {
        let collector = collector.with_responses(std::iter::repeat_n(ScriptedResponse::Retry(Some(Duration::ZERO)), 3));
        let pipeline = Pipeline::start(settings(collector.address, protocol)).unwrap();
        let began = Instant::now();
        request(&pipeline);
        collector.wait(|seen| seen.spans() == 1).await;
        // Half a second, one and two, each reduced by at most half.
        assert!(began.elapsed() >= Duration::from_millis(1700), "{protocol:?}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn partially_rejected_spans_are_counted() {
    for (protocol, collector) in
        [(Protocol::Grpc, Collector::grpc().await), (Protocol::HttpProtobuf, Collector::http().await)]
    {
        let collector = collector.with_responses([ScriptedResponse::Partial(3, "too many")]);
        let pipeline = Pipeline::start(settings(collector.address, protocol)).unwrap();
        requests(&pipeline, 10);
        pipeline.shutdown(LIMIT).await;
        assert_eq!(dropped(&pipeline), [("rejected", 3)]);
        assert_eq!(pipeline.counters().exported_spans(), 7);
        assert_eq!(collector.see(|seen| seen.arrivals.len()), 1, "it is not sent again");
    }
}

#[tokio::test]
async fn a_warning_without_rejected_spans_counts_nothing_as_dropped() {
    for (protocol, collector) in
        [(Protocol::Grpc, Collector::grpc().await), (Protocol::HttpProtobuf, Collector::http().await)]
    {
        let collector = collector.with_responses([ScriptedResponse::Partial(0, "old names")]);
        let pipeline = Pipeline::start(settings(collector.address, protocol)).unwrap();
        requests(&pipeline, 10);
        pipeline.shutdown(LIMIT).await;
        assert!(dropped(&pipeline).is_empty(), "{protocol:?}");
        assert_eq!(pipeline.counters().exported_spans(), 10);
    }
}

#[tokio::test]
async fn rejected_requests_are_counted_and_not_retried() {
    for (protocol, collector) in
        [(Protocol::Grpc, Collector::grpc().await), (Protocol::HttpProtobuf, Collector::http().await)]
    {
        let collector = collector.with_responses([ScriptedResponse::Reject]);
        let pipeline = Pipeline::start(settings(collector.address, protocol)).unwrap();
        requests(&pipeline, 10);
        pipeline.shutdown(LIMIT).await;
        assert_eq!(dropped(&pipeline), [("rejected", 10)]);
        assert_eq!(collector.see(|seen| seen.arrivals.len()), 1);
    }
}

#[tokio::test]
async fn a_collector_that_returns_receives_all_queued_spans() {
    let address = free_address();
    let mut settings = settings(address, Protocol::Grpc);
    settings.batch = Batch { queue_size: 100, export_size: 10, ..settings.batch };
    let pipeline = Pipeline::start(settings).unwrap();
    requests(&pipeline, 100);
    let failed = || pipeline.counters().exports().iter().any(|(_, outcome, count)| *outcome == "failed" && *count > 1);
    let deadline = Instant::now() + LIMIT;
    while !failed() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(failed());
    let collector = Collector::grpc_at(address).await;
    collector.wait(|seen| seen.spans() == 100).await;
    assert!(dropped(&pipeline).is_empty());
}

#[tokio::test]
async fn spans_beyond_the_queue_are_counted_and_requests_do_not_wait() {
    let collector = Collector::grpc().await.with_responses(std::iter::repeat_n(ScriptedResponse::Hang, 1000));
    let mut settings = settings(collector.address, Protocol::Grpc);
    settings.batch = Batch { queue_size: 32, export_size: 8, ..settings.batch };
    let pipeline = Pipeline::start(settings).unwrap();
    let began = Instant::now();
    requests(&pipeline, 1000);
    assert!(began.elapsed() < LIMIT / 2, "{:?}", began.elapsed());
    assert_eq!(dropped(&pipeline), [("queue_full", 968)]);
    assert_eq!(pipeline.queue(), (32, 32));
    pipeline.shutdown(Duration::from_millis(200)).await;
    assert_eq!(dropped(&pipeline), [("queue_full", 968), ("shutdown", 32)]);
    request(&pipeline);
    assert_eq!(dropped(&pipeline), [("queue_full", 968), ("shutdown", 33)], "later spans are counted too");
}

#[tokio::test]
async fn during_an_outage_only_the_queue_and_requests_in_flight_are_held() {
    const ROUNDS: usize = 200;
    let address = free_address();
    let mut settings = settings(address, Protocol::Grpc);
    settings.batch = Batch { queue_size: 64, export_size: 8, delay: Duration::from_millis(1) };
    let pipeline = Pipeline::start(settings).unwrap();
    for _ in 0..ROUNDS {
        requests(&pipeline, 10);
        let (waiting, capacity) = pipeline.queue();
        assert!(waiting <= capacity, "{waiting} wait");
        // The export task runs between the requests, as it does under load.
        tokio::task::yield_now().await;
    }
    let made = 10 * ROUNDS as u64;
    let held = 64 + 8 * 8;
    let lost = dropped(&pipeline);
    assert!(matches!(lost[..], [("queue_full", lost)] if lost >= made - held), "{lost:?}");
    let collector = Collector::grpc_at(address).await;
    let kept = made - lost[0].1;
    collector.wait(|seen| seen.spans() as u64 == kept).await;
    pipeline.shutdown(LIMIT).await;
    assert_eq!((pipeline.counters().exported_spans(), dropped(&pipeline)), (kept, lost), "all is accounted for");
}

#[tokio::test]
async fn a_stopping_host_does_not_wait_for_long_delays() {
    let collector = Collector::grpc().await.with_responses([ScriptedResponse::Retry(Some(Duration::from_secs(60)))]);
    let pipeline = Pipeline::start(settings(collector.address, Protocol::Grpc)).unwrap();
    request(&pipeline);
    collector.wait(|seen| seen.arrivals.len() == 1).await;
    pipeline.shutdown(LIMIT).await;
    assert_eq!(pipeline.counters().exported_spans(), 1);
    assert!(dropped(&pipeline).is_empty());
}

#[tokio::test]
async fn failing_exports_of_log_records_do_not_delay_spans() {
    let (collector, troubled) = (
        Collector::grpc().await,
        Collector::grpc().await.with_responses(std::iter::repeat_n(ScriptedResponse::Hang, 100)),
    );
    let mut settings = settings(collector.address, Protocol::Grpc);
    settings.logs.exporters = vec![Exporter::Otlp];
    settings.logs.otlp.endpoint = format!("http://{}", troubled.address);
    let pipeline = Pipeline::start(settings).unwrap();
    let resource = Resource::new("shop", "1.0.0", &[]);
    for _ in 0..50 {
        let mut recorder = pipeline.record(&resource, &Incoming::default(), "GET /", SpanKind::Server);
        recorder.log(recorder.server(), Severity::Info, "hello".to_owned(), []);
        recorder.finish(None);
        tokio::task::yield_now().await;
    }
    collector.wait(|seen| seen.spans() == 50).await;
    troubled.wait(|seen| !seen.arrivals.is_empty()).await;
    pipeline.shutdown(Duration::from_millis(200)).await;
    assert_eq!(pipeline.counters().dropped_log_records().iter().map(|(_, count)| count).sum::<u64>(), 50);
}

#[tokio::test]
async fn log_records_of_unsampled_traces_are_exported() {
    let collector = Collector::grpc().await;
    let mut settings = settings(collector.address, Protocol::Grpc);
    settings.sampler.root = crate::trace::RootSampler::AlwaysOff;
    settings.logs = settings.traces.clone();
    let pipeline = Pipeline::start(settings).unwrap();
    let resource = Resource::new("shop", "1.0.0", &[]);
    let mut recorder = pipeline.record(&resource, &Incoming::default(), "GET /", SpanKind::Server);
    recorder.log(recorder.server(), Severity::Info, "hello".to_owned(), []);
    let trace = recorder.trace_id();
    recorder.finish(None);
    pipeline.shutdown(LIMIT).await;
    collector.see(|seen| {
        assert!(seen.traces.is_empty());
        let record = &seen.logs[0].resource_logs[0].scope_logs[0].log_records[0];
        assert_eq!(record.trace_id, trace.to_bytes());
        assert_eq!(record.flags, 0);
    });
}
