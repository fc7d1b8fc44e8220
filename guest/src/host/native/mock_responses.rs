//! The mock responses of the in-memory host.

use std::collections::VecDeque;

use crate::host::types::{FetchError, Method, Response};

/// The calls that mock responses are for: a URL, with or without a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallMatcher {
    method: Option<Method>,
    url: String,
}

impl From<&str> for CallMatcher {
    /// Calls to this URL with any method that has no mock response of its own.
    fn from(url: &str) -> Self {
        Self { method: None, url: url.to_owned() }
    }
}

impl From<(Method, &str)> for CallMatcher {
    fn from((method, url): (Method, &str)) -> Self {
        Self { method: Some(method), url: url.to_owned() }
    }
}

/// All mock responses of a test.
#[derive(Debug, Default)]
pub struct MockResponses(Vec<(CallMatcher, Responses)>);

/// A sequence of responses. The last one repeats.
type Responses = VecDeque<Result<Response, FetchError>>;

impl MockResponses {
    pub fn add(&mut self, matching: CallMatcher, responses: Responses) {
        self.0.push((matching, responses));
    }

    /// The response to a call. Responses for its method take precedence over those for any method, and earlier ones
    /// over later ones.
    pub fn next_response(&mut self, method: Method, url: &str) -> Result<Response, FetchError> {
        let matches =
            |method: Option<Method>| move |matching: &CallMatcher| matching.url == url && matching.method == method;
        let find = |expectations: &[(CallMatcher, Responses)], method| {
            expectations.iter().position(|(matching, _)| matches(method)(matching))
        };
        let position = find(&self.0, Some(method)).or_else(|| find(&self.0, None));
        let Some((_, responses)) = position.and_then(|position| self.0.get_mut(position)) else {
            return Err(FetchError::Denied);
        };
        let next = if responses.len() > 1 { responses.pop_front() } else { responses.front().cloned() };
        next.unwrap_or(Err(FetchError::Denied))
    }
}
