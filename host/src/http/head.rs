//! The head of a request as it came: whether it is one that HTTP allows and this host understands, and whom it asks.
//!
//! RFC 9112, 3.2 and 6.1, and RFC 9113, 8.3.1. A head that passes is made plain: `Host` names whom the request asks, over
//! whatever protocol it came, and fields that `Connection` names are gone.

use bytes::Bytes;
use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, Version};
use thiserror::Error;

use super::authority::{Authority, AuthorityError};
use super::header_rules;

/// The longest target of a request, in bytes.
pub const TARGET_LIMIT: usize = 16 * 1024;
/// The most bytes that the fields of a request's head may have, names and values.
pub const FIELDS_LIMIT: usize = 64 * 1024;
/// What a field has besides name and value.
const FIELD_REST: usize = 4;

/// Why a head is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HeadError {
    /// No rest of the head came.
    #[error("The head of the request did not arrive in time")]
    TooSlow,
    /// The target is over [`TARGET_LIMIT`].
    #[error("The target of the request is longer than {TARGET_LIMIT} bytes")]
    TargetTooLong,
    /// The fields are over [`FIELDS_LIMIT`].
    #[error("The header fields of the request are larger than {FIELDS_LIMIT} bytes")]
    FieldsTooLarge,
    /// More than 100 fields, the most that are read over HTTP/1.1.
    #[error("The request has more than 100 header fields")]
    TooManyFields,
    /// What came is no head of HTTP.
    #[error("The head of the request cannot be read: {0}")]
    Malformed(String),
    /// A target in none of the forms of RFC 9112, 3.2, or in one that the method does not go with.
    #[error("The target of the request is malformed")]
    MalformedTarget,
    /// Nothing says whom the request asks.
    #[error("The request names no host")]
    NoHost,
    /// More than one `Host` field.
    #[error("The request has more than one Host field")]
    SeveralHosts,
    /// `:authority` and `Host` name different hosts.
    #[error("The request names two different hosts")]
    DifferingHosts,
    /// A name of a host that is none.
    #[error("The host that the request names is malformed: {0}")]
    MalformedHost(#[from] AuthorityError),
    /// A transfer coding other than `chunked`.
    #[error("The transfer coding of the request is not understood: only chunked is")]
    UnknownCoding,
    /// A tunnel was asked for.
    #[error("CONNECT is not offered here")]
    Tunnel,
}

impl HeadError {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            HeadError::TooSlow => StatusCode::REQUEST_TIMEOUT,
            HeadError::TargetTooLong => StatusCode::URI_TOO_LONG,
            HeadError::FieldsTooLarge | HeadError::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            HeadError::UnknownCoding | HeadError::Tunnel => StatusCode::NOT_IMPLEMENTED,
            HeadError::Malformed(_)
            | HeadError::MalformedTarget
            | HeadError::NoHost
            | HeadError::SeveralHosts
            | HeadError::DifferingHosts
            | HeadError::MalformedHost(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// The value of `error.type`.
    pub fn error_type(&self) -> &'static str {
        match self {
            HeadError::TooSlow => "head_timeout",
            HeadError::TargetTooLong => "target_too_long",
            HeadError::FieldsTooLarge | HeadError::TooManyFields => "fields_too_large",
            HeadError::UnknownCoding => "unknown_coding",
            HeadError::Tunnel => "tunnel",
            HeadError::Malformed(_)
            | HeadError::MalformedTarget
            | HeadError::NoHost
            | HeadError::SeveralHosts
            | HeadError::DifferingHosts
            | HeadError::MalformedHost(_) => "malformed_head",
        }
    }

    /// The whole answer, where nobody has more to say about it.
    pub fn answer(&self) -> Response<Bytes> {
        super::problem(self.status(), &self.to_string())
    }
}

/// Checks a head and makes it plain.
///
/// # Errors
///
/// Where the request must not be served.
pub fn check(head: &mut Parts) -> Result<(), HeadError> {
    sizes(head)?;
    codings(&head.headers)?;
    let named = target(head)?;
    let host = host(&head.headers)?;
    match (named, host) {
        (Some(named), Some(host)) if head.version == Version::HTTP_2 && !named.is_same(&host, &head.uri) => {
            return Err(HeadError::DifferingHosts);
        }
        // The field must be there even where an absolute target goes before it (RFC 9112, 3.2 and 3.2.2).
        (Some(_), None) if head.version == Version::HTTP_11 => return Err(HeadError::NoHost),
        (Some(named), _) => name(&mut head.headers, &named),
        (None, Some(_)) => {}
        (None, None) if head.version <= Version::HTTP_10 => {}
        (None, None) => return Err(HeadError::NoHost),
    }
    header_rules::remove_nominated(&mut head.headers);
    Ok(())
}

