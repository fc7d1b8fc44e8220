//! The cost of a span: the host's recorder and pipeline against the stock SDK with its batch processor and exporter.
//!
//! Both record the same: a server span with child spans, six attributes each, every parent explicit. The figure is CPU
//! time, the minimum of several rounds, since other load on the machine can only increase it.

use std::time::Duration;

use anyhow::{Result, ensure};
use opentelemetry::trace::{Span as _, SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanExporter};
use spandrel::trace::{Attribute, Incoming, Pipeline, Resource, RootSampler, Settings};

use crate::collector::Collector;
use crate::cpu;
use crate::report::heading;

/// Spans recorded in one round. They fit into the queues, so that none is dropped.
const SPANS: usize = 192_000;
const ROUNDS: usize = 5;

/// The cost of one span in nanoseconds.
struct Cost {
    /// From its start until it is queued, on the thread that records it.
    queued: f64,
    /// From its start until the collector has received it, in the whole process, including the collector.
    received: f64,
}

pub(crate) fn run() -> Result<()> {
    heading("One span with six attributes, CPU time");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _inside = runtime.enter();
    let collector = Collector::start()?;
    println!(
        "| spans per request | SDK: queued | spandrel: queued (ratio) | SDK: received | spandrel: received (ratio) | spandrel: not sampled |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    for spans in [1, 8, 24] {
        let stock = best(|| stock(spans, &collector))?;
        let ours_unsampled = best(|| runtime.block_on(ours(spans, &collector, false)))?;
        let ours = best(|| runtime.block_on(ours(spans, &collector, true)))?;
        println!(
            "| {spans} | {:.0} ns | {:.0} ns ({:.1}x) | {:.0} ns | {:.0} ns ({:.1}x) | {:.0} ns |",
            stock.queued,
            ours.queued,
            stock.queued / ours.queued,
            stock.received,
            ours.received,
            stock.received / ours.received,
            ours_unsampled.queued
        );
    }
    Ok(())
}

fn best(mut round: impl FnMut() -> Result<Cost>) -> Result<Cost> {
    let mut best = Cost { queued: f64::INFINITY, received: f64::INFINITY };
    for _ in 0..ROUNDS {
        let cost = round()?;
        best.queued = best.queued.min(cost.queued);
        best.received = best.received.min(cost.received);
    }
    Ok(best)
}

fn per_span(used: Duration) -> f64 {
    used.as_nanos() as f64 / SPANS as f64
}

fn attributes() -> Vec<KeyValue> {
    vec![
        KeyValue::new("http.request.method", "GET"),
        KeyValue::new("url.path", "/inventory/1".to_owned()),
        KeyValue::new("url.scheme", "http"),
        KeyValue::new("server.address", "localhost".to_owned()),
        KeyValue::new("server.port", 8002),
        KeyValue::new("http.response.status_code", 200),
    ]
}

/// The same attributes for the host, which copies texts itself.
fn borrowed_attributes() -> [Attribute<'static>; 6] {
    [
        Attribute::new("http.request.method", "GET"),
        Attribute::new("url.path", "/inventory/1"),
        Attribute::new("url.scheme", "http"),
        Attribute::new("server.address", "localhost"),
        Attribute::new("server.port", 8002),
        Attribute::new("http.response.status_code", 200),
    ]
}

fn provider(exporter: impl SpanExporter + 'static) -> SdkTracerProvider {
    let config = BatchConfigBuilder::default().with_max_queue_size(2 * SPANS).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    SdkTracerProvider::builder().with_span_processor(processor).build()
}

fn stock(spans: usize, collector: &Collector) -> Result<Cost> {
    let exporter =
        opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(collector.endpoint()).build()?;
    let before = (cpu::own(), collector.spans());
    let provider = provider(exporter);
    let queued = on_this_thread(|| record_stock(&provider.tracer("bench"), spans));
    provider.shutdown()?;
    let received = cpu::own() - before.0;
    ensure!(collector.spans() - before.1 == (SPANS / spans * spans) as u64, "the stock SDK dropped spans");
    Ok(Cost { queued: per_span(queued), received: per_span(received) })
}

fn record_stock(tracer: &SdkTracer, spans: usize) {
    for _ in 0..SPANS / spans {
        let server = tracer.span_builder("GET /inventory/{product_id}").with_kind(SpanKind::Server);
        let server = server.with_attributes(attributes()).start_with_context(tracer, &Context::new());
        let context = Context::new().with_span(server);
        for _ in 1..spans {
            let child = tracer.span_builder("get_inventory").with_attributes(attributes());
            child.start_with_context(tracer, &context).end();
        }
        context.span().end();
    }
}

async fn ours(spans: usize, collector: &Collector, sampled: bool) -> Result<Cost> {
    let mut settings = Settings { store_bytes: 0, ..Settings::default() };
    settings.traces.otlp.endpoint = collector.endpoint();
    settings.metrics.exporters.clear();
    settings.logs.exporters.clear();
    settings.batch.queue_size = 2 * SPANS;
    if !sampled {
        settings.sampler.root = RootSampler::AlwaysOff;
    }
    let before = (cpu::own(), collector.spans());
    let pipeline = Pipeline::start(settings)?;
    let resource = Resource::new("bench", "1.0.0", &[]);
    let queued = on_this_thread(|| record_ours(&pipeline, &resource, spans));
    pipeline.shutdown(Duration::from_secs(60)).await;
    let received = cpu::own() - before.0;
    let expected = if sampled { SPANS / spans * spans } else { 0 };
    ensure!(collector.spans() - before.1 == expected as u64, "the pipeline dropped spans");
    Ok(Cost { queued: per_span(queued), received: per_span(received) })
}

fn record_ours(pipeline: &Pipeline, resource: &std::sync::Arc<Resource>, spans: usize) {
    for _ in 0..SPANS / spans {
        let (incoming, kind) = (Incoming::default(), SpanKind::Server);
        let mut recorder = pipeline.record(resource, &incoming, "GET /inventory/{product_id}", kind);
        recorder.set_guest_attributes(recorder.server(), borrowed_attributes());
        for _ in 1..spans {
            let span = recorder.start("get_inventory", SpanKind::Internal, recorder.server());
            recorder.set_guest_attributes(span, borrowed_attributes());
            recorder.end(span);
        }
        recorder.finish(None);
    }
}

/// The CPU time of `work` on this thread, without that of other threads.
fn on_this_thread(work: impl FnOnce()) -> Duration {
    let before = cpu::of_this_thread();
    work();
    cpu::of_this_thread() - before
}
