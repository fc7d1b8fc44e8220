//! What went wrong inside a guest, as a verdict and an exception to record.

use wasmtime::{FrameInfo, Trap, WasmBacktrace};

use super::exhaustion::{MemoryUse, stack_overflow};
use super::function_name::demangled;
use super::panic_output::TrapOutput;
use super::symbolizer::Symbolizer;
use crate::trace::{Attribute, Recorder};

/// The kinds of traps that have a value of `error.type` of their own.
const OUT_OF_MEMORY: &str = "out_of_memory";
const STACK_OVERFLOW: &str = "stack_overflow";

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
            Failure::Trapped(exception) => exception.error_type(),
            Failure::TimedOut => "timeout",
            Failure::Saturated(_) => "no_instance",
            Failure::InvalidResponse(_) => "invalid_response",
            Failure::ResponseTooLarge { .. } => "response_too_large",
            Failure::NoResponse => "no_response",
            Failure::ErrorCode(_) => "error_code",
        }
    }

    /// `error.type` and message of the spans that the guest left open, where it did not come to their ends.
    pub fn abort(&self) -> Option<(&'static str, String)> {
        match self {
            Failure::Trapped(exception) => Some((exception.error_type(), exception.message.clone())),
            Failure::TimedOut => Some((self.error_type(), String::from("request_timeout passed"))),
            _ => None,
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
    /// Reads a trap. `output` is what the guest last wrote, if that says what the trap was about.
    pub(super) fn from_trap(
        error: &wasmtime::Error,
        output: Option<TrapOutput>,
        symbolizer: &Symbolizer,
        memory: MemoryUse,
    ) -> Exception {
        let backtrace = error.downcast_ref::<WasmBacktrace>();
        let stacktrace = backtrace.map(|backtrace| render(backtrace, symbolizer)).unwrap_or_default();
        let trap = error.downcast_ref::<Trap>();
        let gives_up = matches!(trap, Some(Trap::UnreachableCodeReached | Trap::MemoryOutOfBounds));
        let (kind, message) = match (output, stack_overflow(error, trap)) {
            (Some(TrapOutput::Panic(message)), _) => ("panic", message),
            (Some(TrapOutput::AllocationFailed(wanted)), _) => (OUT_OF_MEMORY, memory.message(Some(wanted))),
            (None, Some(message)) => (STACK_OVERFLOW, message),
            (None, None) if gives_up && memory.growth_denied => (OUT_OF_MEMORY, memory.message(None)),
            (None, None) => (trap.map_or("host_error", trap_kind), message(error, trap)),
        };
        Exception { kind, message, stacktrace }
    }

    /// The value of `error.type`.
    pub fn error_type(&self) -> &'static str {
        match self.kind {
            OUT_OF_MEMORY => "out_of_memory",
            STACK_OVERFLOW => "stack_overflow",
            _ => "wasm_trap",
        }
    }

    /// Puts it on the request's server span as an event, and into the log for those who look there.
    pub fn record(&self, recorder: &mut Recorder) {
        let attributes = [
            Attribute::new("exception.type", self.kind),
            Attribute::new("exception.message", &self.message),
            Attribute::new("exception.stacktrace", &self.stacktrace),
        ];
        recorder.record_exception(recorder.server(), self.message.clone(), &attributes);
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

/// A name of low cardinality for each kind of trap.
fn trap_kind(trap: &Trap) -> &'static str {
    match trap {
        Trap::StackOverflow => STACK_OVERFLOW,
        Trap::MemoryOutOfBounds | Trap::HeapMisaligned => "memory_out_of_bounds",
        Trap::TableOutOfBounds | Trap::IndirectCallToNull | Trap::BadSignature => "bad_indirect_call",
        Trap::IntegerOverflow | Trap::IntegerDivisionByZero | Trap::BadConversionToInteger => "arithmetic",
        Trap::UnreachableCodeReached => "unreachable",
        Trap::Interrupt | Trap::OutOfFuel => "interrupted",
        Trap::AllocationTooLarge => "allocation_too_large",
        _ => "trap",
    }
}
