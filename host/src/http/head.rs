//! Validates and normalises request heads (RFC 9112, 3.2 and 6.1, and RFC 9113, 8.3.1).
//!
//! A valid head is normalised: `Host` has the authority of the request for every protocol version, and the fields that
//! `Connection` nominates are removed.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, Version};
use thiserror::Error;

use super::authority::{Authority, AuthorityError};
use super::header_rules;
use super::host::{Host, HostCache};

/// The most bytes of a request target.
pub const TARGET_LIMIT: usize = 16 * 1024;
/// The most bytes of the header fields of a request: names, values and separators.
pub const FIELDS_LIMIT: usize = 64 * 1024;
/// The bytes of a header field in addition to its name and value: colon, space and line end.
const FIELD_OVERHEAD: usize = 4;

/// Why a request head is rejected.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HeadError {
    /// The head was not complete in time.
    #[error("The head of the request did not arrive in time")]
    Timeout,
    /// The target exceeds [`TARGET_LIMIT`].
    #[error("The target of the request is longer than {TARGET_LIMIT} bytes")]
    TargetTooLong,
    /// The fields exceed [`FIELDS_LIMIT`].
    #[error("The header fields of the request are larger than {FIELDS_LIMIT} bytes")]
    FieldsTooLarge,
    /// The head has more than 100 fields, the limit for HTTP/1.1.
    #[error("The request has more than 100 header fields")]
    TooManyFields,
    /// The head is not valid HTTP.
    #[error("The head of the request cannot be read: {0}")]
    Malformed(String),
    /// The target has none of the forms of RFC 9112, 3.2, or a form that the method does not allow.
    #[error("The target of the request is malformed")]
    MalformedTarget,
    /// The request has no authority.
    #[error("The request has no host")]
    MissingHost,
    /// More than one `Host` field.
    #[error("The request has more than one Host field")]
    MultipleHosts,
    /// `:authority` and `Host` name different hosts.
    #[error("The request has two different hosts")]
    DifferingHosts,
    /// The authority is malformed.
    #[error("The host of the request is malformed: {0}")]
    MalformedHost(#[from] AuthorityError),
    /// A transfer coding other than `chunked`.
    #[error("The transfer coding of the request is not supported; only chunked is")]
    UnsupportedCoding,
    /// The method is CONNECT.
    #[error("The method CONNECT is not supported")]
    Connect,
}

impl HeadError {
    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            HeadError::Timeout => StatusCode::REQUEST_TIMEOUT,
            HeadError::TargetTooLong => StatusCode::URI_TOO_LONG,
            HeadError::FieldsTooLarge | HeadError::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            HeadError::UnsupportedCoding | HeadError::Connect => StatusCode::NOT_IMPLEMENTED,
            HeadError::Malformed(_)
            | HeadError::MalformedTarget
            | HeadError::MissingHost
            | HeadError::MultipleHosts
            | HeadError::DifferingHosts
            | HeadError::MalformedHost(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// The value of `error.type`.
    pub fn error_type(&self) -> &'static str {
        match self {
            HeadError::Timeout => "head_timeout",
            HeadError::TargetTooLong => "target_too_long",
            HeadError::FieldsTooLarge | HeadError::TooManyFields => "fields_too_large",
            HeadError::UnsupportedCoding => "unknown_coding",
            HeadError::Connect => "tunnel",
            HeadError::Malformed(_)
            | HeadError::MalformedTarget
            | HeadError::MissingHost
            | HeadError::MultipleHosts
            | HeadError::DifferingHosts
            | HeadError::MalformedHost(_) => "malformed_head",
        }
    }

    /// The response without a trace id.
    pub fn response(&self) -> Response<Bytes> {
        super::problem(self.status(), &self.to_string())
    }
}

/// Validates and normalises a request head. Returns the host of the request, which only HTTP/1.0 allows to be missing.
///
/// # Errors
///
/// If the request must not be served.
pub fn check(head: &mut Parts, hosts: &HostCache) -> Result<Option<Arc<Host>>, HeadError> {
    check_sizes(head)?;
    check_codings(&head.headers)?;
    let target = target_host(head, hosts)?;
    let field = host_field(&head.headers, hosts)?;
    let host = match (target, field) {
        (Some(target), Some(field))
            if head.version == Version::HTTP_2 && !target.authority.is_same(&field.authority, &head.uri) =>
        {
            return Err(HeadError::DifferingHosts);
        }
        // HTTP/1.1 requires the field even with an absolute target, which overrides it (RFC 9112, 3.2 and 3.2.2).
        (Some(_), None) if head.version == Version::HTTP_11 => return Err(HeadError::MissingHost),
        (Some(target), _) => {
            set_host(&mut head.headers, &target.authority);
            Some(target)
        }
        (None, Some(field)) => Some(field),
        (None, None) if head.version <= Version::HTTP_10 => None,
        (None, None) => return Err(HeadError::MissingHost),
    };
    header_rules::remove_nominated(&mut head.headers);
    Ok(host)
}

