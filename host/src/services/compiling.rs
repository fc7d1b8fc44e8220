//! The services whose components are being compiled. A compilation that takes longer than a threshold is logged at
//! that time and when it ends.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{ServiceConfig, ServiceName};

/// How long a compilation may take before it is logged.
const LOG_THRESHOLD: Duration = Duration::from_secs(3);

/// The services whose components are being compiled.
#[derive(Default)]
pub struct Compiling(Mutex<BTreeMap<ServiceName, Vec<ServiceConfig>>>);

/// Marks a service as being compiled. Dropping it removes the mark.
struct CompilingGuard<'a>(&'a Compiling, &'a ServiceName);

impl Compiling {
    /// Awaits the compilation of a component for a service, and logs a compilation that takes long.
    pub(super) async fn watch<T>(&self, service: &ServiceConfig, bytes: usize, compile: impl Future<Output = T>) -> T {
        self.watch_for(LOG_THRESHOLD, service, bytes, compile).await
    }

    async fn watch_for<T>(
        &self,
        log_threshold: Duration,
        service: &ServiceConfig,
        bytes: usize,
        compile: impl Future<Output = T>,
    ) -> T {
        let (name, began) = (&service.name, Instant::now());
        self.lock().entry(name.clone()).or_default().push(service.clone());
        let _guard = CompilingGuard(self, name);
        let mut compile = pin!(compile);
        if let Ok(compiled) = tokio::time::timeout(log_threshold, &mut compile).await {
            return compiled;
        }
        tracing::info!(service = %name, bytes, "compiling the component, which happens once and may take a while");
        let compiled = compile.await;
        tracing::info!(service = %name, took = ?began.elapsed(), "the component is compiled");
        compiled
    }

    /// Whether this service's component is being compiled.
    pub fn has(&self, service: &ServiceName) -> bool {
        self.lock().contains_key(service)
    }

    /// The configurations of the services whose components are being compiled.
    pub fn services(&self) -> Vec<ServiceConfig> {
        self.lock().values().filter_map(|services| services.last().cloned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Vec<ServiceConfig>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CompilingGuard<'_> {
    fn drop(&mut self) {
        let mut services = self.0.lock();
        if let Some(configs) = services.get_mut(self.1) {
            configs.pop();
            if configs.is_empty() {
                services.remove(self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_service_is_compiling_until_every_compilation_for_it_has_ended_or_was_cancelled() {
        let (compiling, service) = (Compiling::default(), ServiceConfig::unnamed(Path::new("a.wasm")));
        let (done, compile) = oneshot::channel::<()>();
        {
            let mut first = pin!(compiling.watch_for(Duration::ZERO, &service, 1, compile));
            let mut second = pin!(compiling.watch(&service, 1, std::future::pending::<()>()));
            assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
            assert_eq!(compiling.services().len(), 1);
            done.send(()).unwrap();
            first.await.unwrap();
            assert!(compiling.has(&service.name), "the second compilation has not ended");
        }
        assert!(!compiling.has(&service.name) && compiling.services().is_empty());
    }
}
