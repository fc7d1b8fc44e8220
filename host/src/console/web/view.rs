//! View models of the services, from the host's reports.

use std::net::SocketAddr;

use crate::console::history::History;
use crate::console::pages::model::{ServiceView, SwapView, VersionView};
use crate::console::pages::units;
use crate::control::Control;
use crate::control::swap::{ServiceReport, SwapRecord, VersionFigures};
use crate::trace::StoreStats;

/// All services in the order of the manifest.
pub(super) fn services(control: &Control, history: &History) -> Vec<ServiceView> {
    control.reports().into_iter().map(|report| service(control, history, report)).collect()
}

fn service(control: &Control, history: &History, report: ServiceReport) -> ServiceView {
    let canary = report.canary.as_ref().map(|canary| version(&canary.figures, Some(canary.share_percent)));
    let examples = control.catalog.find(&report.name).map(|service| service.serving().stable.routes().examples());
    let earlier = report.earlier_generations.iter().rev().find(|number| **number != report.generation);
    ServiceView {
        url: url(control, &report),
        state: state(&report),
        in_flight: report.in_flight,
        versions: [version(&report.serving, None)].into_iter().chain(canary).collect(),
        earlier: earlier.copied(),
        samples: history.samples(&report.name),
        swaps: report.swap_history.into_iter().map(swap).collect(),
        last_error: report.last_error,
        examples: examples.unwrap_or_default(),
        kind: report.kind,
        name: report.name,
    }
}

fn version(figures: &VersionFigures, canary_percent: Option<f64>) -> VersionView {
    VersionView {
        canary_percent,
        version: figures.version.clone(),
        generation: figures.generation,
        digest: figures.digest.clone(),
        in_flight: figures.in_flight,
        requests: figures.requests,
        rate: figures.rate,
        error_rate: figures.error_rate,
        p50_ms: figures.p50_ms,
        p99_ms: figures.p99_ms,
    }
}

fn swap(record: SwapRecord) -> SwapView {
    SwapView {
        time: record.time,
        outcome: record.outcome.to_owned(),
        generation: record.generation,
        digest: record.digest,
        reason: record.reason,
        duration: record.duration,
    }
}

fn state(report: &ServiceReport) -> String {
    serde_json::to_value(report.state).ok().and_then(|state| state.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The URL of a service: its actual port, with a host name that a browser on this machine can use.
fn url(control: &Control, report: &ServiceReport) -> String {
    match control.address(&report.name) {
        Some(address) => address_url(address),
        None => format!("http://{}", report.listen),
    }
}

/// The URL for an address of this machine.
pub(crate) fn address_url(address: SocketAddr) -> String {
    let ip = address.ip();
    if ip.is_unspecified() || ip.to_string() == "127.0.0.1" {
        format!("http://localhost:{}", address.port())
    } else {
        format!("http://{address}")
    }
}

/// What the store contains and what it left out, as a sentence.
pub(super) fn store(stats: &StoreStats) -> Option<String> {
    if stats.capacity == 0 {
        return Some("traces are not stored".to_owned());
    }
    let held = format!(
        "{} stored in {} of {}",
        units::counted(stats.traces, "trace"),
        units::bytes(stats.bytes as u64),
        units::bytes(stats.capacity as u64)
    );
    let left_out = [
        (stats.sampled_out, "not sampled under load"),
        (stats.overflowed, "dropped because the queue was full"),
        (stats.too_large, "truncated because of their size"),
        (stats.evicted, "evicted for later ones"),
    ];
    let left_out = left_out.iter().filter(|(count, _)| *count > 0);
    let left_out = left_out.map(|(count, why)| format!("; {} {why}", units::grouped(*count)));
    Some(left_out.fold(held, |text, part| text + &part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_counts_what_the_store_left_out_by_reason() {
        let stats = StoreStats { capacity: 67_108_864, bytes: 1_048_576, traces: 2, ..StoreStats::default() };
        assert_eq!(store(&stats).as_deref(), Some("2 traces stored in 1024.0 KiB of 64.0 MiB"));
        let busy = StoreStats { sampled_out: 1200, evicted: 3, ..stats };
        let expected =
            "2 traces stored in 1024.0 KiB of 64.0 MiB; 1\u{202f}200 not sampled under load; 3 evicted for later ones";
        assert_eq!(store(&busy).as_deref(), Some(expected));
    }

    #[test]
    fn urls_of_loopback_and_unspecified_addresses_use_localhost() {
        let url = |address: &str| address_url(address.parse().unwrap());
        assert_eq!(url("127.0.0.1:8000"), "http://localhost:8000");
        assert_eq!(url("0.0.0.0:8000"), "http://localhost:8000");
        assert_eq!(url("10.0.0.1:8000"), "http://10.0.0.1:8000");
        assert_eq!(url("[::1]:8000"), "http://[::1]:8000");
    }
}
