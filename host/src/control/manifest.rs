//! A changed manifest: services are added, changed, moved and removed while the others serve on.

use std::sync::{Arc, PoisonError};

use futures_util::future::join_all;

use super::error::StartError;
use super::handle::{Control, Ready};
use super::readiness::Readiness;
use super::refused::{Missed, RefusedManifest};
use crate::config::{Config, ConfigError, ServiceConfig, ServiceName};
use crate::serve::listener::Listener;
use crate::services::{BuildError, Service};
use crate::telemetry::Operation;

/// Why the manifest is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// It may have changed while the host started.
    FirstLook,
    /// Its file changed, or somebody asks for it.
    Changed,
    /// It could not be applied, and what it misses may have come.
    Retry,
}

impl Reload {
    /// As a span has it.
    fn name(self) -> &'static str {
        match self {
            Reload::FirstLook => "first_look",
            Reload::Changed => "changed",
            Reload::Retry => "retry",
        }
    }
}

/// Names the manifest that a component was built for.
pub(crate) fn in_manifest(config: &Config, reason: BuildError) -> StartError {
    StartError::Build { manifest: config.manifest.display().to_string(), reason }
}

impl Control {
    /// Reads the manifest again, applies it, and says in the log what came of it. `cause` is what it is done for, where that
    /// is an operation itself.
    pub(crate) async fn reload(self: &Arc<Self>, why: Reload, cause: Option<&Operation>) {
        let _turn = self.changing.lock().await;
        let path = self.config.load().manifest.clone();
        let read = match Config::load(&path, &self.environment) {
            Ok(new) if why == Reload::FirstLook && self.config.load().says_the_same_as(&new) => return,
            read => read,
        };
        if why == Reload::Retry && self.still_misses(&read).await {
            return;
        }
        let (name, failure) = ("reload", "manifest_refused");
        let operation = cause.map(|cause| cause.operation(name, failure));
        let operation = operation.unwrap_or_else(|| self.telemetry.operation(name, failure));
        operation.set("file.path", path.display().to_string());
        operation.set("spandrel.reload.reason", why.name());
        operation.run(self.take(read, why, &operation)).await;
    }

    async fn take(self: &Arc<Self>, read: Result<Config, ConfigError>, why: Reload, operation: &Operation) {
        let new = match read {
            Ok(new) => new,
            Err(error) => return self.not_applied(None, &error.into(), why, operation),
        };
        match self.apply(new.clone(), operation).await {
            Ok(unapplied) => {
                self.refuse(None);
                if unapplied.is_empty() {
                    tracing::info!(manifest = %new.manifest.display(), "manifest applied");
                } else {
                    let services = unapplied.join(", ");
                    operation.fail(&format!("these services refuse what it says: {services}"));
                    tracing::warn!(services, "the manifest was applied in part: these services refuse what it says");
                }
            }
            Err(error) => self.not_applied(Some(new), &error, why, operation),
        }
    }

    /// Whether a refused manifest misses what it missed before, as far as that is seen without compiling anything.
    async fn still_misses(&self, read: &Result<Config, ConfigError>) -> bool {
        let reason = match read {
            Err(error) => error.to_string(),
            Ok(new) => match self.plan_ports(&new.services).await {
                Ok(_) => return false,
                Err(error) => error.to_string(),
            },
        };
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_mut().is_some_and(|refused| refused.is_refused_again(&reason))
    }

    fn not_applied(&self, new: Option<Config>, error: &StartError, why: Reload, operation: &Operation) {
        let missed = match error {
            StartError::Build { .. } => Missed::Component,
            _ => Missed::Surroundings,
        };
        let reason = error.to_string();
        operation.fail(&reason);
        let before = self.refuse(Some(RefusedManifest::new(new, reason.clone(), missed)));
        // Another try that ends as the one before says nothing new.
        if why != Reload::Retry || before.is_none_or(|before| before.reason() != reason) {
            tracing::warn!(reason, "{NOT_APPLIED}");
        }
    }

