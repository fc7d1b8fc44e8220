//! One connection from accept to close: HTTP/1.1 or HTTP/2 without TLS (h2c), detected by its first bytes.
//!
//! A task owns the connection. It ends when the connection ends, when a timeout of the connection expires, or when the
//! listener cancels it. On drain it lets requests in flight end and accepts no more.

mod automatic;
mod clock;
mod requests;
mod stream;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;

pub use self::clock::Timeouts;
use self::clock::{Clock, Overdue};
use self::requests::Requests;
use self::stream::{Protocol, Stream};
use crate::http::Body;
use crate::http::head::{FIELDS_LIMIT, HeadError, TARGET_LIMIT};

/// The most concurrent requests of one HTTP/2 connection.
const STREAMS: u32 = 256;
/// How often an HTTP/2 peer is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a client may continue to send data that will not be read.
const LINGER: Duration = Duration::from_secs(2);

/// The protocols with their settings, shared by all connections.
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

/// What a listener tells its connections to do.
#[derive(Clone)]
pub(super) struct Orders {
    /// Finish the requests in flight and accept no others.
    pub draining: watch::Receiver<bool>,
    /// Close at once.
    pub cutting: watch::Receiver<bool>,
}

/// Why a connection ends.
enum Left {
    /// It ended by itself, with or without an error.
    Ended(hyper::Result<()>),
    /// A timeout expired.
    Overdue(Overdue),
    /// The listener cancelled it.
    Cut,
}

/// A connection of either protocol.
trait Speaking {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>>;
    fn retire(&mut self);
}

impl Protocols {
    pub fn new() -> Protocols {
        let (mut http1, mut http2) = (http1::Builder::new(), http2::Builder::new(TokioExecutor::new()));
        // The connection's own timeout limits heads; hyper's would also end idle connections. The stream measures heads
        // too; the buffer is larger than the limit, so that heads over the limit are rejected with a reason.
        http1.header_read_timeout(None).max_buf_size(2 * (FIELDS_LIMIT + TARGET_LIMIT));
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size((FIELDS_LIMIT + TARGET_LIMIT) as u32)
            .keep_alive_interval(PING_INTERVAL);
        Protocols { http1, http2 }
    }

    /// Serves a connection until it ends.
    pub async fn serve<C, H, R>(
        &self,
        tcp: TcpStream,
        timeouts: Timeouts,
        mut orders: Orders,
        (handler, refuse): (H, R),
        client: C,
    ) where
        C: Send + Sync + 'static,
        R: Fn(&HeadError, &C) -> Vec<u8>,
        H: Fn(Request<Incoming>, &C) -> BoxFuture<'static, Response<Body>> + Send + Sync + Unpin + 'static,
    {
        let clock = Clock::start(timeouts);
        let mut stream = Stream::new(tcp, clock.clone());
        let detected = tokio::select! {
            detected = stream.detect() => detected,
            _ = clock.overdue() => return,
            _ = orders.draining.wait_for(|draining| *draining) => return,
        };
        let Ok(Some(protocol)) = detected else { return };
        let client = Arc::new(client);
        let requests = Requests::new(handler, client.clone(), clock.clone());
        match protocol {
            Protocol::Http1 => {
                let mut connection = self.http1.serve_connection(TokioIo::new(stream), requests);
                let left = run(&mut connection, &clock, &mut orders).await;
                let stream = connection.into_parts().io.into_inner();
                part(stream, left, &orders, |error| refuse(error, &client)).await;
            }
            Protocol::Http2 => {
                let mut connection = self.http2.serve_connection(TokioIo::new(stream), requests);
                if let Left::Ended(Err(error)) = run(&mut connection, &clock, &mut orders).await {
                    tracing::debug!(%error, "an HTTP/2 connection ended early");
                }
            }
        }
    }
}

/// Runs a connection until it ends, a timeout expires or the listener cancels it.
async fn run(connection: &mut impl Speaking, clock: &Clock, orders: &mut Orders) -> Left {
    let mut retired = false;
    loop {
        tokio::select! {
            biased;
            ended = poll_fn(|context| connection.poll(context)) => return Left::Ended(ended),
            Ok(_) = orders.cutting.wait_for(|cutting| *cutting) => return Left::Cut,
            _ = orders.draining.wait_for(|draining| *draining), if !retired => {}
            overdue = clock.overdue() => match overdue {
                Overdue::KeepAlive => {}
                overdue => return Left::Overdue(overdue),
            },
        }
        retired = true;
        clock.retire();
        connection.retire();
    }
}

/// Closes an HTTP/1.1 connection, with a response if the client waits for one and can still receive it.
async fn part(mut stream: Stream, left: Left, orders: &Orders, refuse: impl Fn(&HeadError) -> Vec<u8>) {
    let is_draining = *orders.draining.borrow();
    let error = match left {
        Left::Cut | Left::Overdue(Overdue::Peer | Overdue::KeepAlive) => return,
        Left::Overdue(Overdue::Head) if stream.has_begun_a_head() => Some(HeadError::TooSlow),
        Left::Overdue(Overdue::Head) => return,
        Left::Ended(ended) => {
            let mut fault = stream.fault().cloned();
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP/1.1 connection ended early");
                fault = fault.or_else(|| automatic::refusal(&error, stream.held()));
            }
            fault
        }
    };
    let refused = error.filter(|_| !is_draining).map(|error| refuse(&error));
    let last = refused.or_else(|| stream.take_held());
    let parting = async {
        if let Some(answer) = last {
            stream.answer(&answer).await;
        }
        if !is_draining {
            stream.linger().await;
        }
    };
    tokio::time::timeout(LINGER, parting).await.ok();
}

impl<H, C> Speaking for http1::Connection<TokioIo<Stream>, Requests<H, C>>
where
    C: Send + Sync + 'static,
    H: Fn(Request<Incoming>, &C) -> BoxFuture<'static, Response<Body>> + Send + Sync + Unpin + 'static,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.poll_without_shutdown(context)
    }

    fn retire(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

impl<H, C> Speaking for http2::Connection<TokioIo<Stream>, Requests<H, C>, TokioExecutor>
where
    C: Send + Sync + 'static,
    H: Fn(Request<Incoming>, &C) -> BoxFuture<'static, Response<Body>> + Send + Sync + Unpin + 'static,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Future::poll(Pin::new(self), context)
    }

    fn retire(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}
