//! A call to another service, advanced without blocking.

use http::Uri;
use http::uri::Authority;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method as WasiMethod, OutgoingBody,
    OutgoingRequest, Scheme, http_error_code,
};
use wasip2::io::poll::Pollable;
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use crate::header_rules;
use crate::host::{FetchError, Header, Limited, Method, Outgoing, Response};
use crate::limits::RESPONSE_BODY;

/// The most bytes of one read.
const CHUNK_SIZE: u64 = 64 * 1024;

type CallResult = Result<Response, FetchError>;

/// A pending call, or its result.
pub struct Call<'a> {
    state: State,
    /// The rest of the request body; the response may come before all of it was sent.
    upload: Option<Upload<'a>>,
    deadline: Option<Pollable>,
}

enum State {
    Waiting(FutureIncomingResponse),
    Reading(Download),
    Ended(CallResult),
}

/// Whether a step made progress or would block.
#[derive(PartialEq, Eq)]
enum Progress {
    Advanced,
    Blocked,
}

impl<'a> Call<'a> {
    /// Sends the head of a request. `context` is added if the request has no trace context of its own.
    pub fn start(limited: &'a Limited<'a>, context: &[Header]) -> Self {
        let nanoseconds = |timeout: u32| u64::from(timeout) * 1_000_000;
        let deadline = limited.timeout_ms.map(|timeout| subscribe_duration(nanoseconds(timeout)));
        match start_request(&limited.request, context) {
            Ok((answer, upload)) => Self { state: State::Waiting(answer), upload, deadline },
            Err(error) => Self { state: State::Ended(Err(error)), upload: None, deadline: None },
        }
    }

    /// Sends and receives as much as possible without blocking.
    pub fn advance(&mut self) {
        while self.step() == Progress::Advanced {}
        if !self.has_ended() && self.deadline.as_ref().is_some_and(Pollable::ready) {
            self.end(Err(FetchError::TimedOut));
        }
    }

    /// The pollables that the call waits for, except its deadline; empty once it has ended.
    pub fn events(&self) -> Vec<Pollable> {
        let answer = match &self.state {
            State::Waiting(answer) => Some(answer.subscribe()),
            State::Reading(download) => Some(download.stream.subscribe()),
            State::Ended(_) => None,
        };
        answer.into_iter().chain(self.upload.as_ref().map(|upload| upload.stream.subscribe())).collect()
    }

    /// The deadline of the call.
    pub fn deadline(&self) -> Option<&Pollable> {
        self.deadline.as_ref()
    }

    /// The result of a call that waits for nothing any more.
    pub fn result(self) -> CallResult {
        match self.state {
            State::Ended(answer) => answer,
            State::Waiting(_) | State::Reading(_) => Err(FetchError::TimedOut),
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    fn end(&mut self, answer: CallResult) {
        (self.upload, self.deadline) = (None, None);
        self.state = State::Ended(answer);
    }

    fn step(&mut self) -> Progress {
        self.upload = self.upload.take().and_then(Upload::advance);
        match &mut self.state {
            State::Waiting(answer) => match answer.get().map(head) {
                Some(Ok(response)) => match Download::new(response) {
                    Ok(download) => self.state = State::Reading(download),
                    Err(error) => self.end(Err(error)),
                },
                Some(Err(error)) => self.end(Err(error)),
                None => return Progress::Blocked,
            },
            State::Reading(download) => match download.advance() {
                Some(answer) => self.end(answer),
                None => return Progress::Blocked,
            },
            State::Ended(_) => return Progress::Blocked,
        }
        Progress::Advanced
    }
}

/// A request body that is being sent. The stream must be dropped before its body.
struct Upload<'a> {
    stream: OutputStream,
    body: OutgoingBody,
    rest: &'a [u8],
    flushing: bool,
}

impl Upload<'_> {
    /// Sends as much as possible; `None` when all was sent. If sending fails, the response reports the error.
    fn advance(mut self) -> Option<Self> {
        loop {
            let capacity = match self.stream.check_write() {
                Ok(0) => return Some(self),
                Ok(capacity) => usize::try_from(capacity).unwrap_or(usize::MAX),
                Err(_) => return None,
            };
            if self.flushing {
                drop(self.stream);
                let _ = OutgoingBody::finish(self.body, None);
                return None;
            }
            let (chunk, rest) = self.rest.split_at(capacity.min(self.rest.len()));
            self.stream.write(chunk).ok()?;
            self.rest = rest;
            if self.rest.is_empty() {
                self.stream.flush().ok()?;
                self.flushing = true;
            }
        }
    }
}

/// A response body that is being received. The stream must be dropped before its body.
struct Download {
    stream: InputStream,
    _body: IncomingBody,
    response: Response,
}

impl Download {
    fn new(response: IncomingResponse) -> Result<Self, FetchError> {
        let fields = response.headers().entries().into_iter().filter(|(name, _)| !header_rules::is_hop_by_hop(name));
        let headers = fields.map(|(name, value)| Header { name, value }).collect();
        let missing_body = |()| FetchError::Unreachable("the response has no body".to_owned());
        let body = response.consume().map_err(missing_body)?;
        let stream = body.stream().map_err(missing_body)?;
        let response = Response { status: response.status(), headers, body: Vec::new() };
        Ok(Self { stream, _body: body, response })
    }

