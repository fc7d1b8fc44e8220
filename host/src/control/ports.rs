//! The assignment of ports to services.
//!
//! A port that stays in the manifest keeps its socket even if the manifest assigns it to another service, so that no
//! connection is refused. The old service finishes the requests that it has started; the next request on the same
//! connection goes to the new service.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::config::{ServiceConfig, ServiceName};
use crate::serve::listener::{BoundPort, Listener};
use crate::services::Service;

/// The service that answers on a port. It can be replaced while connections are open.
pub(super) type ServiceTarget = Arc<ArcSwap<Service>>;

/// A bound port.
struct Port {
    /// The address in the manifest. With port 0 the operating system chooses the port.
    declared: SocketAddr,
    listener: Listener,
    target: ServiceTarget,
}

/// The ports of all services.
#[derive(Default)]
pub(crate) struct Ports(Mutex<BTreeMap<ServiceName, Port>>);

/// The source of the socket of each service of a manifest.
#[derive(Default)]
pub(crate) struct PortPlan(BTreeMap<ServiceName, Socket>);

enum Socket {
    /// Newly bound for this manifest.
    New(BoundPort),
    /// The socket that the named service has now.
    Existing(ServiceName),
}

impl PortPlan {
    /// Reuses the existing socket at the service's address. Returns whether there is one.
    pub fn reuse(&mut self, ports: &Ports, service: &ServiceConfig) -> bool {
        let holder = ports.holder(service).map(Socket::Existing);
        let is_kept = holder.is_some();
        self.0.extend(holder.map(|socket| (service.name.clone(), socket)));
        is_kept
    }

    /// Assigns a newly bound socket to a service.
    pub fn assign(&mut self, service: &ServiceConfig, bound: BoundPort) {
        self.0.insert(service.name.clone(), Socket::New(bound));
    }
}

impl Ports {
    /// The service that has the socket at this service's address. Each port 0 is a different address.
    fn holder(&self, service: &ServiceConfig) -> Option<ServiceName> {
        let ports = self.lock();
        let is_there = |port: &&Port| port.declared == service.listen;
        if ports.get(&service.name).filter(is_there).is_some() {
            return Some(service.name.clone());
        }
        let mut others = ports.iter().filter(|(_, port)| port.declared == service.listen && port.declared.port() != 0);
        others.next().map(|(name, _)| name.clone())
    }

    /// Makes each of `services` answer on its socket in the plan. New sockets are served with `serve`. Returns the
    /// listeners that are no longer in use, with the names of their services.
    pub fn commit(
        &self,
        PortPlan(plan): PortPlan,
        services: &[Arc<Service>],
        serve: impl Fn(BoundPort, ServiceTarget) -> Listener,
    ) -> BTreeMap<ServiceName, Listener> {
        let mut ports = self.lock();
        let mut before = std::mem::take(&mut *ports);
        let find = |name: &ServiceName| services.iter().find(|service| service.name == *name).cloned();
        for (name, socket) in plan {
            let Some(service) = find(&name) else { continue };
            let port = match socket {
                Socket::New(bound) => {
                    let target: ServiceTarget = Arc::new(ArcSwap::new(service.clone()));
                    let listener = serve(bound, target.clone());
                    Port { declared: service.listen(), listener, target }
                }
                Socket::Existing(holder) => {
                    let Some(port) = before.remove(&holder) else { continue };
                    port.target.store(service);
                    port
                }
            };
            ports.insert(name, port);
        }
        before.into_iter().map(|(name, port)| (name, port.listener)).collect()
    }

    /// The address that a service listens on.
    pub fn address(&self, service: &str) -> Option<SocketAddr> {
        self.lock().iter().find(|(name, _)| name.as_str() == service).map(|(_, port)| port.listener.address)
    }

    /// Removes and returns all listeners, for the shutdown.
    pub fn take_listeners(&self) -> Vec<Listener> {
        std::mem::take(&mut *self.lock()).into_values().map(|port| port.listener).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Port>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
