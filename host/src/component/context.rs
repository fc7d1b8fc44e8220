//! What the instances of one generation run with: configuration, limits, state, the way out and the instruments.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Folder, Isolation, Limits, ServiceName};
use crate::http::redaction::Redaction;
use crate::http::routes::Route;
use crate::metrics::{Metrics, ServiceMetrics};
use crate::outbound::Outbound;
use crate::state::StateStore;

/// What every instance of a service runs with. Fixed for a generation.
pub struct ServiceContext {
    /// The service's name.
    pub name: Arc<str>,
    /// What `wasi:config` gives.
    pub config: BTreeMap<String, String>,
    /// What the service may use up.
    pub limits: Limits,
    /// Whether instances are reused; where the manifest does not say, the kind of component does.
    pub isolation: Option<Isolation>,
    /// How many requests one instance serves before it is replaced, where the manifest says so.
    pub requests_per_instance: Option<u32>,
    /// How many requests one instance serves at once.
    pub concurrency_per_instance: u32,
    /// The service that the handler which the component imports leads to.
    pub next: Option<ServiceName>,
    /// The environment variables of a component.
    pub env: BTreeMap<String, String>,
    /// The folders that a component sees.
    pub files: Vec<Folder>,
    /// The routes that the manifest gives a standard component.
    pub routes: Vec<Route>,
    /// What `wasi:keyvalue` is backed by.
    pub state: StateStore,
    /// The way out.
    pub outbound: Outbound,
    /// What is left out of URLs on spans.
    pub redaction: Redaction,
    /// The figures of the whole process.
    pub process: Metrics,
    /// The service's instruments.
    pub metrics: Arc<ServiceMetrics>,
}
