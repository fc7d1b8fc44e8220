//! What went wrong inside a guest, as a verdict and an exception to record.

use wasmtime::{FrameInfo, Trap, WasmBacktrace};

use super::symbolizer::Symbolizer;
use crate::trace::{Attribute, Recorder};

/// The bytes of a function's name that stand in a backtrace, and those of a symbol that are looked at for it.
const MAX_NAME: usize = 512;
const MAX_SYMBOL: usize = 8 << 10;

/// Why a request got no answer from its guest.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The guest trapped; its instance is gone.
    #[error("trapped: {}", .0.message)]
    Trapped(Exception),
    /// The guest did not answer within `request_timeout`; its instance is gone.
    #[error("gave no answer within request_timeout")]
    TimedOut,
    /// No instance could be made: the host has as many as it can hold.
    #[error("got no instance: {0}")]
    Saturated(String),
    /// The guest answered with something that is no HTTP response.
    #[error("answered with no HTTP response: {0}")]
    InvalidResponse(String),
    /// The guest's response body is over `response_body`.
    #[error("answered with {size} bytes, which is over response_body")]
    ResponseTooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The guest came to its end without an answer.
    #[error("ended without a response")]
    NoResponse,
    /// The guest gave an error code of `wasi:http` in place of a response.
    #[error("gave an error in place of a response: {0}")]
    ErrorCode(String),
}

impl Failure {
    /// The value of `error.type`.
    pub fn error_type(&self) -> &'static str {
        match self {
            Failure::Trapped(_) => "wasm_trap",
            Failure::TimedOut => "timeout",
            Failure::Saturated(_) => "no_instance",
            Failure::InvalidResponse(_) => "invalid_response",
            Failure::ResponseTooLarge { .. } => "response_too_large",
            Failure::NoResponse => "no_response",
            Failure::ErrorCode(_) => "error_code",
        }
    }
}

/// An exception as the OpenTelemetry semantic conventions describe one.
#[derive(Clone, Debug)]
pub struct Exception {
    /// `exception.type`: the kind of trap, or `panic`.
    pub kind: &'static str,
    /// `exception.message`.
    pub message: String,
    /// `exception.stacktrace`: a line per frame, innermost first, with the function's name and, where the component
    /// has debug information, file and line.
    pub stacktrace: String,
}

impl Exception {
    /// Puts it on the request's server span as an event, and writes a log record for those who look at logs.
    pub fn record(&self, recorder: &mut Recorder) {
        let server = recorder.server();
        let attributes = [
            Attribute::new("exception.type", self.kind),
            Attribute::new("exception.message", &self.message),
            Attribute::new("exception.stacktrace", &self.stacktrace),
        ];
        recorder.exception(server, self.message.clone(), &attributes);
    }

    /// Reads a trap. `stderr` is what the guest wrote: a Rust guest's panic says there what it was about.
    pub(super) fn from_trap(error: &wasmtime::Error, stderr: &[String], symbolizer: &Symbolizer) -> Exception {
        let backtrace = error.downcast_ref::<WasmBacktrace>();
        let stacktrace = backtrace.map(|backtrace| render(backtrace, symbolizer)).unwrap_or_default();
        let trap = error.downcast_ref::<Trap>();
        if let Some(message) = panic_message(stderr) {
            return Exception { kind: "panic", message, stacktrace };
        }
        match allocation_failure(stderr) {
            Some(message) => Exception { kind: "out_of_memory", message, stacktrace },
            None => Exception { kind: trap.map_or("host_error", trap_kind), message: message(error, trap), stacktrace },
        }
    }
}

/// The innermost cause, without the backtrace that Wasmtime puts before it.
fn message(error: &wasmtime::Error, trap: Option<&Trap>) -> String {
    trap.map(Trap::to_string).unwrap_or_else(|| error.root_cause().to_string())
}

