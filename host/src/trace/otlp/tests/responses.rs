//! Invalid responses: those of proxies, of other servers, and of broken connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

use super::super::batch::Body;
use super::super::export_result::ExportResult;
use super::super::grpc::Grpc;
use super::super::http::Http;
use super::super::response;
use crate::trace::counters::SignalKind;
use crate::trace::settings::{Otlp, Protocol};

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

/// The result of an export to a server with this response.
async fn export(protocol: Protocol, answer: impl Fn() -> Answer + Send + Sync + 'static) -> ExportResult {
    let endpoint = format!("http://{}", serve(answer).await);
    let otlp = Otlp { endpoint, protocol, timeout: Duration::from_secs(20), ..Otlp::standard() };
    let body = Body::from(Vec::new());
    match protocol {
        Protocol::Grpc => Grpc::new(&otlp).unwrap().send(SignalKind::Traces, body).await,
        Protocol::HttpProtobuf => Http::new(&otlp).unwrap().send(body).await,
    }
}

async fn serve(answer: impl Fn() -> Answer + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(|_| std::future::ready(Ok::<_, Infallible>(answer())));
        drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
    });
    address
}

fn whole(status: u16, kind: &str, body: impl Into<Bytes>) -> Answer {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed();
    Response::builder().status(status).header("content-type", kind).body(body).unwrap()
}

/// A gRPC message with this declared length and these bytes, and the status that follows it.
fn message(length: u32, bytes: &[u8], status: Option<&'static str>) -> Answer {
    let (head, body) = whole(200, "application/grpc", [&[0][..], &length.to_be_bytes(), bytes].concat()).into_parts();
    let Some(status) = status else { return Response::from_parts(head, body) };
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]);
    Response::from_parts(head, body.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed())
}

const NO_PROTOBUF: &[u8] = b"<html>";

#[tokio::test]
async fn responses_of_a_proxy_are_interpreted_alike_over_grpc_and_http() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        for status in [429, 502, 503, 504] {
            let verdict = export(protocol, move || {
                let mut answer = whole(status, "text/plain", "the upstream is away");
                answer.headers_mut().insert("retry-after", "7".parse().unwrap());
                answer
            });
            let verdict = verdict.await;
            let ExportResult::Retry { after, reason, .. } = &verdict else {
                panic!("{status} {protocol:?}: {verdict:?}")
            };
            assert_eq!(*after, Some(Duration::from_secs(7)), "{protocol:?}");
            assert!(reason.contains(&status.to_string()), "{reason}");
        }
        for status in [302, 400, 401, 404, 500] {
            let verdict = export(protocol, move || whole(status, "text/plain", "no")).await;
            assert!(
                matches!(&verdict, ExportResult::Rejected(why) if why.contains(&status.to_string())),
                "{verdict:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_truncated_grpc_response_is_retried() {
    let cut = export(Protocol::Grpc, || message(100, b"short", None)).await;
    let nothing = export(Protocol::Grpc, || whole(200, "application/grpc", "")).await;
    let no_frame = export(Protocol::Grpc, || whole(200, "text/html", "<html>")).await;
    let broken = export(Protocol::Grpc, || {
        let frames = [Ok(Frame::data(Bytes::from_static(b"\0\0"))), Err(std::io::Error::other("gone"))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    });
    for verdict in [cut, nothing, no_frame, broken.await] {
        assert!(matches!(verdict, ExportResult::Retry { .. }), "{verdict:?}");
    }
}

#[tokio::test]
async fn grpc_status_codes_decide_about_retries() {
    for (status, again) in [("13", false), ("2", false), ("3", false), ("8", false), ("14", true), ("1", true)] {
        let verdict = export(Protocol::Grpc, move || message(0, b"", Some(status))).await;
        assert_eq!(matches!(verdict, ExportResult::Retry { .. }), again, "{status}: {verdict:?}");
    }
}

#[tokio::test]
async fn an_undecodable_response_counts_as_success_with_a_warning() {
    let grpc = export(Protocol::Grpc, || message(6, NO_PROTOBUF, Some("0"))).await;
    let no_message = export(Protocol::Grpc, || message(100, b"short", Some("0"))).await;
    let announced = export(Protocol::Grpc, || message(1 << 30, b"short", Some("0"))).await;
    let compressed = export(Protocol::Grpc, || {
        let mut answer = message(0, b"", Some("0"));
        answer.headers_mut().insert("grpc-encoding", "snappy".parse().unwrap());
        answer
    });
    let compressed = compressed.await;
    let http = export(Protocol::HttpProtobuf, || whole(200, "text/html", NO_PROTOBUF)).await;
    for verdict in [grpc, no_message, announced, compressed, http] {
        assert!(
            matches!(&verdict, ExportResult::Accepted { rejected: 0, message } if !message.is_empty()),
            "{verdict:?}"
        );
    }
    let nothing = export(Protocol::HttpProtobuf, || whole(200, "application/x-protobuf", "")).await;
    assert_eq!(nothing, ExportResult::Accepted { rejected: 0, message: String::new() });
}

#[tokio::test]
async fn an_endless_response_is_not_read_completely() {
    const PIECE: usize = 64 << 10;
    for (protocol, status) in [(Protocol::HttpProtobuf, 200), (Protocol::HttpProtobuf, 400), (Protocol::Grpc, 200)] {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let verdict = export(protocol, move || {
            let counted = counted.clone();
            let pieces = futures_util::stream::repeat_with(move || {
                counted.fetch_add(PIECE, Ordering::Relaxed);
                Ok(Frame::data(Bytes::from_static(&[b'x'; PIECE])))
            });
            Response::builder().status(status).body(StreamBody::new(pieces).boxed()).unwrap()
        });
        let verdict = verdict.await;
        assert_eq!(matches!(verdict, ExportResult::Accepted { .. }), status == 200, "{verdict:?}");
        let sent = sent.load(Ordering::Relaxed);
        assert!(
            sent > response::MAX_RESPONSE_BYTES && sent < 16 * response::MAX_RESPONSE_BYTES,
            "{sent} bytes were read"
        );
    }
}
