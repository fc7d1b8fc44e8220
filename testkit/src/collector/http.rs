//! The OTLP/HTTP server, with binary protobuf.

use std::convert::Infallible;
use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

use super::behaviour::{LARGEST, Verdict};
use super::record::{Arrival, Export, Protocol, Records};

type Answer = Response<Full<Bytes>>;

/// Serves until its runtime is dropped.
pub(super) async fn serve(listener: TcpListener, records: Arc<Records>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a non-blocking listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let records = records.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let records = records.clone();
                async move { Ok::<_, Infallible>(answer(request, &records).await) }
            });
            // A client that disconnects is not an error of the collector.
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

async fn answer(request: Request<Incoming>, records: &Records) -> Answer {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::POST, "/v1/traces") => {
            take::<ExportTraceServiceRequest, _>(request, records, |rejected_spans| {
                let partial = ExportTracePartialSuccess { rejected_spans, error_message: String::new() };
                ExportTraceServiceResponse { partial_success: (rejected_spans > 0).then_some(partial) }
            })
            .await
        }
        (&Method::POST, "/v1/metrics") => {
            take::<ExportMetricsServiceRequest, _>(request, records, |rejected_data_points| {
                let partial = ExportMetricsPartialSuccess { rejected_data_points, error_message: String::new() };
                ExportMetricsServiceResponse { partial_success: (rejected_data_points > 0).then_some(partial) }
            })
            .await
        }
        (&Method::POST, "/v1/logs") => {
            take::<ExportLogsServiceRequest, _>(request, records, |rejected_log_records| {
                let partial = ExportLogsPartialSuccess { rejected_log_records, error_message: String::new() };
                ExportLogsServiceResponse { partial_success: (rejected_log_records > 0).then_some(partial) }
            })
            .await
        }
        _ => status(StatusCode::NOT_FOUND),
    }
}

async fn take<E, R>(request: Request<Incoming>, records: &Records, response: impl FnOnce(i64) -> R) -> Answer
where
    E: Export + Message + Default,
    R: Message,
{
    let (head, body) = request.into_parts();
    let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    if head.headers.get(CONTENT_TYPE).map(text).as_deref() != Some("application/x-protobuf") {
        return status(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let gzipped = head.headers.get(CONTENT_ENCODING).map(text).as_deref() == Some("gzip");
    let Ok(body) = body.collect().await else { return status(StatusCode::BAD_REQUEST) };
    let Some(export) = decode::<E>(&body.to_bytes(), gzipped) else { return status(StatusCode::BAD_REQUEST) };
    if export.encoded_len() > LARGEST {
        return status(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let behaviour = records.arrived(Arrival {
        signal: E::SIGNAL,
        protocol: Protocol::Http,
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        at: Instant::now(),
        items: export.items(),
        services: export.services(),
    });
    match behaviour.verdict().await {
        Verdict::Record { rejected } => {
            export.record(records);
            let mut answer = Response::new(Full::from(response(rejected).encode_to_vec()));
            answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/x-protobuf"));
            answer
        }
        Verdict::Never => status(StatusCode::BAD_REQUEST),
        Verdict::Again { after } => {
            let mut answer = status(StatusCode::SERVICE_UNAVAILABLE);
            if let Some(after) = after {
                answer.headers_mut().insert(RETRY_AFTER, after.as_secs().max(1).into());
            }
            answer
        }
    }
}

fn decode<E: Message + Default>(body: &[u8], gzipped: bool) -> Option<E> {
    let mut plain = Vec::new();
    let body = match gzipped {
        true => {
            flate2::read::GzDecoder::new(body).read_to_end(&mut plain).ok()?;
            &plain
        }
        false => body,
    };
    E::decode(body).ok()
}

fn status(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
