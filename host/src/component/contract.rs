//! A component's kind, imports and exports, and which of its imports the host implements.
//!
//! Compiling a component of many megabytes takes half a minute. Reading its imports and exports is fast, so a component
//! that cannot run here is rejected first.

use std::fmt;

use wasmparser::{ComponentExternalKind, ComponentTypeRef, Parser, Payload};

use super::error::ComponentError;
use super::type_definition::{has_only_types, is_type_alias};
use crate::config::Isolation;

/// The export of a lean component.
const HANDLER: &str = "spandrel:service/handler@";
/// The exports of a standard component.
const HTTP_P2: &str = "wasi:http/incoming-handler@0.2.";
const HTTP_P3: &str = "wasi:http/handler@0.3.";
/// The interfaces of drafts for components of every kind.
const COMMON_DRAFTS: [&str; 3] =
    ["wasi:config/store@0.2.0-rc.1", "wasi:keyvalue/store@0.2.0-draft2", "wasi:keyvalue/atomics@0.2.0-draft2"];
/// The interfaces of drafts for standard components only.
const STANDARD_DRAFTS: [&str; 8] = [
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:keyvalue/atomics@0.2.0-draft",
    "wasi:keyvalue/batch@0.2.0-draft",
    "wasi:keyvalue/batch@0.2.0-draft2",
    "wasi:otel/types@0.2.0-rc.2",
    "wasi:otel/tracing@0.2.0-rc.2",
    "wasi:otel/metrics@0.2.0-rc.2",
    "wasi:otel/logs@0.2.0-rc.2",
];
/// The interfaces for lean components only, each up to its version.
const LEAN_INTERFACES: [&str; 4] = [
    "spandrel:service/http@0.1.",
    "spandrel:service/tracing@0.1.",
    "spandrel:service/client@0.1.",
    "spandrel:service/metrics@0.1.",
];
/// The interfaces of `wasi:cli` in all releases of WASI 0.2 and 0.3.
const CLI: [&str; 10] = [
    "environment",
    "exit",
    "stderr",
    "stdin",
    "stdout",
    "terminal-input",
    "terminal-output",
    "terminal-stderr",
    "terminal-stdin",
    "terminal-stdout",
];
/// The interfaces of all releases of WASI 0.2: package, then interfaces.
const WASI_P2: [(&str, &[&str]); 6] = [
    ("cli", &CLI),
    ("clocks", &["monotonic-clock", "wall-clock"]),
    ("filesystem", &["preopens", "types"]),
    ("io", &["error", "poll", "streams"]),
    ("random", &["insecure", "insecure-seed", "random"]),
    (
        "sockets",
        &["instance-network", "ip-name-lookup", "network", "tcp", "tcp-create-socket", "udp", "udp-create-socket"],
    ),
];
/// The same for WASI 0.3.
const WASI_P3: [(&str, &[&str]); 6] = [
    ("cli", &CLI),
    ("cli", &["types"]),
    ("clocks", &["monotonic-clock", "system-clock", "types"]),
    ("filesystem", &["preopens", "types"]),
    ("random", &["insecure", "insecure-seed", "random"]),
    ("sockets", &["ip-name-lookup", "types"]),
];
/// The releases of WASI.
const RELEASES: [&str; 2] = ["0.2", "0.3"];
/// The interfaces of `wasi:http`, for standard components only. A middleware imports the handler.
const HTTP_P2_INTERFACES: [(&str, &[&str]); 1] = [("http", &["incoming-handler", "outgoing-handler", "types"])];
const HTTP_P3_INTERFACES: [(&str, &[&str]); 1] = [("http", &["client", "handler", "types"])];

/// The kind of a component, as its exports determine it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Exports `spandrel:service/handler`.
    Lean,
    /// Exports a `wasi:http` handler.
    Standard(HttpWorld),
    /// Neither.
    Unknown,
}

/// The version of the `wasi:http` handler that a standard component exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpWorld {
    /// `wasi:http/incoming-handler@0.2`.
    P2,
    /// `wasi:http/handler@0.3`.
    P3,
}

impl HttpWorld {
    /// The isolation unless the manifest sets one. As in other hosts, a 0.2 instance serves one request; a 0.3 instance
    /// expects several.
    pub fn isolation(self) -> Isolation {
        match self {
            HttpWorld::P2 => Isolation::Request,
            HttpWorld::P3 => Isolation::Instance,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Kind::Lean => "lean",
            Kind::Standard(_) => "standard",
            Kind::Unknown => "unknown",
        })
    }
}

