//! `cargo xtask test`: all checks, cheap ones first, up to the first failure.
//!
//! All steps share one target folder, except the portable components, and the dev profile, except all components.

use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::cargo_tool::CARGO_DENY;
use crate::{components, features, polyglot, process, test_run, tidy, workspace};

/// One check: its name on the command line, its heading, and its function.
struct Step {
    name: &'static str,
    title: &'static str,
    check: fn() -> Result<()>,
}

const STEPS: [Step; 10] = [
    Step { name: "tidy", title: "project rules", check: tidy::run },
    Step { name: "fmt", title: "formatting", check: fmt },
    Step { name: "features", title: "features are the same for every selection of packages", check: features::check },
    Step { name: "components", title: "components with plain cargo", check: build_components },
    Step {
        name: "polyglot",
        title: "components in Python and JavaScript, and wasmtime serve as a reference",
        check: polyglot::build_if_tools_are_available,
    },
    Step { name: "clippy", title: "clippy (warnings are errors)", check: clippy },
    Step { name: "tests", title: "unit and integration tests", check: test_run::run },
    Step { name: "doc", title: "documentation (warnings are errors)", check: doc },
    Step { name: "deny", title: "dependencies: licences, bans, sources, advisories", check: deny },
    Step {
        name: "cargo-component",
        title: "components with cargo component",
        check: components::build_shop_with_cargo_component,
    },
];

/// Runs the named steps, or all of them.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--list") {
        STEPS.iter().for_each(|step| println!("{:<16} {}", step.name, step.title));
        return Ok(());
    }
    let steps = choose(arguments)?;
    let start = Instant::now();
    for (number, step) in steps.iter().enumerate() {
        println!("\n== {}/{} {} ({})", number + 1, steps.len(), step.title, process::duration(start.elapsed()));
        (step.check)()
            .with_context(|| format!("{} failed; run it again with `cargo xtask test {}`", step.title, step.name))?;
    }
    println!("\n== all {} steps passed in {}", steps.len(), process::duration(start.elapsed()));
    Ok(())
}

fn choose(names: &[String]) -> Result<Vec<&'static Step>> {
    if let Some(unknown) = names.iter().find(|name| STEPS.iter().all(|step| step.name != *name)) {
        bail!("no step `{unknown}`; the steps are {}", STEPS.map(|step| step.name).join(", "));
    }
    Ok(STEPS.iter().filter(|step| names.is_empty() || names.iter().any(|name| name == step.name)).collect())
}

fn build_components() -> Result<()> {
    components::build_all()?;
    components::portable::build()
}

fn fmt() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])
}

fn clippy() -> Result<()> {
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
}

fn doc() -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings");
    process::run(cargo.current_dir(workspace::root()))
}

/// The advisory database must be downloaded; the other checks need no network. Being offline therefore does not fail
/// the suite.
fn deny() -> Result<()> {
    run_deny(&["check", "licenses", "bans", "sources"])?;
    match run_deny(&["--log-level", "error", "fetch", "db"]) {
        Ok(()) => run_deny(&["check", "advisories"]),
        Err(_) => {
            println!("advisories: SKIPPED: the advisory database cannot be fetched");
            Ok(())
        }
    }
}

fn run_deny(arguments: &[&str]) -> Result<()> {
    let mut cargo = process::cargo();
    CARGO_DENY.ensure(&mut cargo)?;
    process::run(cargo.arg("deny").args(arguments).current_dir(workspace::root()))
}

fn cargo(arguments: &[&str]) -> Result<()> {
    process::run(process::cargo().args(arguments).current_dir(workspace::root()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(typed: &[&str]) -> Result<Vec<&'static str>> {
        let typed: Vec<String> = typed.iter().map(|name| (*name).to_owned()).collect();
        Ok(choose(&typed)?.iter().map(|step| step.name).collect())
    }

    #[test]
    fn without_names_all_steps_run() {
        assert_eq!(names(&[]).unwrap().len(), STEPS.len());
    }

    #[test]
    fn named_steps_run_in_the_order_of_the_suite() {
        assert_eq!(names(&["clippy", "fmt"]).unwrap(), ["fmt", "clippy"]);
    }

    #[test]
    fn an_unknown_step_is_rejected_with_a_list_of_the_steps() {
        let error = names(&["clipy"]).unwrap_err().to_string();
        assert!(error.contains("`clipy`") && error.contains("clippy"), "{error}");
    }
}
