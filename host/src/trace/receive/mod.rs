//! OTLP in: spans of other processes for the trace store, by gRPC and by HTTP on one port.
//!
//! It takes what a browser's or a native service's exporter sends: protobuf over gRPC, protobuf or JSON over HTTP, with
//! gzip or without. A page of this machine may send too. What is refused is refused as the specification of OTLP says.

mod decode;
mod grpc;
mod http;
mod receiver;
mod turn;

use std::sync::Arc;

use ::http::{HeaderValue, Method};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use self::receiver::{REQUEST, Receiver};
use super::store::TraceStore;

/// What answers on the port for OTLP: it hands spans to the store.
pub fn receiver(store: Arc<TraceStore>) -> Router {
    let receiver = Receiver::new(store);
    grpc::routes(receiver.clone())
        .merge(http::routes(receiver.clone()))
        .route_layer(from_fn_with_state(receiver, turn::wait))
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
