//! Concurrent requests to other services through `wasi:http/outgoing-handler`.

use wasip2::io::poll::{Pollable, poll};

use super::call::Call;
use super::telemetry;
use crate::host::{FetchError, Limited, Outgoing, Response, Span};

pub fn fetch(request: Outgoing<'_>, parent: Option<&Span>) -> Result<Response, FetchError> {
    fetch_one(Limited { request, timeout_ms: None }, parent)
}

pub fn fetch_within(request: Outgoing<'_>, parent: Option<&Span>, timeout_ms: u32) -> Result<Response, FetchError> {
    fetch_one(Limited { request, timeout_ms: Some(timeout_ms) }, parent)
}

fn fetch_one(request: Limited<'_>, parent: Option<&Span>) -> Result<Response, FetchError> {
    let mut answers = fetch_all_within(&[request], parent);
    answers.pop().unwrap_or_else(|| Err(FetchError::Unreachable("the call has no response".to_owned())))
}

/// Sends all requests concurrently. Results come in the order of the requests.
pub fn fetch_all_within(requests: &[Limited<'_>], parent: Option<&Span>) -> Vec<Result<Response, FetchError>> {
    let context = telemetry::context(parent);
    let mut calls: Vec<Call> = requests.iter().map(|request| Call::start(request, &context)).collect();
    loop {
        calls.iter_mut().for_each(Call::advance);
        let events: Vec<Pollable> = calls.iter().flat_map(Call::events).collect();
        let deadlines = calls.iter().filter_map(Call::deadline);
        let awaited: Vec<&Pollable> = events.iter().chain(deadlines).collect();
        if awaited.is_empty() {
            break;
        }
        poll(&awaited);
    }
    calls.into_iter().map(Call::result).collect()
}