fn sizes(head: &Parts) -> Result<(), HeadError> {
    let target = [
        head.uri.scheme_str().map_or(0, |scheme| scheme.len() + 3),
        head.uri.authority().map_or(0, |authority| authority.as_str().len()),
        head.uri.path_and_query().map_or(0, |path| path.as_str().len()),
    ];
    if target.iter().sum::<usize>() > TARGET_LIMIT {
        return Err(HeadError::TargetTooLong);
    }
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_REST);
    if fields.sum::<usize>() > FIELDS_LIMIT { Err(HeadError::FieldsTooLarge) } else { Ok(()) }
}

/// A body that is coded in any other way besides could not be told from a plain one (RFC 9112, 6.1).
fn codings(headers: &HeaderMap) -> Result<(), HeadError> {
    let is_chunked = |coding: &str| coding.trim().is_empty() || coding.trim().eq_ignore_ascii_case("chunked");
    let understood = |value: &HeaderValue| value.to_str().is_ok_and(|codings| codings.split(',').all(is_chunked));
    let all_understood = headers.get_all(TRANSFER_ENCODING).iter().all(understood);
    if all_understood { Ok(()) } else { Err(HeadError::UnknownCoding) }
}

/// Whom the target names, where it does.
fn target(head: &Parts) -> Result<Option<Authority>, HeadError> {
    if head.method == Method::CONNECT {
        return Err(HeadError::Tunnel);
    }
    let named = head.uri.authority().map(|authority| Authority::parse(authority.as_str())).transpose()?;
    let over_http2 = head.version == Version::HTTP_2;
    match (head.uri.scheme_str(), &named, head.uri.path()) {
        // `*` is for OPTIONS (RFC 9112, 3.2.4).
        (_, _, "*") if head.method != Method::OPTIONS => Err(HeadError::MalformedTarget),
        (Some("http" | "https"), Some(named), _) if named.has_host() => Ok(()),
        (Some(_), _, _) => Err(HeadError::MalformedTarget),
        // Host and port alone are for CONNECT (RFC 9112, 3.2.3).
        (None, Some(_), _) if !over_http2 => Err(HeadError::MalformedTarget),
        (None, _, path) if path == "*" || path.starts_with('/') => Ok(()),
        (None, _, _) => Err(HeadError::MalformedTarget),
    }?;
    Ok(named)
}

fn host(headers: &HeaderMap) -> Result<Option<Authority>, HeadError> {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else { return Ok(None) };
    if hosts.next().is_some() {
        return Err(HeadError::SeveralHosts);
    }
    let host = host.to_str().map_err(|_| AuthorityError::Characters)?;
    Ok(Some(Authority::parse(host.trim())?))
}

/// Puts whom the target names where HTTP/1.1 has it.
fn name(headers: &mut HeaderMap, named: &Authority) {
    if let Ok(host) = HeaderValue::from_str(named.as_str()) {
        headers.insert(HOST, host);
    }
}

