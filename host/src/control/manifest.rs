//! Applies a changed manifest: services are added, changed, moved and removed while the others keep serving.

use std::sync::{Arc, PoisonError};

use futures_util::future::join_all;

use super::error::StartError;
use super::file_stamp::FileStamp;
use super::handle::{Control, PreparedService};
use super::readiness::Readiness;
use super::rejected_manifest::{MissingInput, RejectedManifest};
use crate::config::{Config, ConfigError, ServiceConfig, ServiceName};
use crate::serve::listener::Listener;
use crate::services::{BuildError, Service};
use crate::telemetry::Operation;

/// Why the manifest is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// The host has started; the manifest may have changed meanwhile.
    Start,
    /// The file changed, or an administrator requested a reload.
    Changed,
    /// The manifest could not be applied, and the missing component, folder or port may be available now.
    Retry,
}

impl Reload {
    /// The value of the span attribute.
    fn name(self) -> &'static str {
        match self {
            Reload::Start => "start",
            Reload::Changed => "changed",
            Reload::Retry => "retry",
        }
    }
}

/// Adds the path of the manifest to an error about a component.
pub(crate) fn in_manifest(config: &Config, reason: BuildError) -> StartError {
    StartError::Build { manifest: config.manifest.display().to_string(), reason }
}

impl Control {
    /// Reads and applies the manifest again, and logs the result. `cause` is the operation that caused the reload, if
    /// any.
    pub(crate) async fn reload(self: &Arc<Self>, why: Reload, cause: Option<&Operation>) {
        self.reload_file(why, cause, None).await;
    }

    /// Reloads the manifest after the watcher has seen its file change. `stamp` is the stamp that the watcher saw.
    pub(super) async fn reload_file(
        self: &Arc<Self>,
        why: Reload,
        cause: Option<&Operation>,
        stamp: Option<FileStamp>,
    ) {
        let _guard = self.change_lock.lock().await;
        let path = self.config.load().manifest.clone();
        let read = match Config::load(&path, &self.environment) {
            Ok(new) if why == Reload::Start && self.config.load().is_equivalent_to(&new) => return,
            read => read,
        };
        if why == Reload::Retry && self.still_fails(&read).await {
            return;
        }
        let (name, failure) = ("reload", "manifest_refused");
        let operation = cause.map(|cause| cause.operation(name, failure));
        let operation = operation.unwrap_or_else(|| self.telemetry.operation(name, failure));
        operation.set("file.path", path.display().to_string());
        operation.set("spandrel.reload.reason", why.name());
        operation.run(self.apply_read(read, why, &operation, stamp)).await;
    }

    async fn apply_read(
        self: &Arc<Self>,
        read: Result<Config, ConfigError>,
        why: Reload,
        operation: &Operation,
        stamp: Option<FileStamp>,
    ) {
        let new = match read {
            Ok(new) => new,
            Err(error) => return self.record_rejection(None, &error.into(), why, operation),
        };
        match self.apply(new.clone(), operation, stamp).await {
            Ok(unapplied) => {
                self.set_rejected(None);
                if unapplied.is_empty() {
                    tracing::info!(manifest = %new.manifest.display(), "manifest applied");
                } else {
                    let services = unapplied.join(", ");
                    operation.fail(&format!("these services reject their new configuration: {services}"));
                    tracing::warn!(
                        services,
                        "the manifest was applied in part: these services reject their new configuration"
                    );
                }
            }
            Err(error) => self.record_rejection(Some(new), &error, why, operation),
        }
    }

    /// Whether a rejected manifest would fail for the same reason again, as far as this is known without compiling.
    async fn still_fails(&self, read: &Result<Config, ConfigError>) -> bool {
        let reason = match read {
            Err(error) => error.to_string(),
            Ok(new) => match self.plan_ports(&new.services).await {
                Ok(_) => return false,
                Err(error) => error.to_string(),
            },
        };
        let mut rejected = self.rejected_manifest.lock().unwrap_or_else(PoisonError::into_inner);
        rejected.as_mut().is_some_and(|rejected| rejected.record_retry(&reason))
    }

