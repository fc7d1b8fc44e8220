//! Turns bytes into a [`Prepared`] component: reads its imports and exports, compiles and links it, and gets its
//! routes.
//!
//! Compiling takes up to half a minute and runs on threads of low priority, so that requests are still served. All
//! services of one component share the compiled code as long as one of them serves.

use std::sync::Arc;

use tokio::sync::oneshot;
use wasmtime::component::Component;

use super::compiled::Compiled;
use super::context::ServiceContext;
use super::contract::{self, Contract, HttpWorld, Kind};
use super::digest::Digest;
use super::engine::{Allocation, Engine, Engines, Runtime};
use super::error::ComponentError;
use super::guest::lean::LeanInstance;
use super::guest::standard::StandardInstance;
use super::guest::{Linked, StartFailure, lean, standard};
use super::idle::IdleInstances;
use super::instantiate::instantiate;
use super::symbolizer::Symbolizer;
use crate::config::Isolation;
use crate::http::routes::{Route, RouteTable};

/// The handler interfaces that only a middleware imports.
const IMPORTED_HANDLERS: [&str; 2] = ["wasi:http/handler@0.3.", "wasi:http/incoming-handler@0.2."];
/// The interface for outgoing requests in WASI 0.2.
const OUTGOING_P2: &str = "wasi:http/outgoing-handler@0.2.";

/// A compiled and linked component that was not instantiated yet.
pub struct Candidate(pub(super) Arc<Compiled>);

/// A component that can serve: compiled, linked, with known routes. Immutable.
pub struct Prepared {
    pub(super) compiled: Arc<Compiled>,
    pub(super) routes: RouteTable,
}

impl Prepared {
    /// The digest of the component's bytes.
    pub fn digest(&self) -> &Digest {
        &self.compiled.digest
    }

    /// The component's size in bytes.
    pub fn size(&self) -> usize {
        self.compiled.size
    }

    /// The routes that a lean component declares, or those from the manifest.
    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// The interfaces that it imports.
    pub fn imports(&self) -> &[String] {
        &self.compiled.imports
    }

    /// The same component, to be verified with another configuration.
    pub fn to_candidate(&self) -> Candidate {
        Candidate(self.compiled.clone())
    }

    /// The kind of component.
    pub fn kind(&self) -> Kind {
        self.compiled.kind
    }
}

impl Engine {
    /// Compiles and links the component on a thread of low priority, unless that was done before. If the caller drops
    /// the future before compilation starts, nothing is compiled; a compilation that has started runs to its end and
    /// fills the cache.
    pub async fn compile(&self, bytes: Arc<[u8]>) -> Result<Candidate, ComponentError> {
        // Checked first, because it is fast and need not wait for other compilations.
        contract::check(&bytes)?;
        let digest = Digest::compute(&bytes).await;
        let entry = self.compiled.entry(&digest);
        // Concurrent callers with the same component wait for the first one.
        let mut entry = entry.lock().await;
        if let Some(compiled) = entry.upgrade() {
            return Ok(Candidate(compiled));
        }
        let engine = self.clone();
        let (done, compiled) = oneshot::channel();
        self.compiler_threads.spawn(move || {
            if !done.is_closed() {
                done.send(engine.compile_now(digest, &bytes)).ok();
            }
        });
        let compiled = compiled.await;
        let compiled = compiled.unwrap_or_else(|_| Err(ComponentError::Invalid("the compiler panicked".to_owned())));
        let compiled = Arc::new(compiled?);
        *entry = Arc::downgrade(&compiled);
        Ok(Candidate(compiled))
    }

    /// Instantiates a candidate under the service's limits, and gets the routes of a lean component.
    pub async fn verify(
        &self,
        candidate: Candidate,
        context: &Arc<ServiceContext>,
    ) -> Result<Prepared, ComponentError> {
        let Candidate(compiled) = candidate;
        check_concurrency(&compiled, context)?;
        check_next(&compiled, context)?;
        let routes = match &compiled.linked {
            Linked::Lean(pre) => RouteTable::new(lean_routes(pre, &compiled, context, &self.idle).await?)?,
            Linked::Standard(pre) => {
                let instance = instantiate((pre, &*compiled), context, &Arc::default(), &self.idle).await;
                instance.map(drop::<StandardInstance>).map_err(|failure| does_not_start(failure, context))?;
                RouteTable::declared(context.routes.clone())?
            }
        };
        Ok(Prepared { compiled, routes })
    }

    fn compile_now(&self, digest: Digest, bytes: &[u8]) -> Result<Compiled, ComponentError> {
        let contract = Contract::read(bytes)?;
        let kind = contract.check()?;
        let (size, imports) = (bytes.len(), contract.imports);
        let linked = self.link(bytes, kind, (&imports, contract.exports))?;
        let symbolizer = Arc::new(Symbolizer::of(bytes));
        let capacity = self.capacity(linked.engine());
        Ok(Compiled { digest, size, kind, linked, capacity, symbolizer, imports })
    }

    fn link(
        &self,
        bytes: &[u8],
        kind: Kind,
        (imports, exports): (&[String], Vec<String>),
    ) -> Result<Linked, ComponentError> {
        let mismatch = |error: wasmtime::Error| ComponentError::Mismatch(format!("{error:#}"));
        match kind {
            Kind::Lean => {
                let (runtime, component) = self.component(&self.sequential, bytes)?;
                lean::link(&runtime.lean, &component).map(Linked::Lean).map_err(mismatch)
            }
            Kind::Standard(HttpWorld::P2) => {
                let (runtime, component) = self.component(&self.sequential, bytes)?;
                standard::link(&runtime.p2, &component, HttpWorld::P2, imports).map(Linked::Standard).map_err(mismatch)
            }
            Kind::Standard(HttpWorld::P3) => {
                let (runtime, component) = self.component(&self.concurrent, bytes)?;
                standard::link(&runtime.p3, &component, HttpWorld::P3, imports).map(Linked::Standard).map_err(mismatch)
            }
            Kind::Unknown => Err(ComponentError::MissingExport { exports }),
        }
    }

