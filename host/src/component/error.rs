//! Why bytes cannot run as a service.

use thiserror::Error;

use super::exhaustion::format_size;
use crate::http::routes::RouteError;

/// Why bytes cannot run as a service. Each message says what is wrong and how to fix it.
#[derive(Debug, Error)]
pub enum ComponentError {
    /// Not WebAssembly.
    #[error(
        "this is not a WebAssembly file ({}). Use the .wasm file that the build of the component writes: in Rust that of `cargo build --release --target wasm32-wasip2`, in other languages that of tools such as componentize-py, componentize-js or TinyGo",
        number_of_bytes(*size)
    )]
    NotWasm {
        /// Their number.
        size: usize,
    },
    /// A core module.
    #[error(
        "this is a core WebAssembly module, not a component. Build for `wasm32-wasip2`; a module built for another target needs `wasm-tools component new`"
    )]
    CoreModule,
    /// A component that is invalid, for example truncated.
    #[error("the component is not valid: {0}. Was the file written to the end? Build it again")]
    Invalid(String),
    /// A component that uses a WebAssembly proposal which the host does not support.
    #[error(
        "the component uses a feature of WebAssembly that this host does not support: {0}. Build it without that feature"
    )]
    UnsupportedFeature(String),
    /// A component that was built for a release candidate of WASI.
    #[error(
        "the component uses `{interface}`, a release candidate of WASI {release}, which this host does not implement. Build it again with tools that support the released {release}.0"
    )]
    ReleaseCandidate {
        /// The first interface of the release candidate.
        interface: String,
        /// The release, as in `0.3`.
        release: &'static str,
    },
    /// The component exports no handler.
    #[error("the component does not export `spandrel:service/handler@0.1.0`, `wasi:http/incoming-handler@0.2` or `wasi:http/handler@0.3`, so it cannot run as a service{}. In Rust, export the routes with `guest::serve!`; in other languages, build the component for a world that exports a handler, such as `wasi:http/proxy`", listing("; it exports ", .exports))]
    MissingExport {
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// The component imports interfaces that the host does not implement.
    #[error("the component imports {}, which this host does not implement{}. `spandrel inspect` shows which imports it implements", listing("", .imports), listing("; it implements ", .offered))]
    UnknownImports {
        /// Their names.
        imports: Vec<String>,
        /// Other versions of them that the host implements.
        offered: Vec<String>,
    },
    /// The manifest allows several concurrent requests per instance, which the component or the manifest rules out.
    #[error("`concurrency_per_instance` is above 1, but {0}. Leave it out")]
    ServesOneAtATime(&'static str),
    /// A middleware without `next` in the manifest.
    #[error(
        "the component imports `{import}`: it is a middleware, which forwards requests. Name the service that it forwards them to, as in `next = \"user-service\"`"
    )]
    NextMissing {
        /// The handler interface that it imports.
        import: String,
    },
    /// `next` in the manifest, for a component that is no middleware.
    #[error("`next` is set, but the component imports no `wasi:http` handler to forward requests to. Leave it out")]
    NextNotImported,
    /// An interface has a known name, but other types.
    #[error(
        "the component does not fit the host's interfaces: {0}. Build it against the released versions of WASI, or, if it is written with `spandrel-guest`, against the same version as the host"
    )]
    Mismatch(String),
    /// The declared routes are invalid.
    #[error("the component's routes are invalid: {0}")]
    Routes(#[from] RouteError),
    /// The component could not be instantiated.
    #[error("the component does not start: {0}")]
    DoesNotStart(String),
    /// The component failed when its routes were requested.
    #[error("the component failed when asked for its routes: {0}")]
    RoutesFailed(String),
}

impl ComponentError {
    /// Why the compiler rejects a component.
    pub(super) fn rejected(message: String) -> ComponentError {
        // As Wasmtime's validation words it.
        let names_feature = ["not enabled", "must be enabled", "not supported without", "disabled", "disallowed"];
        if names_feature.iter().any(|text| message.contains(text)) {
            ComponentError::UnsupportedFeature(message)
        } else {
            ComponentError::Invalid(message)
        }
    }

    /// Why a component could not be instantiated. `memory_denied` is the linear memory in bytes that it was denied.
    pub(super) fn does_not_start(message: String, memory_denied: Option<u64>) -> ComponentError {
        // As Wasmtime words it, for programmers of a host.
        if message.contains("shared memory support is disabled") {
            return ComponentError::UnsupportedFeature("shared memory".to_owned());
        }
        // As Wasmtime words it if the limiter denies the memory that the component needs at its start.
        let needed = memory_denied.filter(|_| message.contains("exceeds memory limits"));
        let remedy = needed.map(|bytes| {
            let size = format_size(bytes).replace(' ', "");
            format!(". Raise `memory` in `[service.limits]` to \"{size}\" or more")
        });
        ComponentError::DoesNotStart(message + &remedy.unwrap_or_default())
    }
}

fn number_of_bytes(size: usize) -> String {
    if size == 0 { "it is empty".to_owned() } else { format!("{size} bytes") }
}

fn listing(before: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("{before}`{}`", names.join("`, `")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_feature_is_told_from_a_damaged_file() {
        for message in [
            "exceptions proposal not enabled (at offset 0x23)",
            "cannot define struct types when gc types are disabled",
            "gc types are disallowed but found type which requires gc",
            "threads must be enabled for shared memories",
        ] {
            let error = ComponentError::rejected(message.to_owned()).to_string();
            assert!(error.contains(message) && error.ends_with("Build it without that feature"), "{error}");
        }
        let error = ComponentError::rejected("unexpected end-of-file (at offset 0x23)".to_owned()).to_string();
        assert!(error.contains("Was the file written to the end?"), "{error}");
    }

    #[test]
    fn shared_memory_is_named_as_an_unsupported_feature() {
        let message = "shared memory support is disabled for this engine -- see `Config::shared_memory`";
        let error = ComponentError::does_not_start(message.to_owned(), None).to_string();
        assert!(error.ends_with("does not support: shared memory. Build it without that feature"), "{error}");
    }

    #[test]
    fn too_little_memory_for_the_start_is_explained() {
        let message = "memory minimum size of 17 pages exceeds memory limits";
        for (pages, size) in [(17, "1088KiB"), (32, "2MiB"), (16_384, "1GiB")] {
            let error = ComponentError::does_not_start(message.to_owned(), Some(pages << 16)).to_string();
            let remedy = format!("{message}. Raise `memory` in `[service.limits]` to \"{size}\" or more");
            assert!(error.ends_with(&remedy), "{error}");
        }
        let trap = ComponentError::does_not_start("a trap".to_owned(), Some(1 << 16)).to_string();
        assert!(trap.ends_with("a trap"), "{trap}");
    }
}
