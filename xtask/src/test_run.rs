//! Runs `cargo test` for the whole workspace. Before each test binary a line reports progress and elapsed time. The
//! output of cargo and the tests is passed on unchanged and in order.

use std::io::{self, BufRead, BufReader, IsTerminal, PipeReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{process, workspace};

/// Marks the JSON message of a test binary. Only the profile in such a message, which precedes the features, ends like
/// this.
const BUILT_FOR_TESTS: &str = "\"test\":true},\"features\"";

/// How long to wait for the last output.
const LAST_OUTPUT_LIMIT: Duration = Duration::from_secs(5);

/// Builds all tests, then runs them up to the first test binary that fails.
pub(crate) fn run() -> Result<()> {
    let total = build()?;
    let (reader, writer) = io::pipe().context("cannot create a pipe for the output of the tests")?;
    let mut cargo = cargo_test();
    if io::stdout().is_terminal() {
        cargo.env("CARGO_TERM_COLOR", "always");
    }
    let line = process::command_line(&cargo);
    cargo.stdout(writer.try_clone().context("cannot duplicate the pipe")?).stderr(writer);
    let mut child = cargo.spawn().with_context(|| format!("cannot start `{line}`"))?;
    // The pipe reaches its end when no process holds its write end, including this one.
    drop(cargo);
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        let mut progress = Progress::new(total);
        done.send(progress.pass_on(reader).map(|()| progress))
    });
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    match finished.recv_timeout(LAST_OUTPUT_LIMIT) {
        Ok(progress) => println!("\n{}", progress?.summary()),
        Err(_) => println!("\n-- a test has left a process running, whose further output is not shown"),
    }
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Builds with cargo's progress shown. Returns the number of test binaries.
fn build() -> Result<usize> {
    let mut cargo = cargo_test();
    cargo.args(["--no-run", "--message-format", "json-render-diagnostics"]);
    let line = process::command_line(&cargo);
    let output = cargo.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({})", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter(|message| message.contains(BUILT_FOR_TESTS)).count())
}

fn cargo_test() -> Command {
    let mut cargo = process::cargo();
    cargo.args(["test", "--workspace", "--locked"]).current_dir(workspace::root()).stdin(Stdio::null());
    cargo
}

/// The progress of the run.
struct Progress {
    total: usize,
    start: Instant,
    binaries: usize,
    passed: usize,
}

impl Progress {
    fn new(total: usize) -> Self {
        Self { total, start: Instant::now(), binaries: 0, passed: 0 }
    }

    /// Prints all output to its end, with progress lines in between.
    fn pass_on(&mut self, from: PipeReader) -> Result<()> {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.by_ref().read_until(b'\n', &mut line).context("cannot read the output of the tests")? > 0 {
            let heading = self.heading(&plain(&line), self.start.elapsed());
            let mut out = io::stdout().lock();
            out.write_all(heading.unwrap_or_default().as_bytes())?;
            out.write_all(&line)?;
            out.flush()?;
            line.clear();
        }
        Ok(())
    }

    /// Counts a line, and returns what to print before it.
    fn heading(&mut self, line: &str, elapsed: Duration) -> Option<String> {
        if let Some(passed) = passed(line) {
            self.passed += passed;
        }
        let took = process::duration(elapsed);
        if line.starts_with("     Running ") {
            self.binaries += 1;
            return Some(format!("\n-- test binary {}/{} ({took})\n", self.binaries, self.total));
        }
        line.starts_with("   Doc-tests ").then(|| format!("\n-- examples in documentation ({took})\n"))
    }

    fn summary(&self) -> String {
        let Self { total, start, binaries, passed } = self;
        format!(
            "-- {binaries} of {total} test binaries in {}: {passed} tests passed",
            process::duration(start.elapsed())
        )
    }
}

/// The number of passed tests in `test result: ok. 14 passed; 0 failed; ...`.
fn passed(line: &str) -> Option<usize> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    counts.split(" passed").next()?.parse().ok()
}

/// A line without colour codes.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(61);

    #[test]
    fn each_test_binary_is_announced_with_its_number() {
        let mut progress = Progress::new(3);
        let first = progress.heading("     Running unittests src/lib.rs (target/debug/deps/a-1)", Duration::ZERO);
        assert_eq!(first.as_deref(), Some("\n-- test binary 1/3 (0 s)\n"));
        assert_eq!(progress.heading("test tests::a ... ok", MINUTE), None);
        let second = progress.heading("     Running tests/swap.rs (target/debug/deps/b-2)", MINUTE);
        assert_eq!(second.as_deref(), Some("\n-- test binary 2/3 (1 min 1 s)\n"));
    }

    #[test]
    fn passed_tests_are_added_up() {
        let mut progress = Progress::new(2);
        progress.heading("test result: ok. 14 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out", MINUTE);
        progress.heading("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out", MINUTE);
        assert_eq!(progress.passed, 16);
    }

    #[test]
    fn colours_do_not_hide_a_line() {
        assert_eq!(plain(b"\x1b[1m\x1b[92m     Running\x1b[0m tests/a.rs"), "     Running tests/a.rs");
        assert_eq!(plain(b"no colours"), "no colours");
    }
}
