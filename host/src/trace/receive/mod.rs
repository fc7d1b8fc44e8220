//! The OTLP receiver: accepts spans of other processes for the trace store, over gRPC and HTTP on one port.
//!
//! It accepts what exporters of browsers and native services send: protobuf over gRPC, protobuf or JSON over HTTP, with
//! or without gzip. Pages of a loopback origin may send spans too. Invalid requests are rejected as the OTLP
//! specification requires.

mod decode;
mod grpc;
mod http;
mod permit;
mod receiver;

use std::sync::Arc;

use ::http::{HeaderValue, Method};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use self::receiver::{MAX_REQUEST_BYTES, Receiver};
use super::store::TraceStore;

/// The router for the OTLP port. It adds received spans to the store.
pub fn receiver(store: Arc<TraceStore>) -> Router {
    let receiver = Receiver::new(store);
    grpc::routes(receiver.clone())
        .merge(http::routes(receiver.clone()))
        .route_layer(from_fn_with_state(receiver, permit::acquire))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(loopback_cors())
}

/// Pages of a loopback origin may send spans; others may not.
fn loopback_cors() -> CorsLayer {
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