    /// Compiles a component for the pooled engine, or for an engine that allocates on demand if it fits no slot or needs
    /// garbage collection. The first two engines share the compilation cache: a component that fits no slot is compiled
    /// once.
    fn component<'a, R: Runtime>(
        &self,
        engines: &'a Engines<R>,
        bytes: &[u8],
    ) -> Result<(&'a R, Component), ComponentError> {
        let compile = |allocation| {
            let runtime = engines.with(allocation)?;
            let engine = runtime.engine();
            let component = self.compiler_threads.install(|| Component::new(engine, bytes))?;
            wasmtime::error::Ok((runtime, component))
        };
        let pooled_error = match compile(Allocation::Pooled) {
            Ok(compiled) => return Ok(compiled),
            Err(pooled_error) => pooled_error,
        };
        // An invalid component fails with all engines.
        let compiled = compile(Allocation::OnDemand).or_else(|_| compile(Allocation::GarbageCollected));
        let compiled = compiled.map_err(|error| ComponentError::rejected(error.root_cause().to_string()))?;
        tracing::info!(reason = %pooled_error.root_cause(), "the component fits no slot: its instances are allocated on demand");
        Ok(compiled)
    }
}

/// Checks that an instance may serve as many concurrent requests as the manifest says.
fn check_concurrency(compiled: &Compiled, context: &ServiceContext) -> Result<(), ComponentError> {
    if context.concurrency_per_instance <= 1 {
        return Ok(());
    }
    let reason = match compiled.kind {
        Kind::Standard(HttpWorld::P3) if context.isolation == Some(Isolation::Request) => {
            "`isolation = \"request\"` gives each request an instance of its own"
        }
        Kind::Standard(HttpWorld::P3) if compiled.imports.iter().any(|name| name.starts_with(OUTGOING_P2)) => {
            "the component sends requests with `wasi:http/outgoing-handler@0.2`, which does not identify the request that it sends for"
        }
        Kind::Standard(HttpWorld::P3) => return Ok(()),
        Kind::Standard(HttpWorld::P2) => "a component of `wasi:http` 0.2 serves one request at a time",
        Kind::Lean | Kind::Unknown => "a lean component serves one request at a time",
    };
    Err(ComponentError::ServesOneAtATime(reason))
}

/// Checks that the manifest has `next` if and only if the component is a middleware.
fn check_next(compiled: &Compiled, context: &ServiceContext) -> Result<(), ComponentError> {
    let is_handler = |name: &&String| IMPORTED_HANDLERS.iter().any(|handler| name.starts_with(handler));
    match (compiled.imports.iter().find(is_handler), &context.next) {
        (Some(_), Some(_)) | (None, None) => Ok(()),
        (Some(import), None) => Err(ComponentError::NextMissing { import: import.clone() }),
        (None, Some(_)) => Err(ComponentError::NextNotImported),
    }
}

fn does_not_start(failure: StartFailure, context: &ServiceContext) -> ComponentError {
    let memory_denied = failure.memory_denied;
    let reason = failure.into_logged_error(&context.name).root_cause().to_string();
    ComponentError::does_not_start(reason, memory_denied)
}

async fn lean_routes(
    pre: &lean::LeanPre,
    compiled: &Compiled,
    context: &Arc<ServiceContext>,
    idle: &IdleInstances,
) -> Result<Vec<Route>, ComponentError> {
    let routes = async {
        let instance = instantiate::<LeanInstance>((pre, compiled), context, &Arc::default(), idle).await;
        let mut instance = instance.map_err(|failure| does_not_start(failure, context))?;
        instance.routes().await.map_err(|exception| ComponentError::RoutesFailed(exception.message))
    };
    let limit = context.limits.request_timeout;
    match tokio::time::timeout(limit, routes).await {
        Ok(routes) => routes,
        Err(_) => Err(ComponentError::RoutesFailed(format!("no response within {limit:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component with so many instances of an empty core module.
    fn component(instances: u8) -> Vec<u8> {
        let header = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
        let module = [1, 8, 0, b'a', b's', b'm', 1, 0, 0, 0];
        // Three sections, because each count is encoded in one byte here.
        let of_section = instances.div_ceil(3).min(40);
        let sections = (0..instances).step_by(usize::from(of_section)).flat_map(|from| {
            let count = of_section.min(instances - from);
            [2, 1 + 3 * count, count].into_iter().chain([0, 0, 0].repeat(usize::from(count)))
        });
        header.into_iter().chain(module).chain(sections).collect()
    }

    fn is_pooled(engine: &Engine, bytes: &[u8]) -> bool {
        let (_, component) = engine.component(&engine.sequential, bytes).unwrap();
        wasmtime::Engine::same(component.engine(), &engine.sequential.pooled.engine)
    }

    #[test]
    fn a_component_that_fits_no_slot_is_allocated_on_demand() {
        let engine = Engine::new(None).unwrap();
        assert!(is_pooled(&engine, &component(100)));
        let large = [component(240), component(240)[18..].to_vec()].concat();
        assert!(!is_pooled(&engine, &large), "it has 480 core instances");
        let broken = &large[..large.len() - 1];
        assert!(matches!(engine.component(&engine.sequential, broken), Err(ComponentError::Invalid(_))));
    }
}
