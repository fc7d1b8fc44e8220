//! Detects that a guest ran out of memory or stack, which the trap alone does not say.
//!
//! A guest without memory traps by an `unreachable` or accesses memory beyond its end. A stack overflow does the latter
//! too: compilers of Rust and C place the stack at the start of linear memory, so that it grows below address zero and
//! wraps to the end of the address space.

use std::collections::HashMap;

use wasmtime::{Trap, WasmBacktrace};

use super::function_name::demangled;

/// Addresses this close to 4 GiB belong to a stack that has grown below address zero. No frame is larger.
const BELOW_ADDRESS_ZERO: std::ops::Range<u64> = (1 << 32) - (16 << 20)..(1 << 32) + (16 << 20);
/// A function that occurs this often among the innermost frames of a backtrace is recursive.
const MIN_RECURSION_FRAMES: usize = 4;

/// The linear memory of an instance that trapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryUse {
    /// Its limit in bytes.
    pub limit: u64,
    /// Whether growth beyond the limit was denied during the request.
    pub growth_denied: bool,
}

impl MemoryUse {
    /// The exception message for a guest that ran out of memory, with the size of the failed allocation if it is known.
    pub fn message(self, requested: Option<u64>) -> String {
        let limit = format_size(self.limit);
        match requested {
            Some(requested) => {
                format!(
                    "out of memory: an allocation of {} failed; the limit is {limit} (limits.memory)",
                    format_size(requested)
                )
            }
            None => format!("out of memory: the guest asked for more than its limit of {limit} (limits.memory)"),
        }
    }
}

/// The exception message for a guest that trapped because of a stack overflow.
pub(super) fn stack_overflow(error: &wasmtime::Error, trap: Option<&Trap>) -> Option<String> {
    let recursion = error.downcast_ref::<WasmBacktrace>().and_then(recursion);
    let message = match (trap?, recursion) {
        (Trap::StackOverflow | Trap::MemoryOutOfBounds, Some(name)) => {
            format!("stack overflow: too many nested calls of `{name}`")
        }
        (Trap::StackOverflow, None) => "stack overflow: calls are nested too deeply".to_owned(),
        _ => return None,
    };
    let is_below_zero = || {
        error
            .chain()
            .find_map(|cause| fault_address(&cause.to_string()))
            .is_some_and(|at| BELOW_ADDRESS_ZERO.contains(&at))
    };
    (trap == Some(&Trap::StackOverflow) || is_below_zero()).then_some(message)
}

/// The innermost recursive function, directly or through others.
fn recursion(backtrace: &WasmBacktrace) -> Option<String> {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    backtrace.frames().iter().for_each(|frame| *counts.entry(frame.func_index()).or_default() += 1);
    let is_recursive = |frame: &&wasmtime::FrameInfo| {
        counts.get(&frame.func_index()).is_some_and(|count| *count >= MIN_RECURSION_FRAMES)
    };
    backtrace.frames().iter().find(is_recursive).map(|frame| demangled(frame.func_name().unwrap_or("<unknown>")))
}

/// The address in Wasmtime's message for a trap of a memory access. Wasmtime has no typed error for it.
fn fault_address(text: &str) -> Option<u64> {
    let rest = text.strip_prefix("memory fault at wasm address 0x")?;
    u64::from_str_radix(rest.split(' ').next()?, 16).ok()
}

/// A size in the format of the manifest.
pub(super) fn format_size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| format!("{bytes} B"), |(unit, shift)| format!("{} {unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_out_of_memory_message_states_the_limit() {
        let memory = MemoryUse { limit: 64 << 20, growth_denied: true };
        let expected = "out of memory: an allocation of 1000 B failed; the limit is 64 MiB (limits.memory)";
        assert_eq!(memory.message(Some(1000)), expected);
        assert!(memory.message(None).contains("its limit of 64 MiB (limits.memory)"));
    }

    #[test]
    fn the_address_of_a_memory_fault_is_parsed() {
        let text = "memory fault at wasm address 0xfffffff0 in linear memory of size 0x110000";
        assert_eq!(fault_address(text), Some(0xffff_fff0));
        assert!(BELOW_ADDRESS_ZERO.contains(&0xffff_fff0) && !BELOW_ADDRESS_ZERO.contains(&0x11_0000));
        assert_eq!(fault_address("wasm trap: out of bounds memory access"), None);
    }

    #[test]
    fn sizes_are_formatted_as_in_the_manifest() {
        assert_eq!(
            [format_size(1 << 30), format_size(3 << 20), format_size(4096), format_size(0), format_size(1023)],
            ["1 GiB", "3 MiB", "4 KiB", "0 B", "1023 B"]
        );
    }
}
