//! A request as it arrives at a service, and the reading of its body.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt;

use super::rejection::Rejection;
use crate::config::Limits;
use crate::http::{Body, BodyError};
use crate::services::Service;
use crate::trace::Attributes;

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
    /// What spans say of the connection; none for a service of the same host.
    pub connection: Option<Arc<Attributes>>,
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
