//! Why bytes are no service, in words that say what is wrong and what to do.

use thiserror::Error;

use crate::http::routes::RouteError;

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
    /// A component that was built for a WASI 0.3 that was not released yet.
    #[error(
        "the component uses `{interface}`, a release candidate of WASI 0.3, which this host does not have. Build it again with tools that know the released 0.3.0"
    )]
    ReleaseCandidate {
        /// The first interface that says so.
        interface: String,
    },
    /// The export that every service has is not there.
    #[error("the component does not export `spandrel:service/handler@0.1.0`, `wasi:http/incoming-handler@0.2` or `wasi:http/handler@0.3`, and so it is no service{}", listing("; this one exports ", .exports))]
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
    /// The manifest asks for several requests in one instance, which this component or this manifest rules out.
    #[error("`concurrency_per_instance` is above 1, but {0}. Leave it out")]
    ServesOneAtATime(&'static str),
    /// A middleware whose manifest does not say what comes after it.
    #[error(
        "the component imports `{import}`: it is a middleware, which hands requests on. Name the service that they go on to, as in `next = \"user-service\"`"
    )]
    NextMissing {
        /// The handler that it imports.
        import: String,
    },
    /// The manifest says what comes after a component that is no middleware.
    #[error(
        "`next` says where requests go on to, but the component imports no `wasi:http` handler to hand them on to. Leave it out"
    )]
    NextNotImported,
    /// An interface of a known name but with other types.
    #[error("the component does not fit the host's interfaces: {0}. Build it against the wit/ folder of this version")]
    Mismatch(String),
    /// The routes that it declares make no sense.
    #[error("the component's routes are of no use: {0}")]
    Routes(#[from] RouteError),
    /// It could not be instantiated.
    #[error("the component does not start: {0}")]
    DoesNotStart(String),
    /// It could not say which routes it has.
    #[error("the component failed when asked for its routes: {0}")]
    RoutesFailed(String),
}

fn listing(before: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("{before}`{}`", names.join("`, `")) }
}
