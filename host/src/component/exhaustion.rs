//! Tells that a guest ran out of memory or of stack, which traps say only in part.
//!
//! A guest without memory traps in its own way of giving up, or reaches behind the end of what it has. One without stack
//! does the latter too: compilers of Rust and C put the stack below everything else, so that it grows out of the
//! beginning of the memory, which is to say, to its far end.

use std::collections::HashMap;

use wasmtime::{Trap, WasmBacktrace};

use super::function_name::demangled;

/// Addresses so near to the end of 4 GiB are those of a stack that has grown below zero. No frame is larger.
const BELOW_ZERO: std::ops::Range<u64> = (1 << 32) - (16 << 20)..(1 << 32) + (16 << 20);
/// How often a function stands in a backtrace, which holds the innermost frames, for it to be a recursion.
const RECURSION: usize = 4;

/// The linear memory of an instance that trapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryUse {
    /// The most that it may have, in bytes.
    pub limit: u64,
    /// Whether it asked for more during the request.
    pub growth_denied: bool,
}

impl MemoryUse {
    /// What is to be known of a guest that has run out of it, after an allocation of so many bytes, if that is known.
    pub fn message(self, wanted: Option<u64>) -> String {
        let limit = size(self.limit);
        match wanted {
            Some(wanted) => {
                format!("out of memory: an allocation of {} failed; the limit is {limit} (limits.memory)", size(wanted))
            }
            None => format!("out of memory: the guest asked for more than its limit of {limit} (limits.memory)"),
        }
    }
}

/// What is to be known of a guest whose calls are nested too deeply, if that is why it trapped.
pub(super) fn stack_overflow(error: &wasmtime::Error, trap: Option<&Trap>) -> Option<String> {
    let recursion = error.downcast_ref::<WasmBacktrace>().and_then(recursion);
    let message = match (trap?, recursion) {
        (Trap::StackOverflow | Trap::MemoryOutOfBounds, Some(name)) => {
            format!("stack overflow: too many nested calls of `{name}`")
        }
        (Trap::StackOverflow, None) => "stack overflow: calls are nested too deeply".to_owned(),
        _ => return None,
    };
    let is_below_zero =
        || error.chain().find_map(|cause| fault(&cause.to_string())).is_some_and(|at| BELOW_ZERO.contains(&at));
    (trap == Some(&Trap::StackOverflow) || is_below_zero()).then_some(message)
}

/// The function that calls itself, perhaps by way of others.
fn recursion(backtrace: &WasmBacktrace) -> Option<String> {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    backtrace.frames().iter().for_each(|frame| *counts.entry(frame.func_index()).or_default() += 1);
    let often = |frame: &&wasmtime::FrameInfo| counts.get(&frame.func_index()).is_some_and(|count| *count >= RECURSION);
    backtrace.frames().iter().find(often).map(|frame| demangled(frame.func_name().unwrap_or("<unknown>")))
}

/// The address in Wasmtime's words for a trap of a memory access. It has no type of its own that could be asked.
fn fault(text: &str) -> Option<u64> {
    let rest = text.strip_prefix("memory fault at wasm address 0x")?;
    u64::from_str_radix(rest.split(' ').next()?, 16).ok()
}

/// A size as the manifest has it.
fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| format!("{bytes} B"), |(unit, shift)| format!("{} {unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_without_memory_is_told_its_limit() {
        let memory = MemoryUse { limit: 64 << 20, growth_denied: true };
        let expected = "out of memory: an allocation of 1000 B failed; the limit is 64 MiB (limits.memory)";
        assert_eq!(memory.message(Some(1000)), expected);
        assert!(memory.message(None).contains("its limit of 64 MiB (limits.memory)"));
    }

    #[test]
    fn the_address_of_a_fault_is_read() {
        let text = "memory fault at wasm address 0xfffffff0 in linear memory of size 0x110000";
        assert_eq!(fault(text), Some(0xffff_fff0));
        assert!(BELOW_ZERO.contains(&0xffff_fff0) && !BELOW_ZERO.contains(&0x11_0000));
        assert_eq!(fault("wasm trap: out of bounds memory access"), None);
    }

    #[test]
    fn sizes_are_written_as_in_the_manifest() {
        assert_eq!(
            [size(1 << 30), size(3 << 20), size(4096), size(0), size(1023)],
            ["1 GiB", "3 MiB", "4 KiB", "0 B", "1023 B"]
        );
    }
}
