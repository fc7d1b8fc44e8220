//! The output of a guest on standard output and standard error, buffered until its request ends and then logged line by
//! line.
//!
//! The buffer is bounded; the bytes beyond it are dropped and counted.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::panic_output::{self, TrapOutput};
use crate::trace::{Attribute, Recorder, Severity};

/// The most bytes of one stream that are buffered for one request.
const MAX_BUFFERED: usize = 64 * 1024;

/// One of a guest's two output streams.
#[derive(Clone, Debug, Default)]
pub struct GuestOutput(Arc<OutputState>);

#[derive(Debug, Default)]
struct OutputState {
    buffer: Mutex<Buffer>,
    /// Where output is redirected to.
    redirect: Mutex<Option<GuestOutput>>,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// The offsets at which lines start that have a time of their own, and that time.
    times: Vec<(usize, SystemTime)>,
    dropped: usize,
    /// The number of line ends in the dropped bytes.
    dropped_lines: usize,
    /// Whether its request has ended.
    is_closed: bool,
}

/// The lines that a guest printed during one request, or while it was instantiated.
#[derive(Default)]
pub struct OutputLines {
    stdout: Vec<Line>,
    stderr: Vec<Line>,
    /// The number of lines that exceeded the buffers.
    dropped: usize,
}

struct Line {
    time: SystemTime,
    text: String,
}

impl OutputLines {
    /// Takes the lines of both streams, which are empty afterwards.
    pub fn take(stdout: &GuestOutput, stderr: &GuestOutput) -> OutputLines {
        let ((stdout, dropped_stdout), (stderr, dropped_stderr)) = (stdout.take_lines(), stderr.take_lines());
        OutputLines { stdout, stderr, dropped: dropped_stdout + dropped_stderr }
    }

    /// Takes the last lines of a request. What is written through its streams later belongs to the instance.
    pub(super) fn take_last(stdout: &GuestOutput, stderr: &GuestOutput) -> OutputLines {
        for output in [stdout, stderr] {
            output.lock().is_closed = true;
        }
        OutputLines::take(stdout, stderr)
    }

    /// Removes and returns what the standard library of a trapped guest wrote about the trap on standard error.
    pub(super) fn take_trap_output(&mut self) -> Option<TrapOutput> {
        let lines: Vec<_> = self.stderr.iter().map(|line| line.text.clone()).collect();
        let (range, output) = panic_output::find_last(&lines)?;
        self.stderr.drain(range);
        Some(output)
    }

    /// Adds a log record to the request for each line, in the order of their times.
    pub fn log(self, recorder: &mut Recorder) {
        recorder.leave_out_logs(self.dropped);
        for (Line { time, text }, stream, severity) in self.sorted() {
            recorder.log_of_host(severity, text, &[Attribute::new("log.iostream", stream)], Some(time));
        }
    }

    /// Writes up to `limit` lines to the host's log, because they belong to no request, and how many were left out.
    pub(super) fn log_some_to_host(mut self, limit: usize, service: &str) {
        let lines = self.stdout.len() + self.stderr.len();
        self.stderr.truncate(limit);
        self.stdout.truncate(limit - self.stderr.len());
        self.log_to_host(service);
        if lines > limit {
            tracing::warn!(service, "{} more lines of output were left out", lines - limit);
        }
    }

    /// Writes each line to the host's log, because they belong to no request.
    pub(super) fn log_to_host(self, service: &str) {
        for (Line { text, .. }, stream, severity) in self.sorted() {
            match severity {
                Severity::Warn => tracing::warn!(service, log.iostream = stream, "{text}"),
                _ => tracing::info!(service, log.iostream = stream, "{text}"),
            }
        }
    }

    /// All lines in the order of their times, with their stream.
    fn sorted(self) -> Vec<(Line, &'static str, Severity)> {
        let tagged = |lines: Vec<Line>, stream, severity| lines.into_iter().map(move |line| (line, stream, severity));
        let stderr = tagged(self.stderr, "stderr", Severity::Warn);
        let mut lines: Vec<_> = tagged(self.stdout, "stdout", Severity::Info).chain(stderr).collect();
        lines.sort_by_key(|(line, ..)| line.time);
        lines
    }
}

impl GuestOutput {
    /// Takes the lines that were written since the last call, and the number of those that were dropped; the buffer is
    /// empty afterwards.
    fn take_lines(&self) -> (Vec<Line>, usize) {
        let mut buffer = self.lock();
        if buffer.bytes.is_empty() {
            return (Vec::new(), 0);
        }
        let is_closed = buffer.is_closed;
        let Buffer { bytes, times, dropped, dropped_lines, .. } =
            std::mem::replace(&mut *buffer, Buffer { is_closed, ..Buffer::default() });
        let (mut lines, mut start) = (Vec::new(), 0);
        let mut times = times.into_iter().peekable();
        let mut time = SystemTime::UNIX_EPOCH;
        for bytes in bytes.split_inclusive(|byte| *byte == b'\n') {
            while let Some((_, started)) = times.next_if(|(at, _)| *at <= start) {
                time = started;
            }
            start += bytes.len();
            let text = String::from_utf8_lossy(bytes).trim_end_matches(['\n', '\r']).to_owned();
            if !text.trim().is_empty() {
                lines.push(Line { time, text });
            }
        }
        if dropped > 0 {
            lines.push(Line { time, text: format!("({dropped} more bytes were dropped)") });
        }
        (lines, dropped_lines)
    }