    fn record_rejection(&self, new: Option<Config>, error: &StartError, why: Reload, operation: &Operation) {
        let missing = match error {
            StartError::Build { .. } => MissingInput::Component,
            _ => MissingInput::Environment,
        };
        let reason = error.to_string();
        operation.fail(&reason);
        let before = self.set_rejected(Some(RejectedManifest::new(new, reason.clone(), missing)));
        // A retry that fails with the same error is not logged again.
        if why != Reload::Retry || before.is_none_or(|before| before.reason() != reason) {
            tracing::warn!(reason, "{NOT_APPLIED}");
        }
    }

    /// Whether a rejected manifest is to be retried although no file has changed.
    pub(super) fn retry_is_due(&self) -> bool {
        let rejected = self.rejected_manifest.lock().unwrap_or_else(PoisonError::into_inner);
        rejected.as_ref().is_some_and(RejectedManifest::is_due)
    }

    /// Applies `new` to the running services. Errors that concern the whole manifest (components of added services,
    /// ports) are found before anything is changed. A service that rejects its new configuration keeps the old one and
    /// is retried when its file or the manifest changes. Returns the names of those services.
    async fn apply(
        self: &Arc<Self>,
        new: Config,
        operation: &Operation,
        stamp: Option<FileStamp>,
    ) -> Result<Vec<String>, StartError> {
        let old = self.config.load_full();
        let new = Config { bind: old.bind, cache_dir: old.cache_dir.clone(), ..new };
        let prepared = match self.prepare_added(&new, operation).await {
            Ok(prepared) => prepared,
            Err(error) => {
                self.forget_unpublished(&new);
                return Err(error);
            }
        };
        let ports = match operation.step("listen", self.plan_ports(&new.services)).await {
            Ok(ports) => ports,
            Err(error) => {
                self.forget_unpublished(&new);
                return Err(error.into());
            }
        };
        if self.readiness() == Readiness::Draining {
            return Err(StartError::Stopping);
        }
        warn_of_restart_settings(&old, &new);
        let changed = self.changed(&old, &new);
        self.mark_pending(&changed);
        let (added, moved) = (prepared.iter().map(|service| service.name().clone()).collect(), moved(&old, &new));
        self.apply_services(new, prepared, ports);
        // From here on, a requested swap uses the new configuration. It need not wait for the swaps that follow.
        if stamp.is_some() {
            self.handled_manifest.send_replace(stamp);
        }
        self.log_services("service added", added);
        self.log_services("service moved", moved);
        let applied = changed.into_iter().map(|service| {
            let control = self.clone();
            async move { control.reconfigure(service).await }
        });
        Ok(join_all(applied).await.into_iter().flatten().map(|name| name.to_string()).collect())
    }

    async fn prepare_added(&self, new: &Config, operation: &Operation) -> Result<Vec<PreparedService>, StartError> {
        let mut prepared = Vec::new();
        for service in new.services.iter().filter(|service| self.catalog.find(service.name.as_str()).is_none()) {
            prepared.push(self.prepare(service, operation).await.map_err(|reason| in_manifest(new, reason))?);
        }
        Ok(prepared)
    }

    /// Stops reporting what was prepared for a service that is not published.
    fn forget_unpublished(&self, new: &Config) {
        let unpublished = new.services.iter().filter(|service| self.catalog.find(service.name.as_str()).is_none());
        unpublished.for_each(|service| self.builder.metrics().remove_service(service.name.as_str()));
    }

    /// The services that need a new generation.
    fn changed(&self, old: &Config, new: &Config) -> Vec<Arc<Service>> {
        let unapplied = self.unapplied.lock().unwrap_or_else(PoisonError::into_inner);
        let is_changed = |service: &&ServiceConfig| {
            let before = old.services.iter().find(|before| before.name == service.name);
            unapplied.contains(&service.name) || before.is_some_and(|before| !before.is_same_version_as(service))
        };
        new.services.iter().filter(is_changed).filter_map(|service| self.catalog.find(service.name.as_str())).collect()
    }

    pub(super) fn log_services(&self, what: &str, names: Vec<ServiceName>) {
        for name in names {
            if let Some(address) = self.ports.address(name.as_str()) {
                tracing::info!(service = %name, %address, "{what}");
            }
        }
    }

    /// Makes a generation of the component file and the manifest's configuration. Returns the name of the service if it
    /// does not run under that configuration afterwards.
    async fn reconfigure(self: &Arc<Self>, service: Arc<Service>) -> Option<ServiceName> {
        if self.swap_file(&service).await.is_superseded() {
            // The newer swap applies the manifest's configuration too, so its result decides.
            self.swapper.wait_for_swaps(&service).await;
        }
        self.record_applied(&service);
        (!service.runs_as_declared()).then(|| service.name.clone())
    }

