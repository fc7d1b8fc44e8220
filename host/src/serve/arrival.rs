//! A request as it arrives at a service, and the reading of its body.

use std::error::Error;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming as HyperBody;

use super::rejection::Rejection;
use crate::config::Limits;
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

/// A request's body: already here, or still on its way.
pub enum Body {
    /// From a service of the same host.
    Whole(Bytes),
    /// From the network.
    Stream(HyperBody),
}

/// Reads a whole body within the service's limits.
pub(super) async fn read_body(body: Body, limits: &Limits) -> Result<Bytes, Rejection> {
    let limit = limits.request_body;
    match body {
        Body::Whole(bytes) if bytes.len() > limit => Err(Rejection::BodyTooLarge(limit)),
        Body::Whole(bytes) => Ok(bytes),
        Body::Stream(stream) => {
            let read = Limited::new(stream, limit).collect();
            let read = tokio::time::timeout(limits.request_timeout, read).await;
            let collected = read.map_err(|_| Rejection::ClientTooSlow(limits.request_timeout))?;
            let collected = collected.map_err(|error| match error.is::<LengthLimitError>() {
                true => Rejection::BodyTooLarge(limit),
                false if is_malformed(&*error) => Rejection::BrokenBody,
                false => Rejection::ClientGone,
            })?;
            Ok(collected.to_bytes())
        }
    }
}

/// Whether a body could not be read for what came; else nothing came any more.
fn is_malformed(error: &(dyn Error + 'static)) -> bool {
    let is_of_content =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref().is_some_and(is_of_content) {
            return true;
        }
        cause = error.source();
    }
    false
}
