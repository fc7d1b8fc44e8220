//! From bytes to a [`Prepared`] component: read its kind, compile, link, ask for its routes.
//!
//! Compiling takes up to seconds and happens on threads of low priority, so that a host that serves goes on serving.

use std::sync::Arc;

use tokio::sync::oneshot;
use wasmtime::component::Component;

use super::context::ServiceContext;
use super::contract::{self, Kind};
use super::digest::Digest;
use super::engine::Engine;
use super::error::ComponentError;
use super::guest::{Instance, Linked, lean};
use super::symbolizer::Symbolizer;
use crate::http::routes::RouteTable;

/// A component that was compiled and linked, and whose imports and exports fit the host.
pub struct Candidate {
    pub(super) digest: Digest,
    pub(super) size: usize,
    pub(super) linked: Linked,
    pub(super) symbolizer: Arc<Symbolizer>,
    pub(super) imports: Vec<String>,
}

/// A component that can serve: compiled, linked, its routes known. Never changed.
pub struct Prepared {
    pub(super) digest: Digest,
    pub(super) size: usize,
    pub(super) linked: Linked,
    pub(super) symbolizer: Arc<Symbolizer>,
    pub(super) imports: Vec<String>,
    pub(super) routes: RouteTable,
}

impl Prepared {
    /// The digest of the component's bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The component's size in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Its endpoints.
    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// The interfaces that it needs of the host.
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// What it is. Only lean components are prepared.
    pub fn kind(&self) -> Kind {
        Kind::Lean
    }
}

impl Engine {
    /// Compiles and links, on a thread of low priority. Where the caller goes away before its turn has come, nothing is
    /// done; what has begun is finished for the cache.
    pub async fn compile(&self, bytes: Arc<[u8]>) -> Result<Candidate, ComponentError> {
        let engine = self.clone();
        let (done, compiled) = oneshot::channel();
        self.compilers.spawn(move || {
            if !done.is_closed() {
                done.send(engine.compile_now(&bytes)).ok();
            }
        });
        compiled.await.unwrap_or_else(|_| Err(ComponentError::Invalid("the compiler gave up".to_owned())))
    }

    /// Asks a candidate for its routes, in an instance that runs under the service's own limits.
    pub async fn verify(
        &self,
        candidate: Candidate,
        context: &Arc<ServiceContext>,
    ) -> Result<Prepared, ComponentError> {
        let Candidate { digest, size, linked, symbolizer, imports } = candidate;
        let asked = async {
            let mut instance = Instance::new(&self.engine, (&linked, &symbolizer), context, Arc::default()).await?;
            instance.routes().await
        };
        let routes = tokio::time::timeout(context.limits.request_timeout, asked).await;
        let routes = match routes {
            Ok(routes) => routes.map_err(|error| ComponentError::RoutesFailed(error.root_cause().to_string()))?,
            Err(_) => {
                let limit = context.limits.request_timeout;
                return Err(ComponentError::RoutesFailed(format!("no answer within {limit:?}")));
            }
        };
        let routes = RouteTable::new(routes)?;
        Ok(Prepared { digest, size, linked, symbolizer, imports, routes })
    }

    fn compile_now(&self, bytes: &[u8]) -> Result<Candidate, ComponentError> {
        contract::check_header(bytes)?;
        let component = self.component(bytes)?;
        self.check_exports(&component)?;
        let unknown = contract::unknown_imports(&self.engine, &component);
        if !unknown.is_empty() {
            return Err(ComponentError::UnknownImports { imports: unknown });
        }
        let mismatch = |error: wasmtime::Error| ComponentError::Mismatch(format!("{error:#}"));
        let linked = Linked::Lean(lean::link(&self.linker, &component).map_err(mismatch)?);
        let imports = contract::import_names(&self.engine, &component);
        let symbolizer = Arc::new(Symbolizer::of(bytes));
        Ok(Candidate { digest: Digest::of(bytes), size: bytes.len(), linked, symbolizer, imports })
    }

    /// Compiles without looking at what the component is for.
    pub(super) fn component(&self, bytes: &[u8]) -> Result<Component, ComponentError> {
        let compile = || Component::new(&self.engine, bytes);
        let compiled = self.compilers.install(compile);
        compiled.map_err(|error| ComponentError::Invalid(error.root_cause().to_string()))
    }

    fn check_exports(&self, component: &Component) -> Result<(), ComponentError> {
        let exports = contract::export_names(&self.engine, component);
        match contract::kind(&exports) {
            Kind::Lean => Ok(()),
            Kind::Standard => {
                let standard = exports.iter().find(|name| contract::is_standard(name));
                Err(ComponentError::Standard { export: standard.cloned().unwrap_or_default() })
            }
            Kind::Unknown => Err(ComponentError::MissingExport { exports }),
        }
    }
}
