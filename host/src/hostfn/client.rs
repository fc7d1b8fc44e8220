//! `spandrel:service/client`: requests to other services, each with a client span of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Response, Uri};
use http_body::Body as _;
use wasmtime::component::Resource;

use crate::component::StoreData;
use crate::component::account::{MemoryAccount, MemoryReservation};
use crate::component::bindings::spandrel::service::client::{Error, Host, Limited, Outgoing};
use crate::component::bindings::spandrel::service::http as wit;
use crate::component::client_call::ClientCall;
use crate::component::resources::GuestSpan;
use crate::component::{from_wit, measured, to_wit};
use crate::config::Origin;
use crate::http::Body;
use crate::http::method::span_name;
use crate::outbound::{Call, CallError, LocalCalls, Outbound};
use crate::trace::{Recorder, SpanKind, SpanRef};

/// What a call takes in the host's memory besides its body, in bytes: its span, its task, perhaps a connection.
const CALL: usize = 16 * 1024;

type Answer = Result<Response<Bytes>, CallError>;

impl Host for StoreData {
    async fn fetch(
        &mut self,
        request: Outgoing,
        parent: Option<Resource<GuestSpan>>,
    ) -> wasmtime::Result<Result<wit::Response, Error>> {
        Ok(self.fetch_one(Limited { request, timeout_ms: None }, parent).await)
    }

    async fn fetch_within(
        &mut self,
        request: Outgoing,
        parent: Option<Resource<GuestSpan>>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<wit::Response, Error>> {
        Ok(self.fetch_one(Limited { request, timeout_ms: Some(timeout_ms) }, parent).await)
    }

    async fn fetch_all(
        &mut self,
        requests: Vec<Outgoing>,
        parent: Option<Resource<GuestSpan>>,
    ) -> wasmtime::Result<Vec<Result<wit::Response, Error>>> {
        let requests = requests.into_iter().map(|request| Limited { request, timeout_ms: None });
        Ok(self.send_all(requests.collect(), parent).await)
    }

    async fn fetch_all_within(
        &mut self,
        requests: Vec<Limited>,
        parent: Option<Resource<GuestSpan>>,
    ) -> wasmtime::Result<Vec<Result<wit::Response, Error>>> {
        Ok(self.send_all(requests, parent).await)
    }
}

impl StoreData {
    async fn fetch_one(
        &mut self,
        request: Limited,
        parent: Option<Resource<GuestSpan>>,
    ) -> Result<wit::Response, Error> {
        let mut answers = self.send_all(vec![request], parent).await;
        answers.pop().unwrap_or(Err(Error::Denied))
    }

    /// Starts every span, sends every call at once, and ends each span at the time its own answer came.
    async fn send_all(
        &mut self,
        requests: Vec<Limited>,
        parent: Option<Resource<GuestSpan>>,
    ) -> Vec<Result<wit::Response, Error>> {
        let count = requests.len();
        // Outside a request (while it names its routes, say) a component may call nobody.
        let Some(parent) = self.parent(parent.as_ref()) else {
            return (0..count).map(|_| Err(Error::Denied)).collect();
        };
        let Some(locals) = self.request.as_ref().map(|request| request.locals.clone()) else { return Vec::new() };
        let limits: Vec<_> = requests.iter().map(|limited| limited.timeout_ms).collect();
        let start = |limited: Limited| self.start(limited.request, parent);
        let (started, calls): (_, Vec<_>) = requests.into_iter().map(start).unzip();
        // Here they are found when the request is given up meanwhile.
        self.calls = started;
        let context = self.context().clone();
        let limits = limits.into_iter().map(|limit| limit.map(|limit| Duration::from_millis(limit.into())));
        let account = &self.account;
        let sent = calls.into_iter().zip(limits);
        let sent = sent.map(|(call, limit)| send(&context.outbound, call, locals.clone(), limit, account));
        let mut call_time = Duration::ZERO;
        let answers = measured(&mut call_time, join_all(sent)).await;
        if let Some(request) = &mut self.request {
            request.call_time += call_time;
        }
        let started = std::mem::take(&mut self.calls);
        // What was reservation for the answers is the guest's own from here on.
        let answers: Vec<_> = answers.into_iter().map(|(answer, ended, _)| (answer, ended)).collect();
        started.iter().zip(answers).map(|(started, (answer, ended))| self.end(started, answer, ended)).collect()
    }

