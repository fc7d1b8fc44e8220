//! Mock responses to calls of a service.

use std::collections::VecDeque;

use crate::host::{FetchError, Response as HostResponse};
use crate::{Response, client};

/// A sequence of mock responses. The last one repeats.
#[derive(Debug, Clone, Default)]
pub struct Responses(pub(super) VecDeque<Result<HostResponse, FetchError>>);

impl From<Response> for Responses {
    fn from(response: Response) -> Self {
        Self::from([Ok(response)])
    }
}

impl From<client::Error> for Responses {
    /// [`client::Error::Status`] and [`client::Error::Body`] are not errors of a call; they become `Unreachable`.
    fn from(error: client::Error) -> Self {
        Self::from([Err(error)])
    }
}

impl<const N: usize> From<[Result<Response, client::Error>; N]> for Responses {
    fn from(responses: [Result<Response, client::Error>; N]) -> Self {
        Self(responses.into_iter().map(|response| response.map(Response::into_host).map_err(fetch_error)).collect())
    }
}

impl<const N: usize> From<[Response; N]> for Responses {
    fn from(responses: [Response; N]) -> Self {
        Self::from(responses.map(Ok))
    }
}

fn fetch_error(error: client::Error) -> FetchError {
    match error {
        client::Error::Denied(_) => FetchError::Denied,
        client::Error::InvalidUrl(reason) => FetchError::InvalidUrl(reason),
        client::Error::TimedOut => FetchError::TimedOut,
        client::Error::TooLarge => FetchError::TooLarge,
        other => FetchError::Unreachable(other.to_string()),
    }
}
