//! Authentication of requests to the console, before anything else is done.

use std::net::{IpAddr, SocketAddr};

use axum::response::Response;
use http::header::{AUTHORIZATION, COOKIE, HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use super::login_limiter::LoginLimiter;
use super::request_origin;
use super::secret::is_secret;
use crate::config::AdminToken;
use crate::console::responses;
use crate::http::authority::Authority;

/// The session cookie of a browser.
pub(super) const COOKIE_NAME: &str = "spandrel-console";

/// Authenticates each request.
pub(in crate::console) struct AdminAuth {
    pub(super) token: Option<AdminToken>,
    pub(super) address: SocketAddr,
    /// The value of the cookie: random at each start, so that it reveals nothing about the token.
    pub(super) session: Option<String>,
    pub(super) login_limiter: LoginLimiter,
}

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthRejection {
    /// A token is configured, and the request does not carry it.
    MissingToken,
    /// `Host` is the name of another machine: protection against DNS rebinding.
    ForeignHost,
    /// The request comes from a page of another site.
    ForeignOrigin,
}

impl AuthRejection {
    pub(super) fn response(self) -> Response {
        match self {
            AuthRejection::MissingToken => {
                let detail = "Send the admin token as `Authorization: Bearer TOKEN`";
                let mut response = responses::problem(StatusCode::UNAUTHORIZED, detail);
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                response
            }
            AuthRejection::ForeignHost => {
                let detail = "Without an admin token, `Host` must be localhost or a loopback address";
                responses::problem(StatusCode::FORBIDDEN, detail)
            }
            AuthRejection::ForeignOrigin => {
                responses::problem(StatusCode::FORBIDDEN, "Requests from pages of other sites are not allowed")
            }
        }
    }
}

impl AdminAuth {
    pub(in crate::console) fn new(token: Option<AdminToken>, address: SocketAddr) -> AdminAuth {
        let mut random = [0; 32];
        // Without a source of randomness there is no cookie; programs can still send the token.
        let session = getrandom::fill(&mut random).ok().map(|()| hex(&random));
        AdminAuth { token, address, session, login_limiter: LoginLimiter::default() }
    }

    pub(super) fn authorize(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), AuthRejection> {
        let host = host(uri, headers);
        let origin = request_origin::of(method, headers, host);
        if origin == request_origin::RequestOrigin::CrossSite {
            return Err(AuthRejection::ForeignOrigin);
        }
        let Some(token) = &self.token else {
            let is_local = host.is_none_or(|host| self.is_local(host));
            return if is_local { Ok(()) } else { Err(AuthRejection::ForeignHost) };
        };
        if bearer(headers).is_some_and(|given| is_secret(given, token.reveal())) {
            return Ok(());
        }
        if !self.has_session(headers) {
            return Err(AuthRejection::MissingToken);
        }
        // A browser states the origin of a request that changes something. If there is none, no page of the console
        // sent it.
        if method.is_safe() || origin == request_origin::RequestOrigin::SameOrigin {
            Ok(())
        } else {
            Err(AuthRejection::ForeignOrigin)
        }
    }

    pub(super) fn has_session(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let Some(session) = &self.session else { return false };
        pairs.any(|(name, value)| name == COOKIE_NAME && is_secret(value, session))
    }

    /// Whether a `Host` field names this machine by a name that no third party controls.
    fn is_local(&self, host: &str) -> bool {
        let Ok(authority) = Authority::parse(host) else { return false };
        let name = authority.address();
        name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address == self.address.ip())
    }
}

