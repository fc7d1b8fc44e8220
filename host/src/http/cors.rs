//! Which web pages may read a service's answers: CORS, as the Fetch standard has it (<https://fetch.spec.whatwg.org>, 3.3).

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::vary::vary;

/// Fields that are the host's where it decides who may read answers.
const OWN: [HeaderName; 3] =
    [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_EXPOSE_HEADERS];

/// The pages that may read a service's answers, and what they may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages.
    pub origins: Origins,
    /// The methods that pages may use.
    pub methods: Vec<Method>,
    /// The header fields that pages may send, besides those that need no leave.
    pub headers: Names,
    /// The header fields of answers that pages may read, besides those that need no leave.
    pub expose: Names,
    /// Whether requests may carry cookies and the like.
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight; its own default where there is none.
    pub max_age: Option<Duration>,
}

/// The origins of pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Any.
    Any,
    /// These, as browsers write them: scheme, host, and a port that is not the scheme's own.
    These(Vec<String>),
}

/// Names of header fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// Any, but for `Authorization`, which has to be named.
    Any,
    /// These.
    These(Vec<HeaderName>),
}

/// What a page's request is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request comes from no page of another origin.
    NoPage,
    /// Its page may read the answer.
    Allowed,
    /// Its page may not.
    Denied,
}

/// Whether a request is a preflight: a browser's question whether a page may send another one.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl Cors {
    /// Whether the page that sent a request may read the answer.
    pub fn judge(&self, origin: Option<&HeaderValue>) -> Verdict {
        match (origin, &self.origins) {
            (None, _) => Verdict::NoPage,
            (Some(_), Origins::Any) => Verdict::Allowed,
            (Some(origin), Origins::These(known)) if known.iter().any(|known| origin == known.as_str()) => {
                Verdict::Allowed
            }
            (Some(_), Origins::These(_)) => Verdict::Denied,
        }
    }

    /// Says in the head of an answer whether the page of `origin` may read it, in place of what a guest says of that.
    pub fn mark(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        for name in OWN {
            headers.remove(name);
        }
        if let Origins::These(_) = self.origins {
            vary(headers, &ORIGIN);
        }
        let (Some(origin), Verdict::Allowed) = (origin, self.judge(origin)) else { return };
        let allowed = if self.origins == Origins::Any { HeaderValue::from_static("*") } else { origin.clone() };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(exposed) = self.expose.list() {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    /// What the answer to a preflight of an allowed page says.
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

impl Names {
    fn list(&self) -> Option<HeaderValue> {
        match self {
            Names::Any => Some(HeaderValue::from_static("*")),
            Names::These(names) => list(names.iter().map(HeaderName::as_str)),
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

    fn marked(origins: Origins, credentials: bool, origin: Option<&str>) -> HeaderMap {
        let (headers, expose) = (Names::These(Vec::new()), Names::These(Vec::new()));
        let cors = Cors { origins, methods: Vec::new(), headers, expose, credentials, max_age: None };
        let guests =
            [(ACCESS_CONTROL_ALLOW_ORIGIN, "https://evil.example"), (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true")];
        let mut headers = guests.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect();
        let origin = origin.map(|origin| origin.parse().unwrap());
        cors.mark(origin.as_ref(), &mut headers);
        headers
    }

    #[test]
    fn what_a_guest_says_of_it_does_not_count() {
        let these = || Origins::These(vec!["https://a.example".to_owned()]);
        for origin in [None, Some("https://evil.example"), Some("https://a.example.evil"), Some("HTTPS://a.example")] {
            let headers = marked(these(), false, origin);
            assert_eq!(headers.len(), 1, "{origin:?}: {headers:?}");
            assert_eq!(headers["vary"], "origin");
        }
        let headers = marked(these(), true, Some("https://a.example"));
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        let headers = marked(Origins::Any, false, Some("https://evil.example"));
        assert_eq!((headers.len(), &headers[ACCESS_CONTROL_ALLOW_ORIGIN]), (1, &"*".parse().unwrap()));
        assert!(marked(Origins::Any, false, None).is_empty());
    }
}