impl Authority {
    /// Whether two names of a host mean the same one; a port that is the scheme's own need not be written.
    fn is_same(&self, other: &Authority, uri: &Uri) -> bool {
        let standard = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let meant =
            |authority: &Authority| (authority.host().to_ascii_lowercase(), authority.port().unwrap_or(standard));
        meant(self) == meant(other)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(version: Version, method: &str, target: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(target).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// The host that a request is taken to ask, or why it is refused.
    fn asked(version: Version, target: &str, hosts: &[&str]) -> Result<String, HeadError> {
        let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        let mut parts = parts(version, "GET", target, &fields);
        check(&mut parts)?;
        Ok(parts.headers.get(HOST).map(|host| host.to_str().unwrap().to_owned()).unwrap_or_default())
    }

    #[test]
    fn over_http_1_1_exactly_one_host_is_named() {
        let asked = |target: &str, hosts: &[&str]| asked(Version::HTTP_11, target, hosts);
        for host in ["shop", "shop:80", "127.0.0.1:8000", "[::1]:8000", "shop.", "a_b", ""] {
            assert_eq!(asked("/", &[host]), Ok(host.to_owned()), "{host}");
        }
        assert_eq!(asked("/", &[]), Err(HeadError::NoHost));
        assert_eq!(asked("/", &["a", "a"]), Err(HeadError::SeveralHosts));
        for host in ["a b", "a,b", "me@a", "a:b", "a:1:2", "http://a", "a/b", "[::g]", "[::1", "::1", "a:99999", "a?b"]
        {
            assert!(matches!(asked("/", &[host]), Err(HeadError::MalformedHost(_))), "{host}");
        }
    }

    #[test]
    fn over_http_1_0_no_host_need_be_named() {
        assert_eq!(asked(Version::HTTP_10, "/", &[]), Ok(String::new()));
        assert_eq!(asked(Version::HTTP_10, "/", &["a"]), Ok("a".to_owned()));
        assert_eq!(asked(Version::HTTP_10, "/", &["a", "b"]), Err(HeadError::SeveralHosts));
    }

    #[test]
    fn an_absolute_target_goes_before_the_field() {
        let asked = |target: &str, hosts: &[&str]| asked(Version::HTTP_11, target, hosts);
        assert_eq!(asked("http://a.example:81/x", &["b"]), Ok("a.example:81".to_owned()));
        assert_eq!(asked("http://a.example/x", &[]), Err(HeadError::NoHost));
        assert!(matches!(asked("http://me@a/", &["a"]), Err(HeadError::MalformedHost(_))));
        assert_eq!(asked("ftp://a/", &["a"]), Err(HeadError::MalformedTarget));
        assert_eq!(asked("a.example:80", &["a.example"]), Err(HeadError::MalformedTarget));
    }

    #[test]
    fn over_http_2_one_host_is_named_in_either_place() {
        let asked = |target: &str, hosts: &[&str]| asked(Version::HTTP_2, target, hosts);
        assert_eq!(asked("http://shop:8000/", &[]), Ok("shop:8000".to_owned()));
        assert_eq!(asked("/", &["shop"]), Ok("shop".to_owned()));
        assert_eq!(asked("http://shop/", &["SHOP:80"]), Ok("shop".to_owned()));
        assert_eq!(asked("/", &[]), Err(HeadError::NoHost));
        assert_eq!(asked("http://shop/", &["other"]), Err(HeadError::DifferingHosts));
        assert_eq!(asked("http://shop/", &["shop:81"]), Err(HeadError::DifferingHosts));
        assert_eq!(asked("http://shop/", &["shop", "shop"]), Err(HeadError::SeveralHosts));
        assert!(matches!(asked("http://me@shop/", &[]), Err(HeadError::MalformedHost(_))));
    }

    #[test]
    fn only_options_asks_the_server_as_a_whole() {
        let answer = |method| check(&mut parts(Version::HTTP_11, method, "*", &[("host", "a")]));
        assert_eq!(answer("OPTIONS"), Ok(()));
        assert_eq!(answer("GET"), Err(HeadError::MalformedTarget));
        let connect = check(&mut parts(Version::HTTP_11, "CONNECT", "a:80", &[("host", "a:80")]));
        assert_eq!(connect.map_err(|error| error.status().as_u16()), Err(501));
    }

    #[test]
    fn a_coding_that_is_not_understood_is_said_to_be() {
        let coded =
            |coding| check(&mut parts(Version::HTTP_11, "POST", "/", &[("host", "a"), ("transfer-encoding", coding)]));
        for coding in ["chunked", "Chunked", " chunked ,"] {
            assert_eq!(coded(coding), Ok(()), "{coding}");
        }
        for coding in ["gzip, chunked", "x-unknown, chunked", "chunked, gzip", "identity"] {
            assert_eq!(coded(coding).map_err(|error| error.status().as_u16()), Err(501), "{coding}");
        }
    }

    #[test]
    fn what_is_too_long_is_told_apart() {
        let status = |target: &str, field: &str| {
            let mut parts = parts(Version::HTTP_11, "GET", target, &[("host", "a"), ("x-long", field)]);
            check(&mut parts).map_err(|error| error.status().as_u16())
        };
        let path = format!("/{}", "p".repeat(TARGET_LIMIT - 1));
        assert_eq!(status(&path, ""), Ok(()));
        assert_eq!(status(&format!("{path}?"), ""), Err(414));
        assert_eq!(status("/", &"f".repeat(FIELDS_LIMIT)), Err(431));
        assert_eq!(status(&format!("{path}?"), &"f".repeat(FIELDS_LIMIT)), Err(414));
    }
}
