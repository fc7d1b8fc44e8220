//! Starts processes in order, each when the previous one is ready, restarts them, and stops them by process id.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::address::LOOPBACK;

const PAUSE: Duration = Duration::from_millis(100);
/// The delay before a program that ended is restarted.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// The longest time until a program is ready.
const START_LIMIT: Duration = Duration::from_secs(180);
/// The longest time until a program ends: Jaeger needs up to 10 s.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// One program of the stack.
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) command: Command,
    /// The port and path that answer 200 when the program is ready.
    pub(super) ready: (u16, &'static str),
}

/// The started programs, in order.
pub(super) struct Supervisor {
    members: Vec<Member>,
    running: Vec<Child>,
    folder: PathBuf,
}

impl Supervisor {
    /// A supervisor without processes. Logs and process ids are written to the folder: `NAME.log`, `NAME.pid`.
    pub(super) fn new(members: Vec<Member>, folder: PathBuf) -> Supervisor {
        Supervisor { members, running: Vec::new(), folder }
    }

    /// Starts all programs. Returns whether all were ready before `stop` resolved.
    pub(super) fn start(&mut self, mut stop: impl FnMut() -> bool) -> Result<bool> {
        for index in 0..self.members.len() {
            let Some(member) = self.members.get_mut(index) else { break };
            eprintln!("starting {}", member.name);
            self.running.push(spawn(member, &self.folder)?);
            if !self.until_ready(index, &mut stop)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Restarts programs that end, until `stop` resolves.
    pub(super) fn keep_up(&mut self, mut stop: impl FnMut() -> bool) {
        while !stop() {
            for (member, child) in self.members.iter_mut().zip(&mut self.running) {
                let Ok(Some(status)) = child.try_wait() else { continue };
                eprintln!("{} ended ({status}); restarting it", member.name);
                // Jaeger exits while OpenSearch does not answer, so it is not restarted at once.
                std::thread::sleep(RESTART_DELAY);
                // If the restart fails, the next iteration tries again: the old child remains ended.
                match spawn(member, &self.folder) {
                    Ok(again) => *child = again,
                    Err(error) => eprintln!("{error:#}"),
                }
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Stops all programs in reverse order, so that none loses its destination.
    pub(super) fn stop(&mut self) {
        while let Some(mut child) = self.running.pop() {
            let name = self.members.get(self.running.len()).map_or("", |member| member.name);
            eprintln!("stopping {name}");
            end(&mut child);
            fs::remove_file(self.folder.join(format!("{name}.pid"))).ok();
        }
    }

    fn until_ready(&mut self, index: usize, stop: &mut impl FnMut() -> bool) -> Result<bool> {
        let (Some(member), Some(child)) = (self.members.get(index), self.running.get_mut(index)) else {
            return Ok(false);
        };
        let deadline = Instant::now() + START_LIMIT;
        let log = self.folder.join(format!("{}.log", member.name));
        while !answers(member.ready) {
            if stop() {
                return Ok(false);
            }
            if let Some(status) = child.try_wait()? {
                bail!("{} ended ({status}); see {}", member.name, log.display());
            }
            if Instant::now() >= deadline {
                bail!("{} has not become ready within {} s; see {}", member.name, START_LIMIT.as_secs(), log.display());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(true)
    }
}

impl Drop for Supervisor {
    /// An error must not leave processes behind.
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(member: &mut Member, folder: &std::path::Path) -> Result<Child> {
    let path = folder.join(format!("{}.log", member.name));
    let log = File::options().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("cannot write {}", path.display()))?;
    member.command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // A process group of its own: Ctrl-C reaches only this process, which then stops the others in order.
    let child = member.command.process_group(0).spawn().with_context(|| format!("cannot start {}", member.name))?;
    fs::write(folder.join(format!("{}.pid", member.name)), child.id().to_string())?;
    Ok(child)
}

fn end(child: &mut Child) {
    // Already waited for: the process id may have been reused.
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().ok();
    let deadline = Instant::now() + STOP_LIMIT;
    while Instant::now() < deadline {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(PAUSE);
    }
    child.kill().ok();
    child.wait().ok();
}

/// Whether a GET request is answered with 200.
fn answers((port, path): (u16, &str)) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect((LOOPBACK, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(&head == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_stopped_by_its_id() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        end(&mut child);
        assert!(!child.try_wait().unwrap().unwrap().success());
    }

    #[test]
    fn a_port_without_a_listener_does_not_answer() {
        let port = std::net::TcpListener::bind((LOOPBACK, 0)).unwrap().local_addr().unwrap().port();
        assert!(!answers((port, "/")));
    }
}
