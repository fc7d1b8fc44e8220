//! Makes text from guests and collectors safe to print on a terminal and in one line of a log.

/// The first line of a text, at most `limit` characters of it. Characters that control a terminal, start a new line or
/// change the direction of text are replaced.
pub(super) fn sanitize_line(text: &str, limit: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let shown = |letter: char| if letter.is_control() || is_invisible(letter) { '\u{fffd}' } else { letter };
    line.chars().take(limit).map(shown).collect()
}

/// Line separators, and characters that have no width or change the direction of text.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_line_breaks_are_replaced() {
        assert_eq!(sanitize_line("a\u{1b}[31mb\u{9b}c\nd", 100), "a\u{fffd}[31mb\u{fffd}c");
        assert_eq!(sanitize_line("a\u{202e}b\u{2028}c", 100), "a\u{fffd}b\u{fffd}c");
        assert_eq!(sanitize_line("abc", 2), "ab");
        assert_eq!(sanitize_line("", 2), "");
    }
}
