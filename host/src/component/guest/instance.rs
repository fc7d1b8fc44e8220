//! The interface common to instances of all kinds of guest.

use std::sync::Arc;
use std::time::Duration;

use crate::component::account::MemoryAccount;
use crate::component::capacity::OnDemandPermit;
use crate::component::context::ServiceContext;
use crate::component::guest_output::{GuestOutput, OutputLines};
use crate::component::instance_counts::InstanceCounts;
use crate::component::symbolizer::Symbolizer;

/// Why a component could not be instantiated, and what the guest printed before.
pub struct StartFailure {
    /// The reason.
    pub error: wasmtime::Error,
    /// The guest's output.
    pub output: OutputLines,
    /// The linear memory in bytes that the instance was denied.
    pub memory_denied: Option<u64>,
}

impl From<wasmtime::Error> for StartFailure {
    fn from(error: wasmtime::Error) -> StartFailure {
        StartFailure { error, output: OutputLines::default(), memory_denied: None }
    }
}

impl StartFailure {
    /// The same failure with what is in the account of the instance.
    pub(super) fn with_account(self, account: &MemoryAccount) -> StartFailure {
        StartFailure { memory_denied: account.take_denied(), ..self }
    }

    /// The reason, after the guest's output is in the host's log.
    pub fn into_logged_error(self, service: &str) -> wasmtime::Error {
        self.output.log_to_host(service);
        self.error
    }
}

/// Instantiates a component within `limit`. The guest prints to `output`: standard output and standard error.
pub(super) async fn start<T>(
    instantiation: impl Future<Output = wasmtime::Result<T>>,
    limit: Duration,
    output: (&GuestOutput, &GuestOutput),
) -> Result<T, StartFailure> {
    let started = tokio::time::timeout(limit, instantiation).await;
    let started =
        started.unwrap_or_else(|_| Err(wasmtime::format_err!("the component did not start within {limit:?}")));
    started.map_err(|error| StartFailure { error, output: OutputLines::take(output.0, output.1), memory_denied: None })
}

/// An instance: a store, the guest in it, and the request that it serves.
pub trait Guest: Sized + Send + 'static {
    /// The linked component that it is created from.
    type Pre: Clone + Send + Sync;

    /// Instantiates a component under the limits of `context`. As long as the instance lives, it is counted and
    /// keeps its permit.
    fn instantiate(
        made_from: (&Self::Pre, &Arc<Symbolizer>),
        context: &Arc<ServiceContext>,
        counted: (Arc<InstanceCounts>, OnDemandPermit),
    ) -> impl Future<Output = Result<Self, StartFailure>> + Send;

    /// Whether the last call ended normally. An unhealthy instance must not serve again.
    fn is_healthy(&self) -> bool;

    /// The number of requests that it has served.
    fn served(&self) -> u32;
}
