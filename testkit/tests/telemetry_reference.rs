//! Compares `docs/telemetry.md` with the sources of the host: the attributes and error types that they set. The sources
//! are scanned as text, to include cases that no test triggers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Texts that precede a value of `error.type` in the sources. `_` stands for any name.
const BEFORE_ERROR_TYPES: [&str; 10] = [
    ".fail(_, \"",
    ".fail(\"",
    ".operation(_, \"",
    "const OUT_OF_MEMORY: &str = \"",
    "const STACK_OVERFLOW: &str = \"",
    "Some((\"",
    "error_type: \"",
    "cut_calls_short(\"",
    ".end(printed, \"",
    ".set(server, \"error.type\", \"",
];
/// Texts that precede the name of an attribute.
const BEFORE_ATTRIBUTES: [&str; 3] = ["Attribute::new(\"", ".set(_, \"", " set(\""];
/// Modules that record spans.
const RECORDING: [&str; 9] =
    ["component", "control", "hostfn", "http", "outbound", "serve", "services", "telemetry", "trace"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    fs::read_to_string(folder().join("docs/telemetry.md")).expect("docs/telemetry.md")
}

/// The sources of the modules that record spans, without tests.
fn sources() -> Vec<String> {
    let root = folder().join("host/src");
    let mut folders: Vec<PathBuf> = RECORDING.iter().map(|module| root.join(module)).collect();
    let mut sources = vec![fs::read_to_string(root.join("host.rs")).expect("the host's wiring")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a module") {
            let path = entry.expect("a file").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                folders.extend(Some(path).filter(|path| !path.ends_with("tests")));
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).expect("a source");
                sources.push(text.split("#[cfg(test)]").next().unwrap_or_default().to_owned());
            }
        }
    }
    assert!(sources.len() > 50, "{} sources", sources.len());
    sources
}

/// The quoted texts after `pattern`.
fn behind<'a>(source: &'a str, pattern: &str) -> Vec<&'a str> {
    let is_of_name = |character: char| character.is_alphanumeric() || "_.()\"".contains(character);
    let found: Vec<&str> = match pattern.split_once("_, ") {
        Some((start, _)) => {
            let named = source.split(start).skip(1).map(|text| text.trim_start_matches(is_of_name));
            named.filter_map(|text| text.strip_prefix(", \"")).collect()
        }
        None => source.split(pattern).skip(1).collect(),
    };
    found.into_iter().filter_map(|text| text.split('"').next()).collect()
}

/// The quoted texts in the functions with this name.
fn within<'a>(source: &'a str, function: &str) -> Vec<&'a str> {
    let bodies = source.split(function).skip(1).filter_map(|text| text.split("\n    }\n").next());
    bodies.flat_map(|body| body.split('"').skip(1).step_by(2)).collect()
}

fn is_word(text: &&str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The texts in backticks.
fn ticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The first cells of the rows of the table after `heading`.
fn first_cells<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, rest) = page.split_once(heading).unwrap_or_else(|| panic!("no `{heading}`"));
    let rows = rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2).filter_map(|row| row.split('|').nth(1)).flat_map(ticked).collect()
}

/// The entries of `listed` that no source contains.
fn without_source<'a>(sources: &[String], listed: &[&'a str]) -> Vec<&'a str> {
    let is_named = |name: &str| sources.iter().any(|source| source.contains(&format!("\"{name}\"")));
    listed.iter().copied().filter(|name| !is_named(name)).collect()
}

#[test]
fn the_page_lists_exactly_the_used_values_of_error_type() {
    let (sources, page) = (sources(), page());
    let found = sources.iter().flat_map(|source| {
        let behind = BEFORE_ERROR_TYPES.iter().flat_map(|pattern| behind(source, pattern));
        behind.chain(within(source, "fn error_type(")).filter(is_word)
    });
    let used: BTreeSet<&str> = found.collect();
    let listed = first_cells(&page, "**Values of `error.type`");
    assert!(listed.len() > 20 && used.contains("wasm_trap"), "{listed:?} {used:?}");
    let unlisted: Vec<_> = used.iter().filter(|value| !page.contains(&format!("`{value}`"))).collect();
    assert!(unlisted.is_empty(), "docs/telemetry.md says nothing of {unlisted:?}");
    let unused = without_source(&sources, &listed);
    assert!(unused.is_empty(), "docs/telemetry.md lists {unused:?}, which nothing uses");
}

#[test]
fn the_page_lists_the_attributes_that_are_set() {
    let (sources, page) = (sources(), page());
    let found = sources.iter().flat_map(|source| BEFORE_ATTRIBUTES.iter().flat_map(|pattern| behind(source, pattern)));
    let set: BTreeSet<&str> = found.filter(|name| name.contains('.')).collect();
    assert!(set.len() > 20 && set.contains("url.path"), "{set:?}");
    let unlisted: Vec<_> = set.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(unlisted.is_empty(), "docs/telemetry.md says nothing of {unlisted:?}");
    let listed = first_cells(&page, "**Server spans** are named");
    assert!(listed.contains(&"http.route"), "{listed:?}");
    let unset = without_source(&sources, &listed);
    assert!(unset.is_empty(), "docs/telemetry.md lists {unset:?}, which nothing sets");
}
