//! `cargo xtask stack`: runs the services of docker-compose.yml as plain processes, for machines without Docker.
//!
//! The programs are the real ones, installed once from package registries into a cache outside the checkout. They read
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
  --fetch-only    only get the programs
  --check         only check the configuration files with the programs that will read them
  --free-ports    listen on ports that are free now instead of the usual ones
  --folder DIR    keep data, logs and `urls` there instead of in target/stack
";

/// The options of the command.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
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
    let asked = read(arguments)?;
    let programs = Programs::fetch()?;
    match asked.task {
        Task::FetchOnly => programs.show(),
        Task::Check => check::run(&programs)?,
        Task::Run => serve(&programs, &Addresses::choose(asked.free_ports)?, &folder(asked.folder)?)?,
    }
    Ok(())
}

/// The folder for data and logs, as an absolute path.
fn folder(asked: Option<PathBuf>) -> Result<PathBuf> {
    let folder = asked.unwrap_or_else(|| workspace::target().join("stack"));
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

fn read(arguments: &[String]) -> Result<Asked> {
    let mut asked = Asked::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--fetch-only" => asked.task = Task::FetchOnly,
            "--check" => asked.task = Task::Check,
            "--free-ports" => asked.free_ports = true,
            "--folder" => asked.folder = Some(arguments.next().context("--folder needs a path")?.into()),
            unknown => bail!("`{unknown}` is no option of stack. There are:\n{OPTIONS}"),
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_may_come_in_any_order() {
        let typed = ["--folder", "here", "--free-ports"].map(String::from);
        let asked = read(&typed).unwrap();
        assert_eq!(asked, Asked { task: Task::Run, free_ports: true, folder: Some("here".into()) });
    }

    #[test]
    fn an_unknown_option_is_named() {
        let error = read(&["--fast".to_owned()]).unwrap_err();
        assert!(format!("{error}").contains("`--fast`"));
    }
}
