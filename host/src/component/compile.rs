//! From bytes to a [`Prepared`] component: read its kind, compile, link, ask for its routes.
//!
//! Compiling takes up to seconds and happens on threads of low priority, so that a host that serves goes on serving.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::sync::oneshot;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::bindings::{ServicePre, spandrel::service::http::Method};
use super::engine::Engine;
use super::instance::{Environment, Instance, State};
use super::symbols::Symbols;
use crate::routes::{Route, RouteError, RouteTable};

/// The export that makes a component lean.
const HANDLER: &str = "spandrel:service/handler@";
/// The exports that make a component standard: `wasi:http` 0.2 and 0.3.
const STANDARD: [&str; 2] = ["wasi:http/incoming-handler@", "wasi:http/handler@"];

/// What a component is, read off its exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Exports `spandrel:service/handler`.
    Lean,
    /// Exports a `wasi:http` handler.
    Standard,
    /// Neither.
    Unknown,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Kind::Lean => "lean",
            Kind::Standard => "standard",
            Kind::Unknown => "unknown",
        })
    }
}

/// The SHA-256 of a component's bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Digest(Arc<str>);

impl Digest {
    /// Hashes a component.
    pub fn of(bytes: &[u8]) -> Digest {
        use std::fmt::Write;
        let mut text = String::from("sha256:");
        for byte in Sha256::digest(bytes) {
            let written = write!(text, "{byte:02x}");
            debug_assert!(written.is_ok(), "writing to a string cannot fail");
        }
        Digest(text.into())
    }

    /// Hashes a component without holding up requests: a large one takes a while.
    pub async fn compute(bytes: &Arc<[u8]>) -> Digest {
        let shared = bytes.clone();
        let hashed = tokio::task::spawn_blocking(move || Digest::of(&shared)).await;
        hashed.unwrap_or_else(|_| Digest::of(bytes))
    }

    /// The whole digest, as in `sha256:0a1b...`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Enough of it to tell versions apart in a table.
    pub fn short(&self) -> &str {
        self.0.get(7..19).unwrap_or(&self.0)
    }

    /// The same text, shared.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why bytes are no service. Each message says what is wrong and what to do.
#[derive(Debug, Error)]
pub enum ComponentError {
    /// Not WebAssembly at all.
    #[error(
        "this is no WebAssembly file ({size} bytes). Build the service with `cargo build --release --target wasm32-wasip2` and give the .wasm file that it writes"
    )]
    NotWasm {
        /// How many bytes there were.
        size: usize,
    },
    /// A core module.
    #[error(
        "this is a core WebAssembly module, not a component. Build for `wasm32-wasip2`; a module built for another target needs `wasm-tools component new`"
    )]
    CoreModule,
    /// Bytes that look like a component but are broken, for example cut off.
    #[error("the component is not valid: {0}. Was the file written to the end? Build it again")]
    Invalid(String),
    /// A component that serves `wasi:http`.
    #[error(
        "this is a standard component (it exports {export}); this host serves lean components, which export `spandrel:service/handler@0.1.0`"
    )]
    Standard {
        /// The export that says so.
        export: String,
    },
    /// The export that every service has is not there.
    #[error("the component does not export `spandrel:service/handler@0.1.0`{}. Implement the world `service` of wit/service.wit, for example with `guest::serve!`", listing("; it exports ", .exports))]
    MissingExport {
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// Interfaces that the host does not have.
    #[error("the component imports {}, which this host does not have. `spandrel inspect` lists what it has", listing("", .imports))]
    UnknownImports {
        /// Their names.
        imports: Vec<String>,
    },
    /// An interface of a known name but with other types.
    #[error("the component does not fit the host's interfaces: {0}. Build it against the wit/ folder of this version")]
    Mismatch(String),
    /// The routes that it declares make no sense.
    #[error("the component's routes are of no use: {0}")]
    Routes(#[from] RouteError),
    /// It could not say which routes it has.
    #[error("the component failed when asked for its routes: {0}")]
    RoutesFailed(String),
}

fn listing(before: &str, names: &[String]) -> String {
    match names.is_empty() {
        true => String::new(),
        false => format!("{before}`{}`", names.join("`, `")),
    }
}

/// A component that was compiled and linked, and whose imports and exports fit the host.
pub struct Candidate {
    pub(super) digest: Digest,
    pub(super) size: usize,
    pub(super) pre: ServicePre<State>,
    pub(super) symbols: Arc<Symbols>,
    pub(super) imports: Vec<String>,
}

/// A component that can serve: compiled, linked, its routes known. Never changed.
pub struct Prepared {
    pub(super) digest: Digest,
    pub(super) size: usize,
    pub(super) pre: ServicePre<State>,
    pub(super) symbols: Arc<Symbols>,
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
        environment: &Arc<Environment>,
    ) -> Result<Prepared, ComponentError> {
        let Candidate { digest, size, pre, symbols, imports } = candidate;
        let asked = async {
            let mut instance = Instance::new(self, (&pre, &symbols), environment, Arc::default()).await?;
            instance.routes().await
        };
        let routes = tokio::time::timeout(environment.limits.request_timeout, asked).await;
        let routes = match routes {
            Ok(routes) => routes.map_err(|error| ComponentError::RoutesFailed(error.root_cause().to_string()))?,
            Err(_) => {
                let limit = environment.limits.request_timeout;
                return Err(ComponentError::RoutesFailed(format!("no answer within {limit:?}")));
            }
        };
        let routes = RouteTable::new(routes)?;
        Ok(Prepared { digest, size, pre, symbols, imports, routes })
    }

    fn compile_now(&self, bytes: &[u8]) -> Result<Candidate, ComponentError> {
        check_header(bytes)?;
        let component = self.component(bytes)?;
        self.check_exports(&component)?;
        let unknown = super::inspect::unknown_imports(self, &component);
        if !unknown.is_empty() {
            return Err(ComponentError::UnknownImports { imports: unknown });
        }
        let mismatch = |error: wasmtime::Error| ComponentError::Mismatch(format!("{error:#}"));
        let pre = self.linker.instantiate_pre(&component).map_err(mismatch)?;
        let pre = ServicePre::new(pre).map_err(mismatch)?;
        let imports = import_names(self, &component);
        let symbols = Arc::new(Symbols::of(bytes));
        Ok(Candidate { digest: Digest::of(bytes), size: bytes.len(), pre, symbols, imports })
    }

    /// Compiles without looking at what the component is for.
    pub(super) fn component(&self, bytes: &[u8]) -> Result<Component, ComponentError> {
        let compile = || Component::new(&self.engine, bytes);
        let compiled = self.compilers.install(compile);
        compiled.map_err(|error| ComponentError::Invalid(error.root_cause().to_string()))
    }

    fn check_exports(&self, component: &Component) -> Result<(), ComponentError> {
        let exports = export_names(self, component);
        match kind(&exports) {
            Kind::Lean => Ok(()),
            Kind::Standard => {
                let standard = exports.iter().find(|name| is_standard(name));
                Err(ComponentError::Standard { export: standard.cloned().unwrap_or_default() })
            }
            Kind::Unknown => Err(ComponentError::MissingExport { exports }),
        }
    }
}

