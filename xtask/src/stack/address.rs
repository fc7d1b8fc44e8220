//! The addresses of the stack's programs.

use std::fmt::Write;
use std::net::TcpListener;

use anyhow::{Context, Result};

/// The IP address that everything listens on.
pub(super) const LOOPBACK: &str = "127.0.0.1";

/// One port per listener of the stack.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) opensearch: u16,
    pub(super) opensearch_transport: u16,
    pub(super) jaeger: u16,
    pub(super) jaeger_grpc: u16,
    pub(super) jaeger_otlp: u16,
    pub(super) jaeger_health: u16,
    pub(super) jaeger_metrics: u16,
    pub(super) otlp_grpc: u16,
    pub(super) otlp_http: u16,
    pub(super) collector_metrics: u16,
    pub(super) collector_health: u16,
    pub(super) collector_own_metrics: u16,
    pub(super) prometheus: u16,
}

impl Addresses {
    /// The ports that docker-compose.yml publishes, or free ones.
    pub(super) fn choose(free: bool) -> Result<Addresses> {
        // All sockets are kept open until all ports are chosen, or one port could be chosen twice.
        let mut held = Vec::new();
        let mut port = |default: u16| -> Result<u16> {
            let wanted = if free { 0 } else { default };
            let listener = TcpListener::bind((LOOPBACK, wanted)).with_context(|| {
                format!("port {default} is in use: stop the program that listens there, or use --free-ports")
            })?;
            let port = listener.local_addr()?.port();
            held.push(listener);
            Ok(port)
        };
        Ok(Addresses {
            opensearch: port(9200)?,
            opensearch_transport: port(9300)?,
            jaeger: port(16686)?,
            jaeger_grpc: port(16685)?,
            // In compose every container has its own port 4317; here the Collector has it.
            jaeger_otlp: port(14317)?,
            jaeger_health: port(13134)?,
            jaeger_metrics: port(8887)?,
            otlp_grpc: port(4317)?,
            otlp_http: port(4318)?,
            collector_metrics: port(8889)?,
            collector_health: port(13133)?,
            collector_own_metrics: port(8888)?,
            prometheus: port(9090)?,
        })
    }

    /// One line per address that people and tests use: its name and its URL.
    pub(super) fn list(&self) -> String {
        let named = [
            ("otlp-grpc", self.otlp_grpc, ""),
            ("otlp-http", self.otlp_http, ""),
            ("jaeger", self.jaeger, ""),
            ("opensearch", self.opensearch, ""),
            ("collector-metrics", self.collector_metrics, "/metrics"),
            ("prometheus", self.prometheus, ""),
        ];
        named.iter().fold(String::new(), |mut text, (name, port, path)| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<18} http://{LOOPBACK}:{port}{path}");
            text
        })
    }
}
