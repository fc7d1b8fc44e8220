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
use hyper::body::Incoming;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::admission::{Admission, Place, Places};
use super::connection::{Orders, Protocols};
use crate::http::Body;
use crate::http::bare::bare;
use crate::http::head::HeadError;

/// How long cancelled connections may take to close.
const CUT_LIMIT: Duration = Duration::from_secs(1);
/// The wait after an accept that failed because no file descriptors were left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often failed accepts are logged.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// Why a port could not be bound.
#[derive(Debug, Error)]
#[error("{who} cannot listen on {address}: {reason}. Is another host running? Set another `listen` in the manifest")]
pub struct ListenError {
    /// The service or the console.
    pub who: String,
    /// The requested address.
    pub address: SocketAddr,
    /// The error of the operating system.
    pub reason: std::io::Error,
}

/// A bound port that is not served yet.
pub struct Bound {
    listener: TcpListener,
    /// The address, with the port that the operating system chose for port 0.
    pub address: SocketAddr,
}

/// A port that is being served.
pub struct Listener {
    /// The address that it listens on.
    pub address: SocketAddr,
    drain: watch::Sender<bool>,
    task: JoinHandle<()>,
    places: Arc<Places>,
    cut: watch::Sender<bool>,
}

/// Binds `address` for `who`.
pub async fn bind(who: &str, address: SocketAddr) -> Result<Bound, ListenError> {
    let fail = |reason| ListenError { who: who.to_owned(), address, reason };
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// Answers every request with `handler` until the listener is drained. `connected` converts the client's address
    /// into a value that lives as long as the connection and is passed to the handler.
    pub fn serve<C, H>(self, admission: Admission, connected: fn(SocketAddr) -> C, handler: H) -> Listener
    where
        C: Send + Sync + 'static,
        H: Fn(Request<Incoming>, &C) -> BoxFuture<'static, Response<Body>> + Clone + Send + Sync + Unpin + 'static,
    {
        self.serve_all(admission, connected, handler, |error, _| bare(error.answer()))
    }

    /// The same, with `refuse` for responses to unreadable request heads, as HTTP/1.1 bytes.
    pub fn serve_all<C, H, R>(
        self,
        admission: Admission,
        connected: fn(SocketAddr) -> C,
        handler: H,
        refuse: R,
    ) -> Listener
    where
        C: Send + Sync + 'static,
        H: Fn(Request<Incoming>, &C) -> BoxFuture<'static, Response<Body>> + Clone + Send + Sync + Unpin + 'static,
        R: Fn(&HeadError, &C) -> Vec<u8> + Clone + Send + Sync + 'static,
    {
        let ((drain, draining), (cut, cutting)) = (watch::channel(false), watch::channel(false));
        let places = Arc::new(admission.port());
        let acceptor = Acceptor { listener: self.listener, places: places.clone(), complained: None };
        let orders = Orders { draining, cutting };
        let task = tokio::spawn(acceptor.run(admission, connected, (handler, refuse), orders));
        Listener { address: self.address, drain, task, places, cut }
    }
}

impl Listener {
    /// Stops accepting, and returns when the last connection has ended. When `until` resolves, the remaining
    /// connections are closed and their requests cancelled. Returns whether all connections had ended by themselves.
    pub async fn drain(mut self, until: impl Future<Output = ()>) -> bool {
        self.drain.send_replace(true);
        let ended = tokio::select! {
            _ = &mut self.task => true,
            () = until => false,
        };
        if !ended {
            self.task.abort();
            self.cut.send_replace(true);
            // A guest that is computing is stopped when it next yields.
            let _ = tokio::time::timeout(CUT_LIMIT, self.places.all_free()).await;
        }
        ended
    }
}

/// Accepts the connections of one port.
struct Acceptor {
    listener: TcpListener,
    places: Arc<Places>,
    /// When a failed accept was last logged.
    complained: Option<Instant>,
}

