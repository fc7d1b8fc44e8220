//! A test collector with scripted responses, over gRPC and HTTP.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::tls::Certificates;

/// The response to a request.
#[derive(Clone, Debug)]
pub enum ScriptedResponse {
    Accept,
    Retry(Option<Duration>),
    Reject,
    /// Accepts all but this many items, with a message.
    Partial(i64, &'static str),
    Hang,
}

#[derive(Default)]
pub struct Seen {
    /// The responses to the next requests; after that, `Accept`.
    pub responses: VecDeque<ScriptedResponse>,
    pub traces: Vec<ExportTraceServiceRequest>,
    pub logs: Vec<ExportLogsServiceRequest>,
    /// The times and headers of all requests, whatever the response.
    pub arrivals: Vec<(Instant, Vec<(String, String)>)>,
}

impl Seen {
    pub fn spans(&self) -> usize {
        let scopes =
            self.traces.iter().flat_map(|request| &request.resource_spans).flat_map(|group| &group.scope_spans);
        scopes.map(|scope| scope.spans.len()).sum()
    }
}

/// A collector. It stops when it is dropped.
pub struct Collector {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    pub async fn grpc() -> Collector {
        Collector::grpc_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn grpc_at(address: SocketAddr) -> Collector {
        Collector::serve_grpc(Server::builder(), address).await
    }

    /// A collector that requires a client certificate.
    pub async fn grpc_with_tls(certificates: &Certificates) -> Collector {
        let identity = Identity::from_pem(certificates.read("server.pem"), certificates.read("server.key"));
        let authority = Certificate::from_pem(certificates.read("authority.pem"));
        let tls = ServerTlsConfig::new().identity(identity).client_ca_root(authority);
        Collector::serve_grpc(Server::builder().tls_config(tls).unwrap(), "127.0.0.1:0".parse().unwrap()).await
    }

    async fn serve_grpc(mut server: Server, address: SocketAddr) -> Collector {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let service = Service(seen.clone());
        let traces = TraceServiceServer::new(service.clone()).accept_compressed(CompressionEncoding::Gzip);
        let server = server.add_service(traces).add_service(LogsServiceServer::new(service));
        let task = tokio::spawn(async move {
            server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
        });
        Collector { address, seen, task }
    }

    pub async fn http() -> Collector {
        Collector::serve_http(None).await
    }

    /// A collector that requires a client certificate.
    pub async fn http_with_tls(certificates: &Certificates) -> Collector {
        let pem = |name| certificates.read(name).into_bytes();
        let chain = CertificateDer::pem_slice_iter(&pem("server.pem")).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(&pem("server.key")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem("authority.pem")).unwrap()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
        let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_client_cert_verifier(clients).with_single_cert(chain, key).unwrap();
        Collector::serve_http(Some(TlsAcceptor::from(Arc::new(tls)))).await
    }

    async fn serve_http(tls: Option<TlsAcceptor>) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let service = Service(seen.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (service, tls) = (service.clone(), tls.clone());
                let answer = hyper::service::service_fn(move |request| {
                    let service = service.clone();
                    async move { Ok::<_, Infallible>(service.http(request).await) }
                });
                tokio::spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    match tls {
                        None => drop(http.serve_connection(TokioIo::new(stream), answer).await),
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            drop(http.serve_connection(TokioIo::new(stream), answer).await);
                        }
                    }
                });
            }
        });
        Collector { address, seen, task }
    }

    pub fn with_responses(self, responses: impl IntoIterator<Item = ScriptedResponse>) -> Collector {
        self.see(|seen| seen.responses.extend(responses));
        self
    }

    pub fn see<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap())
    }

    /// Waits until a condition holds.
    pub async fn wait(&self, wanted: impl Fn(&Seen) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.see(|seen| wanted(seen)) {
            assert!(Instant::now() < deadline, "{} spans came", self.see(|seen| seen.spans()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[derive(Clone)]
struct Service(Arc<Mutex<Seen>>);

impl Service {
    fn arrived(&self, headers: Vec<(String, String)>) -> ScriptedResponse {
        let mut seen = self.0.lock().unwrap();
        seen.arrivals.push((Instant::now(), headers));
        seen.responses.pop_front().unwrap_or(ScriptedResponse::Accept)
    }

    /// The gRPC response, with the partial success if the request is accepted.
    async fn grpc<T>(&self, request: &tonic::Request<T>) -> Result<Option<ExportTracePartialSuccess>, Status> {
        let metadata = request.metadata().clone().into_headers();
        match self.arrived(texts(&metadata)) {
            ScriptedResponse::Accept => Ok(None),
            ScriptedResponse::Partial(rejected, text) => Ok(Some(partial(rejected, text))),
            ScriptedResponse::Reject => Err(Status::invalid_argument("never")),
            ScriptedResponse::Retry(None) => Err(Status::unavailable("later")),
            ScriptedResponse::Retry(after) => {
                Err(Status::with_error_details(Code::Unavailable, "later", ErrorDetails::with_retry_info(after)))
            }
            ScriptedResponse::Hang => std::future::pending().await,
        }
    }

    async fn http(&self, request: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let mut plain = Vec::new();
        if head.headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
            flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
        } else {
            plain.extend_from_slice(&body);
        }
        let traces = ExportTraceServiceRequest::decode(&*plain).unwrap();
        let mut response = Response::new(Full::default());
        let partial_success = match self.arrived(texts(&head.headers)) {
            ScriptedResponse::Accept => None,
            ScriptedResponse::Partial(rejected, text) => Some(partial(rejected, text)),
            ScriptedResponse::Reject => {
                *response.status_mut() = StatusCode::BAD_REQUEST;
                return response;
            }
            ScriptedResponse::Retry(after) => {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                let seconds = after.map_or(0, |after| after.as_secs());
                response.headers_mut().insert("retry-after", seconds.into());
                return response;
            }
            ScriptedResponse::Hang => std::future::pending().await,
        };
        self.0.lock().unwrap().traces.push(traces);
        *response.body_mut() = ExportTraceServiceResponse { partial_success }.encode_to_vec().into();
        response
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let partial_success = self.grpc(&request).await?;
        self.0.lock().unwrap().traces.push(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, Status> {
        self.grpc(&request).await?;
        self.0.lock().unwrap().logs.push(request.into_inner());
        Ok(tonic::Response::new(ExportLogsServiceResponse::default()))
    }
}

fn partial(rejected_spans: i64, text: &str) -> ExportTracePartialSuccess {
    ExportTracePartialSuccess { rejected_spans, error_message: text.to_owned() }
}

fn texts(headers: &http::HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}