    /// Reads as much as possible; returns the response at the end of the body.
    fn advance(&mut self) -> Option<CallResult> {
        loop {
            match self.stream.read(CHUNK_SIZE) {
                Ok(chunk) if chunk.is_empty() => return None,
                Ok(chunk) => self.response.body.extend_from_slice(&chunk),
                Err(StreamError::Closed) => {
                    let empty = Response { status: self.response.status, headers: Vec::new(), body: Vec::new() };
                    return Some(Ok(std::mem::replace(&mut self.response, empty)));
                }
                Err(StreamError::LastOperationFailed(error)) => {
                    let code = http_error_code(&error);
                    let unknown = || FetchError::Unreachable(error.to_debug_string());
                    return Some(Err(code.map_or_else(unknown, fetch_error)));
                }
            }
            if self.response.body.len() > RESPONSE_BODY {
                return Some(Err(FetchError::TooLarge));
            }
        }
    }
}

type StartedCall<'a> = (FutureIncomingResponse, Option<Upload<'a>>);

fn start_request<'a>(outgoing: &Outgoing<'a>, context: &[Header]) -> Result<StartedCall<'a>, FetchError> {
    let invalid = |reason: &str| FetchError::InvalidUrl(reason.to_owned());
    let uri: Uri = outgoing.url.parse().map_err(|error| invalid(&format!("this is not a URL: {error}")))?;
    let (scheme, authority) = origin(&uri).ok_or_else(|| invalid("this is not an absolute http or https URL"))?;
    let request = OutgoingRequest::new(fields(outgoing, context)?);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let refused = |()| invalid("the host rejects it");
    request.set_method(&method(outgoing.method)).map_err(refused)?;
    request.set_scheme(Some(&scheme)).map_err(refused)?;
    request.set_authority(Some(authority)).map_err(refused)?;
    request.set_path_with_query(Some(path)).map_err(refused)?;
    let body = request.body().map_err(refused)?;
    let upload = if outgoing.body.is_empty() {
        None
    } else {
        let stream = body.write().map_err(refused)?;
        Some((stream, outgoing.body))
    };
    let answer = outgoing_handler::handle(request, None).map_err(fetch_error)?;
    let Some((stream, rest)) = upload else {
        let _ = OutgoingBody::finish(body, None);
        return Ok((answer, None));
    };
    Ok((answer, Some(Upload { stream, body, rest, flushing: false })))
}

/// The scheme, and the authority without userinfo.
fn origin(uri: &Uri) -> Option<(Scheme, &str)> {
    let scheme = match uri.scheme_str()? {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let authority = uri.authority().map(Authority::as_str)?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, authority)| authority);
    Some((scheme, authority)).filter(|(_, authority)| !authority.is_empty())
}

fn fields(outgoing: &Outgoing<'_>, context: &[Header]) -> Result<Fields, FetchError> {
    let headers = header_rules::check(outgoing.headers.iter().copied()).map_err(FetchError::InvalidUrl)?;
    let fields = Fields::new();
    // A field that the host does not allow is omitted.
    let append = |name: &str, value: &[u8]| {
        let _ = fields.append(name, value);
    };
    headers.iter().for_each(|(name, value)| append(name.as_str(), value.as_bytes()));
    context
        .iter()
        .filter(|header| !headers.contains_key(&header.name))
        .for_each(|header| append(&header.name, &header.value));
    if !outgoing.body.is_empty() || matches!(outgoing.method, Method::Post | Method::Put | Method::Patch) {
        append("content-length", outgoing.body.len().to_string().as_bytes());
    }
    Ok(fields)
}

fn method(method: Method) -> WasiMethod {
    match method {
        Method::Get => WasiMethod::Get,
        Method::Head => WasiMethod::Head,
        Method::Post => WasiMethod::Post,
        Method::Put => WasiMethod::Put,
        Method::Patch => WasiMethod::Patch,
        Method::Delete => WasiMethod::Delete,
        Method::Options => WasiMethod::Options,
    }
}

/// The head of the response. The outer error means that it was taken before, which does not happen here.
fn head(answer: Result<Result<IncomingResponse, ErrorCode>, ()>) -> Result<IncomingResponse, FetchError> {
    answer.unwrap_or(Err(ErrorCode::InternalError(None))).map_err(fetch_error)
}

fn fetch_error(code: ErrorCode) -> FetchError {
    match code {
        ErrorCode::HttpRequestDenied => FetchError::Denied,
        ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestMethodInvalid | ErrorCode::HttpRequestUriTooLong => {
            FetchError::InvalidUrl("the host rejects it".to_owned())
        }
        ErrorCode::HttpResponseTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::DnsTimeout => FetchError::TimedOut,
        ErrorCode::HttpResponseBodySize(_) => FetchError::TooLarge,
        other => FetchError::Unreachable(other.to_string()),
    }
}
