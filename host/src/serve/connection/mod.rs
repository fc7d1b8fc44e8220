//! One connection from accept to close: HTTP/1.1 or HTTP/2 without TLS (h2c), detected by its first bytes.
//!
//! A task owns the connection. The task ends when the connection ends, when a timeout of the connection expires, or
//! when the listener cancels it. On drain it shuts the connection down gracefully: requests in flight end, and no
//! others are accepted.

mod clock;
mod hyper_response;
mod request_body;
mod requests;
mod stream;
mod trailers;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;

pub use self::clock::Timeouts;
use self::clock::{Clock, Expired};
use self::requests::RequestService;
use self::stream::{HttpProtocol, Stream};
use self::trailers::TrailerSlot;
use crate::http::Body;
use crate::http::head::{FIELDS_LIMIT, HeadError, TARGET_LIMIT};
use crate::woken::WhenWoken;

/// The most concurrent requests of one HTTP/2 connection.
const MAX_CONCURRENT_STREAMS: u32 = 256;
/// How often an HTTP/2 peer is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long the last response and the close of a connection may take.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings of both protocols, shared by all connections.
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

/// The shutdown signals that a listener sends to its connections.
#[derive(Clone)]
pub(super) struct ShutdownSignals {
    /// True when connections must finish the requests in flight and accept no others.
    pub draining: watch::Receiver<bool>,
    /// True when connections must close at once.
    pub cancelling: watch::Receiver<bool>,
}

/// Why a connection has ended.
enum EndReason {
    /// The client or hyper ended it, with or without an error.
    Ended(hyper::Result<()>),
    /// A timeout expired.
    Expired(Expired),
    /// The listener cancelled it.
    Cancelled,
}

/// A hyper connection of either protocol.
trait Connection {
    /// Reads requests and writes responses until the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>>;

    /// Lets requests in flight end and accepts no others.
    fn start_shutdown(&mut self);
}

impl Protocols {
    pub fn new() -> Protocols {
        let (mut http1, mut http2) = (http1::Builder::new(), http2::Builder::new(TokioExecutor::new()));
        // The connection's clock limits the time for a head; hyper's timeout would also end idle connections. The
        // stream limits the size of heads; hyper's buffer is larger, so that a head over the limit is rejected with a
        // reason.
        http1.header_read_timeout(None).max_buf_size(2 * (FIELDS_LIMIT + TARGET_LIMIT));
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .max_header_list_size((FIELDS_LIMIT + TARGET_LIMIT) as u32)
            .keep_alive_interval(PING_INTERVAL);
        Protocols { http1, http2 }
    }

    /// Serves a connection until it ends.
    pub async fn serve<C, H, R>(
        &self,
        tcp: TcpStream,
        timeouts: Timeouts,
        mut signals: ShutdownSignals,
        (handler, reject_head): (H, R),
        client: C,
    ) where
        C: Send + Sync + 'static,
        R: Fn(&HeadError, &C) -> Vec<u8>,
        H: Fn(Request<Body>, &C) -> BoxFuture<'static, Response<Body>> + Send + Sync + Unpin + 'static,
    {
        let clock = Clock::start(timeouts);
        let trailers = Arc::<TrailerSlot>::default();
        let mut stream = Stream::new(tcp, clock.clone(), trailers.clone());
        let detected = tokio::select! {
            detected = stream.detect_protocol() => detected,
            _ = clock.expired() => return,
            _ = signals.draining.wait_for(|draining| *draining) => return,
        };
        let Ok(Some(protocol)) = detected else { return };
        let client = Arc::new(client);
        let requests = RequestService::new(handler, client.clone(), clock.clone(), trailers);
        match protocol {
            HttpProtocol::Http1 => {
                let mut connection = self.http1.serve_connection(TokioIo::new(stream), requests);
                let reason = run(&mut connection, &clock, &mut signals).await;
                let stream = connection.into_parts().io.into_inner();
                close(stream, reason, &signals, |error| reject_head(error, &client)).await;
            }
            HttpProtocol::Http2 => {
                let mut connection = self.http2.serve_connection(TokioIo::new(stream), requests);
                if let EndReason::Ended(Err(error)) = run(&mut connection, &clock, &mut signals).await {
                    tracing::debug!(%error, "an HTTP/2 connection ended early");
                }
            }
        }
    }
}

