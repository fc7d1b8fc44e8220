//! `spandrel:service/client`: requests to other services, each with a client span of its own.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Response, Uri};
use http_body::Body as _;
use wasmtime::component::Resource;

use crate::boxed::boxed;
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

/// Host memory per call in addition to its body, in bytes: its span, its task and possibly a connection.
const CALL_OVERHEAD: usize = 16 * 1024;

type CallResult = Result<Response<Bytes>, CallError>;

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
        let mut results = self.send_all(vec![request], parent).await;
        results.pop().unwrap_or(Err(Error::Denied))
    }

    /// Starts all client spans, sends all calls concurrently, and ends each span when its own call has ended.
    async fn send_all(
        &mut self,
        requests: Vec<Limited>,
        parent: Option<Resource<GuestSpan>>,
    ) -> Vec<Result<wit::Response, Error>> {
        let count = requests.len();
        // Outside a request, for example in `routes`, a component may make no calls.
        let Some(parent) = self.parent(parent.as_ref()) else {
            return (0..count).map(|_| Err(Error::Denied)).collect();
        };
        let Some(locals) = self.request.as_ref().map(|request| request.locals.clone()) else { return Vec::new() };
        let timeouts: Vec<_> = requests.iter().map(|limited| limited.timeout_ms).collect();
        let start_call = |limited: Limited| self.start_call(limited.request, parent);
        let (pending, calls): (_, Vec<_>) = requests.into_iter().map(start_call).unzip();
        // If the request is cancelled meanwhile, `end_pending_calls` finds the calls here.
        self.calls = pending;
        let context = self.context().clone();
        let timeouts = timeouts.into_iter().map(|timeout| timeout.map(|timeout| Duration::from_millis(timeout.into())));
        let account = &self.account;
        let calls = calls.into_iter().zip(timeouts);
        let calls =
            calls.map(|(call, timeout)| boxed(|| send(&context.outbound, call, locals.clone(), timeout, account)));
        let mut call_time = Duration::ZERO;
        let results = measured(&mut call_time, pin!(join_all(calls))).await;
        if let Some(request) = &mut self.request {
            request.call_time += call_time;
        }
        let pending = std::mem::take(&mut self.calls);
        // From here on the response bodies are in the guest's memory.
        let results: Vec<_> = results.into_iter().map(|(result, ended, _)| (result, ended)).collect();
        pending.iter().zip(results).map(|(pending, (result, ended))| self.end_call(pending, result, ended)).collect()
    }

    fn start_call(&mut self, request: Outgoing, parent: SpanRef) -> (ClientCall, Result<Call, CallError>) {
        let Outgoing { method, url, headers, body } = request;
        let method = Method::from(method);
        let target = parse_url(&url);
        let began = Instant::now();
        let context = self.context().clone();
        let Some(active) = &mut self.request else {
            let call = Err(CallError::InvalidUrl("no request is being served".to_owned()));
            return (ClientCall { span: SpanRef::NONE, method, origin: None, began }, call);
        };
        let recorder = &mut active.recorder;
        let span = recorder.start(span_name(&method), SpanKind::Client, parent);
        if recorder.is_recording() {
            set_target_attributes(recorder, span, &method, &target);
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

    fn end_call(&mut self, pending: &ClientCall, result: CallResult, ended: Instant) -> Result<wit::Response, Error> {
        let status = result.as_ref().ok().map(|response| response.status().as_u16());
        self.count_call(pending, status, result.as_ref().err().map(CallError::error_type), ended);
        if let Some(request) = &mut self.request {
            let recorder = &mut request.recorder;
            if let Some(status) = status {
                recorder.set(pending.span, "http.response.status_code", i64::from(status));
            }
            match &result {
                Ok(response) if response.status().is_client_error() || response.status().is_server_error() => {
                    recorder.fail(pending.span, response.status().as_str(), String::new());
                }
                Ok(_) => {}
                Err(error) => recorder.fail(pending.span, error.error_type(), error.to_string()),
            }
            recorder.end_at(pending.span, ended);
        }
        result.map(to_wit_response).map_err(Into::into)
    }
}

async fn send(
    outbound: &Outbound,
    call: Result<Call, CallError>,
    locals: Arc<dyn LocalCalls>,
    timeout: Option<Duration>,
    account: &Arc<MemoryAccount>,
) -> (CallResult, Instant, MemoryReservation) {
    let mut reservation = account.empty_reservation();
    let result = {
        let send = pin!(async {
            let call = call?;
            let size = usize::try_from(call.body.size_hint().lower()).unwrap_or(usize::MAX);
            if !reservation.try_grow(size.saturating_add(CALL_OVERHEAD)) {
                return Err(CallError::MemoryLimit);
            }
            outbound.send_whole(call, locals, |bytes| reservation.try_grow(bytes)).await
        });
        match timeout {
            Some(timeout) => tokio::time::timeout(timeout, send).await.unwrap_or(Err(CallError::TimedOut)),
            None => send.await,
        }
    };
    (result, Instant::now(), reservation)
}

fn parse_url(url: &str) -> Result<(Uri, Origin), CallError> {
    let uri: Uri = url.parse().map_err(|error| CallError::InvalidUrl(format!("this is not a URL: {error}")))?;
    let origin = Origin::of(&uri);
    let origin = origin.ok_or_else(|| CallError::InvalidUrl("this is not an absolute http or https URL".to_owned()))?;
    Ok((uri, origin))
}

/// Sets the attributes that the HTTP semantic conventions require on a client span.
fn set_target_attributes(
    recorder: &mut Recorder,
    span: SpanRef,
    method: &Method,
    target: &Result<(Uri, Origin), CallError>,
) {
    recorder.set(span, "http.request.method", span_name(method));
    if let Ok((_, origin)) = target {
        recorder.set(span, "server.address", origin.address());
        recorder.set(span, "server.port", i64::from(origin.port));
    }
}

fn to_wit_response(response: Response<Bytes>) -> wit::Response {
    let (parts, body) = response.into_parts();
    wit::Response { status: parts.status.as_u16(), headers: to_wit(&parts.headers), body: body.into() }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Error {
        match error {
            CallError::Denied(_) | CallError::NotPublic(..) => Error::Denied,
            CallError::InvalidUrl(reason) => Error::InvalidUrl(reason),
            CallError::Unreachable { reason, .. } => Error::Unreachable(reason),
            CallError::ConnectTimedOut(_) | CallError::TimedOut => Error::TimedOut,
            CallError::TooLarge(_) => Error::TooLarge,
            CallError::MemoryLimit => Error::Unreachable(error.to_string()),
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
