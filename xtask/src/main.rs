//! The project's commands, `cargo xtask <command>`. Each works in a fresh checkout without preparation.
//!
//! This file parses the command line; each command is implemented in the module of its name.

mod cargo_tool;
mod components;
mod features;
mod host;
mod polyglot;
mod process;
mod stack;
mod suite;
mod test_run;
mod tidy;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
The commands of the project. Each works in a fresh checkout without preparation.

Usage: cargo xtask <command> [arguments]

  run [-- ARGUMENTS]   build components and host (release) and start `spandrel run` in the foreground;
                       arguments after -- are passed to it, such as -- --manifest other.toml
  build, polyglot      build components and host (release), or the components of examples/polyglot
  bench [ARGUMENTS]    measure the host against its peers; bench --help lists scenarios and options
  test [STEP...]       run the whole test suite, or only the named steps; test --list prints them
  stack [OPTIONS]      run OpenSearch, Jaeger, Collector and Prometheus without Docker until Ctrl-C; options:
                       --fetch-only, --check (the configuration files), --free-ports, --folder DIR
  tidy                 check the project rules that rustc and clippy do not check
  toolchain            install the wasm32-wasip2 target, which the other commands do automatically
  help                 print this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let (command, rest) = match arguments.split_first() {
        None => ("help", arguments),
        Some((command, rest)) => (command.as_str(), rest),
    };
    let asks_for_help = rest.first().is_some_and(|first| first == "--help" || first == "-h");
    let command = if asks_for_help && command != "bench" { "help" } else { command };
    match command {
        "run" => host::run(rest),
        "build" => no_arguments(rest).and_then(|()| host::build()),
        "polyglot" => no_arguments(rest).and_then(|()| polyglot::run()),
        "bench" => host::bench(rest),
        "test" => suite::run(rest),
        "stack" => stack::run(rest),
        "tidy" => no_arguments(rest).and_then(|()| tidy::run()),
        "toolchain" => no_arguments(rest).and_then(|()| toolchain::show()),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        unknown => bail!("no command `{unknown}`; `cargo xtask help` lists them"),
    }
}

fn no_arguments(rest: &[String]) -> Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(first) => bail!("unexpected argument `{first}`; `cargo xtask help` lists the arguments of each command"),
    }
}
