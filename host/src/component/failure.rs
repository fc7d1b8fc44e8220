//! What went wrong inside a guest, as a verdict and an exception to record.

use wasmtime::{Trap, WasmBacktrace};

/// Why a request got no answer from its guest.
#[derive(Debug, thiserror::Error)]
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
}

/// An exception as the OpenTelemetry semantic conventions describe one.
#[derive(Debug)]
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
    /// Reads a trap. `stderr` is what the guest wrote: a Rust guest's panic says there what it was about.
    pub(super) fn from_trap(error: &wasmtime::Error, stderr: &[String]) -> Exception {
        let stacktrace = error.downcast_ref::<WasmBacktrace>().map(render).unwrap_or_default();
        let trap = error.downcast_ref::<Trap>();
        match panic_message(stderr) {
            Some(message) => Exception { kind: "panic", message, stacktrace },
            None => Exception { kind: trap.map_or("host_error", trap_kind), message: message(error, trap), stacktrace },
        }
    }
}

/// The innermost cause, without the backtrace that Wasmtime puts before it.
fn message(error: &wasmtime::Error, trap: Option<&Trap>) -> String {
    trap.map(Trap::to_string).unwrap_or_else(|| error.root_cause().to_string())
}

fn render(backtrace: &WasmBacktrace) -> String {
    let mut lines = String::new();
    for frame in backtrace.frames() {
        let module = frame.module().name().unwrap_or("component");
        let symbols = frame.symbols();
        if symbols.is_empty() {
            push_frame(&mut lines, frame.func_name().unwrap_or("<unknown>"), module, None);
        }
        for symbol in symbols {
            let name = symbol.name().or(frame.func_name()).unwrap_or("<unknown>");
            let place = symbol.file().map(|file| (file, symbol.line().unwrap_or(0)));
            push_frame(&mut lines, name, module, place);
        }
    }
    lines
}

fn push_frame(lines: &mut String, function: &str, module: &str, place: Option<(&str, u32)>) {
    use std::fmt::Write;
    let written = match place {
        Some((file, line)) => writeln!(lines, "    at {function} ({file}:{line})"),
        None => writeln!(lines, "    at {} ({module})", rustc_demangled(function)),
    };
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

/// Cuts the hash off a Rust symbol: `stock::reserve::h0123456789abcdef` reads better without it.
fn rustc_demangled(function: &str) -> &str {
    match function.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => function,
    }
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

/// What a Rust panic wrote: everything after the line that says `panicked at`, up to the note on backtraces.
fn panic_message(stderr: &[String]) -> Option<String> {
    let at = stderr.iter().rposition(|line| line.contains("panicked at"))?;
    let place = stderr.get(at)?.split("panicked at ").nth(1)?.trim_end_matches(':');
    let text = stderr.iter().skip(at + 1).take_while(|line| !line.starts_with("note: "));
    let text = text.map(String::as_str).collect::<Vec<_>>().join("\n");
    Some(if text.is_empty() { place.to_owned() } else { format!("{text} ({place})") })
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
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
        ];
        let lines = lines.map(str::to_owned);
        assert_eq!(panic_message(&lines).as_deref(), Some("shelf is empty (src/stock.rs:12:5)"));
        assert_eq!(panic_message(&lines[..1]), None);
    }

    #[test]
    fn a_symbol_loses_its_hash() {
        assert_eq!(rustc_demangled("stock::reserve::h0123456789abcdef"), "stock::reserve");
        assert_eq!(rustc_demangled("stock::hreserve"), "stock::hreserve");
    }
}
