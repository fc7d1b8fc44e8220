//! What the in-memory host answers calls to other services with.

use std::collections::VecDeque;

use crate::host::types::{FetchError, Method, Response};

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

/// All that a test has announced.
#[derive(Debug, Default)]
pub struct Announced(Vec<(Matching, Answers)>);

/// Answers to calls, one after the other. The last one stays.
type Answers = VecDeque<Result<Response, FetchError>>;

impl Announced {
    pub fn add(&mut self, matching: Matching, answers: Answers) {
        self.0.push((matching, answers));
    }

    /// The answer to a call. Those for its method come before those for any, and earlier ones before later ones.
    pub fn answer(&mut self, method: Method, url: &str) -> Result<Response, FetchError> {
        let fits = |wanted: Option<Method>| move |matching: &Matching| matching.url == url && matching.method == wanted;
        let find = |announced: &[(Matching, Answers)], wanted| {
            announced.iter().position(|(matching, _)| fits(wanted)(matching))
        };
        let position = find(&self.0, Some(method)).or_else(|| find(&self.0, None));
        let Some((_, answers)) = position.and_then(|position| self.0.get_mut(position)) else {
            return Err(FetchError::Denied);
        };
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        next.unwrap_or(Err(FetchError::Denied))
    }
}