    /// Whether a refused manifest is to be tried again, though no file has changed.
    pub(super) fn retry_is_due(&self) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().is_some_and(RefusedManifest::is_due)
    }

    /// Makes the running services those of `new`. What can be wrong with the whole of it is found before anything is
    /// changed: the components of added services and the ports. A service that refuses its new configuration goes on
    /// with the old one; it is tried again when its file or the manifest changes. Returns the names of those.
    async fn apply(self: &Arc<Self>, new: Config, operation: &Operation) -> Result<Vec<String>, StartError> {
        let old = self.config.load_full();
        let new = Config { bind: old.bind, cache_dir: old.cache_dir.clone(), ..new };
        let made = match self.prepare_added(&new, operation).await {
            Ok(made) => made,
            Err(error) => {
                self.forget_unborn(&new);
                return Err(error);
            }
        };
        let ports = match operation.step("listen", self.plan_ports(&new.services)).await {
            Ok(ports) => ports,
            Err(error) => {
                self.forget_unborn(&new);
                return Err(error.into());
            }
        };
        if self.readiness() == Readiness::Draining {
            return Err(StartError::Stopping);
        }
        warn_of_what_waits(&old, &new);
        let changed = self.changed(&old, &new);
        let (added, moved) = (made.iter().map(|ready| ready.config.name.clone()).collect(), moved(&old, &new));
        self.arrange(new, made, ports);
        self.tell("service added", added);
        self.tell("service moved", moved);
        let applied = changed.into_iter().map(|service| {
            let control = self.clone();
            async move { control.reconfigure(service).await }
        });
        Ok(join_all(applied).await.into_iter().flatten().map(|name| name.to_string()).collect())
    }

    async fn prepare_added(&self, new: &Config, operation: &Operation) -> Result<Vec<Ready>, StartError> {
        let mut made = Vec::new();
        for service in new.services.iter().filter(|service| self.catalog.find(service.name.as_str()).is_none()) {
            made.push(self.ready(service, operation).await.map_err(|reason| in_manifest(new, reason))?);
        }
        Ok(made)
    }

    /// What was prepared for a service that does not come is not to be reported.
    fn forget_unborn(&self, new: &Config) {
        let unborn = new.services.iter().filter(|service| self.catalog.find(service.name.as_str()).is_none());
        unborn.for_each(|service| self.builder.metrics().remove_service(service.name.as_str()));
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

    fn tell(&self, what: &str, names: Vec<ServiceName>) {
        for name in names {
            if let Some(address) = self.ports.address(name.as_str()) {
                tracing::info!(service = %name, %address, "{what}");
            }
        }
    }

    /// Makes a generation of the component file and what the manifest says. Gives the service's name back where it goes
    /// on with something else.
    async fn reconfigure(self: &Arc<Self>, service: Arc<Service>) -> Option<ServiceName> {
        if self.swap_file(&service).await.is_superseded() {
            // The newer one takes what the manifest says, too: how it ends decides.
            self.swapper.settled(&service).await;
        }
        self.note_applied(&service);
        (!service.runs_as_declared()).then(|| service.name.clone())
    }

    /// Whether a service has refused what the manifest says of it.
    pub(super) fn has_refused(&self, service: &Service) -> bool {
        self.unapplied.lock().unwrap_or_else(PoisonError::into_inner).contains(&service.name)
    }

    /// Remembers whether a service has refused what the manifest says of it.
    pub(super) fn note_applied(&self, service: &Service) {
        let mut unapplied = self.unapplied.lock().unwrap_or_else(PoisonError::into_inner);
        if service.runs_as_declared() {
            unapplied.remove(&service.name);
        } else {
            unapplied.insert(service.name.clone());
        }
    }

    /// Lets a service that was taken out finish what it began, on its port if no other service has that now.
    pub(super) fn retire(self: &Arc<Self>, service: Arc<Service>, listener: Option<Listener>) {
        service.remove();
        self.swapper.forget(&service.name);
        self.unapplied.lock().unwrap_or_else(PoisonError::into_inner).remove(&service.name);
        self.drains.begin(service.clone());
        let limit = self.config.load().shutdown.drain;
        let until = self.drains.until(limit);
        let listener = listener.map(|listener| self.drains.listener(listener, limit));
        let control = self.clone();
        self.drains.spawn(async move {
            if let Some(listener) = listener {
                listener.await;
            }
            tokio::select! {
                () = service.drained() => {}
                () = until => {}
            }
            service.close();
            control.forget_metrics(&service).await;
            control.drains.finish(&service);
            tracing::info!(service = %service.name, "service removed");
        });
    }

    /// Ends the metrics of a service, unless one of the same name has come by now: it goes on with them.
    async fn forget_metrics(&self, service: &Service) {
        let mut readiness = self.readiness.subscribe();
        let _turn = tokio::select! {
            turn = self.changing.lock() => turn,
            // Whoever changes services may be at it for longer than the host has.
            _ = readiness.wait_for(|readiness| *readiness == Readiness::Draining) => return,
        };
        if self.catalog.find(service.name.as_str()).is_none() {
            self.builder.metrics().remove_service(service.name.as_str());
        }
    }

    fn refuse(&self, refused: Option<RefusedManifest>) -> Option<RefusedManifest> {
        std::mem::replace(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner), refused)
    }
}

const NOT_APPLIED: &str = "the changed manifest was not applied; everything stays as it was";

/// Says so where something has changed that only the next start looks at.
fn warn_of_what_waits(old: &Config, new: &Config) {
    let changed = [
        ("[console]", old.console != new.console),
        ("[limits]", old.connections != new.connections),
        ("[state]", old.state != new.state),
        ("[telemetry]", of_telemetry(old) != of_telemetry(new)),
        ("[swap]", old.swap != new.swap),
    ];
    let tables: Vec<_> = changed.into_iter().filter(|(_, changed)| *changed).map(|(table, _)| table).collect();
    if !tables.is_empty() {
        tracing::warn!("changes under {} take effect at the next start", tables.join(", "));
    }
}

/// Everything that `[telemetry]` says.
fn of_telemetry(config: &Config) -> impl PartialEq + '_ {
    (&config.telemetry, &config.attributes, &config.redaction)
}

/// The services that listen somewhere else from now on.
fn moved(old: &Config, new: &Config) -> Vec<ServiceName> {
    let has_moved = |service: &&ServiceConfig| {
        let before = old.services.iter().find(|before| before.name == service.name);
        before.is_some_and(|before| before.listen != service.listen)
    };
    new.services.iter().filter(has_moved).map(|service| service.name.clone()).collect()
}
