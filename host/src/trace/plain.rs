//! Text of guests and collectors, made fit for a terminal and for one line of a log.

/// The first line of a text, at most `limit` characters of it, without characters that control a terminal or begin a line.
pub(super) fn plain(text: &str, limit: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(limit).map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_controls_a_terminal_or_begins_a_line() {
        assert_eq!(plain("a\u{1b}[31mb\u{9b}c\nd", 100), "a\u{fffd}[31mb\u{fffd}c");
        assert_eq!(plain("abc", 2), "ab");
        assert_eq!(plain("", 2), "");
    }
}
