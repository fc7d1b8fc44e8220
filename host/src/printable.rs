//! Makes external text safe to print.
//!
//! Span names, attributes, route templates and error messages come from requests and guests. On a terminal a control
//! character in them would move the cursor or retitle the window; in a browser a bidirectional override would reorder
//! the text around it. Both are replaced by visible characters. Markup is not the concern of this module: the template
//! engine escapes it.

use std::borrow::Cow;

/// The text on one line: line feeds and tabs are replaced too.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    replace(text, |_| false)
}

/// The text with its line feeds and tabs, for a backtrace in a block of its own.
pub(crate) fn printable_lines(text: &str) -> Cow<'_, str> {
    replace(text, |letter| matches!(letter, '\n' | '\t'))
}

/// A JSON line with all control characters escaped. JSON writers do not escape DEL and the C1 control characters (U+007F
/// to U+009F). `json` may end with a line feed.
pub(crate) fn json_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len() + 1);
    for letter in json.strip_suffix('\n').unwrap_or(json).chars() {
        if letter.is_control() {
            line.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            line.push(letter);
        }
    }
    line.push('\n');
    line
}

fn replace(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let safe = |letter: char| keep(letter) || visible(letter).is_none();
    if text.chars().all(safe) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|letter| if keep(letter) { letter } else { visible(letter).unwrap_or(letter) }).collect()
}

/// The visible replacement of a control or formatting character. `None` for all other characters.
fn visible(letter: char) -> Option<char> {
    match letter {
        // The block Control Pictures has the order of the control characters.
        '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(letter)),
        '\u{7f}' => Some('\u{2421}'),
        '\u{80}'..='\u{9f}' => Some(char::REPLACEMENT_CHARACTER),
        // Line separators, zero-width characters and bidirectional formatting characters.
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
            Some(char::REPLACEMENT_CHARACTER)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(printable("\u{1b}[2Jname\r\n\u{7f}"), "␛[2Jname␍␊␡");
        assert_eq!(printable("\u{9b}31m"), "\u{fffd}31m", "C1 control sequences start with one character");
        assert_eq!(printable("a\tb\0"), "a␉b␀");
    }

    #[test]
    fn text_cannot_be_reordered() {
        for letter in ['\u{202e}', '\u{2066}', '\u{200f}', '\u{2028}', '\u{feff}'] {
            assert_eq!(printable(&format!("a{letter}b")), "a\u{fffd}b", "{letter:?}");
        }
    }

    #[test]
    fn other_text_is_returned_unchanged() {
        for text in ["GET /users/{user_id}", "größe 値 🦀", ""] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn a_json_line_has_escaped_control_characters_and_the_same_value() {
        let every: String = ('\0'..='\u{100}').collect();
        let json = serde_json::json!({ "text": every }).to_string();
        for given in [json.clone(), format!("{json}\n")] {
            let line = json_line(&given);
            assert_eq!(line.matches(char::is_control).collect::<Vec<_>>(), ["\n"]);
            assert!(line.contains("\\u007f\\u0080") && line.contains("\\u009f\u{a0}"), "{line}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["text"], every);
        }
    }

    #[test]
    fn a_backtrace_keeps_its_lines() {
        assert_eq!(printable_lines("0: main\n\tat a.rs\u{1b}"), "0: main\n\tat a.rs␛");
    }
}
