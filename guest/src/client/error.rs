//! Why a request to another service has no usable response.

use std::borrow::Cow;

use crate::host::FetchError;

/// Why a request has no usable response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The manifest does not allow calls to this origin, such as `http://localhost:8000`.
    #[error("the manifest does not allow calls to {0}")]
    Denied(String),
    /// The URL is not an absolute `http` or `https` URL.
    #[error("invalid URL: {0}")]
    InvalidUrl(String),
    /// The connection failed or was closed early.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The request timed out.
    #[error("the request timed out")]
    TimedOut,
    /// The response body exceeds the service's limit.
    #[error("the response is too large")]
    TooLarge,
    /// The response's status is not in 200 to 299; from [`Response::success`](crate::Response::success).
    #[error("the response has the status {0}")]
    Status(u16),
    /// The body does not deserialize; from [`Response::json`](crate::Response::json).
    #[error("the response body is invalid: {0}")]
    Body(String),
}

impl Error {
    pub(super) fn of(error: FetchError, url: &str) -> Self {
        match error {
            FetchError::Denied => Self::Denied(origin(url).into_owned()),
            FetchError::InvalidUrl(reason) => Self::InvalidUrl(reason),
            FetchError::Unreachable(reason) => Self::Unreachable(reason),
            FetchError::TimedOut => Self::TimedOut,
            FetchError::TooLarge => Self::TooLarge,
        }
    }
}

/// The scheme, host and port of a URL, without user and password. A URL without a scheme is returned as it is.
fn origin(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else { return Cow::Borrowed(url) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((_, host)) => Cow::Owned(format!("{scheme}://{host}")),
        None => Cow::Borrowed(&url[..scheme.len() + 3 + authority.len()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (url, expected) in [
            ("http://localhost:8000/health?deep=1", "http://localhost:8000"),
            ("https://user:secret@example.com#top", "https://example.com"),
            ("http://[::1]:80", "http://[::1]:80"),
            ("/relative", "/relative"),
        ] {
            assert_eq!(origin(url), expected);
        }
    }
}