/// Runs a connection until it ends, a timeout expires or the listener cancels it.
async fn run(connection: &mut impl Connection, clock: &Clock, signals: &mut ShutdownSignals) -> EndReason {
    let mut is_shutting_down = false;
    loop {
        // Nearly all polls of this task concern the connection, and the signals have locks that all connections share.
        let event = pin!(next_event(clock, signals, is_shutting_down));
        let mut event = WhenWoken::new(event);
        tokio::select! {
            biased;
            ended = poll_fn(|context| connection.poll(context)) => return EndReason::Ended(ended),
            event = &mut event => match event {
                Event::Cancelled => return EndReason::Cancelled,
                Event::Draining | Event::Expired(Expired::KeepAlive) => {}
                Event::Expired(expired) => return EndReason::Expired(expired),
            },
        }
        is_shutting_down = true;
        clock.start_shutdown();
        connection.start_shutdown();
    }
}

/// What happens to a connection apart from its bytes.
enum Event {
    Cancelled,
    Draining,
    Expired(Expired),
}

/// The next event, without the start of the drain if `is_shutting_down`.
async fn next_event(clock: &Clock, signals: &mut ShutdownSignals, is_shutting_down: bool) -> Event {
    tokio::select! {
        biased;
        Ok(_) = signals.cancelling.wait_for(|cancelling| *cancelling) => Event::Cancelled,
        _ = signals.draining.wait_for(|draining| *draining), if !is_shutting_down => Event::Draining,
        expired = clock.expired() => Event::Expired(expired),
    }
}

/// Closes an HTTP/1.1 connection, with a response if the client waits for one and can still receive it.
async fn close(
    mut stream: Stream,
    reason: EndReason,
    signals: &ShutdownSignals,
    reject_head: impl Fn(&HeadError) -> Vec<u8>,
) {
    let is_draining = *signals.draining.borrow();
    let head_error = match reason {
        EndReason::Cancelled | EndReason::Expired(Expired::Unresponsive | Expired::KeepAlive) => return,
        EndReason::Expired(Expired::Head) if stream.has_partial_head() => Some(HeadError::Timeout),
        EndReason::Expired(Expired::Head) => return,
        EndReason::Ended(ended) => {
            let mut head_error = stream.head_error().cloned();
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP/1.1 connection ended early");
                head_error = head_error.or_else(|| hyper_response::head_error(&error, stream.held_response()));
            }
            head_error
        }
    };
    let rejection = head_error.filter(|_| !is_draining).map(|error| reject_head(&error));
    let last_response = rejection.or_else(|| stream.take_held_response());
    let closing = async {
        if let Some(response) = last_response {
            stream.write_response(&response).await;
        }
        if !is_draining {
            stream.linger().await;
        }
    };
    tokio::time::timeout(LINGER_TIMEOUT, closing).await.ok();
}

impl<H, C> Connection for http1::Connection<TokioIo<Stream>, RequestService<H, C>>
where
    C: Send + Sync + 'static,
    H: Fn(Request<Body>, &C) -> BoxFuture<'static, Response<Body>> + Send + Sync + Unpin + 'static,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.poll_without_shutdown(context)
    }

    fn start_shutdown(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

impl<H, C> Connection for http2::Connection<TokioIo<Stream>, RequestService<H, C>, TokioExecutor>
where
    C: Send + Sync + 'static,
    H: Fn(Request<Body>, &C) -> BoxFuture<'static, Response<Body>> + Send + Sync + Unpin + 'static,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Future::poll(Pin::new(self), context)
    }

    fn start_shutdown(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}
