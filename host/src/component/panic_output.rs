//! Recognizes what Rust's standard library writes to standard error before a guest traps: a panic or a failed
//! allocation.
//!
//! These lines become part of the exception and are removed from the guest's other output.

use std::ops::Range;

/// What the lines describe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TrapOutput {
    /// A panic, with its message and location.
    Panic(String),
    /// A failed allocation of so many bytes.
    AllocationFailed(u64),
}

/// Finds the last panic or failed allocation, and the range of its lines.
pub(super) fn find_last(stderr: &[String]) -> Option<(Range<usize>, TrapOutput)> {
    let begins = |line: &String| is_panic(line) || failed_allocation(line).is_some();
    let at = stderr.iter().rposition(begins)?;
    let (first, rest) = stderr.get(at..)?.split_first()?;
    if let Some(size) = failed_allocation(first) {
        let notes = rest.iter().take_while(|line| is_note(line)).count();
        return Some((at..at + 1 + notes, TrapOutput::AllocationFailed(size)));
    }
    let location = first.split("panicked at ").nth(1)?.trim_end_matches(':');
    let text: Vec<_> = rest.iter().take_while(|line| !is_note(line)).map(String::as_str).collect();
    let notes = rest.iter().skip(text.len()).take_while(|line| is_note(line)).count();
    let end = at + 1 + text.len() + notes;
    let message = if text.is_empty() { location.to_owned() } else { format!("{} ({location})", text.join("\n")) };
    Some((at..end, TrapOutput::Panic(message)))
}

fn is_panic(line: &str) -> bool {
    line.contains("panicked at ")
}

/// The note about backtraces.
fn is_note(line: &str) -> bool {
    line.starts_with("note: ")
}

fn failed_allocation(line: &str) -> Option<u64> {
    line.strip_prefix("memory allocation of ")?.strip_suffix(" bytes failed")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    const NOTE: &str = "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace";

    #[test]
    fn a_panic_has_its_message_and_location_and_takes_all_of_its_lines() {
        let all = lines(&[
            "hello",
            "thread '<unnamed>' (1) panicked at src/stock.rs:12:5:",
            "shelf is",
            "empty",
            NOTE,
            "end",
        ]);
        let panic = TrapOutput::Panic("shelf is\nempty (src/stock.rs:12:5)".to_owned());
        assert_eq!(find_last(&all), Some((1..5, panic)));
        assert_eq!(find_last(&all[..1]), None);
        assert_eq!(find_last(&all[1..2]), Some((0..1, TrapOutput::Panic("src/stock.rs:12:5".to_owned()))));
    }

    #[test]
    fn a_failed_allocation_has_its_size() {
        let failed = "memory allocation of 1048576 bytes failed";
        for all in [&["x", failed, NOTE][..], &["x", failed]] {
            assert_eq!(find_last(&lines(all)), Some((1..all.len(), TrapOutput::AllocationFailed(1 << 20))));
        }
        assert_eq!(find_last(&lines(&["memory allocation of bytes failed"])), None);
    }

    #[test]
    fn the_last_of_two_panics_is_returned() {
        let all =
            lines(&["thread 'a' panicked at a.rs:1:1:", "first", NOTE, "thread 'b' panicked at b.rs:1:1:", "second"]);
        assert_eq!(find_last(&all), Some((3..5, TrapOutput::Panic("second (b.rs:1:1)".to_owned()))));
    }
}
