//! What calls to other services are answered with.

use std::collections::VecDeque;

use crate::host::{FetchError, Response as Answered};
use crate::{Method, Response, client};

/// Which calls an answer is for: a URL, with a method or without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    method: Option<Method>,
    url: String,
}

impl From<&str> for Matching {
    /// Calls to this URL by any method that no other answer is for.
    fn from(url: &str) -> Self {
        Self { method: None, url: url.to_owned() }
    }
}

impl From<(Method, &str)> for Matching {
    fn from((method, url): (Method, &str)) -> Self {
        Self { method: Some(method), url: url.to_owned() }
    }
}

/// What calls are answered with, one after the other. The last answer stays.
#[derive(Debug, Clone, Default)]
pub struct Answers(VecDeque<Result<Answered, FetchError>>);

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

/// All that a test has announced.
#[derive(Debug, Default)]
pub struct Announced(Vec<(Matching, Answers)>);

impl Announced {
    pub(crate) fn add(&mut self, matching: Matching, answers: Answers) {
        self.0.push((matching, answers));
    }

    /// The answer to a call. Those for its method come before those for any, and earlier ones before later ones.
    pub(crate) fn answer(&mut self, method: Method, url: &str) -> Result<Answered, FetchError> {
        let fits = |wanted: Option<Method>| move |matching: &Matching| matching.url == url && matching.method == wanted;
        let find = |announced: &[(Matching, Answers)], wanted| {
            announced.iter().position(|(matching, _)| fits(wanted)(matching))
        };
        let position = find(&self.0, Some(method)).or_else(|| find(&self.0, None));
        let Some((_, Answers(answers))) = position.and_then(|position| self.0.get_mut(position)) else {
            return Err(FetchError::Denied);
        };
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        next.unwrap_or(Err(FetchError::Denied))
    }
}