/// Imports and exports of a component, by name.
#[derive(Debug, Default)]
pub(super) struct Contract {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

impl Contract {
    /// Reads the names of the outermost imports and exports, without compiling. An import that has only types needs no
    /// implementation and is left out.
    pub fn read(bytes: &[u8]) -> Result<Contract, ComponentError> {
        check_header(bytes)?;
        let mut contract = Contract::default();
        match contract.read_names(bytes) {
            // A component for a release candidate of WASI may fail to parse; its names were read before that.
            Err(error) if contract.release_candidate().is_none() => {
                Err(ComponentError::Invalid(error.message().to_owned()))
            }
            _ => Ok(contract),
        }
    }

    fn read_names(&mut self, bytes: &[u8]) -> Result<(), wasmparser::BinaryReaderError> {
        let mut depth = 0_usize;
        // For each type of the component, whether it is an instance without functions and resources.
        let mut types = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentTypeSection(section) if depth == 0 => {
                    // The compiler reports a type that cannot be read.
                    types.extend(section.into_iter().map_while(Result::ok).map(|ty| has_only_types(&ty)));
                }
                Payload::ComponentAliasSection(section) if depth == 0 => {
                    let aliases = section.into_iter().map_while(Result::ok);
                    types.extend(aliases.filter(is_type_alias).map(|_| false));
                }
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let import = import?;
                        let name = import.name.name;
                        match import.ty {
                            ComponentTypeRef::Type(_) => types.push(false),
                            ComponentTypeRef::Instance(ty)
                                if types.get(ty as usize) == Some(&true) && candidate_for(name).is_none() => {}
                            _ => self.imports.push(name.to_owned()),
                        }
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export?;
                        self.exports.push(export.name.name.to_owned());
                        if export.kind == ComponentExternalKind::Type {
                            types.push(false);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The first interface of a release candidate of WASI, and the release.
    fn release_candidate(&self) -> Option<(&str, &'static str)> {
        self.exports.iter().chain(&self.imports).find_map(|name| Some((name.as_str(), candidate_for(name)?)))
    }

    /// The component's kind. Exports other than the handler are ignored.
    pub fn kind(&self) -> Kind {
        let exports = |prefix| self.exports.iter().any(|name| is_release(name, prefix));
        if self.exports.iter().any(|name| name.starts_with(HANDLER)) {
            Kind::Lean
        } else if exports(HTTP_P3) {
            Kind::Standard(HttpWorld::P3)
        } else if exports(HTTP_P2) {
            Kind::Standard(HttpWorld::P2)
        } else {
            Kind::Unknown
        }
    }

    /// The imports, each with whether the host implements it.
    pub fn imports_with_support(&self) -> impl Iterator<Item = (&str, bool)> {
        let kind = self.kind();
        self.imports.iter().map(move |name| (name.as_str(), is_offered(kind, name)))
    }

    /// Returns the kind of a component that can run here, or the reason why it cannot.
    pub fn check(&self) -> Result<Kind, ComponentError> {
        let kind = self.kind();
        if let Some((interface, release)) = self.release_candidate() {
            return Err(ComponentError::ReleaseCandidate { interface: interface.to_owned(), release });
        }
        if kind == Kind::Unknown {
            return Err(ComponentError::MissingExport { exports: self.exports.clone() });
        }
        let missing: Vec<_> =
            self.imports_with_support().filter(|(_, offered)| !offered).map(|(name, _)| name.to_owned()).collect();
        if missing.is_empty() {
            return Ok(kind);
        }
        let offered = missing.iter().flat_map(|import| offered_versions(kind, import)).collect();
        Err(ComponentError::UnknownImports { imports: missing, offered })
    }
}

/// Checks, before compiling, that the component can run here.
pub fn check(bytes: &[u8]) -> Result<(), ComponentError> {
    Contract::read(bytes)?.check().map(drop)
}

/// Whether `name` is `prefix` followed by the rest of a released version.
fn is_release(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.contains('-'))
}

/// The release of WASI, if `name` is an interface of a release candidate of it. Drafts of other packages, such as
/// `wasi:keyvalue`, have similar versions.
fn candidate_for(name: &str) -> Option<&'static str> {
    let (interface, version) = name.strip_prefix("wasi:")?.split_once('@')?;
    let (package, _) = interface.split_once('/')?;
    let is_released = package == "http" || WASI_P2.iter().any(|(released, _)| *released == package);
    let is_of = |release: &&str| version.strip_prefix(*release).is_some_and(|patch| patch.starts_with('.'));
    RELEASES.into_iter().find(|release| is_released && is_of(release) && version.contains('-'))
}

/// Whether `name` is `wasi:logging/logging` of any draft: its only function is the same in all of them.
pub(super) fn is_logging(name: &str) -> bool {
    name.strip_prefix("wasi:logging/logging").is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
}

/// Recognizes components and core modules by their first eight bytes.
pub(super) fn check_header(bytes: &[u8]) -> Result<(), ComponentError> {
    match bytes {
        [0, b'a', b's', b'm', _, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(ComponentError::CoreModule),
        [0, b'a', b's', b'm', ..] => Err(ComponentError::Invalid("its version is unknown".to_owned())),
        _ => Err(ComponentError::NotWasm { size: bytes.len() }),
    }
}

fn is_offered(kind: Kind, import: &str) -> bool {
    let is_in = |interfaces: &[(&str, &[&str])], release| {
        let (name, version) = import.strip_prefix("wasi:").and_then(|name| name.split_once('@')).unwrap_or_default();
        let (package, interface) = name.split_once('/').unwrap_or_default();
        let is_listed = |(listed, names): &(&str, &[&str])| *listed == package && names.contains(&interface);
        is_release(version, release) && interfaces.iter().any(is_listed)
    };
    let is_lean = || LEAN_INTERFACES.iter().any(|name| import.starts_with(name));
    let is_common = COMMON_DRAFTS.contains(&import) || is_in(&WASI_P2, "0.2.");
    let is_standard = || is_logging(import) || STANDARD_DRAFTS.contains(&import) || is_in(&HTTP_P2_INTERFACES, "0.2.");
    let is_p3 = || is_in(&WASI_P3, "0.3.") || is_in(&HTTP_P3_INTERFACES, "0.3.");
    match kind {
        Kind::Lean => is_common || is_lean(),
        Kind::Standard(HttpWorld::P2) => is_common || is_standard(),
        Kind::Standard(HttpWorld::P3) => is_common || is_standard() || is_p3(),
        // Its imports are not why such a component cannot run, unless no kind of component is offered them.
        Kind::Unknown => is_common || is_lean() || is_standard() || is_p3(),
    }
}

/// The versions of an interface that components of this kind are offered instead of `import`: a draft in full, a release
/// by its first two numbers.
fn offered_versions(kind: Kind, import: &str) -> Vec<String> {
    let interface = match import.split('@').next().unwrap_or_default() {
        // An earlier draft had this name.
        "wasi:config/runtime" => "wasi:config/store",
        interface => interface,
    };
    let is_of_interface = |name: &&str| name.split('@').next() == Some(interface);
    let drafts = COMMON_DRAFTS.iter().chain(&STANDARD_DRAFTS).chain(&LEAN_INTERFACES).copied();
    let drafts = drafts.filter(|name| is_of_interface(name) && is_offered(kind, name));
    let releases = RELEASES.iter().filter(|release| is_offered(kind, &format!("{interface}@{release}.0")));
    let releases = releases.map(|release| format!("{interface}@{release}"));
    drafts.map(|name| name.trim_end_matches('.').to_owned()).chain(releases).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAN: Kind = Kind::Lean;
    const P2: Kind = Kind::Standard(HttpWorld::P2);
    const P3: Kind = Kind::Standard(HttpWorld::P3);

    fn contract(imports: &[&str], exports: &[&str]) -> Contract {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Contract { imports: owned(imports), exports: owned(exports) }
    }

    #[test]
    fn each_kind_of_component_is_offered_its_interfaces() {
        for (kind, name) in [
            (LEAN, "spandrel:service/tracing@0.1.0"),
            (LEAN, "spandrel:service/http@0.1.0"),
            (LEAN, "spandrel:service/metrics@0.1.0"),
            (LEAN, "wasi:keyvalue/atomics@0.2.0-draft2"),
            (LEAN, "wasi:io/streams@0.2.6"),
            (P2, "wasi:http/types@0.2.0"),
            (P2, "wasi:http/outgoing-handler@0.2.12"),
            (P2, "wasi:clocks/monotonic-clock@0.2.12"),
            (P2, "wasi:keyvalue/store@0.2.0-draft"),
            (P2, "wasi:keyvalue/batch@0.2.0-draft2"),
            (P2, "wasi:logging/logging@0.1.0-draft"),
            (P2, "wasi:logging/logging"),
            (P3, "wasi:logging/logging@0.2.0-draft2"),
            (P3, "wasi:http/client@0.3.2"),
            (P3, "wasi:cli/environment@0.2.6"),
            (P3, "wasi:sockets/types@0.3.0"),
            (P3, "wasi:otel/tracing@0.2.0-rc.2"),
        ] {
            assert!(is_offered(kind, name), "{kind:?} {name}");
        }
        for (kind, name) in [
            (LEAN, "spandrel:service/files@0.1.0"),
            (LEAN, "wasi:keyvalue/batch@0.2.0-draft2"),
            (LEAN, "wasi:io/streams@0.3.0"),
            (LEAN, "wasi:http/types@0.2.0"),
            (LEAN, "env"),
            (LEAN, "wasi:sockets/frobnicate@0.2.12"),
            (P2, "wasi:cli/environments@0.2.0"),
            (P2, "wasi:clocks/system-clock@0.2.0"),
            (P2, "wasi:http/client@0.2.0"),
            (P2, "wasi:io/poll"),
            (P3, "wasi:io/poll@0.3.0"),
            (P3, "wasi:clocks/wall-clock@0.3.0"),
            (P3, "wasi:http/outgoing-handler@0.3.0"),
            (P2, "spandrel:service/tracing@0.1.0"),
            (P2, "wasi:http/types@0.3.0"),
            (P2, "wasi:keyvalue/store@0.2.0-draft3"),
            (P2, "fermyon:spin/mysql"),
            (P2, "wasi:logging/logging2"),
            (LEAN, "wasi:logging/logging"),
            (P2, "wasi:blobstore/blobstore@0.2.0-draft"),
            (P3, "wasi:http/types@0.3.0-rc-2026-01-06"),
        ] {
            assert!(!is_offered(kind, name), "{kind:?} {name}");
        }
    }

    #[test]
    fn a_component_without_a_handler_misses_only_what_no_kind_of_component_is_offered() {
        let candidate = "wasi:http/types@0.3.0-rc-2026-01-06";
        let imports = ["wasi:io/poll@0.2.12", "wasi:cli/environment@0.3.0", "spandrel:service/http@0.1.0", candidate];
        for exports in [&[][..], &["wasi:http/handler@0.3.0-rc-2026-01-06"]] {
            let contract = contract(&imports, exports);
            let missing = contract.imports_with_support().filter(|(_, offered)| !offered).map(|(name, _)| name);
            assert_eq!(missing.collect::<Vec<_>>(), [candidate], "{exports:?}");
        }
    }

    #[test]
    fn an_interface_of_another_version_is_refused_with_the_versions_that_are_offered() {
        for (handler, import, offered) in [
            ("wasi:http/incoming-handler@0.2.0", "wasi:config/store@0.2.0-draft", "`wasi:config/store@0.2.0-rc.1`"),
            ("wasi:http/incoming-handler@0.2.0", "wasi:config/runtime@0.2.0-draft", "`wasi:config/store@0.2.0-rc.1`"),
            (
                "wasi:http/incoming-handler@0.2.0",
                "wasi:keyvalue/store@0.2.0-rc1",
                "`wasi:keyvalue/store@0.2.0-draft2`, `wasi:keyvalue/store@0.2.0-draft`",
            ),
            ("wasi:http/handler@0.3.0", "wasi:otel/tracing@0.2.0-rc.1", "`wasi:otel/tracing@0.2.0-rc.2`"),
            ("wasi:http/handler@0.3.0", "wasi:cli/exit@0.4.0", "`wasi:cli/exit@0.2`, `wasi:cli/exit@0.3`"),
            ("wasi:http/incoming-handler@0.2.0", "wasi:cli/exit@0.3.0", "`wasi:cli/exit@0.2`"),
            ("spandrel:service/handler@0.1.0", "spandrel:service/http@0.2.0", "`spandrel:service/http@0.1`"),
            ("spandrel:service/handler@0.1.0", "wasi:keyvalue/store@0.2.0-draft", "`wasi:keyvalue/store@0.2.0-draft2`"),
        ] {
            let refused = contract(&[import], &[handler]).check().unwrap_err().to_string();
            let hint = format!("`{import}`, which this host does not implement; it implements {offered}. ");
            assert!(refused.contains(&hint), "{refused}");
        }
        let refused = contract(&["wasi:io/polls@0.2.0"], &["wasi:http/handler@0.3.0"]).check().unwrap_err().to_string();
        assert!(refused.contains("which this host does not implement. `spandrel inspect`"), "{refused}");
    }

    #[test]
    fn exports_beside_the_handler_do_not_matter() {
        let handler = "wasi:http/incoming-handler@0.2.3";
        assert_eq!(contract(&[], &["exports", "wasi:cli/run@0.2.0", handler]).check().unwrap(), P2);
        assert_eq!(contract(&[], &["wasi:http/handler@0.3.2", "init"]).check().unwrap(), P3);
    }

    #[test]
    fn a_release_candidate_is_refused_by_its_name() {
        for (name, release) in [
            ("wasi:http/handler@0.3.0-rc-2026-01-06", "0.3"),
            ("wasi:http/handler@0.3.1-rc-2026-09-01", "0.3"),
            ("wasi:http/incoming-handler@0.2.0-rc-2023-12-05", "0.2"),
            ("wasi:io/streams@0.2.0-rc-2023-11-10", "0.2"),
        ] {
            let refused = contract(&[], &[name]).check().unwrap_err().to_string();
            assert!(refused.contains(&format!("`{name}`, a release candidate of WASI {release},")), "{refused}");
            assert!(refused.ends_with(&format!("the released {release}.0")), "{refused}");
        }
    }

    #[test]
    fn a_draft_of_a_proposal_is_no_release_candidate_of_wasi() {
        let handler = "wasi:http/incoming-handler@0.2.0";
        for draft in ["wasi:keyvalue/store@0.2.0-draft3", "wasi:tls/client@0.3.0-draft", "wasi:otel/logs@0.2.0-rc.1"] {
            let refused = contract(&[draft], &[handler]).check().unwrap_err();
            assert!(matches!(refused, ComponentError::UnknownImports { .. }), "{refused}");
        }
    }

    /// An instance with a resource, as it is encoded.
    const WITH_RESOURCE: &[u8] = &[0x42, 1, 4, 0, 1, b'r', 3, 1];
    /// An instance with an enumeration, as it is encoded.
    const WITH_ENUM: &[u8] = &[0x42, 2, 1, 0x6d, 1, 1, b'a', 4, 0, 1, b't', 3, 0, 0];

    /// A component that imports an instance of this type and name.
    fn importing(instance: &[u8], name: &str) -> Vec<u8> {
        let header = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
        let types = [0x07, instance.len() as u8 + 1, 0x01];
        let length = name.len() as u8;
        let imports = [0x0a, length + 5, 0x01, 0x00, length];
        [&header[..], &types, instance, &imports, name.as_bytes(), &[0x05, 0x00]].concat()
    }

    /// A component that imports an instance of this name, followed by a section that cannot be parsed.
    fn broken_after(name: &str) -> Vec<u8> {
        [importing(WITH_RESOURCE, name), vec![0x07, 0x20]].concat()
    }

    #[test]
    fn an_import_of_types_alone_needs_no_implementation() {
        let imports = |instance| Contract::read(&importing(instance, "acme:shop/types")).unwrap().imports;
        assert_eq!(imports(WITH_ENUM), [""; 0]);
        assert_eq!(imports(&[0x42, 0]), [""; 0]);
        assert_eq!(imports(WITH_RESOURCE), ["acme:shop/types"]);
        for candidate in ["wasi:http/types@0.3.0-rc-2025-09-16", "wasi:http/types@0.2.0-rc-2023-12-05"] {
            assert!(matches!(check(&importing(WITH_ENUM, candidate)), Err(ComponentError::ReleaseCandidate { .. })));
        }
    }

    #[test]
    fn a_release_candidate_with_unreadable_types_is_refused_by_its_name() {
        let refused = check(&broken_after("wasi:http/types@0.3.0-rc-2025-09-16")).unwrap_err();
        assert!(matches!(refused, ComponentError::ReleaseCandidate { .. }), "{refused}");
        let refused = check(&broken_after("wasi:http/types@0.2.0")).unwrap_err();
        assert!(matches!(refused, ComponentError::Invalid(_)), "{refused}");
    }

    #[test]
    fn a_refused_component_is_described_by_its_imports_and_exports() {
        let handler = "wasi:http/incoming-handler@0.2.3";
        let refused = contract(&["fermyon:spin/mysql", "wasi:io/poll@0.2.0"], &[handler]).check().unwrap_err();
        assert!(refused.to_string().contains("`fermyon:spin/mysql`"), "{refused}");
        assert!(!refused.to_string().contains("wasi:io"), "{refused}");
        let refused = contract(&[], &["wasi:cli/run@0.2.0"]).check().unwrap_err().to_string();
        assert!(
            refused.contains("`wasi:cli/run@0.2.0`") && refused.contains("wasi:http/incoming-handler"),
            "{refused}"
        );
    }
}
