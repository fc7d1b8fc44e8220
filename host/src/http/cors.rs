//! CORS: which web pages may read a service's responses (Fetch standard, <https://fetch.spec.whatwg.org>, 3.3).

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::vary::add_vary;

/// The response fields that the host sets instead of the guest.
const RESPONSE_FIELDS: [HeaderName; 3] =
    [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_EXPOSE_HEADERS];

/// The CORS configuration of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// The origins whose pages may read responses.
    pub origins: Origins,
    /// The methods that pages may use.
    pub methods: Vec<Method>,
    /// The header fields that pages may send, in addition to the CORS-safelisted ones.
    pub headers: HeaderNames,
    /// The header fields of responses that pages may read, in addition to the CORS-safelisted ones.
    pub expose: HeaderNames,
    /// Whether requests may include credentials, such as cookies.
    pub credentials: bool,
    /// How long a browser may cache the response to a preflight. `None` leaves it to the browser.
    pub max_age: Option<Duration>,
}

/// The origins of pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All origins.
    Any,
    /// Listed origins, as browsers write them: scheme, host, and a port that is not the default port of the scheme.
    Listed(Vec<String>),
}

/// Names of header fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderNames {
    /// All fields except `Authorization`, which must be listed.
    Any,
    /// Listed fields.
    Listed(Vec<HeaderName>),
}

/// Whether a page may read the response to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorsDecision {
    /// The request has no `Origin`.
    NoOrigin,
    /// The page may read the response.
    Allowed,
    /// The page must not read the response.
    Denied,
}

/// Whether a request is a CORS preflight, by which a browser asks whether a page may send a request.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl Cors {
    /// Whether a page of `origin` may read the response.
    pub fn decide(&self, origin: Option<&HeaderValue>) -> CorsDecision {
        match (origin, &self.origins) {
            (None, _) => CorsDecision::NoOrigin,
            (Some(_), Origins::Any) => CorsDecision::Allowed,
            (Some(origin), Origins::Listed(known)) if known.iter().any(|known| origin == known.as_str()) => {
                CorsDecision::Allowed
            }
            (Some(_), Origins::Listed(_)) => CorsDecision::Denied,
        }
    }

    /// Sets the CORS fields of a response to a request from `origin`. They replace the guest's.
    pub fn apply(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        for name in RESPONSE_FIELDS {
            headers.remove(name);
        }
        if let Origins::Listed(_) = self.origins {
            add_vary(headers, &ORIGIN);
        }
        let (Some(origin), CorsDecision::Allowed) = (origin, self.decide(origin)) else { return };
        let allowed = if self.origins == Origins::Any { HeaderValue::from_static("*") } else { origin.clone() };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(exposed) = self.expose.list() {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    /// The header fields of the response to a preflight from an allowed origin.
    pub fn preflight(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(methods) = list(self.methods.iter().map(Method::as_str)) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        if let Some(names) = self.headers.list() {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        if let Some(age) = self.max_age {
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(age.as_secs()));
        }
        headers
    }
}

impl HeaderNames {
    fn list(&self) -> Option<HeaderValue> {
        match self {
            HeaderNames::Any => Some(HeaderValue::from_static("*")),
            HeaderNames::Listed(names) => list(names.iter().map(HeaderName::as_str)),
        }
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let names = names.collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(names).ok().filter(|names| !names.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(origins: Origins, credentials: bool, origin: Option<&str>) -> HeaderMap {
        let (headers, expose) = (HeaderNames::Listed(Vec::new()), HeaderNames::Listed(Vec::new()));
        let cors = Cors { origins, methods: Vec::new(), headers, expose, credentials, max_age: None };
        let guest_fields =
            [(ACCESS_CONTROL_ALLOW_ORIGIN, "https://evil.example"), (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true")];
        let mut headers = guest_fields.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect();
        let origin = origin.map(|origin| origin.parse().unwrap());
        cors.apply(origin.as_ref(), &mut headers);
        headers
    }

    #[test]
    fn cors_fields_of_the_guest_are_replaced() {
        let listed = || Origins::Listed(vec!["https://a.example".to_owned()]);
        for origin in [None, Some("https://evil.example"), Some("https://a.example.evil"), Some("HTTPS://a.example")] {
            let headers = applied(listed(), false, origin);
            assert_eq!(headers.len(), 1, "{origin:?}: {headers:?}");
            assert_eq!(headers["vary"], "origin");
        }
        let headers = applied(listed(), true, Some("https://a.example"));
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        let headers = applied(Origins::Any, false, Some("https://evil.example"));
        assert_eq!((headers.len(), &headers[ACCESS_CONTROL_ALLOW_ORIGIN]), (1, &"*".parse().unwrap()));
        assert!(applied(Origins::Any, false, None).is_empty());
    }
}
