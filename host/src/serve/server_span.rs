//! The attributes of server spans: those of the stable HTTP semantic conventions, and attributes of the host.

use std::borrow::Cow;
use std::net::SocketAddr;

use http::{Method, StatusCode, Version, header};

use super::inbound_request::InboundRequest;
use super::peer::Peer;
use super::rejection::Rejection;
use crate::component::{Cost, Failure, GuestExecution};
use crate::http::SCHEME;
use crate::http::authority::Authority;
use crate::http::method;
use crate::http::redaction::Redaction;
use crate::http::routes::Route;
use crate::trace::{Recorder, Value};

/// The name of the server span of a request with this method that matches `route`.
pub fn route_span_name(route: &Route, method: &Method) -> String {
    [method::span_name(method), " ", &route.template].concat()
}

/// Records the attributes that differ between requests and are known from the request head.
pub fn record_request(
    recorder: &mut Recorder,
    inbound: &InboundRequest,
    (listen, redaction): (SocketAddr, &Redaction),
    route: Option<&Route>,
) {
    let server = recorder.server();
    if let Some(network) = &inbound.network {
        recorder.set_prepared(server, &network.peer.attributes);
    }
    let mut set = |key: &str, value: Value<'_>| recorder.set(server, key, value);
    if let Some(client) = inbound.forwarded().and_then(|forwarded| forwarded.client) {
        set("client.address", (&*client.to_string()).into());
    }
    if inbound.scheme() != SCHEME {
        set("url.scheme", inbound.scheme().into());
    }
    // The common attributes of the route's spans contain the method that it names.
    if route.is_none_or(|route| route.method.as_ref() != Some(&inbound.method)) {
        set("http.request.method", method::attributes(&inbound.method).0.into());
    }
    if let Some(original) = method::attributes(&inbound.method).1 {
        set("http.request.method_original", original.into());
    }
    set("url.path", inbound.uri.path().into());
    if let Some(query) = inbound.uri.query().filter(|query| !query.is_empty()) {
        set("url.query", (&*redaction.query(query)).into());
    }
    record_server_address(inbound, listen, &mut set);
    if inbound.network.is_some() {
        set("network.protocol.version", protocol_version(inbound.version).into());
    }
    if let Some(agent) = inbound.headers.get(header::USER_AGENT) {
        set("user_agent.original", (&*String::from_utf8_lossy(agent.as_bytes())).into());
    }
}

/// Records the attributes that are known of a request whose head cannot be read.
pub fn record_unreadable_request(recorder: &mut Recorder, peer: &Peer, listen: SocketAddr) {
    let server = recorder.server();
    recorder.set_prepared(server, &peer.attributes);
    recorder.set(server, "http.request.method", "_OTHER");
    recorder.set(server, "server.address", &*listen.ip().to_string());
    recorder.set(server, "server.port", i64::from(listen.port()));
    recorder.set(server, "network.protocol.version", "1.1");
}

/// Records the response, the reason of a rejection, and the cost of the guest.
pub fn record_response(
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
            // An error status that the guest has set says more than the status code.
            None if recorder.has_failed(server) => {}
            None => recorder.fail(server, status.as_str(), String::new()),
        }
    } else if let Some(kind) = rejection.and_then(Rejection::error_type) {
        // The span status of a server span stays unset for a client error.
        recorder.set(server, "error.type", kind);
    }
}

/// Records the cost of a standard guest until its response was sent. Records a trap that occurred after the response
/// head unless `is_recorded`. If the guest continues, the guest's task records the rest of the cost.
pub fn record_guest_end(recorder: &mut Recorder, execution: &GuestExecution, is_recorded: bool) {
    if let Some(Failure::Trapped(exception)) = execution.failure().filter(|_| !is_recorded) {
        exception.record(recorder);
    }
    if recorder.is_recording() {
        execution.cost().record(recorder);
    }
    execution.end_exchange();
}

/// The description of the span status. It is for readers of the trace and says more about a trap than the response.
fn description(rejection: &Rejection) -> String {
    match rejection {
        Rejection::Failed(Failure::Trapped(exception)) => exception.message.clone(),
        Rejection::Failed(Failure::ErrorCode(reason)) => reason.clone(),
        Rejection::Failed(failure @ Failure::Saturated(_)) => failure.to_string(),
        other => other.detail(),
    }
}

/// Records `server.address` and `server.port`: those that the client used, or the listening address if the client named
/// none.
fn record_server_address(inbound: &InboundRequest, listen: SocketAddr, mut set: impl FnMut(&str, Value<'_>)) {
    let default_port = if inbound.scheme() == "https" { 443 } else { 80 };
    let port = match client_host(inbound).filter(|host| host.has_host()) {
        Some(host) => {
            set("server.address", host.address().into());
            host.port().unwrap_or(default_port)
        }
        None => {
            set("server.address", (&*listen.ip().to_string()).into());
            listen.port()
        }
    };
    set("server.port", i64::from(port).into());
}

/// The host that the client used, as far as the request says.
fn client_host(inbound: &InboundRequest) -> Option<Cow<'_, Authority>> {
    if let Some(forwarded) = inbound.forwarded().and_then(|forwarded| forwarded.host.as_ref()) {
        return Some(Cow::Borrowed(forwarded));
    }
    if let Some(Ok(host)) = inbound.network.as_ref().map(|network| &network.head) {
        return host.as_ref().map(|host| Cow::Borrowed(&host.authority));
    }
    let target = inbound.uri.authority().map(|authority| authority.as_str());
    let field = || inbound.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    Authority::parse(target.or_else(field)?).ok().map(Cow::Owned)
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
    fn the_server_address_is_the_host_that_the_client_used_without_brackets() {
        let address = |host: &str| {
            let headers = [(header::HOST, host.parse().unwrap())].into_iter().collect();
            let (method, uri, version) = (Method::GET, "/".parse().unwrap(), Version::HTTP_11);
            let (body, incoming, network) = (Body::Whole(Bytes::new()), Default::default(), None);
            let inbound = InboundRequest { method, uri, version, headers, body, incoming, network };
            let mut recorded = Vec::new();
            let set = |key: &str, value: Value<'_>| recorded.push(format!("{key}={value:?}"));
            record_server_address(&inbound, SocketAddr::from(([127, 0, 0, 1], 8000)), set);
            recorded
        };
        let expected = |address: &str, port: u16| {
            [format!("server.address=Text({address:?})"), format!("server.port=Int({port})")]
        };
        assert_eq!(address("[::1]:9000"), expected("::1", 9000));
        assert_eq!(address("shop.example"), expected("shop.example", 80));
        assert_eq!(address("shop.example:99999"), expected("127.0.0.1", 8000), "the port number is invalid");
    }
}