/// Tells a component from a core module and from anything else by its first eight bytes.
pub(super) fn check_header(bytes: &[u8]) -> Result<(), ComponentError> {
    match bytes {
        [0, b'a', b's', b'm', _, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(ComponentError::CoreModule),
        [0, b'a', b's', b'm', ..] => Err(ComponentError::Invalid("its version is unknown".to_owned())),
        _ => Err(ComponentError::NotWasm { size: bytes.len() }),
    }
}

pub(super) fn export_names(engine: &Engine, component: &Component) -> Vec<String> {
    let exports = component.component_type();
    exports.exports(&engine.engine).map(|(name, _)| name.to_owned()).collect()
}

pub(super) fn import_names(engine: &Engine, component: &Component) -> Vec<String> {
    let imports = component.component_type();
    let functions = imports.imports(&engine.engine).filter(|(_, item)| !is_type(&item.ty));
    functions.map(|(name, _)| name.to_owned()).collect()
}

fn is_type(item: &ComponentItem) -> bool {
    matches!(item, ComponentItem::Type(_))
}

pub(super) fn kind(exports: &[String]) -> Kind {
    if exports.iter().any(|name| name.starts_with(HANDLER)) {
        Kind::Lean
    } else if exports.iter().any(|name| is_standard(name)) {
        Kind::Standard
    } else {
        Kind::Unknown
    }
}

fn is_standard(export: &str) -> bool {
    STANDARD.iter().any(|prefix| export.starts_with(prefix))
}

impl From<Method> for http::Method {
    fn from(method: Method) -> http::Method {
        match method {
            Method::Get => http::Method::GET,
            Method::Head => http::Method::HEAD,
            Method::Post => http::Method::POST,
            Method::Put => http::Method::PUT,
            Method::Patch => http::Method::PATCH,
            Method::Delete => http::Method::DELETE,
            Method::Options => http::Method::OPTIONS,
        }
    }
}

impl From<super::bindings::spandrel::service::http::Route> for Route {
    fn from(route: super::bindings::spandrel::service::http::Route) -> Route {
        Route { method: route.method.into(), template: route.path.into() }
    }
}
