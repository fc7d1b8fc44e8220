//! What Rust's standard library writes to standard error before a guest traps: a panic, or an allocation that failed.
//!
//! It is told as one exception, with the trap; the lines are taken out of what the guest printed otherwise.

use std::ops::Range;

/// What the lines say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TrapOutput {
    /// A panic, with its message and place.
    Panic(String),
    /// An allocation of so many bytes failed.
    AllocationFailed(u64),
}

/// Finds the last of it, and the lines that it takes.
pub(super) fn find(stderr: &[String]) -> Option<(Range<usize>, TrapOutput)> {
    let begins = |line: &String| is_panic(line) || failed_allocation(line).is_some();
    let at = stderr.iter().rposition(begins)?;
    let (first, rest) = stderr.get(at..)?.split_first()?;
    if let Some(size) = failed_allocation(first) {
        let notes = rest.iter().take_while(|line| is_note(line)).count();
        return Some((at..at + 1 + notes, TrapOutput::AllocationFailed(size)));
    }
    let place = first.split("panicked at ").nth(1)?.trim_end_matches(':');
    let text: Vec<_> = rest.iter().take_while(|line| !is_note(line)).map(String::as_str).collect();
    let notes = rest.iter().skip(text.len()).take_while(|line| is_note(line)).count();
    let end = at + 1 + text.len() + notes;
    let message = if text.is_empty() { place.to_owned() } else { format!("{} ({place})", text.join("\n")) };
    Some((at..end, TrapOutput::Panic(message)))
}

fn is_panic(line: &str) -> bool {
    line.contains("panicked at ")
}

/// The note on backtraces.
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
    fn a_panic_has_its_message_and_place_and_takes_all_of_its_lines() {
        let all = lines(&[
            "hello",
            "thread '<unnamed>' (1) panicked at src/stock.rs:12:5:",
            "shelf is",
            "empty",
            NOTE,
            "end",
        ]);
        let panic = TrapOutput::Panic("shelf is\nempty (src/stock.rs:12:5)".to_owned());
        assert_eq!(find(&all), Some((1..5, panic)));
        assert_eq!(find(&all[..1]), None);
        assert_eq!(find(&all[1..2]), Some((0..1, TrapOutput::Panic("src/stock.rs:12:5".to_owned()))));
    }

    #[test]
    fn an_allocation_that_failed_has_its_size() {
        let failed = "memory allocation of 1048576 bytes failed";
        for all in [&["x", failed, NOTE][..], &["x", failed]] {
            assert_eq!(find(&lines(all)), Some((1..all.len(), TrapOutput::AllocationFailed(1 << 20))));
        }
        assert_eq!(find(&lines(&["memory allocation of bytes failed"])), None);
    }

    #[test]
    fn of_two_the_last_counts() {
        let all =
            lines(&["thread 'a' panicked at a.rs:1:1:", "first", NOTE, "thread 'b' panicked at b.rs:1:1:", "second"]);
        assert_eq!(find(&all), Some((3..5, TrapOutput::Panic("second (b.rs:1:1)".to_owned()))));
    }
}
