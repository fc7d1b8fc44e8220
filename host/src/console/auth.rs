//! Who may come in: holders of the token where one is set, else programs of this machine, and never a web page.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::uri::Authority;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use sha2::{Digest, Sha256};

use crate::config::AdminToken;
use crate::http::problem;

/// Checks each request before anything is done for it.
pub(super) struct AdminAuth {
    token: Option<AdminToken>,
    address: SocketAddr,
}

/// Why a request may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A token is set and this request does not hold it.
    NoToken,
    /// `Host` names another machine: a page that had its name resolved to this one.
    ForeignHost,
    /// `Origin` names another site.
    ForeignOrigin,
}

impl Refusal {
    pub(super) fn response(self) -> Response<Bytes> {
        match self {
            Refusal::NoToken => {
                let mut response =
                    problem(StatusCode::UNAUTHORIZED, "Send the admin token as `Authorization: Bearer TOKEN`");
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                response
            }
            Refusal::ForeignHost => {
                problem(StatusCode::FORBIDDEN, "Without an admin token the console answers to this machine's own names")
            }
            Refusal::ForeignOrigin => problem(StatusCode::FORBIDDEN, "The console does not answer other web pages"),
        }
    }
}

impl AdminAuth {
    pub(super) fn new(token: Option<AdminToken>, address: SocketAddr) -> AdminAuth {
        AdminAuth { token, address }
    }

    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
        let host = header(HOST).or_else(|| request.uri().authority().map(Authority::as_str));
        if let Some(origin) = header(ORIGIN)
            && !same_authority(origin, host)
        {
            return Err(Refusal::ForeignOrigin);
        }
        match &self.token {
            Some(token) => match header(AUTHORIZATION).and_then(bearer) {
                Some(given) if same(given, token.reveal()) => Ok(()),
                _ => Err(Refusal::NoToken),
            },
            None if host.is_none_or(|host| self.is_local(host)) => Ok(()),
            None => Err(Refusal::ForeignHost),
        }
    }

    /// Whether a `Host` field names this machine by a name that no stranger controls.
    fn is_local(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host().trim_matches(['[', ']']);
        name == "localhost"
            || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address == self.address.ip())
    }
}

fn same_authority(origin: &str, host: Option<&str>) -> bool {
    let origin = origin.parse::<Uri>().ok();
    let origin = origin.as_ref().and_then(Uri::authority).map(Authority::as_str);
    origin.is_some() && origin == host
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares digests, so that the time it takes says nothing about the token.
fn same(given: &str, expected: &str) -> bool {
    Sha256::digest(given) == Sha256::digest(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::new(());
        for (name, value) in fields {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request
    }

    fn check(token: Option<&str>, fields: &[(&str, &str)], expected: Result<(), Refusal>) {
        let auth = AdminAuth::new(token.map(AdminToken::from), "127.0.0.1:8010".parse().unwrap());
        assert_eq!(auth.admit(&request(fields)), expected, "{fields:?}");
    }

    #[test]
    fn programs_of_this_machine_come_in() {
        for host in ["localhost:8010", "127.0.0.1:8010", "[::1]:8010", "localhost"] {
            check(None, &[("host", host)], Ok(()));
        }
        check(None, &[("host", "localhost:8010"), ("origin", "http://localhost:8010")], Ok(()));
    }

    #[test]
    fn no_web_page_comes_in() {
        check(None, &[("host", "evil.example:8010")], Err(Refusal::ForeignHost));
        check(None, &[("host", "localhost.evil.example")], Err(Refusal::ForeignHost));
        check(None, &[("host", "localhost:8010"), ("origin", "https://evil.example")], Err(Refusal::ForeignOrigin));
        check(None, &[("host", "localhost:8010"), ("origin", "null")], Err(Refusal::ForeignOrigin));
        check(
            Some("t"),
            &[("origin", "https://evil.example"), ("authorization", "Bearer t")],
            Err(Refusal::ForeignOrigin),
        );
    }

    #[test]
    fn where_a_token_is_set_only_its_holder_comes_in() {
        check(Some("secret"), &[("host", "a.example"), ("authorization", "Bearer secret")], Ok(()));
        check(Some("secret"), &[("host", "a.example"), ("authorization", "bearer  secret")], Ok(()));
        check(Some("secret"), &[("host", "localhost")], Err(Refusal::NoToken));
        check(Some("secret"), &[("authorization", "Bearer secre")], Err(Refusal::NoToken));
        check(Some("secret"), &[("authorization", "Basic secret")], Err(Refusal::NoToken));
    }
}
