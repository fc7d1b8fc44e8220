//! Detects component files that are still being written.

use wasmparser::{Chunk, Parser, Payload};

/// Whether the sections of a WebAssembly file end at the end of the file. Malformed files and files that are not
/// WebAssembly count as complete.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let (mut parser, mut rest) = (Parser::new(0), bytes);
    loop {
        let (consumed, nested) = match parser.parse(rest, false) {
            Ok(Chunk::Parsed { consumed, payload }) => (consumed, nested_length(&payload)),
            // The parser needs more data: the file is complete only if it may end here.
            Ok(Chunk::NeedMoreData(_)) => return matches!(parser.parse(rest, true), Ok(Chunk::Parsed { .. })),
            Err(_) => return true,
        };
        let Some(after) = rest.get(consumed.saturating_add(nested)..) else { return false };
        rest = after;
    }
}

/// The bytes of a nested module or component, which follow its section's header.
fn nested_length(payload: &Payload<'_>) -> usize {
    match payload {
        Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } => {
            unchecked_range.len()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_complete_if_its_last_section_ends_with_the_file() {
        // A custom section, an empty core module within the component, and another custom section.
        let complete = b"\0asm\x0d\0\x01\0\0\x03\x01ab\x01\x08\0asm\x01\0\0\0\0\x02\x01c";
        assert!(is_complete(complete));
        let ends = [8, 13, 23, complete.len()];
        for length in 0..complete.len() {
            assert_eq!(is_complete(&complete[..length]), ends.contains(&length), "cut at {length}");
        }
    }

    #[test]
    fn a_file_that_is_not_a_component_counts_as_complete() {
        assert!(is_complete(b"not wasm"));
        assert!(is_complete(b"\0asm\x0d\0\x01\0\xff\x01a"), "no section has this number");
        assert!(!is_complete(b""));
    }
}
