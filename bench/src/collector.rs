//! A collector that counts the spans that it receives by OTLP over gRPC and discards them, at the same cost for all
//! contenders.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::oneshot;

/// The gRPC method for spans. Metrics and logs have other methods.
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A running collector. It stops when this is dropped.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    spans: Arc<AtomicU64>,
    _running: oneshot::Sender<()>,
}

impl Collector {
    pub(crate) fn start() -> Result<Collector> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let spans = Arc::<AtomicU64>::default();
        let counted = spans.clone();
        let (running, stopped) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, counted) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Collector { address, spans, _running: running })
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The number of received spans.
    pub(crate) fn spans(&self) -> u64 {
        self.spans.load(Ordering::SeqCst)
    }
}

async fn accept(listener: std::net::TcpListener, spans: Arc<AtomicU64>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    while let Ok((stream, _)) = listener.accept().await {
        let spans = spans.clone();
        let answer = hyper::service::service_fn(move |request| take(request, spans.clone()));
        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(http.serve_connection(TokioIo::new(stream), answer));
    }
}

type Answer = StreamBody<futures_util::stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 2>>>;

async fn take(request: Request<Incoming>, spans: Arc<AtomicU64>) -> Result<Response<Answer>, hyper::Error> {
    let is_traces = request.uri().path() == TRACES;
    let body = request.into_body().collect().await?.to_bytes();
    if is_traces {
        // The message has a prefix of five bytes: the compression flag and the length.
        spans.fetch_add(spans_in(body.get(5..).unwrap_or_default()), Ordering::SeqCst);
    }
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)].map(Ok);
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// The number of spans in an `ExportTraceServiceRequest`: `resource_spans` (1) contain `scope_spans` (2), which contain
/// `spans` (2). The spans are not decoded, so that counting costs very little.
fn spans_in(message: &[u8]) -> u64 {
    let scopes = fields(message, 1).flat_map(|resource| fields(resource, 2));
    scopes.map(|scope| fields(scope, 2).count() as u64).sum()
}

/// The length-delimited fields with this number in a protobuf message. Other fields may have any wire type.
fn fields(mut message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        loop {
            let key = varint(&mut message)?;
            let length = match key & 7 {
                0 => varint(&mut message).map(|_| 0)?,
                1 => 8,
                2 => usize::try_from(varint(&mut message)?).ok()?,
                5 => 4,
                _ => return None,
            };
            let (value, rest) = message.split_at_checked(length)?;
            message = rest;
            if key >> 3 == number && key & 7 == 2 {
                return Some(value);
            }
        }
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::TcpStream;
    use std::time::Duration;

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message;

    use super::*;

    #[test]
    fn spans_of_all_resources_and_scopes_are_counted() {
        let span = Span { name: "GET".to_owned(), start_time_unix_nano: 7, ..Span::default() };
        let scope = |spans| ScopeSpans { spans: vec![span.clone(); spans], ..ScopeSpans::default() };
        let resource = |scopes: &[usize]| ResourceSpans {
            scope_spans: scopes.iter().map(|spans| scope(*spans)).collect(),
            schema_url: "https://opentelemetry.io/schemas/1.44.0".to_owned(),
            ..ResourceSpans::default()
        };
        let request =
            ExportTraceServiceRequest { resource_spans: vec![resource(&[3, 200]), resource(&[]), resource(&[1])] };
        assert_eq!(spans_in(&request.encode_to_vec()), 204);
        assert_eq!(spans_in(&[]), 0);
        assert_eq!(spans_in(b"no protobuf"), 0);
    }

    #[test]
    fn a_collector_that_is_dropped_closes_its_connections() {
        let collector = Collector::start().unwrap();
        let mut connection = TcpStream::connect(collector.address).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        drop(collector);
        let ended = connection.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        assert!(matches!(ended, Ok(_) | Err(ErrorKind::ConnectionReset)), "{ended:?}");
    }
}
