//! The stock SDK, set up as in its documentation: a batch processor, OTLP over gRPC, W3C trace context and baggage.
//!
//! Spans have the attributes that the shop's own code sets, and none that only the host adds. There are no metrics.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use opentelemetry::baggage::BaggageExt;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanKind, SpanRef, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use reqwest::Url;
use serde::de::DeserializeOwned;

use super::peer::Peer;

/// The baggage member, and attribute, of the user.
const USER: &str = "business.user_id";

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

    /// Exports the remaining spans. The SDK blocks meanwhile, so this uses a blocking thread.
    pub(super) async fn stop(self) -> Result<()> {
        tokio::task::spawn_blocking(move || self.provider.shutdown()).await??;
        Ok(())
    }
}

/// The server span of a request, a child of the caller's span if the request has one. The user comes from the request or
/// from the caller's baggage, and is propagated.
pub(super) fn server(
    tracer: &SdkTracer,
    headers: &HeaderMap,
    route: &'static str,
    uri: &Uri,
    user: Option<&str>,
) -> Context {
    let caller = TraceContextPropagator::new().extract(&Headers(headers));
    let mut caller = BaggagePropagator::new().extract_with_context(&caller, &Headers(headers));
    if let Some(user) = user {
        caller = caller.with_baggage([KeyValue::new(USER, user.to_owned())]);
    }
    let mut attributes = vec![
        KeyValue::new("http.request.method", "GET"),
        KeyValue::new("http.route", route),
        KeyValue::new("url.path", uri.path().to_owned()),
        KeyValue::new("url.scheme", "http"),
        KeyValue::new("network.protocol.version", "1.1"),
    ];
    attributes.extend(uri.query().map(|query| KeyValue::new("url.query", query.to_owned())));
    let host = headers.get("host").and_then(|host| host.to_str().ok()?.rsplit_once(':'));
    if let Some((address, port)) = host {
        attributes.push(KeyValue::new("server.address", address.to_owned()));
        attributes.push(KeyValue::new("server.port", port.parse().unwrap_or(80_i64)));
    }
    attributes.extend(metadata(&caller));
    let span = tracer.span_builder(format!("GET {route}")).with_kind(SpanKind::Server).with_attributes(attributes);
    caller.with_span(span.start_with_context(tracer, &caller))
}

/// The attributes of all spans of a request: the user.
fn metadata(context: &Context) -> impl Iterator<Item = KeyValue> {
    let user = context.baggage().get(USER).map(|user| user.as_str().to_owned());
    user.into_iter().flat_map(|user| [KeyValue::new("user.id", user.clone()), KeyValue::new(USER, user)])
}

/// Ends a server span with the status of the response.
pub(super) fn answered(server: &Context, status: u16) {
    server.span().set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
    server.span().end();
}

/// A span within the service.
pub(super) fn internal(tracer: &SdkTracer, name: &'static str, parent: &Context) -> Context {
    let span = tracer.span_builder(name).with_attributes(metadata(parent).collect::<Vec<_>>());
    parent.with_span(span.start_with_context(tracer, parent))
}

/// Runs `work` within a span of its own.
pub(super) fn within<T>(
    tracer: &SdkTracer,
    name: &'static str,
    parent: &Context,
    work: impl FnOnce(&SpanRef<'_>) -> T,
) -> T {
    let span = internal(tracer, name, parent);
    let done = work(&span.span());
    span.span().end();
    done
}

/// An operation: a span with execution time and memory usage, as in the shop.
pub(super) struct Operation {
    pub(super) context: Context,
    start: Instant,
}

impl Operation {
    pub(super) fn start(tracer: &SdkTracer, name: &'static str, kind: &'static str, parent: &Context) -> Operation {
        let operation = Operation { context: internal(tracer, name, parent), start: Instant::now() };
        operation.set("custom.operation_type", kind);
        operation
    }

    pub(super) fn set(&self, key: &'static str, value: impl Into<opentelemetry::Value>) {
        self.context.span().set_attribute(KeyValue::new(key, value));
    }

    pub(super) fn end(self) {
        self.set("performance.execution_time_ms", self.start.elapsed().as_secs_f64() * 1e3);
        self.set("system.memory_usage_mb", memory_mb());
        self.context.span().end();
    }
}

/// The memory of this process, read once a second, as in the host.
fn memory_mb() -> f64 {
    static PAGES: OnceLock<Arc<AtomicU64>> = OnceLock::new();
    const PAGE_BYTES: f64 = 4096.0;
    let pages = PAGES.get_or_init(|| {
        let pages = Arc::<AtomicU64>::default();
        let shared = pages.clone();
        std::thread::spawn(move || {
            loop {
                let known = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
                let resident = known.split_whitespace().nth(1).and_then(|pages| pages.parse().ok());
                shared.store(resident.unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        pages
    });
    pages.load(Ordering::Relaxed) as f64 * PAGE_BYTES / f64::from(1 << 20)
}

/// Sends a request to another service, with a client span whose context is propagated.
pub(super) async fn get<T: DeserializeOwned>(
    tracer: &SdkTracer,
    client: &reqwest::Client,
    url: String,
    parent: &Context,
) -> Option<T> {
    let url: Url = url.parse().expect("the URL of a service is valid");
    let mut attributes = vec![
        KeyValue::new("http.request.method", "GET"),
        KeyValue::new("server.address", url.host_str().unwrap_or_default().to_owned()),
        KeyValue::new("server.port", i64::from(url.port().unwrap_or(80))),
        KeyValue::new("url.full", url.to_string()),
    ];
    attributes.extend(metadata(parent));
    let span = tracer.span_builder("GET").with_kind(SpanKind::Client).with_attributes(attributes);
    let context = parent.with_span(span.start_with_context(tracer, parent));
    let mut injected = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut injected as &mut dyn Injector);
    BaggagePropagator::new().inject_context(&context, &mut injected as &mut dyn Injector);
    let headers = injected
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
