//! The load generator: several connections, each of which sends one request after the other for a given time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The highest recorded latency: a minute, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// A request and its expected response.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    /// A text in the body of a correct response.
    pub(crate) expected: &'static str,
}

impl Target {
    /// inventory-service.
    pub(crate) fn inventory(address: SocketAddr) -> Target {
        Target { address, path: "/inventory/1", expected: "\"available_quantity\":45" }
    }

    /// A standard component.
    pub(crate) fn hello(address: SocketAddr) -> Target {
        Target { address, path: "/hello", expected: "hello" }
    }

    /// A lean component, or a standard one of the guest library.
    pub(crate) fn health(address: SocketAddr) -> Target {
        Target { address, path: "/health", expected: "healthy" }
    }

    /// The first service of the chain. A correct response contains the data of the last service for the third product.
    pub(crate) fn chain(address: SocketAddr) -> Target {
        Target { address, path: "/users/1/recommendations", expected: "\"available_quantity\":200" }
    }
}

/// The result of a measurement.
pub(crate) struct Served {
    /// Nanoseconds from sending a request until its response has been read.
    pub(crate) latencies: Histogram<u64>,
    /// The duration of the measurement.
    pub(crate) elapsed: Duration,
}

impl Served {
    pub(crate) fn requests(&self) -> u64 {
        self.latencies.len()
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.requests() as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.latencies.value_at_quantile(quantile))
    }
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_max(LONGEST, 3).context("a histogram of latencies")
}

/// Sends requests over `connections` for `time`. Any response other than 200 with a body is an error: a contender that
/// rejects requests would appear faster.
pub(crate) fn run(target: &Target, connections: usize, time: Duration) -> Result<Served> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let began = Instant::now();
        let until = began + time;
        let clients = (0..connections).map(|_| tokio::spawn(client(target.clone(), until)));
        let mut latencies = histogram()?;
        for client in futures_util::future::join_all(clients).await {
            latencies.add(client??)?;
        }
        Ok(Served { latencies, elapsed: began.elapsed() })
    })
}

async fn client(target: Target, until: Instant) -> Result<Histogram<u64>> {
    let mut latencies = histogram()?;
    let stream = TcpStream::connect(target.address).await.with_context(|| format!("connect to {}", target.address))?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    while Instant::now() < until {
        let began = Instant::now();
        let request = Request::get(target.path).header(HOST, "localhost").body(Empty::<Bytes>::new())?;
        sender.ready().await?;
        let response = sender.send_request(request).await.with_context(|| format!("GET {}", target.path))?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == StatusCode::OK && !body.is_empty(), "GET {} returned {status}", target.path);
        latencies.saturating_record(began.elapsed().as_nanos() as u64);
    }
    drop(sender);
    connection.await.ok();
    Ok(latencies)
}

/// Sends one request. Returns `None` if there is no response; an unexpected response is an error.
pub(crate) fn once(target: &Target) -> Result<Option<()>> {
    let Some(body) = get(target) else { return Ok(None) };
    let text = String::from_utf8_lossy(&body);
    ensure!(text.contains(target.expected), "GET {} returned {text}", target.path);
    Ok(Some(()))
}

fn get(target: &Target) -> Option<Bytes> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let stream = TcpStream::connect(target.address).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let request = Request::get(target.path).header(HOST, "localhost").body(Empty::<Bytes>::new()).ok()?;
        let response = sender.send_request(request).await.ok()?;
        let answered = response.status() == StatusCode::OK;
        let body = response.into_body().collect().await.ok()?.to_bytes();
        answered.then_some(body)
    })
}
