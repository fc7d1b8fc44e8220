//! Serves one request of `wasi:http` 0.2. Request and response bodies are buffered.

use std::sync::OnceLock;

use http::Method;
use spandrel_routes::{RouteError, RouteTable};
use wasip2::http::types::{
    Fields, IncomingRequest, Method as WasiMethod, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use super::routing::{self, Rejection, Reply, RouteMatch};
use crate::host::{self, Header};
use crate::limits::REQUEST_BODY;
use crate::{Service, header_rules};

/// The most bytes of one read.
const CHUNK_SIZE: u64 = 64 * 1024;

/// Responds to a request with the response of `service`, or with a rejection.
pub fn serve(service: &Service, request: &IncomingRequest, outparam: ResponseOutparam) {
    send(answer(service, request).unwrap_or_else(|rejection| rejection.reply()), outparam);
}

fn answer(service: &Service, request: &IncomingRequest) -> Result<Reply, Rejection> {
    static TABLE: OnceLock<Result<RouteTable, RouteError>> = OnceLock::new();
    let table = TABLE.get_or_init(|| routing::table(service)).as_ref().map_err(|error| error.clone())?;
    let target = request.path_with_query().unwrap_or_else(|| "/".to_owned());
    let (path, query) = target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
    let (route, params) = match routing::find(table, &method(request), path)? {
        RouteMatch::Handler { route, params } => (route, params),
        RouteMatch::Response(reply) => return Ok(reply),
    };
    let body = body(request)?;
    let headers = headers(request);
    host::begin(&headers);
    routing::check(service.handle(host::Request { route, params, query: query.map(str::to_owned), headers, body }))
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
        // No route has an invalid method.
        WasiMethod::Other(name) => Method::from_bytes(name.as_bytes()).unwrap_or(Method::CONNECT),
    }
}

/// The header fields for the service. `wasi:http` passes `Host` as the authority.
fn headers(request: &IncomingRequest) -> Vec<Header> {
    let fields = request.headers().entries().into_iter().filter(|(name, _)| !header_rules::is_hop_by_hop(name));
    let mut headers: Vec<Header> = fields.map(|(name, value)| Header { name, value }).collect();
    if let Some(authority) = request.authority().filter(|_| headers.iter().all(|header| header.name != "host")) {
        headers.push(Header { name: "host".to_owned(), value: authority.into_bytes() });
    }
    headers
}

fn body(request: &IncomingRequest) -> Result<Vec<u8>, Rejection> {
    if content_length(request).is_some_and(|length| length > REQUEST_BODY as u64) {
        return Err(Rejection::BodyTooLarge);
    }
    let body = request.consume().map_err(|()| Rejection::IncompleteBody)?;
    // The stream must be dropped before its body.
    let stream = body.stream().map_err(|()| Rejection::IncompleteBody)?;
    read_to_end(&stream)
}

fn content_length(request: &IncomingRequest) -> Option<u64> {
    let values = request.headers().get("content-length");
    std::str::from_utf8(values.first()?).ok()?.parse().ok()
}

fn read_to_end(stream: &InputStream) -> Result<Vec<u8>, Rejection> {
    let mut read = Vec::new();
    loop {
        match stream.blocking_read(CHUNK_SIZE) {
            Ok(chunk) => read.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok(read),
            Err(StreamError::LastOperationFailed(_)) => return Err(Rejection::IncompleteBody),
        }
        if read.len() > REQUEST_BODY {
            return Err(Rejection::BodyTooLarge);
        }
    }
}

/// Sends a response. Errors are ignored, because the host notices a client that disconnects.
fn send(reply: Reply, outparam: ResponseOutparam) {
    let fields = Fields::new();
    if let Some(length) = reply.content_length() {
        let _ = fields.append("content-length", length.to_string().as_bytes());
    }
    for (name, value) in &reply.headers {
        // A field that the host does not allow is omitted.
        let _ = fields.append(name.as_str(), value.as_bytes());
    }
    let response = OutgoingResponse::new(fields);
    let _ = response.set_status_code(reply.status.as_u16());
    let body = response.body();
    ResponseOutparam::set(outparam, Ok(response));
    let Ok(body) = body else { return };
    if !reply.body.is_empty()
        && let Ok(stream) = body.write()
    {
        let _ = write_all(&stream, &reply.body);
    }
    let _ = OutgoingBody::finish(body, None);
}

fn write_all(stream: &OutputStream, mut rest: &[u8]) -> Result<(), StreamError> {
    while !rest.is_empty() {
        let capacity = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX).min(rest.len());
        if capacity == 0 {
            stream.subscribe().block();
        }
        let (chunk, rest_of_body) = rest.split_at(capacity);
        stream.write(chunk)?;
        rest = rest_of_body;
    }
    stream.blocking_flush()
}
