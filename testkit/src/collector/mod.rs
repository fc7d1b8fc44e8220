//! A collector that records what it receives by OTLP, over gRPC and over HTTP, and misbehaves on request.
//!
//! It runs on its own threads, so that stopping it closes every connection at once, as if its process were killed, and
//! so that a test that keeps its runtime busy does not slow it down.

mod behaviour;
mod grpc;
mod http;
mod record;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

pub use behaviour::Behaviour;
pub use record::{Arrival, LogRecord, Metric, Point, Protocol, Signal};

use crate::port::free_address;
use crate::{Kind, PATIENCE, Span, SpanTree, TraceId, poll};
use record::Records;

/// A collector on free ports of the loopback interface.
pub struct Collector {
    records: Arc<Records>,
    grpc: SocketAddr,
    http: SocketAddr,
    runtime: Option<Runtime>,
}

impl Collector {
    /// Starts a collector that accepts everything.
    pub fn start() -> Collector {
        // Nothing else takes these ports while the collector is stopped.
        let (grpc, http) = (listen(free_address()), listen(free_address()));
        let address = |listener: &TcpListener| listener.local_addr().expect("a bound listener has an address");
        let mut collector =
            Collector { records: Arc::default(), grpc: address(&grpc), http: address(&http), runtime: None };
        collector.serve(grpc, http);
        collector
    }

    /// The value of `OTEL_EXPORTER_OTLP_ENDPOINT` for OTLP over gRPC.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// The value of `OTEL_EXPORTER_OTLP_ENDPOINT` for OTLP over HTTP.
    pub fn http_endpoint(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Sets the behaviour from the next export on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.records.set_behaviour(behaviour);
    }

    /// Closes all connections and stops listening. Records are kept.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A separate thread can wait for the sockets to be closed; a task cannot.
            let closed = std::thread::spawn(move || runtime.shutdown_timeout(std::time::Duration::from_secs(5)));
            closed.join().expect("the collector's runtime ends");
        }
    }

    /// Listens again on the same ports.
    pub fn start_again(&mut self) {
        self.stop();
        self.serve(listen(self.grpc), listen(self.http));
    }

    fn serve(&mut self, grpc: TcpListener, http: TcpListener) {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("collector").enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        runtime.spawn(grpc::serve(grpc, self.records.clone()));
        runtime.spawn(http::serve(http, self.records.clone()));
        self.runtime = Some(runtime);
    }

    /// All accepted spans.
    pub fn spans(&self) -> Vec<Span> {
        self.records.spans()
    }

    /// The accepted spans of one trace.
    pub fn trace(&self, id: &TraceId) -> SpanTree {
        let mut spans = self.spans();
        spans.retain(|span| span.trace_id == id.as_str());
        SpanTree::new(spans)
    }

    /// All accepted log records.
    pub fn logs(&self) -> Vec<LogRecord> {
        self.records.logs()
    }

    /// All accepted metrics, once per export.
    pub fn metrics(&self) -> Vec<Metric> {
        self.records.metrics()
    }

    /// All exports, accepted or not.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.records.arrivals()
    }

    /// Deletes all records.
    pub fn clear(&self) {
        self.records.clear();
    }

    /// Waits until at least `count` spans of a trace have arrived. Panics with those that have if they do not arrive.
    pub async fn wait_for_trace(&self, id: &TraceId, count: usize) -> SpanTree {
        self.wait_for_trace_within(id, count, PATIENCE).await
    }

    /// The same with another deadline.
    pub async fn wait_for_trace_within(&self, id: &TraceId, count: usize, patience: Duration) -> SpanTree {
        let found = poll::until(patience, || Some(self.trace(id)).filter(|tree| tree.spans().len() >= count)).await;
        found.unwrap_or_else(|| {
            let (tree, all) = (self.trace(id), self.spans().len());
            let (came, text) = (tree.spans().len(), tree.text(&[]));
            panic!("of trace {id} came {came} spans, not {count} (of all traces {all}):\n{text}")
        })
    }

    /// Waits until a span satisfies a condition, and returns it.
    pub async fn wait_for_span(&self, what: &str, fits: impl Fn(&Span) -> bool) -> Span {
        let found = poll::until(PATIENCE, || self.spans().into_iter().find(|span| fits(span))).await;
        found.unwrap_or_else(|| panic!("no span that is {what} among {:#?}", names(&self.spans())))
    }

    /// The generation of a service that served a trace, according to its first server span.
    pub async fn generation_of(&self, service: &str, trace: &TraceId) -> i64 {
        let of_trace =
            |span: &Span| span.kind == Kind::Server && span.service == service && span.trace_id == trace.as_str();
        let span = self.wait_for_span("the server span", of_trace).await;
        span.attribute("spandrel.component.generation").as_i64().expect("a number")
    }

    /// Waits until a log record satisfies a condition, and returns it.
    pub async fn wait_for_log(&self, what: &str, fits: impl Fn(&LogRecord) -> bool) -> LogRecord {
        let found = poll::until(PATIENCE, || self.logs().into_iter().find(|record| fits(record))).await;
        found.unwrap_or_else(|| panic!("no log record that is {what} among {:#?}", self.logs()))
    }

    /// Waits until a metric of this name satisfies a condition, and returns it.
    pub async fn wait_for_metric(&self, name: &str, fits: impl Fn(&Metric) -> bool) -> Metric {
        let fits = |metric: &Metric| metric.name == name && fits(metric);
        let found = poll::until(PATIENCE, || self.metrics().into_iter().rev().find(|metric| fits(metric))).await;
        found.unwrap_or_else(|| {
            let all = self.metrics();
            let same: Vec<_> = all.iter().filter(|metric| metric.name == name).collect();
            panic!("no fitting metric `{name}` among {same:#?}")
        })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}

fn names(spans: &[Span]) -> Vec<String> {
    spans.iter().map(Span::to_string).collect()
}

fn listen(address: SocketAddr) -> TcpListener {
    // The port of a stopped collector may stay in use for a moment.
    let listener = poll::until_blocking(PATIENCE, || TcpListener::bind(address).ok());
    let listener = listener.unwrap_or_else(|| panic!("cannot listen on {address}"));
    listener.set_nonblocking(true).expect("a listener can be non-blocking");
    listener
}
