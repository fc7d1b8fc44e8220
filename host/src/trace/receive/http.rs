//! OTLP over HTTP: `POST /v1/traces`, as protobuf or as JSON.

use std::io::Read;

use ::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use ::http::{HeaderMap, StatusCode};
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tonic_types::Status;

use super::grpc::response;
use super::permit::ReceivePermit;
use super::receiver::{MAX_REQUEST_BYTES, Receiver};

/// `INVALID_ARGUMENT` of gRPC.
const INVALID_ARGUMENT: i32 = 3;

/// The encoding of a request and its response.
#[derive(Clone, Copy)]
enum Encoding {
    Protobuf,
    Json,
}

/// Why a request is rejected.
struct ReceiveRejection {
    encoding: Encoding,
    status: StatusCode,
    message: String,
}

/// The routes of OTLP over HTTP.
pub(super) fn routes(receiver: Receiver) -> Router {
    Router::new().route("/v1/traces", post(export)).with_state(receiver)
}

async fn export(
    State(receiver): State<Receiver>,
    Extension(permit): Extension<ReceivePermit>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(encoding) = Encoding::of(&headers) else {
        let message = "send application/x-protobuf or application/json";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response();
    };
    let content_encoding = headers.get(CONTENT_ENCODING).map(|value| value.as_bytes().to_ascii_lowercase());
    // Decoding a large request takes milliseconds, too long for a worker thread.
    let outcome = tokio::task::spawn_blocking(move || {
        // The permit is released when the work is done, which continues if the client disconnects.
        let _permit = permit;
        let request = encoding.decode(decompressed(body, content_encoding.as_deref(), encoding)?)?;
        Ok(receiver.store_spans(request))
    });
    match outcome.await {
        Ok(Ok(outcome)) => encoding.respond(StatusCode::OK, &response(&outcome)),
        Ok(Err(rejection)) => ReceiveRejection::into_response(rejection),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn decompressed(body: Bytes, encoding_name: Option<&[u8]>, encoding: Encoding) -> Result<Bytes, ReceiveRejection> {
    let reject = |status, message: &str| ReceiveRejection { encoding, status, message: message.to_owned() };
    match encoding_name {
        None | Some(b"" | b"identity") => Ok(body),
        Some(b"gzip") => {
            let mut decompressed = Vec::new();
            let read = GzDecoder::new(body.as_ref()).take(MAX_REQUEST_BYTES as u64 + 1).read_to_end(&mut decompressed);
            match read {
                Ok(length) if length > MAX_REQUEST_BYTES => {
                    Err(reject(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large after decompression"))
                }
                Ok(_) => Ok(decompressed.into()),
                Err(_) => Err(reject(StatusCode::BAD_REQUEST, "the request is not valid gzip")),
            }
        }
        Some(_) => Err(reject(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send gzip or no content-encoding")),
    }
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Option<Encoding> {
        let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        match kind.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "application/x-protobuf" => Some(Encoding::Protobuf),
            "application/json" => Some(Encoding::Json),
            _ => None,
        }
    }

    fn decode(self, body: Bytes) -> Result<ExportTraceServiceRequest, ReceiveRejection> {
        let read = match self {
            Encoding::Protobuf => ExportTraceServiceRequest::decode(body).map_err(|error| error.to_string()),
            Encoding::Json => serde_json::from_slice(&body).map_err(|error| error.to_string()),
        };
        read.map_err(|message| ReceiveRejection { encoding: self, status: StatusCode::BAD_REQUEST, message })
    }

    fn respond(self, status: StatusCode, message: &(impl Message + serde::Serialize)) -> Response {
        match self {
            Encoding::Protobuf => self.respond_with(status, message.encode_to_vec()),
            Encoding::Json => self.respond_with(status, serde_json::to_vec(message).unwrap_or_default()),
        }
    }

    fn respond_with(self, status: StatusCode, body: Vec<u8>) -> Response {
        let kind = match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        };
        (status, [(CONTENT_TYPE, kind)], body).into_response()
    }
}

impl ReceiveRejection {
    /// The response with a `google.rpc.Status`, as the OTLP specification requires.
    fn into_response(self) -> Response {
        let body = match self.encoding {
            Encoding::Protobuf => {
                Status { code: INVALID_ARGUMENT, message: self.message, details: Vec::new() }.encode_to_vec()
            }
            Encoding::Json => {
                serde_json::json!({ "code": INVALID_ARGUMENT, "message": self.message }).to_string().into_bytes()
            }
        };
        self.encoding.respond_with(self.status, body)
    }
}
