//! What calls to other services are answered with.

use std::collections::VecDeque;

use crate::host::{FetchError, Response as Answered};
use crate::{Response, client};

/// What calls are answered with, one after the other. The last answer stays.
#[derive(Debug, Clone, Default)]
pub struct Answers(pub(super) VecDeque<Result<Answered, FetchError>>);

impl From<Response> for Answers {
    fn from(response: Response) -> Self {
        Self::from([Ok(response)])
    }
}

impl From<client::Error> for Answers {
    /// [`client::Error::Status`] and [`client::Error::Body`] are no failures of a call; they count as unreachable.
    fn from(error: client::Error) -> Self {
        Self::from([Err(error)])
    }
}

impl<const N: usize> From<[Result<Response, client::Error>; N]> for Answers {
    fn from(answers: [Result<Response, client::Error>; N]) -> Self {
        Self(answers.into_iter().map(|answer| answer.map(Response::into_host).map_err(failure)).collect())
    }
}

impl<const N: usize> From<[Response; N]> for Answers {
    fn from(responses: [Response; N]) -> Self {
        Self::from(responses.map(Ok))
    }
}

fn failure(error: client::Error) -> FetchError {
    match error {
        client::Error::Denied(_) => FetchError::Denied,
        client::Error::InvalidUrl(reason) => FetchError::InvalidUrl(reason),
        client::Error::TimedOut => FetchError::TimedOut,
        client::Error::TooLarge => FetchError::TooLarge,
        other => FetchError::Unreachable(other.to_string()),
    }
}
