//! Text of guests and collectors, made fit for a terminal and for one line of a log.

/// The first line of a text, at most `limit` characters of it, without characters that control a terminal, begin a line or
/// change the order of others.
pub(super) fn plain(text: &str, limit: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let shown = |letter: char| if letter.is_control() || is_unseen(letter) { '\u{fffd}' } else { letter };
    line.chars().take(limit).map(shown).collect()
}

/// Separators of lines, and characters that have no width or change the direction of their neighbours.
fn is_unseen(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_controls_a_terminal_or_begins_a_line() {
        assert_eq!(plain("a\u{1b}[31mb\u{9b}c\nd", 100), "a\u{fffd}[31mb\u{fffd}c");
        assert_eq!(plain("a\u{202e}b\u{2028}c", 100), "a\u{fffd}b\u{fffd}c");
        assert_eq!(plain("abc", 2), "ab");
        assert_eq!(plain("", 2), "");
    }
}
