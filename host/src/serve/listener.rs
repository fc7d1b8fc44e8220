//! Accepts the connections of a port and closes them.
//!
//! A connection has a permit from accept to close, so a flood of connections waits in the kernel's backlog and not in
//! the host's memory. On drain the listener stops accepting, lets the requests in flight end, and closes. Requests that
//! exceed the drain limit are cancelled, so that they are still counted and traced.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::admission::{Admission, ConnectionPermit, PortPermits};
use super::connection::{Protocols, ShutdownSignals};
use crate::http::Body;
use crate::http::head::HeadError;
use crate::http::http1::last_response;

/// The console as the owner of a port.
pub const CONSOLE: &str = "the console";
/// The OTLP receiver as the owner of a port.
pub const OTLP_RECEIVER: &str = "the OTLP receiver";

/// How long cancelled connections may take to close.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);
/// The delay before the next accept after one that failed, for example because the process has no free file descriptor.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// How often failed accepts are logged.
const ACCEPT_ERROR_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Why a port could not be bound.
#[derive(Debug, Error)]
#[error("{owner} cannot listen on {address}: {reason}. Is another host running? Set another `listen` in the manifest")]
pub struct ListenError {
    /// The service or the console that the port is for.
    pub owner: String,
    /// The requested address.
    pub address: SocketAddr,
    /// The error of the operating system.
    pub reason: std::io::Error,
}

/// A bound port that is not served yet.
pub struct BoundPort {
    listener: TcpListener,
    /// The address, with the port that the operating system chose for port 0.
    pub address: SocketAddr,
}

/// A port that is being served.
pub struct Listener {
    /// The address that it listens on.
    pub address: SocketAddr,
    /// Tells the connections to drain.
    drain: watch::Sender<bool>,
    /// Tells the connections to close at once.
    cancel: watch::Sender<bool>,
    task: JoinHandle<()>,
    permits: Arc<PortPermits>,
}

/// Binds `address` for `owner`.
pub async fn bind(owner: &str, address: SocketAddr) -> Result<BoundPort, ListenError> {
    let fail = |reason| ListenError { owner: owner.to_owned(), address, reason };
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    Ok(BoundPort { listener, address })
}

/// Checks that `owner` can bind `address`, without accepting connections.
pub fn check(owner: &str, address: SocketAddr) -> Result<(), ListenError> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let bound = socket.and_then(|socket| {
        // As `TcpListener::bind` does: connections that were closed a short time ago do not prevent it.
        socket.set_reuseaddr(true)?;
        socket.bind(address)
    });
    bound.map_err(|reason| ListenError { owner: owner.to_owned(), address, reason })
}

impl BoundPort {
    /// Answers every request with `handler` until the listener is drained. `connection_context` creates a value from
    /// the client's address. The value lives as long as the connection, and every call of the handler receives it.
    pub fn serve<C, H>(self, admission: Admission, connection_context: fn(SocketAddr) -> C, handler: H) -> Listener
    where
        C: Send + Sync + 'static,
        H: Fn(Request<Body>, &C) -> BoxFuture<'static, Response<Body>> + Clone + Send + Sync + Unpin + 'static,
    {
        self.serve_with_head_errors(admission, connection_context, handler, |error, _| last_response(error.response()))
    }

    /// The same as [`BoundPort::serve`]. `reject_head` returns the responses to request heads that cannot be read, as
    /// HTTP/1.1 bytes.
    pub fn serve_with_head_errors<C, H, R>(
        self,
        admission: Admission,
        connection_context: fn(SocketAddr) -> C,
        handler: H,
        reject_head: R,
    ) -> Listener
    where
        C: Send + Sync + 'static,
        H: Fn(Request<Body>, &C) -> BoxFuture<'static, Response<Body>> + Clone + Send + Sync + Unpin + 'static,
        R: Fn(&HeadError, &C) -> Vec<u8> + Clone + Send + Sync + 'static,
    {
        let ((drain, draining), (cancel, cancelling)) = (watch::channel(false), watch::channel(false));
        let permits = Arc::new(admission.port_permits());
        let acceptor = Acceptor { listener: self.listener, permits: permits.clone(), last_logged: None };
        let signals = ShutdownSignals { draining, cancelling };
        let task = tokio::spawn(acceptor.run(admission, connection_context, (handler, reject_head), signals));
        Listener { address: self.address, drain, cancel, task, permits }
    }
}