pub(super) fn host<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    let field = headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
    field.or_else(|| uri.authority().map(http::uri::Authority::as_str))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Method = Method::GET;
    const POST: Method = Method::POST;

    fn auth(token: Option<&str>) -> AdminAuth {
        let auth = AdminAuth::new(token.map(AdminToken::from), "127.0.0.1:8010".parse().unwrap());
        AdminAuth { session: Some("s3ss10n".to_owned()), ..auth }
    }

    fn check(token: Option<&str>, method: Method, fields: &[(&str, &str)], expected: Result<(), AuthRejection>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let uri = Uri::from_static("/admin/v1/services");
        assert_eq!(auth(token).authorize(&method, &uri, &headers), expected, "{method} {fields:?}");
    }

    #[test]
    fn without_a_token_local_programs_are_allowed() {
        for host in ["localhost:8010", "LOCALHOST", "localhost.:8010", "127.0.0.1:8010", "127.9.9.9", "[::1]:8010"] {
            check(None, GET, &[("host", host)], Ok(()));
            check(None, POST, &[("host", host)], Ok(()));
        }
        check(None, POST, &[("host", "localhost:8010"), ("origin", "http://localhost:8010")], Ok(()));
    }

    #[test]
    fn requests_from_other_sites_are_rejected() {
        let here = ("host", "localhost:8010");
        for host in [
            "evil.example:8010",
            "localhost.evil.example",
            "localhost..",
            "evil.localhost",
            "x@y@z",
            "user@localhost",
            "10.0.0.1",
        ] {
            check(None, GET, &[("host", host)], Err(AuthRejection::ForeignHost));
        }
        for origin in
            ["https://evil.example", "null", "http://localhost:3000", "https://localhost:8010", "localhost:8010"]
        {
            check(None, GET, &[here, ("origin", origin)], Err(AuthRejection::ForeignOrigin));
            check(None, POST, &[here, ("origin", origin)], Err(AuthRejection::ForeignOrigin));
        }
        let bearer = ("authorization", "Bearer t");
        check(Some("t"), GET, &[here, ("origin", "https://evil.example"), bearer], Err(AuthRejection::ForeignOrigin));
        for site in ["cross-site", "same-site"] {
            check(
                None,
                GET,
                &[here, ("sec-fetch-site", site), ("sec-fetch-mode", "no-cors")],
                Err(AuthRejection::ForeignOrigin),
            );
            check(
                None,
                POST,
                &[here, ("sec-fetch-site", site), ("sec-fetch-mode", "navigate")],
                Err(AuthRejection::ForeignOrigin),
            );
            check(None, GET, &[here, ("sec-fetch-site", site), ("sec-fetch-mode", "navigate")], Ok(()));
        }
    }

    #[test]
    fn with_a_token_only_requests_that_carry_it_are_allowed() {
        let token = Some("secret");
        check(token, GET, &[("host", "a.example"), ("authorization", "Bearer secret")], Ok(()));
        check(token, POST, &[("host", "a.example"), ("authorization", "bearer  secret")], Ok(()));
        for fields in [
            [("host", "localhost"), ("x", "y")],
            [("host", "localhost"), ("authorization", "Bearer secre")],
            [("host", "localhost"), ("authorization", "Basic secret")],
            [("host", "localhost"), ("cookie", "spandrel-console=secret")],
            [("host", "localhost"), ("cookie", "other=s3ss10n")],
        ] {
            check(token, GET, &fields, Err(AuthRejection::MissingToken));
        }
    }

    #[test]
    fn a_session_cookie_allows_reads_and_changes_from_the_consoles_own_pages() {
        let token = Some("secret");
        let [host, cookie] = [("host", "a.example"), ("cookie", "theme=dark; spandrel-console=s3ss10n")];
        check(token, GET, &[host, cookie], Ok(()));
        check(token, POST, &[host, cookie, ("origin", "http://a.example")], Ok(()));
        check(token, POST, &[host, cookie, ("sec-fetch-site", "same-origin")], Ok(()));
        check(token, POST, &[host, cookie], Err(AuthRejection::ForeignOrigin));
        check(token, POST, &[host, cookie, ("origin", "null")], Err(AuthRejection::ForeignOrigin));
        check(None, GET, &[host, cookie], Err(AuthRejection::ForeignHost));
    }
}
