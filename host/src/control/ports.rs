//! Which service answers on which port.
//!
//! A port that stays in the manifest keeps its socket, whichever service the manifest puts there: no connection is
//! refused. A request that has begun is finished by the service that began it; the next one on the same connection goes
//! to the new service.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::config::{ServiceConfig, ServiceName};
use crate::serve::listener::{Bound, Listener};
use crate::services::Service;

/// The service that answers on a port. It may be exchanged while connections are open.
pub(super) type Target = Arc<ArcSwap<Service>>;

/// A port that is served.
struct Port {
    /// The address in the manifest, which may leave the choice of the port to the system.
    declared: SocketAddr,
    listener: Listener,
    target: Target,
}

/// The ports of all services.
#[derive(Default)]
pub(crate) struct Ports(Mutex<BTreeMap<ServiceName, Port>>);

/// Where the socket of each service of a manifest comes from.
#[derive(Default)]
pub(crate) struct PortPlan(BTreeMap<ServiceName, Socket>);

enum Socket {
    /// It was taken for this.
    New(Bound),
    /// It is the one that this service has now.
    Of(ServiceName),
}

impl PortPlan {
    /// Keeps the socket that is where a service is to be, where there is one.
    pub fn keep(&mut self, ports: &Ports, service: &ServiceConfig) -> bool {
        let holder = ports.holder(service).map(Socket::Of);
        let is_kept = holder.is_some();
        self.0.extend(holder.map(|socket| (service.name.clone(), socket)));
        is_kept
    }

    /// Puts a service on a socket that was taken for it.
    pub fn take(&mut self, service: &ServiceConfig, bound: Bound) {
        self.0.insert(service.name.clone(), Socket::New(bound));
    }
}

impl Ports {
    /// Who has the socket where a service is to be. Port 0 is another one each time.
    fn holder(&self, service: &ServiceConfig) -> Option<ServiceName> {
        let ports = self.lock();
        let is_there = |port: &&Port| port.declared == service.listen;
        if ports.get(&service.name).filter(is_there).is_some() {
            return Some(service.name.clone());
        }
        let mut others = ports.iter().filter(|(_, port)| port.declared == service.listen && port.declared.port() != 0);
        others.next().map(|(name, _)| name.clone())
    }

    /// Lets each of `services` answer where the plan says. New sockets are served with `serve`. Returns the listeners that
    /// nobody has any more, with the names of the services that had them.
    pub fn commit(
        &self,
        PortPlan(plan): PortPlan,
        services: &[Arc<Service>],
        serve: impl Fn(Bound, Target) -> Listener,
    ) -> BTreeMap<ServiceName, Listener> {
        let mut ports = self.lock();
        let mut before = std::mem::take(&mut *ports);
        let find = |name: &ServiceName| services.iter().find(|service| service.name == *name).cloned();
        for (name, socket) in plan {
            let Some(service) = find(&name) else { continue };
            let port = match socket {
                Socket::New(bound) => {
                    let target: Target = Arc::new(ArcSwap::new(service.clone()));
                    let listener = serve(bound, target.clone());
                    Port { declared: service.listen(), listener, target }
                }
                Socket::Of(holder) => {
                    let Some(port) = before.remove(&holder) else { continue };
                    port.target.store(service);
                    port
                }
            };
            ports.insert(name, port);
        }
        before.into_iter().map(|(name, port)| (name, port.listener)).collect()
    }

    /// Where a service listens.
    pub fn address(&self, service: &str) -> Option<SocketAddr> {
        self.lock().iter().find(|(name, _)| name.as_str() == service).map(|(_, port)| port.listener.address)
    }

    /// Gives all listeners away, for the host's end.
    pub fn take(&self) -> Vec<Listener> {
        std::mem::take(&mut *self.lock()).into_values().map(|port| port.listener).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Port>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