fn check_sizes(head: &Parts) -> Result<(), HeadError> {
    let target = [
        head.uri.scheme_str().map_or(0, |scheme| scheme.len() + 3),
        head.uri.authority().map_or(0, |authority| authority.as_str().len()),
        head.uri.path_and_query().map_or(0, |path| path.as_str().len()),
    ];
    if target.iter().sum::<usize>() > TARGET_LIMIT {
        return Err(HeadError::TargetTooLong);
    }
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD);
    if fields.sum::<usize>() > FIELDS_LIMIT { Err(HeadError::FieldsTooLarge) } else { Ok(()) }
}

/// Rejects transfer codings other than `chunked`: the host could not decode the body (RFC 9112, 6.1).
fn check_codings(headers: &HeaderMap) -> Result<(), HeadError> {
    let is_chunked = |coding: &str| coding.trim().is_empty() || coding.trim().eq_ignore_ascii_case("chunked");
    let is_supported = |value: &HeaderValue| value.to_str().is_ok_and(|codings| codings.split(',').all(is_chunked));
    let are_supported = headers.get_all(TRANSFER_ENCODING).iter().all(is_supported);
    if are_supported { Ok(()) } else { Err(HeadError::UnsupportedCoding) }
}

/// The host of the request target, if it has one.
fn target_host(head: &Parts, hosts: &HostCache) -> Result<Option<Arc<Host>>, HeadError> {
    if head.method == Method::CONNECT {
        return Err(HeadError::Connect);
    }
    let target = head.uri.authority().map(|authority| hosts.parse(authority.as_str())).transpose()?;
    let over_http2 = head.version == Version::HTTP_2;
    match (head.uri.scheme_str(), &target, head.uri.path()) {
        // Only OPTIONS allows `*` (RFC 9112, 3.2.4).
        (_, _, "*") if head.method != Method::OPTIONS => Err(HeadError::MalformedTarget),
        (Some("http" | "https"), Some(target), _) if target.authority.has_host() => Ok(()),
        (Some(_), _, _) => Err(HeadError::MalformedTarget),
        // Only CONNECT allows an authority without a scheme (RFC 9112, 3.2.3).
        (None, Some(_), _) if !over_http2 => Err(HeadError::MalformedTarget),
        (None, _, path) if path == "*" || path.starts_with('/') => Ok(()),
        (None, _, _) => Err(HeadError::MalformedTarget),
    }?;
    Ok(target)
}

fn host_field(headers: &HeaderMap, hosts: &HostCache) -> Result<Option<Arc<Host>>, HeadError> {
    let mut fields = headers.get_all(HOST).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(HeadError::MultipleHosts);
    }
    let field = field.to_str().map_err(|_| AuthorityError::Characters)?;
    Ok(Some(hosts.parse(field.trim())?))
}

/// Sets `Host`, as in HTTP/1.1.
fn set_host(headers: &mut HeaderMap, authority: &Authority) {
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        headers.insert(HOST, host);
    }
}

