//! What the instances of one generation run with: configuration, limits, state, the way out and the instruments.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Isolation, Limits};
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
    /// Whether instances are reused.
    pub isolation: Isolation,
    /// What `wasi:keyvalue` is backed by.
    pub state: StateStore,
    /// The way out.
    pub outbound: Outbound,
    /// The figures of the whole process.
    pub process: Metrics,
    /// The service's instruments.
    pub metrics: Arc<ServiceMetrics>,
}
