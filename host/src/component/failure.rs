//! Why a guest failed: the failure, and the exception to record.

use wasmtime::{FrameInfo, GcHeapOutOfMemory, ThrownException, Trap, WasmBacktrace};

use super::exhaustion::{MemoryUse, stack_overflow};
use super::function_name::demangled;
use super::panic_output::TrapOutput;
use super::symbolizer::Symbolizer;
use crate::http::BodyError;
use crate::trace::{Attribute, Recorder};

/// The values of `error.type` for traps other than `wasm_trap`, and the `exception.type` of these traps.
const OUT_OF_MEMORY: &str = "out_of_memory";
const STACK_OVERFLOW: &str = "stack_overflow";
const NO_RESPONSE: &str = "no_response";

/// Why a guest did not respond to a request.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The guest trapped; its instance is dropped.
    #[error("trapped: {}", .0.message)]
    Trapped(Exception),
    /// The guest did not respond within `request_timeout`; its instance is dropped.
    #[error("did not respond within request_timeout")]
    TimedOut,
    /// No instance could be created: the host has no free slot, or the guest failed while it was instantiated.
    #[error("no instance could be created: {0}")]
    Saturated(String),
    /// The guest's response is not valid HTTP.
    #[error("returned an invalid HTTP response: {0}")]
    InvalidResponse(String),
    /// The guest's response body exceeds `response_body`.
    #[error("returned a body of {size} bytes or more, which exceeds response_body")]
    ResponseTooLarge {
        /// Its size in bytes, as far as it is known.
        size: usize,
    },
    /// The guest ended without a response.
    #[error("ended without a response")]
    NoResponse,
    /// The guest returned an error code of `wasi:http` instead of a response.
    #[error("returned an error instead of a response: {0}")]
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
            Failure::NoResponse => NO_RESPONSE,
            Failure::ErrorCode(_) => "error_code",
        }
    }

    /// The `error.type` and message for spans that the guest left open, if it did not run to its end.
    pub fn open_span_error(&self) -> Option<(&'static str, String)> {
        match self {
            Failure::Trapped(exception) => Some((exception.error_type(), exception.message.clone())),
            Failure::TimedOut => Some((self.error_type(), String::from("request_timeout passed"))),
            _ => None,
        }
    }
}

/// The error that readers of a response body get when the guest fails.
impl From<&Failure> for BodyError {
    fn from(failure: &Failure) -> BodyError {
        let message = match failure {
            Failure::Trapped(exception) => exception.message.clone(),
            other => other.to_string(),
        };
        BodyError::Failed { error_type: failure.error_type(), message }
    }
}

/// An exception as defined by the OpenTelemetry semantic conventions.
#[derive(Clone, Debug)]
pub struct Exception {
    /// `exception.type`: the kind of trap, or `panic`.
    pub kind: &'static str,
    /// `exception.message`.
    pub message: String,
    /// `exception.stacktrace`: a line per frame, innermost first, with the function's name and, if the component has
    /// debug information, file and line.
    pub stacktrace: String,
}

impl Exception {
    /// Describes a trap. `output` is what the guest printed about it.
    pub(super) fn from_trap(
        error: &wasmtime::Error,
        output: Option<TrapOutput>,
        symbolizer: &Symbolizer,
        memory: MemoryUse,
    ) -> Exception {
        let backtrace = error.downcast_ref::<WasmBacktrace>();
        let stacktrace = backtrace.map(|backtrace| render(backtrace, symbolizer)).unwrap_or_default();
        let trap = error.downcast_ref::<Trap>();
        let may_be_out_of_memory = matches!(trap, Some(Trap::UnreachableCodeReached | Trap::MemoryOutOfBounds));
        let (kind, message) = match (output, stack_overflow(error, trap)) {
            (Some(TrapOutput::Panic(message)), _) => ("panic", message),
            (Some(TrapOutput::AllocationFailed(requested)), _) => (OUT_OF_MEMORY, memory.message(Some(requested))),
            (None, Some(message)) => (STACK_OVERFLOW, message),
            (None, None) if may_be_out_of_memory && memory.growth_denied => (OUT_OF_MEMORY, memory.message(None)),
            // The heap of languages with garbage collection.
            (None, None) if error.is::<GcHeapOutOfMemory<()>>() => (OUT_OF_MEMORY, memory.message(None)),
            (None, None) if error.is::<ThrownException>() => {
                ("uncaught_exception", "the guest threw a WebAssembly exception and did not catch it".to_owned())
            }
            (None, None) => (trap.map_or("host_error", trap_kind), message(error, trap)),
        };
        Exception { kind, message, stacktrace }
    }

    /// The value of `error.type`.
    pub fn error_type(&self) -> &'static str {
        match self.kind {
            kind @ (OUT_OF_MEMORY | STACK_OVERFLOW | NO_RESPONSE) => kind,
            _ => "wasm_trap",
        }
    }

    /// Adds the exception to the request's server span as an event, and to the log.
    pub fn record(&self, recorder: &mut Recorder) {
        let attributes = [
            Attribute::new("exception.type", self.kind),
            Attribute::new("exception.message", &self.message),
            Attribute::new("exception.stacktrace", &self.stacktrace),
        ];
        recorder.record_exception(recorder.server(), self.message.clone(), &attributes);
    }
}

/// The innermost cause, without the backtrace that Wasmtime prepends.
fn message(error: &wasmtime::Error, trap: Option<&Trap>) -> String {
    trap.map(Trap::to_string).unwrap_or_else(|| error.root_cause().to_string())
}

fn render(backtrace: &WasmBacktrace, symbolizer: &Symbolizer) -> String {
    let mut lines = String::new();
    let frames = backtrace.frames();
    let locations = symbolizer.locations(frames.iter().map(|frame| (frame.module().name(), frame.module_offset())));
    for (frame, locations) in frames.iter().zip(locations) {
        if locations.is_empty() {
            push_frame(&mut lines, frame.func_name().unwrap_or("<unknown>"), module(frame), None);
        }
        for (index, location) in locations.iter().enumerate() {
            // The last location is the function of the frame; the others were inlined into it. If there are only line
            // tables, a location has an unqualified name, but the frame has the qualified one.
            let frame_name = frame.func_name().filter(|_| index + 1 == locations.len());
            let name = frame_name.or(location.function.as_deref()).unwrap_or("<unknown>");
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
        Trap::NullReference => "null_reference",
        Trap::ArrayOutOfBounds => "array_out_of_bounds",
        Trap::CastFailure => "bad_cast",
        Trap::NoAsyncResult => NO_RESPONSE,
        _ => "trap",
    }
}
