//! `cargo xtask tidy`: the project rules that rustc and clippy do not check.
//!
//! Each rule is a small function from one file to its findings, without access to the disk. ARCHITECTURE.md gives the
//! reasons for the rules.

mod boundaries;
mod cycles;
mod documents;
mod finding;
mod form;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;
use finding::Finding;
use source::Source;

type Rule = fn(&Source) -> Vec<Finding>;

const RULES: [Rule; 14] = [
    boundaries::wasmtime_is_used_only_where_allowed,
    boundaries::otlp_is_used_only_where_allowed,
    boundaries::trace_imports_no_other_module,
    boundaries::only_config_reads_the_environment,
    boundaries::only_main_prints_or_exits,
    boundaries::nothing_reads_an_ambient_span,
    form::opens_with_a_contract,
    form::is_short_or_explains_why_not,
    form::main_is_thin,
    form::has_no_unfinished_work,
    form::ignores_no_test,
    form::sleeps_in_no_test,
    form::has_a_descriptive_name,
    form::has_no_tabs_or_trailing_space,
];

/// The folders and documents that are checked.
const CODE: [&str; 7] = ["host", "guest", "routes", "components", "testkit", "bench", "xtask"];
const DOCUMENTS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

/// Checks the whole checkout, prints every finding, and fails if there is one.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root();
    let mut findings = Vec::new();
    let files = CODE.iter().map(|folder| rust_files(&root.join(folder))).collect::<Result<Vec<_>>>()?.concat();
    let sources = files.iter().map(|file| read(&root, file)).collect::<Result<Vec<_>>>()?;
    let count = sources.len();
    for source in &sources {
        findings.extend(RULES.iter().flat_map(|rule| rule(source)));
    }
    findings.extend(cycles::modules_have_no_import_cycles(&sources));
    for name in DOCUMENTS {
        let Ok(text) = fs::read_to_string(root.join(name)) else { continue };
        findings.extend(documents::refers_only_to_existing_files(name, &text, &|path| root.join(path).exists()));
    }
    findings.iter().for_each(|finding| println!("{finding}"));
    if !findings.is_empty() {
        bail!("{} violations of project rules in {count} files", findings.len());
    }
    println!("{count} files comply with {} rules", RULES.len() + 2);
    Ok(())
}

fn read(root: &Path, file: &Path) -> Result<Source> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Source::new(&file.strip_prefix(root).unwrap_or(file).to_string_lossy(), &text))
}

/// All `.rs` files under a folder, sorted, except generated bindings and build output.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !folder.is_dir() {
        return Ok(files);
    }
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_generated(&path) {
            files.push(path);
        }
    }
    Ok(files)
}

/// `cargo component` writes `src/bindings.rs` into each component.
fn is_generated(path: &Path) -> bool {
    path.ends_with("src/bindings.rs") && path.components().any(|part| part.as_os_str() == "components")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_components_bindings_count_as_generated() {
        assert!(is_generated(Path::new("/x/components/user-service/src/bindings.rs")));
        assert!(!is_generated(Path::new("/x/host/src/component/bindings.rs")));
    }
}
