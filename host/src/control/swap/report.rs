//! What is told of a service: to `spandrel status`, the admin API and the console.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::history::SwapRecord;
use super::slot::Slot;
use crate::component::Kind;
use crate::config::ServiceConfig;
use crate::services::{Generation, Service, StatsSnapshot};

/// What a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// Serving, and nothing else.
    Serving,
    /// Preparing its next version while it serves.
    Swapping,
    /// A new version is being compiled. Where no earlier one serves, the service does not yet.
    Compiling,
    /// Serving with two versions.
    Canary,
    /// Taken out of the manifest, finishing what it began.
    Draining,
    /// In the manifest, but not serving yet: its component, or another one that came with it, is missing or bad.
    Waiting,
}

/// How the requests of one version went.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VersionFigures {
    /// The generation.
    pub generation: u64,
    /// The digest of its component.
    pub digest: String,
    /// The version in the manifest.
    pub version: String,
    /// Requests that it is serving.
    pub in_flight: usize,
    /// Requests that the guest answered or failed at: all of them or, where a canary runs, since the trial began.
    pub requests: u64,
    /// Requests that the host answered in the guest's stead: no such route, at a limit, in a circle.
    pub refused: u64,
    /// Requests whose client went away while the guest ran.
    pub abandoned: u64,
    /// Requests per second over the same time.
    pub rate: f64,
    /// The share of `requests` that the guest failed at (a 5xx, a trap, no answer in time), from 0 to 1.
    pub error_rate: f64,
    /// The median of the time that the guest took, in milliseconds, to within 10 %.
    pub p50_ms: Option<f64>,
    /// The 99th percentile of it, in milliseconds, to within 10 %.
    pub p99_ms: Option<f64>,
}

/// A candidate on trial.
#[derive(Clone, Debug, Serialize)]
pub struct CanaryReport {
    /// The share of traces that it serves, in percent.
    pub share_percent: f64,
    /// How it does.
    #[serde(flatten)]
    pub figures: VersionFigures,
}

/// One service.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceReport {
    /// The name in the manifest.
    pub name: String,
    /// `lean` or `standard`.
    pub kind: String,
    /// The address in the manifest.
    pub listen: String,
    /// The generation that serves.
    pub generation: u64,
    /// The digest of its component.
    pub digest: String,
    /// The version in the manifest.
    pub version: String,
    /// What the service is doing.
    pub state: ServiceState,
    /// Requests that it is serving, over all generations.
    pub in_flight: usize,
    /// Swaps, rollbacks and promotions so far.
    pub swaps: u64,
    /// Why the last swap was refused or rolled back; null after a good one.
    pub last_error: Option<String>,
    /// The last swaps, the latest first.
    pub swap_history: Vec<SwapRecord>,
    /// Earlier generations to go back to, the latest last.
    pub earlier_generations: Vec<u64>,
    /// How the version that serves does.
    pub serving: VersionFigures,
    /// The candidate on trial.
    pub canary: Option<CanaryReport>,
}

impl ServiceReport {
    /// A service of the manifest that does not serve yet, and why.
    pub(crate) fn waiting(service: &ServiceConfig, reason: String) -> ServiceReport {
        ServiceReport { last_error: Some(reason), ..ServiceReport::absent(service, ServiceState::Waiting) }
    }

    /// A service of the manifest whose first version is being compiled.
    pub(crate) fn compiling(service: &ServiceConfig) -> ServiceReport {
        ServiceReport::absent(service, ServiceState::Compiling)
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

pub(super) fn of(service: &Service, slot: &Slot, is_compiling: bool) -> ServiceReport {
    let serving = service.serving();
    let stable = &serving.stable;
    let (swaps, last_error, swap_history) = slot.history();
    let canary = serving.canary.as_ref().map(|canary| CanaryReport {
        share_percent: f64::from(canary.share) / 100.0,
        figures: figures(&canary.generation, canary.began, &StatsSnapshot::default()),
    });
    // Two versions are compared over the same time.
    let (since, before) = match &serving.canary {
        Some(canary) => (canary.began, canary.before.clone()),
        None => (stable.created, StatsSnapshot::default()),
    };
    let state = match () {
        () if service.is_removed() => ServiceState::Draining,
        () if is_compiling => ServiceState::Compiling,
        () if slot.is_busy() => ServiceState::Swapping,
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
        earlier_generations: slot.earlier(),
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
        refused: stats.refused,
        abandoned: stats.abandoned,
        rate: stats.requests as f64 / age.as_secs_f64().max(1.0),
        error_rate: stats.error_rate(),
        p50_ms: milliseconds(0.50),
        p99_ms: milliseconds(0.99),
    }
}
