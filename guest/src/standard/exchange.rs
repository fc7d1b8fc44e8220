//! One request of `wasi:http` 0.2, from its head to the end of its response. Bodies are read and written whole.

use std::sync::OnceLock;

use http::Method;
use spandrel_routes::{RouteError, RouteTable};
use wasip2::http::types::{
    Fields, IncomingRequest, Method as WasiMethod, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use super::front::{self, Found, Refusal, Reply};
use crate::host::{self, Header};
use crate::limits::REQUEST_BODY;
use crate::{Service, header_rules};

/// How much is read at once, in bytes.
const PIECE: u64 = 64 * 1024;

/// Answers a request with what `service` answers, or with a refusal.
pub fn serve(service: &Service, request: &IncomingRequest, place: ResponseOutparam) {
    send(answer(service, request).unwrap_or_else(|refusal| refusal.reply()), place);
}

fn answer(service: &Service, request: &IncomingRequest) -> Result<Reply, Refusal> {
    static TABLE: OnceLock<Result<RouteTable, RouteError>> = OnceLock::new();
    let table = TABLE.get_or_init(|| front::table(service)).as_ref().map_err(|error| error.clone())?;
    let target = request.path_with_query().unwrap_or_else(|| "/".to_owned());
    let (path, query) = target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
    let (route, params) = match front::find(table, &method(request), path)? {
        Found::Handler { route, params } => (route, params),
        Found::Answer(reply) => return Ok(reply),
    };
    let body = body(request)?;
    let headers = headers(request);
    host::begin(&headers);
    front::check(service.handle(host::Request { route, params, query: query.map(str::to_owned), headers, body }))
}

fn method(request: &IncomingRequest) -> Method {
    match request.method() {
        WasiMethod::Get => Method::GET,
        WasiMethod::Head => Method::HEAD,
        WasiMethod::Post => Method::POST,
        WasiMethod::Put => Method::PUT,
        WasiMethod::Delete => Method::DELETE,
        WasiMethod::Connect => Method::CONNECT,
        WasiMethod::Options => Method::OPTIONS,
        WasiMethod::Trace => Method::TRACE,
        WasiMethod::Patch => Method::PATCH,
        // No route has a method that is none.
        WasiMethod::Other(name) => Method::from_bytes(name.as_bytes()).unwrap_or(Method::CONNECT),
    }
}

/// The fields that a service gets to see. `wasi:http` keeps `Host` apart.
fn headers(request: &IncomingRequest) -> Vec<Header> {
    let fields = request.headers().entries().into_iter().filter(|(name, _)| !header_rules::is_hop_by_hop(name));
    let mut headers: Vec<Header> = fields.map(|(name, value)| Header { name, value }).collect();
    if let Some(authority) = request.authority().filter(|_| headers.iter().all(|header| header.name != "host")) {
        headers.push(Header { name: "host".to_owned(), value: authority.into_bytes() });
    }
    headers
}

fn body(request: &IncomingRequest) -> Result<Vec<u8>, Refusal> {
    if announced_length(request).is_some_and(|length| length > REQUEST_BODY as u64) {
        return Err(Refusal::BodyTooLarge);
    }
    let body = request.consume().map_err(|()| Refusal::BrokenBody)?;
    // The stream is dropped before the body that it belongs to.
    let stream = body.stream().map_err(|()| Refusal::BrokenBody)?;
    read_whole(&stream)
}

fn announced_length(request: &IncomingRequest) -> Option<u64> {
    let values = request.headers().get("content-length");
    std::str::from_utf8(values.first()?).ok()?.parse().ok()
}

fn read_whole(stream: &InputStream) -> Result<Vec<u8>, Refusal> {
    let mut read = Vec::new();
    loop {
        match stream.blocking_read(PIECE) {
            Ok(piece) => read.extend_from_slice(&piece),
            Err(StreamError::Closed) => return Ok(read),
            Err(StreamError::LastOperationFailed(_)) => return Err(Refusal::BrokenBody),
        }
        if read.len() > REQUEST_BODY {
            return Err(Refusal::BodyTooLarge);
        }
    }
}

/// Sends a response. A client that goes away meanwhile is the host's to notice.
fn send(reply: Reply, place: ResponseOutparam) {
    let fields = Fields::new();
    if let Some(length) = reply.announced_length() {
        let _ = fields.append("content-length", length.to_string().as_bytes());
    }
    for (name, value) in &reply.headers {
        // A field that this host keeps to itself is left out.
        let _ = fields.append(name.as_str(), value.as_bytes());
    }
    let response = OutgoingResponse::new(fields);
    let _ = response.set_status_code(reply.status.as_u16());
    let body = response.body();
    ResponseOutparam::set(place, Ok(response));
    let Ok(body) = body else { return };
    if !reply.body.is_empty()
        && let Ok(stream) = body.write()
    {
        let _ = write_whole(&stream, &reply.body);
    }
    let _ = OutgoingBody::finish(body, None);
}

fn write_whole(stream: &OutputStream, mut rest: &[u8]) -> Result<(), StreamError> {
    while !rest.is_empty() {
        let room = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX).min(rest.len());
        if room == 0 {
            stream.subscribe().block();
        }
        let (piece, behind) = rest.split_at(room);
        stream.write(piece)?;
        rest = behind;
    }
    stream.blocking_flush()
}
