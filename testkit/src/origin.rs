//! An HTTP server for services to call. It can delay its responses, and records its requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{PATIENCE, poll};

/// A recorded request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// The response of an origin.
#[derive(Clone, Debug)]
pub struct Manner {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
    /// The delay. `Duration::MAX` means until [`Origin::release`].
    pub delay: Duration,
    /// The target of a redirect.
    pub location: Option<String>,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner { status: 200, body: Bytes::from_static(b"{}"), delay: Duration::ZERO, location: None }
    }
}

/// An HTTP/1.1 server on a free port.
pub struct Origin {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    released: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Origin {
    /// Starts a server.
    pub async fn start(manner: Manner) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let released = watch::Sender::new(false);
        let task = tokio::spawn(serve(listener, manner, asked.clone(), released.clone()));
        Origin { address, asked, released, task }
    }

    /// Its origin, as written in a manifest's allow list.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends infinite delays; later responses that would have one are sent at once.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    /// All recorded requests.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until this many requests were recorded.
    pub async fn wait_until_asked(&self, times: usize) {
        let came = poll::until(PATIENCE, || (self.asked().len() >= times).then_some(())).await;
        assert!(came.is_some(), "asked {} times, not {times}", self.asked().len());
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, manner: Manner, asked: Arc<Mutex<Vec<Asked>>>, released: watch::Sender<bool>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (manner, asked, released) = (manner.clone(), asked.clone(), released.clone());
        let service = service_fn(move |request| answer(request, manner.clone(), asked.clone(), released.subscribe()));
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

async fn answer(
    request: Request<Incoming>,
    manner: Manner,
    asked: Arc<Mutex<Vec<Asked>>>,
    mut released: watch::Receiver<bool>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(Asked {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head.headers,
        body,
    });
    match manner.delay {
        Duration::MAX => {
            released.wait_for(|released| *released).await.ok();
        }
        delay => tokio::time::sleep(delay).await,
    }
    let mut response = Response::new(Full::new(manner.body));
    *response.status_mut() = StatusCode::from_u16(manner.status).unwrap_or_default();
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    if let Some(location) = manner.location.and_then(|location| location.parse().ok()) {
        response.headers_mut().insert("location", location);
    }
    Ok(response)
}
