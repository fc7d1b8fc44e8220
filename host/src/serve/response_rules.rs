//! What the manifest configures for all responses of a service: CORS and compression.

use http::header::{ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ORIGIN};
use http::response::Parts;
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;

use super::arrival::Arrival;
use crate::config::ServiceConfig;
use crate::http::Body;
use crate::http::coding::{self, Coding};
use crate::http::vary::vary;
use crate::services::{Lease, Service};

/// The rules for the response to one request.
pub(super) struct ResponseRules {
    lease: Lease,
    origin: Option<HeaderValue>,
    compression: Compression,
    /// Whether the guest may have left the content out.
    is_head: bool,
}

/// Whether the body of a response is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    /// Compression is not configured.
    Off,
    /// Compression is configured, but the client does not accept it.
    Declined,
    /// Compressed with this coding, if it is worthwhile.
    With(Coding),
}

impl ResponseRules {
    /// The rules of the generation that serves a request. Services of this host receive bodies uncompressed.
    pub fn new(lease: Lease, arrival: &Arrival) -> ResponseRules {
        let config = &lease.generation().config;
        let compression = match &*config.compression {
            [] => Compression::Off,
            _ if arrival.connection.is_none() => Compression::Off,
            offered => coding::select(&arrival.headers, offered).map_or(Compression::Declined, Compression::With),
        };
        let origin = arrival.headers.get(ORIGIN).filter(|_| config.cors.is_some()).cloned();
        ResponseRules { lease, origin, compression, is_head: arrival.method == Method::HEAD }
    }

    /// Applies the rules to a response of `service`.
    pub fn apply(&self, service: &Service, parts: &mut Parts, body: Body) -> Body {
        if let Some(cors) = &self.config().cors {
            cors.mark(self.origin.as_ref(), &mut parts.headers);
        }
        if parts.status == StatusCode::NOT_MODIFIED {
            self.apply_to_unmodified(parts);
        }
        let is_left_out = self.is_head && body.size_hint().exact() == Some(0);
        let size = body.size_hint().exact().filter(|_| !is_left_out).or_else(|| announced(parts));
        if self.compression == Compression::Off || !coding::is_codable(parts.status, &parts.headers, size) {
            return body;
        }
        if is_left_out && size.is_none() {
            // The response to GET may have these fields or not. Only the entity tag must be true in both cases.
            if let Compression::With(_) = self.compression {
                coding::weaken_etag(&mut parts.headers);
            }
            return body;
        }
        vary(&mut parts.headers, &ACCEPT_ENCODING);
        let Compression::With(coding) = self.compression else { return body };
        // Without room for another encoder, the client gets the content as it is.
        let Some(encoder) = coding.reserve(&body, service.encoders()) else { return body };
        parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.remove(ACCEPT_RANGES);
        coding::weaken_etag(&mut parts.headers);
        encoder.encode(self.bounded(body))
    }

    /// The response that the client has cached may be compressed, so a 304 has the same fields (RFC 9110, 15.4.5).
    fn apply_to_unmodified(&self, parts: &mut Parts) {
        if self.compression != Compression::Off {
            vary(&mut parts.headers, &ACCEPT_ENCODING);
        }
        if let Compression::With(_) = self.compression {
            coding::weaken_etag(&mut parts.headers);
        }
    }

    /// The limit on a response body applies to the guest's body, not to the compressed one.
    fn bounded(&self, body: Body) -> Body {
        let limits = &self.config().limits;
        body.bounded(limits.response_body, limits.idle_timeout)
    }

    fn config(&self) -> &ServiceConfig {
        &self.lease.generation().config
    }
}

/// The size of a body by its head.
fn announced(parts: &Parts) -> Option<u64> {
    parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
