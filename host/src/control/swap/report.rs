//! The report of a service for `spandrel status`, the admin API and the console.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::history::SwapRecord;
use super::swap_state::{SwapState, SwapStatus};
use crate::component::Kind;
use crate::config::ServiceConfig;
use crate::services::{Generation, Service, StatsSnapshot};

/// The state of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// Serving.
    Serving,
    /// Serving, while its next version is being prepared.
    Swapping,
    /// A new version is being compiled. Without an earlier version the service does not serve yet.
    Compiling,
    /// Serving with two versions: a canary is running.
    Canary,
    /// Removed from the manifest and draining.
    Draining,
    /// In the manifest but not serving yet: during the start of the host, or because its component or that of another
    /// added service is missing or invalid.
    Waiting,
}

/// Request statistics of one version.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VersionFigures {
    /// The generation.
    pub generation: u64,
    /// The digest of its component.
    pub digest: String,
    /// The version in the manifest.
    pub version: String,
    /// Requests in flight.
    pub in_flight: usize,
    /// Requests that the guest answered or failed: all of them or, while a canary runs, those since its start.
    pub requests: u64,
    /// Requests that the host answered without the guest: no matching route, a limit reached, a call loop.
    pub refused: u64,
    /// Requests that the client cancelled while the guest ran.
    pub abandoned: u64,
    /// Requests per second over the same period.
    pub rate: f64,
    /// The share of `requests` that the guest failed (5xx, trap or timeout), from 0 to 1.
    pub error_rate: f64,
    /// The median of the guest's duration, in milliseconds, accurate to 10 %.
    pub p50_ms: Option<f64>,
    /// The 99th percentile of the guest's duration, in milliseconds, accurate to 10 %.
    pub p99_ms: Option<f64>,
}

/// A canary.
#[derive(Clone, Debug, Serialize)]
pub struct CanaryReport {
    /// The share of traces that it serves, in percent.
    pub share_percent: f64,
    /// Its request statistics.
    #[serde(flatten)]
    pub figures: VersionFigures,
}

/// The report of one service.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceReport {
    /// The name in the manifest.
    pub name: String,
    /// `lean` or `standard`.
    pub kind: String,
    /// The address in the manifest.
    pub listen: String,
    /// The number of the serving generation.
    pub generation: u64,
    /// The digest of its component.
    pub digest: String,
    /// The version in the manifest.
    pub version: String,
    /// The state of the service.
    pub state: ServiceState,
    /// Requests in flight, over all generations.
    pub in_flight: usize,
    /// The number of swaps, rollbacks and promotions so far.
    pub swaps: u64,
    /// Why the last swap was rejected or rolled back; null after a successful one.
    pub last_error: Option<String>,
    /// The last swaps, latest first.
    pub swap_history: Vec<SwapRecord>,
    /// Earlier generations that a rollback can return to, latest last.
    pub earlier_generations: Vec<u64>,
    /// Request statistics of the serving version.
    pub serving: VersionFigures,
    /// The canary, if one is running.
    pub canary: Option<CanaryReport>,
}

impl ServiceReport {
    /// The report of a service in the manifest that does not serve yet, with the reason.
    pub(crate) fn waiting(service: &ServiceConfig, reason: String) -> ServiceReport {
        ServiceReport { last_error: Some(reason), ..ServiceReport::absent(service, ServiceState::Waiting) }
    }

    /// The report of a service in the manifest whose first version is being compiled.
    pub(crate) fn compiling(service: &ServiceConfig) -> ServiceReport {
        ServiceReport::absent(service, ServiceState::Compiling)
    }

    /// The report of a service that waits for others while the host starts.
    pub(crate) fn starting(service: &ServiceConfig) -> ServiceReport {
        ServiceReport::absent(service, ServiceState::Waiting)
    }

    fn absent(service: &ServiceConfig, state: ServiceState) -> ServiceReport {
        let figures = VersionFigures { version: service.version.clone(), ..VersionFigures::default() };
        ServiceReport {
            name: service.name.to_string(),
            kind: Kind::Unknown.to_string(),
            listen: service.listen.to_string(),
            generation: 0,
            digest: String::new(),
            version: service.version.clone(),
            state,
            in_flight: 0,
            swaps: 0,
            last_error: None,
            swap_history: Vec::new(),
            earlier_generations: Vec::new(),
            serving: figures,
            canary: None,
        }
    }
}

pub(super) fn service_report(
    service: &Service,
    swap_state: &SwapState,
    is_compiling: impl FnOnce() -> bool,
) -> ServiceReport {
    let (status, (serving, is_compiling)) = swap_state.status(|| (service.serving(), is_compiling()));
    let SwapStatus { is_busy, swaps, last_error, history: swap_history, earlier: earlier_generations } = status;
    let stable = &serving.stable;
    let canary = serving.canary.as_ref().map(|canary| CanaryReport {
        share_percent: f64::from(canary.share) / 100.0,
        figures: figures(&canary.generation, canary.began, &StatsSnapshot::default()),
    });
    // Two versions are compared over the same period.
    let (since, before) = match &serving.canary {
        Some(canary) => (canary.began, canary.before.clone()),
        None => (stable.created, StatsSnapshot::default()),
    };
    let state = match () {
        () if service.is_removed() => ServiceState::Draining,
        () if is_compiling => ServiceState::Compiling,
        () if is_busy => ServiceState::Swapping,
        () if canary.is_some() => ServiceState::Canary,
        () => ServiceState::Serving,
    };
    ServiceReport {
        name: service.name.to_string(),
        kind: stable.pool.prepared().kind().to_string(),
        listen: service.listen().to_string(),
        generation: stable.number,
        digest: stable.digest().as_str().to_owned(),
        version: stable.config.version.clone(),
        state,
        in_flight: service.in_flight(),
        swaps,
        last_error,
        swap_history,
        earlier_generations,
        serving: figures(stable, since, &before),
        canary,
    }
}

fn figures(generation: &Generation, since: SystemTime, before: &StatsSnapshot) -> VersionFigures {
    let stats = generation.stats.snapshot().since(before);
    let milliseconds = |q| stats.quantile(q).map(|duration| duration.as_secs_f64() * 1e3);
    let age = SystemTime::now().duration_since(since.max(UNIX_EPOCH)).unwrap_or_default();
    VersionFigures {
        generation: generation.number,
        digest: generation.digest().as_str().to_owned(),
        version: generation.config.version.clone(),
        in_flight: generation.in_flight(),
        requests: stats.requests,
        refused: stats.rejected,
        abandoned: stats.abandoned,
        rate: stats.requests as f64 / age.as_secs_f64().max(1.0),
        error_rate: stats.error_rate(),
        p50_ms: milliseconds(0.50),
        p99_ms: milliseconds(0.99),
    }
}