impl Listener {
    /// Stops accepting, and returns when the last connection has ended. When `until` resolves, the remaining
    /// connections are closed and their requests cancelled. Returns whether all connections had ended by themselves.
    pub async fn drain(mut self, until: impl Future<Output = ()>) -> bool {
        self.drain.send_replace(true);
        let is_drained = tokio::select! {
            _ = &mut self.task => true,
            () = until => false,
        };
        if !is_drained {
            self.task.abort();
            self.cancel.send_replace(true);
            // A guest that is computing is stopped when it next yields.
            let _ = tokio::time::timeout(CANCEL_TIMEOUT, self.permits.all_released()).await;
        }
        is_drained
    }
}

/// Accepts the connections of one port.
struct Acceptor {
    listener: TcpListener,
    permits: Arc<PortPermits>,
    /// When a failed accept was last logged.
    last_logged: Option<Instant>,
}

impl Acceptor {
    /// Runs until the last connection has ended after a drain.
    async fn run<C, H, R>(
        mut self,
        admission: Admission,
        connection_context: fn(SocketAddr) -> C,
        handlers: (H, R),
        signals: ShutdownSignals,
    ) where
        C: Send + Sync + 'static,
        R: Fn(&HeadError, &C) -> Vec<u8> + Clone + Send + Sync + 'static,
        H: Fn(Request<Body>, &C) -> BoxFuture<'static, Response<Body>> + Clone + Send + Sync + Unpin + 'static,
    {
        let protocols = Arc::new(Protocols::new());
        let mut draining = signals.draining.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = draining.wait_for(|draining| *draining) => break,
                accepted = self.next() => accepted,
            };
            let Some((stream, peer, permit)) = accepted else { continue };
            let (protocols, handlers, signals) = (protocols.clone(), handlers.clone(), signals.clone());
            let timeouts = admission.timeouts();
            tokio::spawn(async move {
                protocols.serve(stream, timeouts, signals, handlers, connection_context(peer)).await;
                drop(permit);
            });
        }
        drop(self.listener);
        self.permits.all_released().await;
    }

    /// Waits for a permit and a connection. Returns `None` if the accept failed.
    async fn next(&mut self) -> Option<(TcpStream, SocketAddr, ConnectionPermit)> {
        let permit = self.permits.acquire().await?;
        match self.listener.accept().await {
            Ok((stream, peer)) => {
                // A response is written with one call, so Nagle's algorithm would only delay it.
                stream.set_nodelay(true).ok();
                Some((stream, peer, permit))
            }
            Err(error) => {
                if self.last_logged.is_none_or(|last| last.elapsed() > ACCEPT_ERROR_LOG_INTERVAL) {
                    self.last_logged = Some(Instant::now());
                    tracing::warn!(%error, "connections cannot be accepted");
                }
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use http_body::Frame;
    use http_body_util::{Empty, StreamBody};
    use hyper::body::Incoming;
    use hyper::client::conn::{http1, http2};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    use super::super::connection::Timeouts;
    use super::*;
    use crate::http::head;
    use crate::http::host::HostCache;

    /// Sends a request over HTTP/2 or HTTP/1.1 and waits for the response without a limit.
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
    async fn a_request_that_exceeds_the_drain_limit_is_cancelled() {
        for over_http2 in [false, true] {
            let (begins, mut begun) = mpsc::unbounded_channel();
            let bound = bind("a test", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
            let endless = async |begins: mpsc::UnboundedSender<()>| {
                begins.send(()).unwrap();
                std::future::pending::<()>().await;
                // Held until the request is cancelled. When the last sender is dropped, the channel closes.
                drop(begins);
                Response::new(Body::empty())
            };
            let listener = bound.serve(admission(10, TIMEOUTS), |_| (), move |_, ()| endless(begins.clone()).boxed());
            let asked = tokio::spawn(ask(listener.address, over_http2));
            begun.recv().await.unwrap();
            assert!(!listener.drain(elapsed(Duration::from_millis(50))).await);
            let gone = tokio::time::timeout(Duration::from_secs(30), begun.recv()).await;
            assert_eq!(gone, Ok(None), "the request is still being served");
            assert!(asked.await.unwrap().is_err());
        }
    }

    #[tokio::test]
    async fn the_rest_of_an_http_2_body_is_discarded_when_the_service_has_responded() {
        let bound = bind("a test", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let early = |request: Request<Body>| async {
            drop(request);
            Response::new(Body::empty())
        };
        let listener = bound.serve(admission(10, TIMEOUTS), |_| (), move |request, ()| early(request).boxed());
        let stream = TokioIo::new(TcpStream::connect(listener.address).await.unwrap());
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        // More than the windows of the stream and the connection.
        let (chunks, counted) = (64, Arc::new(AtomicUsize::new(0)));
        let count = counted.clone();
        let frames = (0..chunks).map(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; 64 * 1024])))
        });
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let request = Request::post(format!("http://{}/", listener.address)).body(body).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
        let sent = async {
            while counted.load(Ordering::Relaxed) < chunks {
                tokio::task::yield_now().await;
            }
        };
        within(Duration::from_secs(30), sent).await;
    }

    const HOUR: Duration = Duration::from_secs(3600);
    /// Timeouts that no test waits for. Each test shortens those that it is about.
    const TIMEOUTS: Timeouts = Timeouts { head: HOUR, keep_alive: HOUR, stall: HOUR };

    fn admission(connections: usize, timeouts: Timeouts) -> Admission {
        Admission::services(connections, 100_000, timeouts)
    }

    async fn serving(connections: usize, timeouts: Timeouts) -> Listener {
        let bound = bind("a test", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        bound.serve(
            admission(connections, timeouts),
            |_| (),
            |_, ()| async { Response::new(Body::from(Bytes::from_static(b"here"))) }.boxed(),
        )
    }

    /// Resolves after `time`.
    fn elapsed(time: Duration) -> impl Future<Output = ()> {
        tokio::time::sleep_until(tokio::time::Instant::now() + time)
    }

    async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
        tokio::time::timeout(limit, future).await.expect("the future did not resolve in time")
    }

    /// Sends `bytes` over a new connection and returns what the server sends until it closes the connection.
    async fn sent(address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut received = Vec::new();
        let read = within(Duration::from_secs(30), stream.read_to_end(&mut received)).await;
        // A connection reset counts as the end.
        let _ = read;
        String::from_utf8_lossy(&received).into_owned()
    }

    #[tokio::test]
    async fn a_connection_without_a_complete_first_head_is_closed_after_the_head_timeout() {
        let listener = serving(100, Timeouts { head: Duration::from_secs(1), ..TIMEOUTS }).await;
        let starts = ["", "P", "PRI", "PRI * HTTP/2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
        let starts = starts.map(str::as_bytes).into_iter().chain([&b"\x16\x03\x01"[..], b"\r\n"]);
        let silent = starts.map(async |start| {
            let received = sent(listener.address, start).await;
            assert!(!received.contains("here"), "{start:?}: {received}");
        });
        let answered = ["G", "GET / HT", "GET / HTTP/1.1\r\nhost: a\r\n", "PRI * HTTP/2.1"].map(async |start| {
            let received = sent(listener.address, start.as_bytes()).await;
            assert!(
                received.starts_with("HTTP/1.1 408 ") || received.starts_with("HTTP/1.1 400 "),
                "{start}: {received}"
            );
        });
        tokio::join!(join_all(silent), join_all(answered));
        assert!(listener.drain(elapsed(Duration::from_secs(30))).await, "every connection has ended");
    }

    /// Long enough for a request on a busy machine.
    const HEAD_TIMEOUT: Duration = Duration::from_secs(1);
    /// Longer than that.
    const PAUSE: Duration = Duration::from_millis(1500);

    #[tokio::test]
    async fn an_http_1_connection_is_kept_alive_for_longer_than_the_head_timeout() {
        let listener = serving(100, Timeouts { head: HEAD_TIMEOUT, ..TIMEOUTS }).await;
        let mut stream = TcpStream::connect(listener.address).await.unwrap();
        for _ in 0..2 {
            ask_over_http1(&mut stream).await;
            elapsed(PAUSE).await;
        }
        ask_over_http1(&mut stream).await;
    }

    #[tokio::test]
    async fn an_idle_http_1_connection_is_closed_after_the_keep_alive_timeout() {
        let listener = serving(100, Timeouts { keep_alive: Duration::from_millis(300), ..TIMEOUTS }).await;
        let mut stream = TcpStream::connect(listener.address).await.unwrap();
        ask_over_http1(&mut stream).await;
        assert_eq!(within(Duration::from_secs(30), stream.read(&mut [0; 512])).await.unwrap(), 0);
    }

    async fn ask_over_http1(stream: &mut TcpStream) {
        let mut answer = [0; 512];
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let count = within(Duration::from_secs(30), stream.read(&mut answer)).await.unwrap();
        assert!(String::from_utf8_lossy(&answer[..count]).ends_with("here"));
    }

    #[tokio::test]
    async fn an_http_2_connection_is_kept_alive_for_longer_than_the_head_timeout_and_closed_after_its_own() {
        let kept = Timeouts { head: HEAD_TIMEOUT, ..TIMEOUTS };
        let closed = Timeouts { keep_alive: Duration::from_millis(300), ..TIMEOUTS };
        for (timeouts, requests) in [(kept, 3), (closed, 1)] {
            let listener = serving(100, timeouts).await;
            let stream = TokioIo::new(TcpStream::connect(listener.address).await.unwrap());
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            let ended = tokio::spawn(connection);
            let url = format!("http://{}/", listener.address);
            for number in 1..=requests {
                let request = Request::get(&url).body(Empty::<Bytes>::new()).unwrap();
                assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
                if number < requests {
                    elapsed(PAUSE).await;
                }
            }
            if timeouts.keep_alive < HOUR {
                within(Duration::from_secs(30), ended).await.unwrap().unwrap();
            }
        }
    }

    #[tokio::test]
    async fn idle_connections_of_either_protocol_do_not_delay_the_drain() {
        let listener = serving(100, TIMEOUTS).await;
        let mut silent = TcpStream::connect(listener.address).await.unwrap();
        silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut idle = TcpStream::connect(listener.address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(within(Duration::from_secs(30), idle.read(&mut [0; 512])).await.unwrap() > 0);
        assert!(within(Duration::from_secs(30), listener.drain(elapsed(HOUR))).await);
    }

    #[tokio::test]
    async fn a_client_over_the_connection_limit_waits_for_a_permit() {
        let listener = serving(2, Timeouts { head: HEAD_TIMEOUT, ..TIMEOUTS }).await;
        let silent =
            [TcpStream::connect(listener.address).await.unwrap(), TcpStream::connect(listener.address).await.unwrap()];
        let received = sent(listener.address, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(received.ends_with("here"), "{received}");
        drop(silent);
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_disconnected() {
        let bound = bind("a test", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let large = Bytes::from(vec![b'x'; 64 << 20]);
        let listener = bound.serve(
            admission(100, Timeouts { stall: Duration::from_secs(1), ..TIMEOUTS }),
            |_| (),
            move |_, ()| std::future::ready(Response::new(Body::from(large.clone()))).boxed(),
        );
        let mut stream = TcpStream::connect(listener.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        stream.readable().await.unwrap();
        elapsed(Duration::from_millis(2_500)).await;
        let mut received = Vec::new();
        let _ = within(Duration::from_secs(30), stream.read_to_end(&mut received)).await;
        assert!(received.len() < 64 << 20, "{} bytes", received.len());
    }

    #[tokio::test]
    async fn a_head_over_a_limit_is_rejected_with_the_status_for_that_limit() {
        let bound = bind("a test", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let check = |request: Request<Body>| async {
            let mut response = Response::new(Body::empty());
            *response.status_mut() =
                head::check(&mut request.into_parts().0, &HostCache::default()).unwrap_err().status();
            response
        };
        // A connection whose head was read completely is kept alive.
        let timeouts = Timeouts { keep_alive: Duration::from_millis(300), ..TIMEOUTS };
        let listener = bound.serve(admission(100, timeouts), |_| (), move |request, ()| check(request).boxed());
        for (length, expected) in [(20_000, "414"), (60_000, "414"), (300_000, "414")] {
            let head = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "p".repeat(length));
            let received = sent(listener.address, head.as_bytes()).await;
            assert!(received.starts_with(&format!("HTTP/1.1 {expected} ")), "{length}: {received}");
        }
        for length in [90_000, 300_000] {
            let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "f".repeat(length));
            let received = sent(listener.address, head.as_bytes()).await;
            assert!(received.starts_with("HTTP/1.1 431 "), "{length}: {received}");
        }
    }
}
