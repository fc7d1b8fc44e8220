//! A request as it arrives at a service, and the reading of its body.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use ipnet::IpNet;

use super::peer::Received;
use super::rejection::Rejection;
use crate::config::Limits;
use crate::http::forwarded::Forwarded;
use crate::http::{Body, BodyError, SCHEME};
use crate::services::Service;

/// A request as it arrives at a service.
pub struct Arrival {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// The protocol's version.
    pub version: Version,
    /// The header fields.
    pub headers: HeaderMap,
    /// What follows them.
    pub body: Body,
    /// How it came over the network; none for a service of the same host.
    pub connection: Option<Received>,
}

impl Arrival {
    /// Reads what proxies say of the request, as far as they are trusted.
    pub(super) fn believe(&mut self, trusted: &[IpNet]) {
        if let Some(received) = &mut self.connection {
            received.forwarded = Forwarded::read(&self.headers, received.peer.address, trusted);
        }
    }

    /// What proxies that are trusted say of the request.
    pub(super) fn forwarded(&self) -> Option<&Forwarded> {
        self.connection.as_ref().map(|received| &received.forwarded)
    }

    /// The scheme that the client used.
    pub(super) fn scheme(&self) -> &'static str {
        self.forwarded().and_then(|forwarded| forwarded.scheme).unwrap_or(SCHEME)
    }
}

/// Reads a whole body within the service's limits. Bytes that have arrived count in `waiting` until the body is whole.
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
