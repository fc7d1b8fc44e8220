//! The host's binary as a process, for what only a process has: exit status, signals, standard output.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::{artifacts, poll};

/// What a command that ended has left.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status, where it was not killed by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A running `spandrel`.
pub struct Spandrel {
    child: Child,
}

/// Runs `spandrel` with these arguments and waits for its end.
pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    Spandrel::start(arguments, environment).wait(Duration::from_secs(120))
}

/// A port that was free a moment ago.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound listener has an address")
}

impl Spandrel {
    /// Starts `spandrel` with these arguments and, of the environment, only what is given and `PATH` and `HOME`.
    pub fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Spandrel {
        let kept = ["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let child = Command::new(artifacts::binary())
            .args(arguments)
            .env_clear()
            .envs(kept)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Spandrel { child: child.expect("the binary can be run") }
    }

    /// `spandrel run` with this manifest.
    pub fn serve(manifest: &Path, environment: &[(&str, &str)]) -> Spandrel {
        Spandrel::start(&["run", "--manifest", &manifest.display().to_string()], environment)
    }

    /// Waits until something listens at `address`. Panics with what the process said where it ends before.
    pub fn wait_until_listening(&mut self, address: SocketAddr) {
        let listening = poll::until_blocking(Duration::from_secs(60), || {
            assert!(self.status().is_none(), "spandrel ended: {:#?}", self.output());
            std::net::TcpStream::connect(address).ok()
        });
        assert!(listening.is_some(), "nothing listens at {address}");
    }

    /// Sends a signal by its name, as in `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} failed");
    }

    /// The exit status, where it has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked for its status")
    }

    /// Waits for its end, for `patience` at most; then it is killed and the test fails.
    pub fn wait(mut self, patience: Duration) -> Ended {
        // Read while it runs: a full pipe would stop it.
        let mut stdout = self.child.stdout.take().expect("standard output is piped");
        let reader = std::thread::spawn(move || read(&mut stdout));
        let mut stderr = self.child.stderr.take().expect("standard error is piped");
        let errors = std::thread::spawn(move || read(&mut stderr));
        let status = poll::until_blocking(patience, || self.status());
        if status.is_none() {
            self.child.kill().ok();
        }
        let stdout = reader.join().unwrap_or_default();
        let stderr = errors.join().unwrap_or_default();
        let status = status.unwrap_or_else(|| panic!("spandrel did not end within {patience:?}: {stdout}\n{stderr}"));
        Ended { code: status.code(), stdout, stderr }
    }

    fn output(&mut self) -> (String, String) {
        let stdout = self.child.stdout.as_mut().map(read).unwrap_or_default();
        (stdout, self.child.stderr.as_mut().map(read).unwrap_or_default())
    }
}

impl Drop for Spandrel {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn read(pipe: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(&bytes).into_owned()
}