impl Acceptor {
    /// Runs until the last connection has ended after a drain.
    async fn run<C, H, R>(
        mut self,
        admission: Admission,
        connected: fn(SocketAddr) -> C,
        answers: (H, R),
        orders: Orders,
    ) where
        C: Send + Sync + 'static,
        R: Fn(&HeadError, &C) -> Vec<u8> + Clone + Send + Sync + 'static,
        H: Fn(Request<Incoming>, &C) -> BoxFuture<'static, Response<Body>> + Clone + Send + Sync + Unpin + 'static,
    {
        let protocols = Arc::new(Protocols::new());
        let mut draining = orders.draining.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = draining.wait_for(|draining| *draining) => break,
                accepted = self.next() => accepted,
            };
            let Some((stream, peer, place)) = accepted else { continue };
            let (protocols, answers, orders) = (protocols.clone(), answers.clone(), orders.clone());
            let timeouts = admission.timeouts();
            tokio::spawn(async move {
                protocols.serve(stream, timeouts, orders, answers, connected(peer)).await;
                drop(place);
            });
        }
        drop(self.listener);
        self.places.all_free().await;
    }

    async fn next(&mut self) -> Option<(TcpStream, SocketAddr, Place)> {
        let place = self.places.take().await?;
        match self.listener.accept().await {
            Ok((stream, peer)) => {
                // Responses are written whole, so Nagle's algorithm would only delay them.
                stream.set_nodelay(true).ok();
                Some((stream, peer, place))
            }
            Err(error) => {
                if self.complained.is_none_or(|last| last.elapsed() > COMPLAINTS) {
                    self.complained = Some(Instant::now());
                    tracing::warn!(%error, "connections cannot be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;
    use http_body_util::Empty;
    use hyper::client::conn::{http1, http2};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    use super::super::connection::Timeouts;
    use super::*;
    use crate::http::head;

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
    async fn a_request_that_outlasts_the_drain_is_given_up() {
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
            let listener = bound.serve(admission(10), |_| (), move |_, ()| endless(begins.clone()).boxed());
            let asked = tokio::spawn(ask(listener.address, over_http2));
            begun.recv().await.unwrap();
            assert!(!listener.drain(passes(Duration::from_millis(50))).await);
            let gone = tokio::time::timeout(Duration::from_secs(10), begun.recv()).await;
            assert_eq!(gone, Ok(None), "the request is still being served");
            assert!(asked.await.unwrap().is_err());
        }
    }

    fn admission(connections: usize) -> Admission {
        let timeouts = Timeouts {
            head: Duration::from_millis(300),
            keep_alive: Duration::from_secs(3),
            stall: Duration::from_secs(1),
        };
        Admission::services(connections, 100_000, timeouts)
    }

    async fn serving(connections: usize) -> Listener {
        let bound = bind("a test", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        bound.serve(
            admission(connections),
            |_| (),
            |_, ()| async { Response::new(Body::from(Bytes::from_static(b"here"))) }.boxed(),
        )
    }

    /// Time that a connection is to outlast, or not to.
    fn passes(time: Duration) -> impl Future<Output = ()> {
        tokio::time::sleep_until(tokio::time::Instant::now() + time)
    }

    async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
        tokio::time::timeout(limit, future).await.expect("a hang")
    }

    /// What a client receives that sends only this.
    async fn sent(address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut came = Vec::new();
        let read = within(Duration::from_secs(10), stream.read_to_end(&mut came)).await;
        // A connection reset counts as the end.
        let _ = read;
        String::from_utf8_lossy(&came).into_owned()
    }

    #[tokio::test]
    async fn a_client_that_does_not_send_a_whole_first_head_is_left() {
        let listener = serving(100).await;
        let began = Instant::now();
        let starts = ["", "P", "PRI", "PRI * HTTP/2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
        let starts = starts.map(str::as_bytes).into_iter().chain([&b"\x16\x03\x01"[..], b"\r\n"]);
        for start in starts {
            let came = sent(listener.address, start).await;
            assert!(!came.contains("here"), "{start:?}: {came}");
        }
        for start in ["G", "GET / HT", "GET / HTTP/1.1\r\nhost: a\r\n", "PRI * HTTP/2.1"] {
            let came = sent(listener.address, start.as_bytes()).await;
            assert!(came.starts_with("HTTP/1.1 408 ") || came.starts_with("HTTP/1.1 400 "), "{start}: {came}");
        }
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert!(listener.drain(passes(Duration::from_secs(5))).await, "every connection has ended");
    }

    #[tokio::test]
    async fn a_connection_is_kept_for_longer_than_a_head_may_take() {
        let listener = serving(100).await;
        let mut stream = TcpStream::connect(listener.address).await.unwrap();
        let mut answer = [0; 512];
        for _ in 0..2 {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let count = within(Duration::from_secs(5), stream.read(&mut answer)).await.unwrap();
            assert!(String::from_utf8_lossy(&answer[..count]).ends_with("here"));
            passes(Duration::from_millis(600)).await;
        }
        let began = Instant::now();
        assert_eq!(
            within(Duration::from_secs(10), stream.read(&mut answer)).await.unwrap(),
            0,
            "it ends after a while"
        );
        assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn an_http_2_client_is_kept_as_long() {
        let listener = serving(100).await;
        let stream = TokioIo::new(TcpStream::connect(listener.address).await.unwrap());
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        let ended = tokio::spawn(connection);
        for _ in 0..2 {
            let request = Request::get(format!("http://{}/", listener.address)).body(Empty::<Bytes>::new()).unwrap();
            assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
            passes(Duration::from_millis(600)).await;
        }
        within(Duration::from_secs(10), ended).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn silent_clients_of_either_protocol_do_not_hold_up_the_end() {
        let listener = serving(100).await;
        let mut silent = TcpStream::connect(listener.address).await.unwrap();
        silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut idle = TcpStream::connect(listener.address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(within(Duration::from_secs(5), idle.read(&mut [0; 512])).await.unwrap() > 0);
        assert!(within(Duration::from_secs(5), listener.drain(passes(Duration::from_secs(10)))).await);
    }

    #[tokio::test]
    async fn clients_wait_for_a_place_and_get_it() {
        let listener = serving(2).await;
        let silent =
            [TcpStream::connect(listener.address).await.unwrap(), TcpStream::connect(listener.address).await.unwrap()];
        let came = sent(listener.address, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(came.ends_with("here"), "{came}");
        drop(silent);
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_left() {
        let bound = bind("a test", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let large = Bytes::from(vec![b'x'; 64 << 20]);
        let listener = bound.serve(
            admission(100),
            |_| (),
            move |_, ()| std::future::ready(Response::new(Body::from(large.clone()))).boxed(),
        );
        let mut stream = TcpStream::connect(listener.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        stream.readable().await.unwrap();
        passes(Duration::from_millis(2_500)).await;
        let mut came = Vec::new();
        let _ = within(Duration::from_secs(10), stream.read_to_end(&mut came)).await;
        assert!(came.len() < 64 << 20, "{} bytes", came.len());
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused_for_what_is_too_long() {
        let bound = bind("a test", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let check = |request: Request<Incoming>| async {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = head::check(&mut request.into_parts().0).unwrap_err().status();
            response
        };
        let listener = bound.serve(admission(100), |_| (), move |request, ()| check(request).boxed());
        for (length, expected) in [(20_000, "414"), (60_000, "414"), (300_000, "414")] {
            let head = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "p".repeat(length));
            let came = sent(listener.address, head.as_bytes()).await;
            assert!(came.starts_with(&format!("HTTP/1.1 {expected} ")), "{length}: {came}");
        }
        for length in [90_000, 300_000] {
            let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "f".repeat(length));
            let came = sent(listener.address, head.as_bytes()).await;
            assert!(came.starts_with("HTTP/1.1 431 "), "{length}: {came}");
        }
    }
}