impl Authority {
    /// Whether two authorities are equivalent. The default port of the scheme may be omitted.
    fn is_same(&self, other: &Authority, uri: &Uri) -> bool {
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let normalized =
            |authority: &Authority| (authority.host().to_ascii_lowercase(), authority.port().unwrap_or(default_port));
        normalized(self) == normalized(other)
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

    /// Why a request is rejected, if it is.
    fn result(mut parts: Parts) -> Result<(), HeadError> {
        check(&mut parts, &HostCache::default()).map(|_| ())
    }

    /// The `Host` of a request after the check, or why the request is rejected.
    fn checked_host(version: Version, target: &str, hosts: &[&str]) -> Result<String, HeadError> {
        let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        let mut parts = parts(version, "GET", target, &fields);
        let host = check(&mut parts, &HostCache::default())?;
        let sent = parts.headers.get(HOST).map(|host| host.to_str().unwrap());
        assert_eq!(host.as_ref().map(|host| host.authority.as_str()), sent);
        Ok(parts.headers.get(HOST).map(|host| host.to_str().unwrap().to_owned()).unwrap_or_default())
    }

    #[test]
    fn an_http_1_1_request_has_exactly_one_host() {
        let checked_host = |target: &str, hosts: &[&str]| checked_host(Version::HTTP_11, target, hosts);
        for host in ["shop", "shop:80", "127.0.0.1:8000", "[::1]:8000", "shop.", "a_b", ""] {
            assert_eq!(checked_host("/", &[host]), Ok(host.to_owned()), "{host}");
        }
        assert_eq!(checked_host("/", &[]), Err(HeadError::MissingHost));
        assert_eq!(checked_host("/", &["a", "a"]), Err(HeadError::MultipleHosts));
        for host in ["a b", "a,b", "me@a", "a:b", "a:1:2", "http://a", "a/b", "[::g]", "[::1", "::1", "a:99999", "a?b"]
        {
            assert!(matches!(checked_host("/", &[host]), Err(HeadError::MalformedHost(_))), "{host}");
        }
    }

    #[test]
    fn an_http_1_0_request_may_have_no_host() {
        assert_eq!(checked_host(Version::HTTP_10, "/", &[]), Ok(String::new()));
        assert_eq!(checked_host(Version::HTTP_10, "/", &["a"]), Ok("a".to_owned()));
        assert_eq!(checked_host(Version::HTTP_10, "/", &["a", "b"]), Err(HeadError::MultipleHosts));
    }

    #[test]
    fn an_absolute_target_overrides_the_host_field() {
        let checked_host = |target: &str, hosts: &[&str]| checked_host(Version::HTTP_11, target, hosts);
        assert_eq!(checked_host("http://a.example:81/x", &["b"]), Ok("a.example:81".to_owned()));
        assert_eq!(checked_host("http://a.example/x", &[]), Err(HeadError::MissingHost));
        assert!(matches!(checked_host("http://me@a/", &["a"]), Err(HeadError::MalformedHost(_))));
        assert_eq!(checked_host("ftp://a/", &["a"]), Err(HeadError::MalformedTarget));
        assert_eq!(checked_host("a.example:80", &["a.example"]), Err(HeadError::MalformedTarget));
    }

    #[test]
    fn an_http_2_request_has_one_host_in_authority_or_host() {
        let checked_host = |target: &str, hosts: &[&str]| checked_host(Version::HTTP_2, target, hosts);
        assert_eq!(checked_host("http://shop:8000/", &[]), Ok("shop:8000".to_owned()));
        assert_eq!(checked_host("/", &["shop"]), Ok("shop".to_owned()));
        assert_eq!(checked_host("http://shop/", &["SHOP:80"]), Ok("shop".to_owned()));
        assert_eq!(checked_host("/", &[]), Err(HeadError::MissingHost));
        assert_eq!(checked_host("http://shop/", &["other"]), Err(HeadError::DifferingHosts));
        assert_eq!(checked_host("http://shop/", &["shop:81"]), Err(HeadError::DifferingHosts));
        assert_eq!(checked_host("http://shop/", &["shop", "shop"]), Err(HeadError::MultipleHosts));
        assert!(matches!(checked_host("http://me@shop/", &[]), Err(HeadError::MalformedHost(_))));
    }

    #[test]
    fn only_options_allows_an_asterisk_target() {
        let asterisk = |method| result(parts(Version::HTTP_11, method, "*", &[("host", "a")]));
        assert_eq!(asterisk("OPTIONS"), Ok(()));
        assert_eq!(asterisk("GET"), Err(HeadError::MalformedTarget));
        let connect = result(parts(Version::HTTP_11, "CONNECT", "a:80", &[("host", "a:80")]));
        assert_eq!(connect.map_err(|error| error.status().as_u16()), Err(501));
    }

    #[test]
    fn transfer_codings_other_than_chunked_are_not_implemented() {
        let coded =
            |coding| result(parts(Version::HTTP_11, "POST", "/", &[("host", "a"), ("transfer-encoding", coding)]));
        for coding in ["chunked", "Chunked", " chunked ,"] {
            assert_eq!(coded(coding), Ok(()), "{coding}");
        }
        for coding in ["gzip, chunked", "x-unknown, chunked", "chunked, gzip", "identity"] {
            assert_eq!(coded(coding).map_err(|error| error.status().as_u16()), Err(501), "{coding}");
        }
    }

    #[test]
    fn long_targets_and_large_fields_have_different_statuses() {
        let status = |target: &str, field: &str| {
            let parts = parts(Version::HTTP_11, "GET", target, &[("host", "a"), ("x-long", field)]);
            result(parts).map_err(|error| error.status().as_u16())
        };
        let path = format!("/{}", "p".repeat(TARGET_LIMIT - 1));
        assert_eq!(status(&path, ""), Ok(()));
        assert_eq!(status(&format!("{path}?"), ""), Err(414));
        assert_eq!(status("/", &"f".repeat(FIELDS_LIMIT)), Err(431));
        assert_eq!(status(&format!("{path}?"), &"f".repeat(FIELDS_LIMIT)), Err(414));
    }
}
