//! A generation: one version of a component with its configuration.
//!
//! A generation is created, then published with one atomic store, and never changed. An old generation lives as long as
//! requests use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::request_stats::RequestStats;
use crate::component::{Digest, Kind, Pool};
use crate::config::ServiceConfig;
use crate::http::SCHEME;
use crate::http::method;
use crate::http::routes::{Route, RouteIndex, RouteTable};
use crate::trace::{Attribute, Attributes, Resource};

/// One version of a service. It never changes after publication.
pub struct Generation {
    /// 1 for the version that the host started with. Each later version has the next number.
    pub number: u64,
    /// The configuration that the version runs with.
    pub config: ServiceConfig,
    /// The Resource of the spans.
    pub resource: Arc<Resource>,
    /// The instances of the component.
    pub pool: Pool,
    /// When the generation was created.
    pub created: SystemTime,
    /// The request statistics.
    pub stats: RequestStats,
    server_span_attributes: Vec<Attributes>,
    in_flight: AtomicUsize,
    idle: Notify,
}

impl Generation {
    /// A generation that is not published yet. `server_span_attributes` holds the server span attributes of requests
    /// without a route, followed by those of each route.
    pub fn new(
        number: u64,
        config: ServiceConfig,
        resource: Arc<Resource>,
        pool: Pool,
        server_span_attributes: Vec<Attributes>,
    ) -> Arc<Generation> {
        Arc::new(Generation {
            server_span_attributes,
            number,
            config,
            resource,
            pool,
            created: SystemTime::now(),
            stats: RequestStats::default(),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
        })
    }

    /// The digest of the component.
    pub fn digest(&self) -> &Digest {
        self.pool.prepared().digest()
    }

    /// The kind of the component.
    pub fn kind(&self) -> Kind {
        self.pool.prepared().kind()
    }

    /// The routes of the component. A standard component has the routes of the manifest.
    pub fn routes(&self) -> &RouteTable {
        self.pool.prepared().routes()
    }

    /// The attributes that all server spans of a route have in common. `None` selects requests without a route.
    pub fn server_span_attributes(&self, route: Option<RouteIndex>) -> Option<&Attributes> {
        self.server_span_attributes.get(route.map_or(0, |route| route as usize + 1))
    }

    /// The number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Waits until no request uses this generation.
    pub async fn drained(&self) {
        loop {
            let notified = self.idle.notified();
            if self.in_flight() == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// A request's lease on its generation. A leased request counts as in flight. Clones share one lease.
#[derive(Clone)]
pub struct Lease(Arc<LeaseInner>);

struct LeaseInner {
    generation: Arc<Generation>,
}

impl Lease {
    pub(super) fn new(generation: Arc<Generation>) -> Lease {
        generation.in_flight.fetch_add(1, Ordering::SeqCst);
        Lease(Arc::new(LeaseInner { generation }))
    }

    /// Another lease on the same generation.
    pub fn another(&self) -> Lease {
        Lease::new(self.0.generation.clone())
    }

    /// The same lease for an owner that only holds it.
    pub fn held(&self) -> Arc<dyn Send + Sync> {
        self.0.clone()
    }

    /// The leased generation.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.0.generation
    }
}

impl Drop for LeaseInner {
    fn drop(&mut self) {
        if self.generation.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.generation.idle.notify_waiters();
        }
    }
}

/// The attributes that the server spans of all requests for `route` have in common, in one version of a service. `None`
/// selects requests without a route.
pub(super) fn common_span_attributes(route: Option<&Route>, digest: &str, generation: u64) -> Attributes {
    let mut attributes = vec![
        Attribute::new("url.scheme", SCHEME),
        Attribute::new("spandrel.component.digest", digest),
        Attribute::new("spandrel.component.generation", generation as i64),
    ];
    if let Some(route) = route {
        if let Some(method) = &route.method {
            attributes.push(Attribute::new("http.request.method", method::attributes(method).0));
        }
        attributes.push(Attribute::new("http.route", &*route.template));
    }
    attributes.into_iter().collect()
}
