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

use super::grpc::answer;
use super::receiver::{REQUEST, Receiver};
use super::turn::Turn;

/// `INVALID_ARGUMENT` of gRPC.
const INVALID: i32 = 3;

/// How a request and its answer are written.
#[derive(Clone, Copy)]
enum Encoding {
    Protobuf,
    Json,
}

/// Why a request is refused.
struct Refusal {
    encoding: Encoding,
    status: StatusCode,
    message: String,
}

/// The one path.
pub(super) fn routes(receiver: Receiver) -> Router {
    Router::new().route("/v1/traces", post(export)).with_state(receiver)
}

async fn export(
    State(receiver): State<Receiver>,
    Extension(turn): Extension<Turn>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(encoding) = Encoding::of(&headers) else {
        let message = "send application/x-protobuf or application/json";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response();
    };
    let packed = headers.get(CONTENT_ENCODING).map(|value| value.as_bytes().to_ascii_lowercase());
    // A large request takes milliseconds to decode, which no worker should be held up for.
    let taken = tokio::task::spawn_blocking(move || {
        // Ends with the work, which goes on where the client goes away.
        let _turn = turn;
        let request = encoding.decode(unpacked(body, packed.as_deref(), encoding)?)?;
        Ok(receiver.take(request))
    });
    match taken.await {
        Ok(Ok(taken)) => encoding.respond(StatusCode::OK, &answer(&taken)),
        Ok(Err(refusal)) => Refusal::into_response(refusal),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn unpacked(body: Bytes, packing: Option<&[u8]>, encoding: Encoding) -> Result<Bytes, Refusal> {
    let refuse = |status, message: &str| Refusal { encoding, status, message: message.to_owned() };
    match packing {
        None | Some(b"" | b"identity") => Ok(body),
        Some(b"gzip") => {
            let mut unpacked = Vec::new();
            let read = GzDecoder::new(body.as_ref()).take(REQUEST as u64 + 1).read_to_end(&mut unpacked);
            match read {
                Ok(length) if length > REQUEST => {
                    Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large when it is unpacked"))
                }
                Ok(_) => Ok(unpacked.into()),
                Err(_) => Err(refuse(StatusCode::BAD_REQUEST, "the request is no gzip")),
            }
        }
        Some(_) => Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send gzip or nothing as content-encoding")),
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

    fn decode(self, body: Bytes) -> Result<ExportTraceServiceRequest, Refusal> {
        let read = match self {
            Encoding::Protobuf => ExportTraceServiceRequest::decode(body).map_err(|error| error.to_string()),
            Encoding::Json => serde_json::from_slice(&body).map_err(|error| error.to_string()),
        };
        read.map_err(|message| Refusal { encoding: self, status: StatusCode::BAD_REQUEST, message })
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

impl Refusal {
    /// As `google.rpc.Status`, which is what the specification of OTLP wants here.
    fn into_response(self) -> Response {
        let body = match self.encoding {
            Encoding::Protobuf => Status { code: INVALID, message: self.message, details: Vec::new() }.encode_to_vec(),
            Encoding::Json => serde_json::json!({ "code": INVALID, "message": self.message }).to_string().into_bytes(),
        };
        self.encoding.respond_with(self.status, body)
    }
}
