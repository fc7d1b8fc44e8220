//! OTLP in: spans of other processes for the trace store, by gRPC and by HTTP on one port.
//!
//! It takes what a browser's or a native service's exporter sends: protobuf over gRPC, protobuf or JSON over HTTP, with
//! gzip or without. A page of this machine may send too. What is refused is refused as the specification of OTLP says.

mod decode;
mod grpc;
mod http;

use std::sync::Arc;

use ::http::{HeaderValue, Method};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tokio::sync::Semaphore;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::store::{Held, TraceStore};

/// The most bytes of a request, as it is sent and as it is unpacked.
const REQUEST: usize = 8 << 20;
/// Requests that are decoded at the same time.
const REQUESTS: usize = 4;

/// Everything that takes spans.
#[derive(Clone)]
struct Receiver {
    store: Arc<TraceStore>,
    turns: Arc<Semaphore>,
}

/// What became of a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    /// Spans that could not be kept.
    rejected: usize,
}

/// What answers on the port for OTLP: it hands spans to the store.
pub fn receiver(store: Arc<TraceStore>) -> Router {
    let receiver = Receiver { store, turns: Arc::new(Semaphore::new(REQUESTS)) };
    grpc::routes(receiver.clone())
        .merge(http::routes(receiver))
        .layer(DefaultBodyLimit::max(REQUEST))
        .layer(pages_of_this_machine())
}

/// A page that comes from this machine may send spans; others may not.
fn pages_of_this_machine() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(|origin, _| is_loopback(origin)))
        .allow_methods([Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
}

fn is_loopback(origin: &HeaderValue) -> bool {
    let uri = origin.to_str().ok().and_then(|origin| origin.parse::<::http::Uri>().ok());
    let host = uri.as_ref().and_then(::http::Uri::host).map(|host| host.trim_matches(['[', ']']));
    host.is_some_and(|host| {
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

impl Receiver {
    /// Hands the spans of a request to the store.
    fn take(&self, request: ExportTraceServiceRequest) -> Taken {
        let (groups, rejected) = decode::groups(request);
        groups.into_iter().for_each(|group| self.store.add(Held::Foreign(Arc::new(group))));
        Taken { rejected }
    }
}

impl Taken {
    /// What is said of spans that could not be kept.
    fn message(&self) -> String {
        match self.rejected {
            0 => String::new(),
            rejected => format!("{rejected} spans have no valid trace id or span id"),
        }
    }
}
