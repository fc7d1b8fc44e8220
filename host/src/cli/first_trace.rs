//! Prints a link to the first trace of a run, so that users find the console's trace pages.

use std::net::SocketAddr;

use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::arguments::LogFormat;
use super::log::Log;
use crate::console::address_url;
use crate::host::Host;
use crate::telemetry;

/// Prints the link when the first request has been traced. Without a console there is no link.
pub fn link_first_trace(host: &Host, log: &Log, format: LogFormat) {
    let Some(console) = host.console_address() else { return };
    let (mut traces, print) = (host.traces().subscribe(), log.printer());
    tokio::spawn(async move {
        loop {
            match traces.recv().await {
                Ok(trace) if trace.root.as_ref().is_some_and(|root| &*root.service != telemetry::SERVICE) => {
                    return print(&line(console, &trace.trace_id.to_string(), format));
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
}

fn line(console: SocketAddr, id: &str, format: LogFormat) -> String {
    let url = format!("{}/traces/{id}", address_url(console));
    match format {
        LogFormat::Text => format!("first trace: {url}\n"),
        LogFormat::Json => format!("{}\n", json!({ "level": "INFO", "message": "first trace", "url": url })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_the_url_of_the_trace_page() {
        let console = "127.0.0.1:8010".parse().unwrap();
        assert_eq!(line(console, "ab", LogFormat::Text), "first trace: http://localhost:8010/traces/ab\n");
        let json: serde_json::Value = serde_json::from_str(&line(console, "ab", LogFormat::Json)).unwrap();
        assert_eq!(json["url"], "http://localhost:8010/traces/ab");
    }
}
