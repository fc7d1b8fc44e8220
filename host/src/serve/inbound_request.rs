//! A request that a service receives, and how its body is read.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::uri::{self, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use ipnet::IpNet;

use super::peer::NetworkDetails;
use super::rejection::Rejection;
use crate::config::Limits;
use crate::http::forwarded::Forwarded;
use crate::http::{Body, BodyError, SCHEME};
use crate::outbound::hops;
use crate::services::Service;
use crate::trace::{Incoming, Propagators};

/// A request that a service receives, from the network or from a service of the same host.
pub struct InboundRequest {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// The protocol version.
    pub version: Version,
    /// The header fields.
    pub headers: HeaderMap,
    /// The request body.
    pub body: Body,
    /// The caller's trace context and baggage. The dispatcher reads those of a request from the network.
    pub incoming: Incoming,
    /// Details of a request from the network. `None` for a call from a service of the same host.
    pub network: Option<NetworkDetails>,
}

impl InboundRequest {
    /// Reads the forwarded fields of trusted proxies.
    pub(super) fn read_forwarded(&mut self, trusted: &[IpNet]) {
        if let Some(network) = &mut self.network {
            network.forwarded = Forwarded::read(&self.headers, network.peer.address, trusted);
        }
    }

    /// The forwarded fields of trusted proxies.
    pub(super) fn forwarded(&self) -> Option<&Forwarded> {
        self.network.as_ref().map(|network| &network.forwarded)
    }

    /// The host that the client sent, as part of a URI.
    fn authority(&self) -> Option<uri::Authority> {
        if let Some(NetworkDetails { head: Ok(Some(host)), .. }) = &self.network {
            return host.uri.clone();
        }
        let host_field = || self.headers.get(HOST)?.to_str().ok()?.parse().ok();
        self.uri.authority().cloned().or_else(host_field)
    }

    /// The scheme that the client used.
    pub(super) fn scheme(&self) -> &'static str {
        self.forwarded().and_then(|forwarded| forwarded.scheme).unwrap_or(SCHEME)
    }

    /// Replaces the trace context and the baggage that a caller on this host has set in header fields by those of the
    /// client span, as in a request over the network. A caller that has set none needs no fields.
    pub(super) fn replace_context(&mut self, propagators: &Propagators) {
        let Incoming { parent, baggage, .. } = &self.incoming;
        if let (None, Some(client)) = (&self.network, parent) {
            propagators.replace(client, baggage, &mut self.headers);
        }
    }

    /// The request for a standard guest, with the scheme and the authority that the client used and a body within the
    /// service's limits. `listen` is the authority if the client sent none.
    pub fn into_request(self: Box<Self>, listen: SocketAddr, limits: &Limits) -> Result<Box<Request<Body>>, Rejection> {
        let scheme = if self.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP };
        let authority = self.authority();
        let InboundRequest { method, uri, version, mut headers, body, .. } = *self;
        if body.size_hint().lower() > limits.request_body as u64 {
            return Err(Rejection::BodyTooLarge(limits.request_body));
        }
        let mut parts = uri.into_parts();
        parts.scheme = Some(scheme);
        parts.authority = authority.or_else(|| listen.to_string().parse().ok());
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        hops::remove(&mut headers);
        let mut request = Box::new(Request::new(body.bounded(limits.request_body, limits.idle_timeout)));
        *request.method_mut() = method;
        // The parts come from a valid URI and form a valid URI again.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = version;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// Reads a whole body within the service's limits. Its bytes count towards the service's buffered bytes until the body
/// is complete.
pub(super) async fn read_whole(body: Body, limits: &Limits, service: &Arc<Service>) -> Result<Bytes, Rejection> {
    let limit = limits.request_body;
    let mut body = match body {
        Body::Whole(bytes) if bytes.len() > limit => return Err(Rejection::BodyTooLarge(limit)),
        Body::Whole(bytes) => return Ok(bytes),
        body if body.size_hint().lower() > limit as u64 => return Err(Rejection::BodyTooLarge(limit)),
        body => body.bounded(limit, limits.idle_timeout),
    };
    let read = async {
        let (mut read, mut buffered) = (BytesMut::new(), service.buffered_bytes());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| body_rejection(error, limits))?.into_data() else { continue };
            if !buffered.add(data.len()) {
                return Err(Rejection::BufferLimit);
            }
            read.extend_from_slice(&data);
        }
        Ok(read.freeze())
    };
    let read = tokio::time::timeout(limits.request_timeout, read).await;
    read.unwrap_or(Err(Rejection::RequestTimeout(limits.request_timeout)))
}

/// Why the host rejects a request whose body failed.
pub(super) fn body_rejection(error: BodyError, limits: &Limits) -> Rejection {
    match error {
        BodyError::TooLarge(_) => Rejection::BodyTooLarge(limits.request_body),
        BodyError::Paused(limit) => Rejection::RequestTimeout(limit),
        BodyError::Malformed(_) => Rejection::MalformedBody,
        BodyError::EndedEarly(_) | BodyError::Failed { .. } => Rejection::ClientDisconnected,
    }
}
