//! What the manifest asks of the responses of a service, whoever made them: which web pages may read them, and whether
//! their bodies are compressed.

use http::header::{ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ORIGIN};
use http::response::Parts;
use http::{HeaderValue, StatusCode};
use http_body::Body as _;

use super::arrival::Arrival;
use crate::config::ServiceConfig;
use crate::http::Body;
use crate::http::coding::{self, Coding};
use crate::http::vary::vary;
use crate::services::Lease;

/// What holds for the response to one request.
pub(super) struct ResponseRules {
    lease: Lease,
    origin: Option<HeaderValue>,
    compression: Compression,
}

/// Whether the body of a response is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    /// Nobody asks for it.
    Off,
    /// It could be, but the client does not want it.
    Declined,
    /// Like this, where it is worth it.
    With(Coding),
}

impl ResponseRules {
    /// The rules of the generation that serves a request. A service of this host gets bodies as they are.
    pub fn new(lease: Lease, arrival: &Arrival) -> ResponseRules {
        let config = &lease.generation().config;
        let compression = match &*config.compression {
            [] => Compression::Off,
            _ if arrival.connection.is_none() => Compression::Off,
            offered => coding::select(&arrival.headers, offered).map_or(Compression::Declined, Compression::With),
        };
        let origin = arrival.headers.get(ORIGIN).filter(|_| config.cors.is_some()).cloned();
        ResponseRules { lease, origin, compression }
    }

    /// Makes a response follow the rules.
    pub fn apply(&self, parts: &mut Parts, body: Body) -> Body {
        if let Some(cors) = &self.config().cors {
            cors.mark(self.origin.as_ref(), &mut parts.headers);
        }
        if parts.status == StatusCode::NOT_MODIFIED {
            self.apply_to_unmodified(parts);
        }
        if self.compression == Compression::Off || !coding::is_codable(parts.status, &parts.headers, size(parts, &body))
        {
            return body;
        }
        vary(&mut parts.headers, &ACCEPT_ENCODING);
        let Compression::With(coding) = self.compression else { return body };
        parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.remove(ACCEPT_RANGES);
        coding::weaken_etag(&mut parts.headers);
        coding.encode(self.bounded(body))
    }

    /// What the client has may have been coded: caches know it by the same fields (RFC 9110, 15.4.5).
    fn apply_to_unmodified(&self, parts: &mut Parts) {
        if self.compression != Compression::Off {
            vary(&mut parts.headers, &ACCEPT_ENCODING);
        }
        if let Compression::With(_) = self.compression {
            coding::weaken_etag(&mut parts.headers);
        }
    }

    /// The limit of a response's body holds for what the guest gives, not for what is left of it.
    fn bounded(&self, body: Body) -> Body {
        let limits = &self.config().limits;
        body.bounded(limits.response_body, limits.idle_timeout)
    }

    fn config(&self) -> &ServiceConfig {
        &self.lease.generation().config
    }
}

/// The size of a body, where it is known.
fn size(parts: &Parts, body: &Body) -> Option<u64> {
    let told = || parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    body.size_hint().exact().or_else(told)
}
