//! The stock SDK as its documentation sets it up: a batch processor, OTLP over gRPC, W3C trace context.

use std::collections::HashMap;

use anyhow::Result;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use serde::de::DeserializeOwned;

use super::Peer;

/// The SDK, set up for one service.
pub(super) struct Telemetry {
    provider: SdkTracerProvider,
    pub(super) tracer: SdkTracer,
}

impl Telemetry {
    pub(super) fn start(peer: &Peer) -> Result<Telemetry> {
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build()?;
        let resource = Resource::builder().with_service_name(format!("native-{peer:?}").to_lowercase()).build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        let tracer = provider.tracer("shop");
        Ok(Telemetry { provider, tracer })
    }

    /// Sends the last spans. Blocks for as long as that takes, so it leaves the workers alone.
    pub(super) async fn stop(self) -> Result<()> {
        tokio::task::spawn_blocking(move || self.provider.shutdown()).await??;
        Ok(())
    }
}

/// A request's server span, under the caller's span where it sent one.
pub(super) fn server(tracer: &SdkTracer, headers: &HeaderMap, route: &'static str, path: &str) -> Context {
    let caller = TraceContextPropagator::new().extract(&Headers(headers));
    let span = tracer.span_builder(format!("GET {route}")).with_kind(SpanKind::Server).with_attributes([
        KeyValue::new("http.request.method", "GET"),
        KeyValue::new("http.route", route),
        KeyValue::new("url.path", path.to_owned()),
        KeyValue::new("url.scheme", "http"),
        KeyValue::new("network.protocol.version", "1.1"),
        KeyValue::new("server.address", "localhost"),
    ]);
    caller.with_span(span.start_with_context(tracer, &caller))
}

/// A span within the service.
pub(super) fn internal(tracer: &SdkTracer, name: &'static str, parent: &Context) -> Context {
    parent.with_span(tracer.span_builder(name).start_with_context(tracer, parent))
}

/// Ends a server span with the status of its answer.
pub(super) fn answered(server: &Context, status: u16) {
    server.span().set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
    server.span().end();
}

/// Runs `work` within a span of its own.
pub(super) fn within<T>(tracer: &SdkTracer, name: &'static str, parent: &Context, work: impl FnOnce() -> T) -> T {
    let span = internal(tracer, name, parent);
    let done = work();
    span.span().end();
    done
}

/// Asks another service, in a client span whose context goes along.
pub(super) async fn get<T: DeserializeOwned>(
    tracer: &SdkTracer,
    client: &reqwest::Client,
    url: String,
    parent: &Context,
) -> Option<T> {
    let span = tracer.span_builder("GET").with_kind(SpanKind::Client).with_attributes([
        KeyValue::new("http.request.method", "GET"),
        KeyValue::new("url.full", url.clone()),
        KeyValue::new("server.address", "localhost"),
    ]);
    let context = parent.with_span(span.start_with_context(tracer, parent));
    let mut carried = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carried as &mut dyn Injector);
    let headers = carried
        .iter()
        .filter_map(|(name, value)| Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?)));
    let answer = client.get(url).headers(headers.collect()).send().await;
    let body = match answer {
        Ok(answer) => {
            let status = i64::from(answer.status().as_u16());
            context.span().set_attribute(KeyValue::new("http.response.status_code", status));
            answer.bytes().await.ok()
        }
        Err(error) => {
            context.span().set_status(Status::error(error.to_string()));
            None
        }
    };
    context.span().end();
    serde_json::from_slice(&body?).ok()
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