    /// Marks services whose configuration is about to be applied. A canary that ends meanwhile, or just after it made the
    /// service reject the configuration, thus causes another attempt.
    fn mark_pending(&self, services: &[Arc<Service>]) {
        let mut unapplied = self.unapplied.lock().unwrap_or_else(PoisonError::into_inner);
        unapplied.extend(services.iter().map(|service| service.name.clone()));
    }

    /// Whether a service does not run under its configuration in the manifest yet, or has rejected it.
    pub(super) fn has_pending_config(&self, service: &Service) -> bool {
        self.unapplied.lock().unwrap_or_else(PoisonError::into_inner).contains(&service.name)
    }

    /// Records whether a service runs under its configuration in the manifest.
    pub(super) fn record_applied(&self, service: &Service) {
        let mut unapplied = self.unapplied.lock().unwrap_or_else(PoisonError::into_inner);
        if service.runs_as_declared() {
            unapplied.remove(&service.name);
        } else {
            unapplied.insert(service.name.clone());
        }
    }

    /// Lets a removed service finish its requests, on its port unless another service has that now.
    pub(super) fn retire(self: &Arc<Self>, service: Arc<Service>, listener: Option<Listener>) {
        service.remove();
        self.swapper.forget(&service.name);
        self.unapplied.lock().unwrap_or_else(PoisonError::into_inner).remove(&service.name);
        self.drains.begin(service.clone());
        let limit = self.config.load().shutdown.drain;
        let deadline = self.drains.deadline(limit);
        let listener = listener.map(|listener| self.drains.drain_listener(listener, limit));
        let control = self.clone();
        self.drains.spawn(async move {
            if let Some(listener) = listener {
                listener.await;
            }
            tokio::select! {
                () = service.drained() => {}
                () = deadline => {}
            }
            service.close();
            control.remove_metrics(&service).await;
            control.drains.finish(&service);
            tracing::info!(service = %service.name, "service removed");
        });
    }

    /// Removes the metrics of a service, unless a service of the same name was added meanwhile, which continues them.
    async fn remove_metrics(&self, service: &Service) {
        let mut readiness = self.readiness.subscribe();
        let _guard = tokio::select! {
            guard = self.change_lock.lock() => guard,
            // Another change of services can hold the lock for longer than the shutdown may take.
            _ = readiness.wait_for(|readiness| *readiness == Readiness::Draining) => return,
        };
        if self.catalog.find(service.name.as_str()).is_none() {
            self.builder.metrics().remove_service(service.name.as_str());
        }
    }

    fn set_rejected(&self, rejected: Option<RejectedManifest>) -> Option<RejectedManifest> {
        std::mem::replace(&mut *self.rejected_manifest.lock().unwrap_or_else(PoisonError::into_inner), rejected)
    }
}

const NOT_APPLIED: &str = "the changed manifest was not applied; the previous one stays in effect";

/// Warns if a setting has changed that is applied only at the next start.
fn warn_of_restart_settings(old: &Config, new: &Config) {
    let changed = [
        ("[console]", old.console != new.console),
        ("[limits]", old.connections != new.connections),
        ("[state]", old.state != new.state),
        ("[telemetry]", telemetry_settings(old) != telemetry_settings(new)),
        ("[swap]", old.swap != new.swap),
    ];
    let tables: Vec<_> = changed.into_iter().filter(|(_, changed)| *changed).map(|(table, _)| table).collect();
    if !tables.is_empty() {
        tracing::warn!("changes under {} take effect at the next start", tables.join(", "));
    }
}

/// All settings of `[telemetry]`.
fn telemetry_settings(config: &Config) -> impl PartialEq + '_ {
    (&config.telemetry, &config.attributes, &config.redaction)
}

/// The services whose listen address changes.
fn moved(old: &Config, new: &Config) -> Vec<ServiceName> {
    let has_moved = |service: &&ServiceConfig| {
        let before = old.services.iter().find(|before| before.name == service.name);
        before.is_some_and(|before| before.listen != service.listen)
    };
    new.services.iter().filter(has_moved).map(|service| service.name.clone()).collect()
}