fn render(backtrace: &WasmBacktrace, symbolizer: &Symbolizer) -> String {
    let mut lines = String::new();
    let frames = backtrace.frames();
    let locations = symbolizer.locations(frames.iter().map(|frame| (module(frame), frame.module_offset())));
    for (frame, locations) in frames.iter().zip(locations) {
        if locations.is_empty() {
            push_frame(&mut lines, frame.func_name().unwrap_or("<unknown>"), module(frame), None);
        }
        for (index, location) in locations.iter().enumerate() {
            // The last one is the function that the frame is of; the others were inlined into it. Where there are line
            // tables only, a location has a name without a path, but the function has its full one.
            let own = frame.func_name().filter(|_| index + 1 == locations.len());
            let name = own.or(location.function.as_deref()).unwrap_or("<unknown>");
            push_frame(&mut lines, name, module(frame), Some((&location.file, location.line)));
        }
    }
    lines
}

fn module(frame: &FrameInfo) -> &str {
    frame.module().name().unwrap_or("component")
}

fn push_frame(lines: &mut String, function: &str, module: &str, location: Option<(&str, u32)>) {
    use std::fmt::Write;
    let function = demangled(function);
    let written = match location {
        Some((file, line)) => writeln!(lines, "    at {function} ({file}:{line})"),
        None => writeln!(lines, "    at {function} ({module})"),
    };
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

/// A Rust symbol as it is written in the source; any other as it is. Too long a one is cut.
fn demangled(function: &str) -> String {
    let symbol = &function[..function.floor_char_boundary(MAX_SYMBOL)];
    let mut name = format!("{:#}", rustc_demangle::demangle(symbol));
    name.truncate(name.floor_char_boundary(MAX_NAME));
    name
}

/// A name of low cardinality for each kind of trap.
fn trap_kind(trap: &Trap) -> &'static str {
    match trap {
        Trap::StackOverflow => "stack_overflow",
        Trap::MemoryOutOfBounds | Trap::HeapMisaligned => "memory_out_of_bounds",
        Trap::TableOutOfBounds | Trap::IndirectCallToNull | Trap::BadSignature => "bad_indirect_call",
        Trap::IntegerOverflow | Trap::IntegerDivisionByZero | Trap::BadConversionToInteger => "arithmetic",
        Trap::UnreachableCodeReached => "unreachable",
        Trap::Interrupt | Trap::OutOfFuel => "interrupted",
        Trap::AllocationTooLarge => "allocation_too_large",
        _ => "trap",
    }
}

/// What Rust's standard library writes last where an allocation fails.
fn allocation_failure(stderr: &[String]) -> Option<String> {
    let line = stderr.last()?;
    let size = line.strip_prefix("memory allocation of ")?.strip_suffix(" bytes failed")?;
    size.parse::<u64>().ok().map(|_| line.clone())
}

/// What a Rust panic wrote: everything after the line that says `panicked at`, up to the note on backtraces.
fn panic_message(stderr: &[String]) -> Option<String> {
    let at = stderr.iter().rposition(|line| line.contains("panicked at"))?;
    let location = stderr.get(at)?.split("panicked at ").nth(1)?.trim_end_matches(':');
    let text = stderr.iter().skip(at + 1).take_while(|line| !line.starts_with("note: "));
    let text = text.map(String::as_str).collect::<Vec<_>>().join("\n");
    Some(if text.is_empty() { location.to_owned() } else { format!("{text} ({location})") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_carries_its_message_and_place() {
        let lines = [
            "hello",
            "thread '<unnamed>' panicked at src/stock.rs:12:5:",
            "shelf is empty",
            "note: run with `RUST_BACKTRACE=1` context variable to display a backtrace",
        ];
        let lines = lines.map(str::to_owned);
        assert_eq!(panic_message(&lines).as_deref(), Some("shelf is empty (src/stock.rs:12:5)"));
        assert_eq!(panic_message(&lines[..1]), None);
    }

    #[test]
    fn a_symbol_reads_like_the_source() {
        assert_eq!(demangled("_ZN5stock7reserve17h0123456789abcdefE"), "stock::reserve");
        assert_eq!(demangled("_RNvCs1234_5stock7reserve"), "stock::reserve");
        assert_eq!(demangled("reserve"), "reserve");
        assert_eq!(demangled(&"é".repeat(10_000)).len(), 512);
    }

    #[test]
    fn a_guest_without_memory_says_so() {
        let lines = ["memory allocation of 1048576 bytes failed".to_owned()];
        assert_eq!(allocation_failure(&lines).as_deref(), Some("memory allocation of 1048576 bytes failed"));
        assert_eq!(allocation_failure(&["memory allocation of bytes".to_owned()]), None);
    }
}