    fn start(&mut self, request: Outgoing, parent: SpanRef) -> (ClientCall, Result<Call, CallError>) {
        let Outgoing { method, url, headers, body } = request;
        let method = Method::from(method);
        let target = parse_url(&url);
        let began = Instant::now();
        let context = self.context().clone();
        let Some(active) = &mut self.request else {
            let call = Err(CallError::InvalidUrl("there is no request to call for".to_owned()));
            return (ClientCall { span: SpanRef::NONE, method, origin: None, began }, call);
        };
        let recorder = &mut active.recorder;
        let span = recorder.start(span_name(&method), SpanKind::Client, parent);
        if recorder.is_recording() {
            describe(recorder, span, &method, &target);
            if let Ok((uri, _)) = &target {
                recorder.set(span, "url.full", &*context.redaction.url(&url, uri));
            }
        }
        let origin = target.as_ref().ok().map(|(_, origin)| origin.clone());
        let call = target.and_then(|(uri, origin)| {
            let headers = from_wit(headers).map_err(CallError::InvalidUrl)?;
            let (context, baggage) = (recorder.context_of(span), recorder.baggage().clone());
            let body = Body::Whole(body.into());
            Ok(Call { method: method.clone(), uri, origin, service: None, headers, body, context, baggage })
        });
        (ClientCall { span, method, origin, began }, call)
    }

    fn end(&mut self, started: &ClientCall, answer: Answer, ended: Instant) -> Result<wit::Response, Error> {
        let status = answer.as_ref().ok().map(|response| response.status().as_u16());
        self.count_call(started, status, answer.as_ref().err().map(CallError::error_type), ended);
        if let Some(request) = &mut self.request {
            let recorder = &mut request.recorder;
            if let Some(status) = status {
                recorder.set(started.span, "http.response.status_code", i64::from(status));
            }
            match &answer {
                Ok(response) if response.status().is_client_error() || response.status().is_server_error() => {
                    recorder.fail(started.span, response.status().as_str(), String::new());
                }
                Ok(_) => {}
                Err(error) => recorder.fail(started.span, error.error_type(), error.to_string()),
            }
            recorder.end_at(started.span, ended);
        }
        answer.map(to_guest).map_err(Into::into)
    }
}

async fn send(
    outbound: &Outbound,
    call: Result<Call, CallError>,
    locals: Arc<dyn LocalCalls>,
    limit: Option<Duration>,
    account: &Arc<MemoryAccount>,
) -> (Answer, Instant, MemoryReservation) {
    let mut reservation = account.empty_reservation();
    let send = async {
        let call = call?;
        let sent = usize::try_from(call.body.size_hint().lower()).unwrap_or(usize::MAX);
        if !reservation.try_grow(sent.saturating_add(CALL)) {
            return Err(CallError::NoRoom);
        }
        outbound.send_whole(call, locals, |bytes| reservation.try_grow(bytes)).await
    };
    let answer = match limit {
        Some(limit) => tokio::time::timeout(limit, send).await.unwrap_or(Err(CallError::TimedOut)),
        None => send.await,
    };
    (answer, Instant::now(), reservation)
}

fn parse_url(url: &str) -> Result<(Uri, Origin), CallError> {
    let uri: Uri = url.parse().map_err(|error| CallError::InvalidUrl(format!("this is no URL: {error}")))?;
    let origin = Origin::of(&uri);
    let origin = origin.ok_or_else(|| CallError::InvalidUrl("this is no absolute http or https URL".to_owned()))?;
    Ok((uri, origin))
}

/// What the HTTP semantic conventions require of a client span.
fn describe(recorder: &mut Recorder, span: SpanRef, method: &Method, target: &Result<(Uri, Origin), CallError>) {
    recorder.set(span, "http.request.method", span_name(method));
    if let Ok((_, origin)) = target {
        recorder.set(span, "server.address", origin.address());
        recorder.set(span, "server.port", i64::from(origin.port));
    }
}

fn to_guest(response: Response<Bytes>) -> wit::Response {
    let (parts, body) = response.into_parts();
    wit::Response { status: parts.status.as_u16(), headers: to_wit(&parts.headers), body: body.into() }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Error {
        match error {
            CallError::Denied(_) | CallError::NotPublic(..) => Error::Denied,
            CallError::InvalidUrl(reason) => Error::InvalidUrl(reason),
            CallError::Unreachable(reason) => Error::Unreachable(reason),
            CallError::TimedOut => Error::TimedOut,
            CallError::TooLarge(_) => Error::TooLarge,
            CallError::NoRoom => Error::Unreachable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_urls_are_called() {
        assert!(parse_url("http://localhost:8000/x").is_ok());
        for url in ["/x", "localhost:8000", "ftp://host/", "http://", "http://a b/"] {
            assert!(matches!(parse_url(url), Err(CallError::InvalidUrl(_))), "{url}");
        }
    }
}
