//! A request as it arrives at a service, and reading its body.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::uri::{self, Authority, PathAndQuery};
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use ipnet::IpNet;

use super::peer::Received;
use super::rejection::Rejection;
use crate::config::Limits;
use crate::http::forwarded::Forwarded;
use crate::http::{Body, BodyError, SCHEME};
use crate::outbound::hops;
use crate::services::Service;

/// A request as it arrives at a service.
pub struct Arrival {
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
    /// How it arrived over the network; `None` for a call from a service of the same host.
    pub connection: Option<Received>,
}

impl Arrival {
    /// Reads the forwarded fields of trusted proxies.
    pub(super) fn believe(&mut self, trusted: &[IpNet]) {
        if let Some(received) = &mut self.connection {
            received.forwarded = Forwarded::read(&self.headers, received.peer.address, trusted);
        }
    }

    /// The forwarded fields of trusted proxies.
    pub(super) fn forwarded(&self) -> Option<&Forwarded> {
        self.connection.as_ref().map(|received| &received.forwarded)
    }

    /// The scheme that the client used.
    pub(super) fn scheme(&self) -> &'static str {
        self.forwarded().and_then(|forwarded| forwarded.scheme).unwrap_or(SCHEME)
    }

    /// The request for a standard guest: with the scheme and the authority that the client used, and a body bounded by
    /// the service's limits. `listen` is the authority if the client sent none.
    pub fn into_request(self, listen: SocketAddr, limits: &Limits) -> Result<Request<Body>, Rejection> {
        let scheme = self.scheme();
        let Arrival { method, uri, version, mut headers, body, .. } = self;
        if body.size_hint().lower() > limits.request_body as u64 {
            return Err(Rejection::BodyTooLarge(limits.request_body));
        }
        let named = || headers.get(HOST)?.to_str().ok()?.parse().ok();
        let authority: Option<Authority> = uri.authority().cloned().or_else(named);
        let mut parts = uri::Parts::default();
        parts.scheme = scheme.parse().ok();
        parts.authority = authority.or_else(|| listen.to_string().parse().ok());
        parts.path_and_query = uri.path_and_query().cloned().or_else(|| Some(PathAndQuery::from_static("/")));
        hops::forget(&mut headers);
        let mut request = Request::new(body.bounded(limits.request_body, limits.idle_timeout));
        *request.method_mut() = method;
        // The parts come from a valid URI, so this does not fail.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or(uri);
        *request.version_mut() = version;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// Reads a whole body within the service's limits. Received bytes count in `waiting` until the body is complete.
pub(super) async fn read_whole(body: Body, limits: &Limits, service: &Arc<Service>) -> Result<Bytes, Rejection> {
    let limit = limits.request_body;
    let mut body = match body {
        Body::Whole(bytes) if bytes.len() > limit => return Err(Rejection::BodyTooLarge(limit)),
        Body::Whole(bytes) => return Ok(bytes),
        body if body.size_hint().lower() > limit as u64 => return Err(Rejection::BodyTooLarge(limit)),
        body => body.bounded(limit, limits.idle_timeout),
    };
    let read = async {
        let (mut read, mut waiting) = (BytesMut::new(), service.waiting_bytes());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| rejection(error, limits))?.into_data() else { continue };
            if !waiting.grow(data.len()) {
                return Err(Rejection::TooMuchWaiting);
            }
            read.extend_from_slice(&data);
        }
        Ok(read.freeze())
    };
    let read = tokio::time::timeout(limits.request_timeout, read).await;
    read.unwrap_or(Err(Rejection::ClientTooSlow(limits.request_timeout)))
}

fn rejection(error: BodyError, limits: &Limits) -> Rejection {
    match error {
        BodyError::TooLarge(_) => Rejection::BodyTooLarge(limits.request_body),
        BodyError::Paused(limit) => Rejection::ClientTooSlow(limit),
        BodyError::Malformed(_) => Rejection::BrokenBody,
        BodyError::BrokenOff(_) | BodyError::Failed { .. } => Rejection::ClientGone,
    }
}
