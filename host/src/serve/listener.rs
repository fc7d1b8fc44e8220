//! Accepts connections on a service's port, reads HTTP/1.1 and HTTP/2 without TLS (h2c) from them, and owns their end.
//!
//! A connection holds a permit from accept to close, so that a flood of connections waits in the kernel and not in the
//! host's memory. On drain the listener stops accepting, lets every request that has begun end, and closes. What takes
//! longer than the drain may is cut off, so that it is accounted for while that is still possible.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_io_timeout::TimeoutStream;

use crate::http::Body;

/// Connections that one listener holds open at a time.
const CONNECTIONS: usize = 10_000;
/// The longest that a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes that a request's head may have. A longer one is answered with 431.
const HEAD_LIMIT: usize = 64 * 1024;
/// Requests of one HTTP/2 connection that are served at a time.
const STREAMS: u32 = 256;
/// How long connections that are cut off may take to be gone.
const CUT_LIMIT: Duration = Duration::from_secs(1);
/// The wait after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a port could not be taken.
#[derive(Debug, Error)]
#[error("{who} cannot listen on {address}: {reason}. Is another host running? Set another `listen` in the manifest")]
pub struct ListenError {
    /// The service or the console.
    pub who: String,
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub reason: std::io::Error,
}

/// A port that was taken but not yet served.
pub struct Bound {
    listener: TcpListener,
    /// The address, with the port that the system chose where 0 was asked for.
    pub address: SocketAddr,
}

/// A port that is served.
pub struct Listener {
    /// The address that it listens on.
    pub address: SocketAddr,
    drain: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// One for each connection.
    permits: Arc<Semaphore>,
    cut: watch::Sender<bool>,
}

/// Takes the port at `address` for `who`.
pub async fn bind(who: &str, address: SocketAddr) -> Result<Bound, ListenError> {
    let fail = |reason| ListenError { who: who.to_owned(), address, reason };
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// Answers every request with `handler` until the listener is drained. What `connected` makes of a client's address
    /// is kept for as long as the connection and lent to the handler. A connection is closed when its client has taken
    /// nothing of what is to be sent for `write_timeout`.
    pub fn serve<C, H, F>(self, connected: fn(SocketAddr) -> C, write_timeout: Duration, handler: H) -> Listener
    where
        C: Send + Sync + 'static,
        H: Fn(Request<Incoming>, &C) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let ((drain, draining), (cut, cutting)) = (watch::channel(false), watch::channel(false));
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let task = tokio::spawn(accept(
            self.listener,
            permits.clone(),
            (connected, write_timeout),
            handler,
            (draining, cutting),
        ));
        Listener { address: self.address, drain, task, permits, cut }
    }
}

impl Listener {
    /// Stops accepting, and returns when the last connection has ended. After `limit` those that are left are cut off, and
    /// the requests on them are given up. Tells whether all connections had ended by themselves.
    pub async fn drain(mut self, limit: Duration) -> bool {
        self.drain.send_replace(true);
        let ended = tokio::time::timeout(limit, &mut self.task).await.is_ok();
        if !ended {
            self.task.abort();
            self.cut.send_replace(true);
            // A guest that computes is stopped when it next lets others run.
            let _ = tokio::time::timeout(CUT_LIMIT, self.permits.acquire_many(CONNECTIONS as u32)).await;
        }
        ended
    }
}

async fn accept<C, H, F>(
    listener: TcpListener,
    permits: Arc<Semaphore>,
    (connected, write_timeout): (fn(SocketAddr) -> C, Duration),
    handler: H,
    (mut draining, cutting): (watch::Receiver<bool>, watch::Receiver<bool>),
) where
    C: Send + Sync + 'static,
    H: Fn(Request<Incoming>, &C) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    let server = server();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining) => break,
            accepted = next(&listener, &permits) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let (handler, client) = (handler.clone(), connected(peer));
        let service = service_fn(move |request| {
            let answer = handler(request, &client);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let connection = server.serve_connection(TokioIo::new(timed(stream, write_timeout)), service).into_owned();
        let connection = graceful.watch(connection);
        let mut cutting = cutting.clone();
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%peer, error, "connection ended early");
                },
                Ok(_) = cutting.wait_for(|cutting| *cutting) => {}
            }
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn next(listener: &TcpListener, permits: &Arc<Semaphore>) -> Option<Accepted> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are written whole; waiting to fill a packet would only delay them.
            stream.set_nodelay(true).ok();
            Some((stream, peer, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// A stream that fails where nothing of it can be written for `write_timeout`.
fn timed(stream: TcpStream, write_timeout: Duration) -> Pin<Box<TimeoutStream<TcpStream>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(write_timeout));
    Box::pin(stream)
}

fn server() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_LIMIT);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_LIMIT as u32)
        .keep_alive_interval(Duration::from_secs(30));
    server
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Empty;
    use hyper::client::conn::{http1, http2};
    use tokio::sync::mpsc;

    use super::*;

    /// Sends a request, over HTTP/2 or 1.1, and waits for as long as an answer takes.
    async fn ask(address: SocketAddr, over_http2: bool) -> hyper::Result<Response<Incoming>> {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let request = Request::get(format!("http://{address}/")).body(Empty::<Bytes>::new()).unwrap();
        if over_http2 {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            return sender.send_request(request).await;
        }
        let (mut sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        sender.send_request(request).await
    }

    #[tokio::test]
    async fn a_request_that_outlasts_the_drain_is_given_up() {
        for over_http2 in [false, true] {
            let (begins, mut begun) = mpsc::unbounded_channel();
            let bound = bind("a test", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
            let endless = async |begins: mpsc::UnboundedSender<()>| {
                begins.send(()).unwrap();
                std::future::pending::<()>().await;
                // Held until the request is given up; with the last one the channel is closed.
                drop(begins);
                Response::new(Body::empty())
            };
            let listener = bound.serve(|_| (), Duration::from_secs(30), move |_, ()| endless(begins.clone()));
            let asked = tokio::spawn(ask(listener.address, over_http2));
            begun.recv().await.unwrap();
            assert!(!listener.drain(Duration::from_millis(50)).await);
            let gone = tokio::time::timeout(Duration::from_secs(10), begun.recv()).await;
            assert_eq!(gone, Ok(None), "the request is still being served");
            assert!(asked.await.unwrap().is_err());
        }
    }
}
