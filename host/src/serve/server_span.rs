//! Attributes of server spans: the stable HTTP semantic conventions, and the host's own.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, StatusCode, Version, header};

use super::arrival::Arrival;
use super::peer::Peer;
use super::rejection::Rejection;
use crate::component::{Cost, Failure, GuestExecution};
use crate::http::SCHEME;
use crate::http::authority::Authority;
use crate::http::method::span_name;
use crate::http::redaction::Redaction;
use crate::http::routes::Route;
use crate::trace::{Recorder, Value};

/// The name of the server span of a request that matches `route`. `prepared` is the name for the route's own method; a
/// route for GET also answers HEAD.
pub fn server_name(route: &Route, prepared: &Arc<str>, method: &Method) -> String {
    if *method == route.method { prepared.to_string() } else { format!("{} {}", span_name(method), route.template) }
}

/// The attributes that differ per request and are known from its head.
pub fn server_request(
    recorder: &mut Recorder,
    arrival: &Arrival,
    (listen, redaction): (SocketAddr, &Redaction),
    route: Option<&Route>,
) {
    let server = recorder.server();
    if let Some(connection) = &arrival.connection {
        recorder.set_prepared(server, &connection.peer.attributes);
    }
    let mut set = |key: &str, value: Value<'_>| recorder.set(server, key, value);
    if let Some(client) = arrival.forwarded().and_then(|forwarded| forwarded.client) {
        set("client.address", (&*client.to_string()).into());
    }
    if arrival.scheme() != SCHEME {
        set("url.scheme", arrival.scheme().into());
    }
    if route.is_none_or(|route| route.method != arrival.method) {
        match span_name(&arrival.method) {
            "HTTP" => {
                set("http.request.method", "_OTHER".into());
                set("http.request.method_original", arrival.method.as_str().into());
            }
            known => set("http.request.method", known.into()),
        }
    }
    set("url.path", arrival.uri.path().into());
    if let Some(query) = arrival.uri.query().filter(|query| !query.is_empty()) {
        set("url.query", (&*redaction.query(query)).into());
    }
    let (address, port) = server_address(arrival, listen);
    set("server.address", (&address).into());
    set("server.port", i64::from(port).into());
    if arrival.connection.is_some() {
        set("network.protocol.version", protocol_version(arrival.version).into());
    }
    if let Some(agent) = arrival.headers.get(header::USER_AGENT) {
        set("user_agent.original", (&*String::from_utf8_lossy(agent.as_bytes())).into());
    }
}

/// The attributes known of a request whose head cannot be read.
pub fn unread_request(recorder: &mut Recorder, peer: &Peer, listen: SocketAddr) {
    let server = recorder.server();
    recorder.set_prepared(server, &peer.attributes);
    recorder.set(server, "http.request.method", "_OTHER");
    recorder.set(server, "server.address", &*listen.ip().to_string());
    recorder.set(server, "server.port", i64::from(listen.port()));
    recorder.set(server, "network.protocol.version", "1.1");
}

/// Records how the request ended and what it cost.
pub fn server_response(
    recorder: &mut Recorder,
    status: StatusCode,
    rejection: Option<&Rejection>,
    cost: Option<&Cost>,
) {
    let server = recorder.server();
    if let Some(Rejection::Failed(Failure::Trapped(exception))) = rejection {
        exception.record(recorder);
    }
    if !recorder.is_recording() {
        return;
    }
    recorder.set(server, "http.response.status_code", i64::from(status.as_u16()));
    if let Some(cost) = cost {
        cost.record(recorder);
    }
    if status.is_server_error() {
        match rejection.and_then(|rejection| Some((rejection.error_type()?, rejection))) {
            Some((kind, rejection)) => recorder.fail(server, kind, description(rejection)),
            // The guest's own error says more than the status code.
            None if recorder.has_failed(server) => {}
            None => recorder.fail(server, status.as_str(), String::new()),
        }
    } else if let Some(kind) = rejection.and_then(Rejection::error_type) {
        // A client error is not a failure of the server and leaves the span status unset.
        recorder.set(server, "error.type", kind);
    }
}

/// Records what a standard guest has cost until its response was sent, and its failures since its response began. If
/// the guest continues, it records the rest itself.
pub fn guest_ended(recorder: &mut Recorder, execution: &GuestExecution, is_told: bool) {
    if let Some(Failure::Trapped(exception)) = execution.failure().filter(|_| !is_told) {
        exception.record(recorder);
    }
    if recorder.is_recording() {
        execution.cost().record(recorder);
    }
    execution.end_exchange();
}

/// The status description is meant for readers of the trace, so it says more about a trap than the response.
fn description(rejection: &Rejection) -> String {
    match rejection {
        Rejection::Failed(Failure::Trapped(exception)) => exception.message.clone(),
        Rejection::Failed(Failure::ErrorCode(reason)) => reason.clone(),
        other => other.detail(),
    }
}

/// What the client called the server, or what the server listens on where the client did not say.
fn server_address(arrival: &Arrival, listen: SocketAddr) -> (String, u16) {
    let forwarded = arrival.forwarded().and_then(|forwarded| forwarded.host.clone());
    let host = forwarded.or_else(|| {
        let authority = arrival.uri.authority().map(|authority| authority.as_str());
        let named = || arrival.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        Authority::parse(authority.or_else(named)?).ok()
    });
    let standard = if arrival.scheme() == "https" { 443 } else { 80 };
    match host.filter(Authority::has_host) {
        Some(host) => (host.address().to_owned(), host.port().unwrap_or(standard)),
        None => (listen.ip().to_string(), listen.port()),
    }
}

fn protocol_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::http::Body;

    #[test]
    fn a_server_is_named_as_the_client_named_it_without_what_only_a_url_needs() {
        let named = |host: &str| {
            let headers = [(header::HOST, host.parse().unwrap())].into_iter().collect();
            let (uri, version, body) = ("/".parse().unwrap(), Version::HTTP_11, Body::Whole(Bytes::new()));
            let arrival = Arrival { method: Method::GET, uri, version, headers, body, connection: None };
            server_address(&arrival, SocketAddr::from(([127, 0, 0, 1], 8000)))
        };
        assert_eq!(named("[::1]:9000"), ("::1".to_owned(), 9000));
        assert_eq!(named("shop.example"), ("shop.example".to_owned(), 80));
        assert_eq!(named("shop.example:99999"), ("127.0.0.1".to_owned(), 8000), "no port has this number");
    }
}
