//! The rules of the manifest for all responses of a service: CORS and compression.

use http::header::{ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ORIGIN};
use http::response::Parts;
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;

use super::inbound_request::InboundRequest;
use crate::config::ServiceConfig;
use crate::http::Body;
use crate::http::coding::{self, Coding};
use crate::http::vary::add_vary;
use crate::services::{Lease, Service};

/// The rules for the response to one request.
pub(super) struct ResponseRules {
    lease: Lease,
    origin: Option<HeaderValue>,
    compression: Compression,
    /// Whether the method is HEAD, so that the guest may have omitted the content.
    is_head: bool,
}

/// Whether the body of a response is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    /// Compression is not configured.
    Off,
    /// Compression is configured, but the client does not accept it.
    Declined,
    /// The body is compressed with this coding, if the response is compressible.
    With(Coding),
}

impl ResponseRules {
    /// The rules of the generation that serves a request. Services of this host receive bodies uncompressed.
    pub fn new(lease: Lease, inbound: &InboundRequest) -> ResponseRules {
        let config = &lease.generation().config;
        let compression = match &*config.compression {
            [] => Compression::Off,
            _ if inbound.network.is_none() => Compression::Off,
            offered => coding::select(&inbound.headers, offered).map_or(Compression::Declined, Compression::With),
        };
        let origin = inbound.headers.get(ORIGIN).filter(|_| config.cors.is_some()).cloned();
        ResponseRules { lease, origin, compression, is_head: inbound.method == Method::HEAD }
    }

    /// Applies the rules to a response of `service`.
    pub fn apply(&self, service: &Service, parts: &mut Parts, body: Body) -> Body {
        if let Some(cors) = &self.config().cors {
            cors.apply(self.origin.as_ref(), &mut parts.headers);
        }
        if parts.status == StatusCode::NOT_MODIFIED {
            self.apply_to_unmodified(parts);
        }
        let is_omitted = self.is_head && body.size_hint().exact() == Some(0);
        let size = body.size_hint().exact().filter(|_| !is_omitted).or_else(|| declared_size(parts));
        if self.compression == Compression::Off || !coding::is_compressible(parts.status, &parts.headers, size) {
            return body;
        }
        if is_omitted && size.is_none() {
            // Whether the response to GET is compressed is unknown. A weak entity tag is correct in both cases.
            if let Compression::With(_) = self.compression {
                coding::weaken_etag(&mut parts.headers);
            }
            return body;
        }
        add_vary(&mut parts.headers, &ACCEPT_ENCODING);
        let Compression::With(coding) = self.compression else { return body };
        // The content stays unchanged if the service has reached its limit of encoders.
        let Some(encoder) = coding.reserve(&body, service.encoders()) else { return body };
        parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.remove(ACCEPT_RANGES);
        coding::weaken_etag(&mut parts.headers);
        encoder.encode(self.bounded(body))
    }

    /// A 304 has the fields of the response that the client has cached, which may be compressed (RFC 9110, 15.4.5).
    fn apply_to_unmodified(&self, parts: &mut Parts) {
        if self.compression != Compression::Off {
            add_vary(&mut parts.headers, &ACCEPT_ENCODING);
        }
        if let Compression::With(_) = self.compression {
            coding::weaken_etag(&mut parts.headers);
        }
    }

    /// Applies the limits to the guest's body, before compression.
    fn bounded(&self, body: Body) -> Body {
        let limits = &self.config().limits;
        body.bounded(limits.response_body, limits.idle_timeout)
    }

    fn config(&self) -> &ServiceConfig {
        &self.lease.generation().config
    }
}

/// The size of a body that the response head declares.
fn declared_size(parts: &Parts) -> Option<u64> {
    parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
