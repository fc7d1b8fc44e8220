//! `cargo xtask stack` as a process, on free ports. Its programs are killed by process id. Dropping it stops it.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use testkit::poll;

/// The first installation builds two programs from source.
const FIRST_TIME: Duration = Duration::from_secs(45 * 60);
const RESTART: Duration = Duration::from_secs(120);

/// The running programs.
pub struct Stack {
    process: Child,
    folder: TempDir,
    addresses: HashMap<String, SocketAddr>,
}

/// The root of the checkout.
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package is in the checkout").to_owned()
}

/// Installs the programs and returns their paths, one per line, or returns why they are not available.
pub fn fetch() -> Result<String, String> {
    let ended = xtask().args(["stack", "--fetch-only"]).output().expect("xtask can be run");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    match said.lines().find(|line| line.contains("the stack cannot run here")) {
        Some(reason) if !ended.status.success() => Err(reason.to_owned()),
        _ => {
            assert!(ended.status.success(), "the programs could not be got:\n{said}");
            Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
        }
    }
}

/// Runs the programs' checks of the repository's configuration files.
pub fn check_configuration() {
    let ended = xtask().args(["stack", "--check"]).output().expect("xtask can be run");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

fn xtask() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    let built = cargo.args(["build", "--quiet", "--package", "xtask"]).current_dir(root()).status();
    assert!(built.is_ok_and(|status| status.success()), "xtask does not build");
    let binary = testkit::artifacts::binary();
    let mut xtask = Command::new(binary.with_file_name("xtask"));
    xtask.current_dir(root());
    xtask
}

impl Stack {
    /// Starts the stack on free ports and waits until all programs are ready.
    pub fn start() -> Stack {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = fs::File::create(folder.path().join("stack.log")).expect("a file");
        let mut command = xtask();
        command.args(["stack", "--free-ports", "--folder"]).arg(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().expect("xtask can be run");
        let mut stack = Stack { process, folder, addresses: HashMap::new() };
        stack.addresses = poll::until_blocking(FIRST_TIME, || {
            let ended = stack.process.try_wait().expect("a child can be asked for its status");
            assert!(ended.is_none(), "the stack ended:\n{}", stack.said());
            // The file is written when all programs are ready.
            fs::read_to_string(stack.folder.path().join("urls")).ok().filter(|text| text.contains("prometheus"))
        })
        .map(|text| text.lines().filter_map(address).collect())
        .unwrap_or_else(|| panic!("the stack does not come up:\n{}", stack.said()));
        stack
    }

    /// The address of a program, by its name in `urls`.
    #[track_caller]
    pub fn address(&self, name: &str) -> SocketAddr {
        *self.addresses.get(name).unwrap_or_else(|| panic!("no address `{name}`"))
    }

    /// Whether this program is part of the stack on this machine.
    pub fn has(&self, name: &str) -> bool {
        self.pid(name).is_some()
    }

    /// Kills a program and waits until it has been restarted.
    pub fn kill(&self, name: &str) {
        let killed = self.pid(name).unwrap_or_else(|| panic!("no `{name}` runs"));
        let sent = Command::new("kill").args(["-KILL", &killed]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill failed");
        let again = poll::until_blocking(RESTART, || self.pid(name).filter(|pid| *pid != killed));
        assert!(again.is_some(), "{name} was not started again:\n{}", self.said());
    }

    fn pid(&self, name: &str) -> Option<String> {
        let pid = fs::read_to_string(self.folder.path().join(format!("{name}.pid"))).ok()?;
        (!pid.is_empty()).then_some(pid)
    }

    /// Sends SIGTERM. Returns the ids of the processes that were running and must have ended.
    pub fn stop(&mut self) -> Vec<String> {
        let names = ["opensearch", "jaeger", "collector", "prometheus"];
        let ran = names.iter().filter_map(|name| self.pid(name)).collect();
        let id = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().ok();
        self.process.wait().ok();
        ran
    }

    /// The logs of the stack and its programs.
    pub fn said(&self) -> String {
        let logs = ["stack", "opensearch", "jaeger", "collector", "prometheus"];
        logs.iter().fold(String::new(), |text, name| {
            let log = fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(15).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            format!("{text}--- {name}\n{}\n", last.join("\n"))
        })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::io::stderr().write_all(self.said().as_bytes()).ok();
        }
        if matches!(self.process.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

/// `NAME http://ADDRESS:PORT/path`.
fn address(line: &str) -> Option<(String, SocketAddr)> {
    let (name, url) = line.split_once(' ')?;
    let authority = url.trim().strip_prefix("http://")?.split('/').next()?;
    Some((name.to_owned(), authority.parse().ok()?))
}
