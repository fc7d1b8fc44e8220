//! One request to another service, which is advanced as far as it goes without waiting.

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

/// How much is read at once, in bytes.
const PIECE: u64 = 64 * 1024;

type Answer = Result<Response, FetchError>;

/// A call under way, or its result.
pub struct Call<'a> {
    state: State,
    /// What is left to send; the answer may come before that.
    upload: Option<Upload<'a>>,
    deadline: Option<Pollable>,
}

enum State {
    Waiting(FutureIncomingResponse),
    Reading(Download),
    Ended(Answer),
}

/// Whether there is more to do at once.
#[derive(PartialEq, Eq)]
enum Progress {
    Made,
    Blocked,
}

impl<'a> Call<'a> {
    /// Sends the head of a request, with `context` where the request has no trace context of its own.
    pub fn start(limited: &'a Limited<'a>, context: &[Header]) -> Self {
        let nanoseconds = |timeout: u32| u64::from(timeout) * 1_000_000;
        let deadline = limited.timeout_ms.map(|timeout| subscribe_duration(nanoseconds(timeout)));
        match begin(&limited.request, context) {
            Ok((answer, upload)) => Self { state: State::Waiting(answer), upload, deadline },
            Err(error) => Self { state: State::Ended(Err(error)), upload: None, deadline: None },
        }
    }

    /// Sends and receives what is possible without waiting.
    pub fn advance(&mut self) {
        while self.step() == Progress::Made {}
        if !self.has_ended() && self.deadline.as_ref().is_some_and(Pollable::ready) {
            self.end(Err(FetchError::TimedOut));
        }
    }

    /// What it waits for, its deadline aside; nothing once it has ended.
    pub fn events(&self) -> Vec<Pollable> {
        let answer = match &self.state {
            State::Waiting(answer) => Some(answer.subscribe()),
            State::Reading(download) => Some(download.stream.subscribe()),
            State::Ended(_) => None,
        };
        answer.into_iter().chain(self.upload.as_ref().map(|upload| upload.stream.subscribe())).collect()
    }

    /// When it fails, at the latest.
    pub fn deadline(&self) -> Option<&Pollable> {
        self.deadline.as_ref()
    }

    /// The answer, once there is nothing more to wait for.
    pub fn result(self) -> Answer {
        match self.state {
            State::Ended(answer) => answer,
            State::Waiting(_) | State::Reading(_) => Err(FetchError::TimedOut),
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    fn end(&mut self, answer: Answer) {
        (self.upload, self.deadline) = (None, None);
        self.state = State::Ended(answer);
    }

    fn step(&mut self) -> Progress {
        self.upload = self.upload.take().and_then(Upload::advance);
        match &mut self.state {
            State::Waiting(answer) => match answer.get().map(head) {
                Some(Ok(response)) => match Download::of(response) {
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
        Progress::Made
    }
}

/// The body of a request on its way. The stream is dropped before the body that it belongs to.
struct Upload<'a> {
    stream: OutputStream,
    body: OutgoingBody,
    rest: &'a [u8],
    flushing: bool,
}

impl Upload<'_> {
    /// Sends what there is room for; none once all is sent. Why sending failed is for the answer to tell.
    fn advance(mut self) -> Option<Self> {
        loop {
            let room = match self.stream.check_write() {
                Ok(0) => return Some(self),
                Ok(room) => usize::try_from(room).unwrap_or(usize::MAX),
                Err(_) => return None,
            };
            if self.flushing {
                drop(self.stream);
                let _ = OutgoingBody::finish(self.body, None);
                return None;
            }
            let (piece, behind) = self.rest.split_at(room.min(self.rest.len()));
            self.stream.write(piece).ok()?;
            self.rest = behind;
            if self.rest.is_empty() {
                self.stream.flush().ok()?;
                self.flushing = true;
            }
        }
    }
}

/// The body of a response on its way. The stream is dropped before the body that it belongs to.
struct Download {
    stream: InputStream,
    _body: IncomingBody,
    response: Response,
}

impl Download {
    fn of(response: IncomingResponse) -> Result<Self, FetchError> {
        let fields = response.headers().entries().into_iter().filter(|(name, _)| !header_rules::is_hop_by_hop(name));
        let headers = fields.map(|(name, value)| Header { name, value }).collect();
        let broken = |()| FetchError::Unreachable("the answer has no body".to_owned());
        let body = response.consume().map_err(broken)?;
        let stream = body.stream().map_err(broken)?;
        let response = Response { status: response.status(), headers, body: Vec::new() };
        Ok(Self { stream, _body: body, response })
    }

    /// Reads what is there; the whole answer at its end.
    fn advance(&mut self) -> Option<Answer> {
        loop {
            match self.stream.read(PIECE) {
                Ok(piece) if piece.is_empty() => return None,
                Ok(piece) => self.response.body.extend_from_slice(&piece),
                Err(StreamError::Closed) => {
                    let empty = Response { status: self.response.status, headers: Vec::new(), body: Vec::new() };
                    return Some(Ok(std::mem::replace(&mut self.response, empty)));
                }
                Err(StreamError::LastOperationFailed(error)) => {
                    let code = http_error_code(&error);
                    let unknown = || FetchError::Unreachable(error.to_debug_string());
                    return Some(Err(code.map_or_else(unknown, failure)));
                }
            }
            if self.response.body.len() > RESPONSE_BODY {
                return Some(Err(FetchError::TooLarge));
            }
        }
    }
}

type Begun<'a> = (FutureIncomingResponse, Option<Upload<'a>>);

fn begin<'a>(outgoing: &Outgoing<'a>, context: &[Header]) -> Result<Begun<'a>, FetchError> {
    let invalid = |reason: &str| FetchError::InvalidUrl(reason.to_owned());
    let uri: Uri = outgoing.url.parse().map_err(|error| invalid(&format!("this is no URL: {error}")))?;
    let (scheme, authority) = origin(&uri).ok_or_else(|| invalid("this is no absolute http or https URL"))?;
    let request = OutgoingRequest::new(fields(outgoing, context)?);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let refused = |()| invalid("the host does not take it");
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
    let answer = outgoing_handler::handle(request, None).map_err(failure)?;
    let Some((stream, rest)) = upload else {
        let _ = OutgoingBody::finish(body, None);
        return Ok((answer, None));
    };
    Ok((answer, Some(Upload { stream, body, rest, flushing: false })))
}

/// Scheme and authority, without user and password.
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
    // A field that this host keeps to itself is left out.
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

/// The head of the answer. The outer error says that it was taken before, which nobody does.
fn head(answer: Result<Result<IncomingResponse, ErrorCode>, ()>) -> Result<IncomingResponse, FetchError> {
    answer.unwrap_or(Err(ErrorCode::InternalError(None))).map_err(failure)
}

fn failure(code: ErrorCode) -> FetchError {
    match code {
        ErrorCode::HttpRequestDenied => FetchError::Denied,
        ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestMethodInvalid | ErrorCode::HttpRequestUriTooLong => {
            FetchError::InvalidUrl("the host does not take it".to_owned())
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
