//! Checks that each dependency has one set of features, whichever packages of the workspace are built.
//!
//! Cargo unifies the features that the selected packages request. If two selections lead to different features of a
//! dependency, it and everything that depends on it are compiled twice: for Wasmtime that takes ten minutes. This check
//! asks `cargo tree`, which builds nothing, for the features of each selection. To fix a difference, name the features
//! in `[workspace.dependencies]`, or the dependency in `host/Cargo.toml`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use crate::toolchain::TARGET;
use crate::{components, host, process, workspace};

/// The packages that contain the host, each as one selection.
const WITH_HOST: [&str; 3] = [host::PACKAGE, host::BENCH, "testkit"];

/// The features of each package, by name and version. A package that is built both for the target and for build scripts
/// has two lists, which may differ.
type Features = BTreeMap<String, BTreeSet<String>>;

/// A selection of packages, as arguments of cargo, and the features that it leads to.
struct Selection {
    arguments: Vec<String>,
    features: Features,
}

/// Fails if any dependency would be compiled twice, and lists them.
pub(crate) fn check() -> Result<()> {
    let differences = [host()?, components()?].concat();
    differences.iter().for_each(|difference| println!("{difference}"));
    if !differences.is_empty() {
        bail!("the features of {} dependencies differ between selections of packages", differences.len());
    }
    println!("all selections of packages have the same features");
    Ok(())
}

/// The selections in which the host is checked, built or tested.
fn host() -> Result<Vec<String>> {
    let mut selections = Vec::new();
    for edges in ["normal,build", "normal,build,dev"] {
        let one_by_one = WITH_HOST.map(|package| select(&[package]));
        for arguments in one_by_one.into_iter().chain([vec!["--workspace".to_owned()]]) {
            let features = tree(&arguments, &["--edges", edges])?;
            selections.push(Selection { arguments, features });
        }
    }
    Ok(differences(&selections))
}

/// The services of the shop together, and each separately.
fn components() -> Result<Vec<String>> {
    let names = components::shop()?;
    let one_by_one = names.iter().map(std::slice::from_ref);
    let mut selections = Vec::new();
    for packages in [names.as_slice()].into_iter().chain(one_by_one) {
        let arguments = select(packages);
        let features = tree(&arguments, &["--edges", "normal,build", "--target", TARGET])?;
        selections.push(Selection { arguments, features });
    }
    Ok(differences(&selections))
}

fn select<S: AsRef<str>>(packages: &[S]) -> Vec<String> {
    packages.iter().flat_map(|package| ["-p".to_owned(), package.as_ref().to_owned()]).collect()
}

fn tree(selection: &[String], arguments: &[&str]) -> Result<Features> {
    let mut cargo = process::cargo();
    cargo.args(["tree", "--locked", "--prefix", "none", "--format", "{p}|{f}"]).args(arguments).args(selection);
    Ok(read(&process::output(cargo.current_dir(workspace::root()))?))
}

/// Parses lines such as `serde v1.0.229|default,std`, in which ` (proc-macro)`, the folder or ` (*)` may follow either
/// part.
fn read(tree: &str) -> Features {
    let mut features = Features::new();
    for (package, list) in tree.lines().filter_map(|line| line.split_once('|')) {
        let package = package.split(" (").next().unwrap_or(package);
        let list = list.trim_end_matches("(*)").trim_end();
        features.entry(package.to_owned()).or_default().insert(list.to_owned());
    }
    features
}

/// A line for each package whose features differ from those in the first selection that has it.
fn differences(selections: &[Selection]) -> Vec<String> {
    let mut first = BTreeMap::<&str, (&Selection, &BTreeSet<String>)>::new();
    let mut found = BTreeMap::new();
    for selection in selections {
        for (package, lists) in &selection.features {
            let (other, others) = first.entry(package).or_insert((selection, lists));
            if *others != lists {
                let (one, two) = (other.arguments.join(" "), selection.arguments.join(" "));
                let line = || format!("{package}: {} with `{one}`, {} with `{two}`", show(others), show(lists));
                found.entry(package).or_insert_with(line);
            }
        }
    }
    found.into_values().collect()
}

fn show(lists: &BTreeSet<String>) -> String {
    let shown: Vec<String> = lists.iter().map(|list| format!("[{list}]")).collect();
    shown.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(package: &str, tree: &str) -> Selection {
        Selection { arguments: select(&[package]), features: read(tree) }
    }

    #[test]
    fn the_output_of_cargo_tree_is_parsed() {
        let features = read(
            "serde v1.0.1|default,std\nserde v1.0.1|default,std (*)\nm v0.1.0 (proc-macro)|\n\n[dev-dependencies]\n",
        );
        assert_eq!(features["serde v1.0.1"], BTreeSet::from(["default,std".to_owned()]));
        assert_eq!(features["m v0.1.0"], BTreeSet::from([String::new()]));
        assert_eq!(features.len(), 2);
    }

    #[test]
    fn different_features_in_two_selections_are_found() {
        let selections = [selection("a", "x v1.0.0|std\ny v1.0.0|"), selection("b", "x v1.0.0|default,std\nz v1.0.0|")];
        let found = differences(&selections);
        assert_eq!(found, ["x v1.0.0: [std] with `-p a`, [default,std] with `-p b`"]);
        assert!(differences(&selections[1..]).is_empty());
    }
}
