//! The host's binary as a process, for tests of exit status, signals and standard output.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{PATIENCE, artifacts, poll};

pub use crate::port::free_address;

/// The result of a finished command.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status, unless a signal killed it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A running `spandrel`.
pub struct Spandrel {
    child: Owned,
    stdout: Output,
    stderr: Output,
    /// While present, nothing reads the output.
    unread: Option<[Sender<Infallible>; 2]>,
}

/// The output of a process so far. It is read continuously, because a full pipe would block the process.
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Output {
    /// The output from a pipe, read once `begin` is dropped.
    fn of(mut pipe: impl Read + Send + 'static, begin: Receiver<Infallible>) -> Output {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = bytes.clone();
        let reader = std::thread::spawn(move || {
            let _ = begin.recv();
            let mut buffer = [0; 4096];
            while let Some(count) = pipe.read(&mut buffer).ok().filter(|count| *count > 0) {
                shared.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        Output { bytes, reader }
    }

    fn so_far(&self) -> String {
        text(&self.bytes)
    }

    fn whole(self) -> String {
        self.reader.join().ok();
        text(&self.bytes)
    }
}

fn text(bytes: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// Runs `spandrel` with these arguments and waits until it ends.
pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    Spandrel::start(arguments, environment).wait(Duration::from_secs(120))
}

impl Spandrel {
    /// Starts `spandrel` with these arguments, and with only the given environment, `PATH` and `HOME`.
    pub fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Spandrel {
        let mut started = Spandrel::start_unread(arguments, environment);
        started.read();
        started
    }

    /// The same with standard output and standard error in pipes that are not read until [`Spandrel::read`].
    fn start_unread(arguments: &[&str], environment: &[(&str, &str)]) -> Spandrel {
        let kept = ["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = Command::new(artifacts::binary())
            .args(arguments)
            .env_clear()
            .envs(kept)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be run");
        let ((out, out_begins), (err, err_begins)) = (channel(), channel());
        let stdout = Output::of(child.stdout.take().expect("standard output is piped"), out_begins);
        let stderr = Output::of(child.stderr.take().expect("standard error is piped"), err_begins);
        Spandrel { child: Owned(child), stdout, stderr, unread: Some([out, err]) }
    }

    /// `spandrel run` with this manifest.
    pub fn serve(manifest: &Path, environment: &[(&str, &str)]) -> Spandrel {
        Spandrel::start(&["run", "--manifest", &manifest.display().to_string()], environment)
    }

    /// The same, with output that is not read until [`Spandrel::read`].
    pub fn serve_unread(manifest: &Path, environment: &[(&str, &str)]) -> Spandrel {
        Spandrel::start_unread(&["run", "--manifest", &manifest.display().to_string()], environment)
    }

    /// Starts reading the output.
    pub fn read(&mut self) {
        self.unread = None;
    }

    /// Waits until the process listens at `address`. Panics with its output if it ends before.
    pub fn wait_until_listening(&mut self, address: SocketAddr) {
        let listening = poll::until_blocking(3 * PATIENCE, || self.connect(address));
        assert!(listening.is_some(), "nothing listens at {address}");
    }

    /// Waits until all services serve, according to the console. Panics like [`Spandrel::wait_until_listening`].
    pub fn wait_until_ready(&mut self, console: SocketAddr) {
        let ready = poll::until_blocking(9 * PATIENCE, || {
            let (mut stream, mut head) = (self.connect(console)?, [0; 12]);
            stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
            stream.read_exact(&mut head).ok()?;
            head.ends_with(b" 200").then_some(())
        });
        assert!(ready.is_some(), "some services do not serve: {}", self.log());
    }

    /// A connection to the process, if it listens at `address`.
    fn connect(&mut self, address: SocketAddr) -> Option<TcpStream> {
        assert!(self.status().is_none(), "spandrel ended: {}\n{}", self.log(), self.stderr.so_far());
        let stream = TcpStream::connect(address).ok()?;
        // A connection to a free local port can use that very port as its source port, and then connects to itself.
        let own = stream.local_addr().ok()?;
        (own != address).then_some(stream)
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.0.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} failed");
    }

    /// The exit status, if it has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.0.try_wait().expect("a child can be asked for its status")
    }

    /// Waits for at most `patience` until it ends; then kills it and fails the test.
    pub fn wait(mut self, patience: Duration) -> Ended {
        let status = poll::until_blocking(patience, || self.status());
        if status.is_none() {
            self.child.0.kill().ok();
        }
        let Spandrel { stdout, stderr, unread, .. } = self;
        drop(unread);
        let (stdout, stderr) = (stdout.whole(), stderr.whole());
        let status = status.unwrap_or_else(|| panic!("spandrel did not end within {patience:?}: {stdout}\n{stderr}"));
        Ended { code: status.code(), stdout, stderr }
    }

    /// Kills it immediately, as in a crash of the machine.
    pub fn kill(mut self) {
        self.child.0.kill().expect("a child can be killed");
        self.child.0.wait().expect("a child can be waited for");
    }

    /// Its standard output so far.
    pub fn log(&self) -> String {
        self.stdout.so_far()
    }

    /// Waits until the log has a line that contains all of these words, and returns it.
    pub async fn wait_for_line(&self, words: &[&str]) -> String {
        self.wait_for_line_after(0, words).await
    }

    /// The same for lines after the first `seen` bytes of the log.
    pub async fn wait_for_line_after(&self, seen: usize, words: &[&str]) -> String {
        // The end of the last line may not have been read yet.
        let is_whole = |line: &&str| line.ends_with('\n');
        let fits = |line: &&str| words.iter().all(|word| line.contains(word));
        let found = poll::until(PATIENCE, || {
            let log = self.log();
            let line = log.get(seen..)?.split_inclusive('\n').filter(is_whole).find(fits)?;
            Some(line.trim_end_matches('\n').to_owned())
        });
        found.await.unwrap_or_else(|| panic!("no line with {words:?} in {}", self.log()))
    }

    /// The number of its open file descriptors.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.0.id())).map_or(0, Iterator::count)
    }

    /// Its resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.0.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kilobytes") * 1024
    }
}

/// Kills the process when dropped.
pub(crate) struct Owned(pub(crate) Child);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