    /// Redirects later output to `other`; `None` ends the redirection.
    pub fn redirect_to(&self, other: Option<&GuestOutput>) {
        *self.0.redirect.lock().unwrap_or_else(PoisonError::into_inner) = other.cloned();
    }

    /// Where output is written to.
    fn target(&self) -> GuestOutput {
        let redirect = self.0.redirect.lock().unwrap_or_else(PoisonError::into_inner);
        redirect.as_ref().unwrap_or(self).clone()
    }

    fn append(&self, bytes: &[u8]) {
        if !self.target().append_here(bytes) {
            self.append_here(bytes);
        }
    }

    /// Appends to this output even if it is redirected. Returns false if it is closed.
    fn append_here(&self, bytes: &[u8]) -> bool {
        let mut buffer = self.lock();
        if buffer.is_closed {
            return false;
        }
        let fits = bytes.len().min(MAX_BUFFERED - buffer.bytes.len());
        let (kept, rest) = bytes.split_at(fits);
        // The rest of a line has the time of its start; the first new line has a time of its own.
        let start_of_line = match buffer.bytes.last() {
            None | Some(b'\n') => Some(0),
            Some(_) => kept.iter().position(|byte| *byte == b'\n').map(|end| end + 1),
        };
        if let Some(start_of_line) = start_of_line.filter(|start_of_line| *start_of_line < kept.len()) {
            let at = buffer.bytes.len() + start_of_line;
            buffer.times.push((at, SystemTime::now()));
        }
        buffer.bytes.extend_from_slice(kept);
        buffer.dropped += rest.len();
        buffer.dropped_lines += rest.iter().filter(|byte| **byte == b'\n').count();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.0.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    /// The stream keeps writing to where output is redirected to now, and to the instance's own output once the request
    /// has ended.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(RequestOutput { request: self.target(), instance: self.clone() })
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_BUFFERED)
    }
}

/// A stream that a request has opened, and that may outlive it.
struct RequestOutput {
    request: GuestOutput,
    instance: GuestOutput,
}

impl AsyncWrite for RequestOutput {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.request.append_here(bytes) {
            self.instance.append_here(bytes);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[test]
    fn output_is_bounded_and_taken_once() {
        let output = GuestOutput::default();
        output.append(b"one\ntwo\n\n");
        assert_eq!(texts(&output), ["one", "two"]);
        assert!(texts(&output).is_empty());
        output.append(&vec![b'x'; MAX_BUFFERED]);
        output.append(b"y\nz\n");
        let printed = OutputLines::take(&output, &GuestOutput::default());
        assert_eq!((printed.stdout[1].text.as_str(), printed.dropped), ("(4 more bytes were dropped)", 2));
    }

    #[tokio::test]
    async fn a_stream_that_outlives_its_request_writes_to_the_instances_output() {
        let (instance, request) = (GuestOutput::default(), GuestOutput::default());
        instance.redirect_to(Some(&request));
        let mut stream = Box::into_pin(instance.async_stream());
        instance.redirect_to(None);
        stream.write_all(b"during the request\n").await.unwrap();
        let last = OutputLines::take_last(&request, &GuestOutput::default());
        assert_eq!(last.stdout.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["during the request"]);
        stream.write_all(b"later\n").await.unwrap();
        assert_eq!((texts(&instance), texts(&request)), (vec!["later".to_owned()], Vec::new()));
    }

    fn texts(output: &GuestOutput) -> Vec<String> {
        output.take_lines().0.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn the_output_of_a_panic_is_taken_once() {
        let (stdout, stderr) = (GuestOutput::default(), GuestOutput::default());
        stderr.append(
            b"before\n\nthread 'main' (1) panicked at src/a.rs:1:2:\nboom\nnote: run with `RUST_BACKTRACE=1`\n",
        );
        let mut printed = OutputLines::take(&stdout, &stderr);
        assert_eq!(printed.take_trap_output(), Some(TrapOutput::Panic("boom (src/a.rs:1:2)".to_owned())));
        assert_eq!(printed.stderr.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["before"]);
        assert_eq!(printed.take_trap_output(), None);
    }

    #[test]
    fn a_line_has_the_time_of_its_first_byte() {
        let output = GuestOutput::default();
        output.append(b"one\ntw");
        let between = SystemTime::now();
        while SystemTime::now() <= between {}
        output.append(b"o\nthree\nfour\n");
        let (lines, _) = output.take_lines();
        let late: Vec<_> = lines.iter().map(|line| (line.text.as_str(), line.time > between)).collect();
        assert_eq!(late, [("one", false), ("two", false), ("three", true), ("four", true)]);
    }
}
