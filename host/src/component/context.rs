//! The configuration and resources of the instances of one generation.

use std::collections::BTreeMap;
use std::sync::{Arc, Once};

use crate::config::{Folder, Isolation, Limits, ServiceName};
use crate::http::redaction::Redaction;
use crate::http::routes::Route;
use crate::metrics::{Metrics, ServiceMetrics};
use crate::outbound::Outbound;
use crate::state::StateStore;

/// The configuration and resources of every instance of a service, fixed for a generation.
pub struct ServiceContext {
    /// The service's name.
    pub name: Arc<str>,
    /// The values that `wasi:config` returns.
    pub config: BTreeMap<String, String>,
    /// The service's limits.
    pub limits: Limits,
    /// Whether instances are reused. `None`: the default of the component's kind.
    pub isolation: Option<Isolation>,
    /// How many requests one instance serves before it is replaced. `None`: the default of the component's kind.
    pub requests_per_instance: Option<u32>,
    /// How many requests one instance serves concurrently.
    pub concurrency_per_instance: u32,
    /// The service that a middleware forwards requests to.
    pub next: Option<ServiceName>,
    /// The component's environment variables.
    pub env: BTreeMap<String, String>,
    /// The component's preopened folders.
    pub files: Vec<Folder>,
    /// The routes that the manifest declares for a standard component.
    pub routes: Vec<Route>,
    /// The store behind `wasi:keyvalue`.
    pub state: StateStore,
    /// Outgoing requests, with their allow list.
    pub outbound: Outbound,
    /// What is redacted from URLs on spans.
    pub redaction: Redaction,
    /// The metrics of the process.
    pub process: Metrics,
    /// The service's instruments.
    pub metrics: Arc<ServiceMetrics>,
    /// Called when the host rejects a metric of a guest's SDK for the first time.
    pub metric_rejected: Once,
    /// Called when the host replaces the id of a span of a guest's SDK for the first time.
    pub span_id_replaced: Once,
}
