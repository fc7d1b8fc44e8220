//! One Rust file as input of the rules: its code without comments and strings, and its comments separately.

use super::finding::Finding;

/// Three versions of a file with the same lines.
pub(crate) struct Source {
    /// Relative to the root of the checkout, with `/` as separator.
    pub(crate) path: String,
    /// The unchanged text.
    pub(crate) text: String,
    code: String,
    comments: String,
    /// The line at which the `#[cfg(test)] mod` at the end of the file starts, counted from 1.
    tests_from: usize,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, comments) = split(text);
        let tests_from = first_test_line(&code);
        Self { path: path.replace('\\', "/"), text: text.to_owned(), code, comments, tests_from }
    }

    /// Whether the whole file contains tests.
    pub(crate) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// Lines of code outside tests, with comments and strings blanked, and their numbers.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = if self.is_test() { 0 } else { self.tests_from };
        numbered(&self.code).take_while(move |(number, _)| *number < end)
    }

    /// The same for lines of code in tests.
    pub(crate) fn test_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let start = if self.is_test() { 0 } else { self.tests_from };
        numbered(&self.code).skip_while(move |(number, _)| *number < start)
    }

    /// The lines with only the text of comments.
    pub(crate) fn comments(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.comments)
    }

    /// The number of lines before the tests.
    pub(crate) fn length(&self) -> usize {
        self.text.lines().count().min(self.tests_from - 1)
    }

    pub(crate) fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, message: message.into() }
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Whether a line contains a word, not as a part of a longer one. A word may contain `::`, `!` and the like.
pub(crate) fn names(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back().is_some_and(is_part) && word.starts_with(is_part);
        let after = line[start + word.len()..].chars().next().is_some_and(is_part) && word.ends_with(is_part);
        !before && !after
    })
}

fn first_test_line(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().collect();
    let is_start = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
    lines.windows(2).position(is_start).map_or(usize::MAX, |index| index + 1)
}

/// The state of the scanner.
enum State {
    Code,
    LineComment,
    BlockComment { depth: usize },
    Text { hashes: Option<usize> },
}

/// Splits a text into code and comments of the same shape: other characters become spaces, line breaks stay.
fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::with_capacity(text.len()), String::new());
    let (mut state, mut at) = (State::Code, 0);
    while at < chars.len() {
        let (taken, next) = step(&state, &chars, at);
        for &c in &chars[at..(at + taken).min(chars.len())] {
            let shown = |here: bool| if here || c == '\n' { c } else { ' ' };
            let in_comment = matches!(state, State::LineComment | State::BlockComment { .. });
            code.push(shown(matches!((&state, &next), (State::Code, None))));
            comments.push(shown(in_comment));
        }
        at += taken;
        state = next.unwrap_or(state);
    }
    (code, comments)
}

/// How many characters to consume, and the next state if it changes.
fn step(state: &State, chars: &[char], at: usize) -> (usize, Option<State>) {
    match state {
        State::Code => step_in_code(chars, at),
        State::LineComment => (1, (chars[at] == '\n').then_some(State::Code)),
        State::BlockComment { depth } => match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (2, Some(State::BlockComment { depth: depth + 1 })),
            ('*', Some('/')) if *depth == 1 => (2, Some(State::Code)),
            ('*', Some('/')) => (2, Some(State::BlockComment { depth: depth - 1 })),
            _ => (1, None),
        },
        State::Text { hashes: None } => match chars[at] {
            '\\' => (2, None),
            '"' => (1, Some(State::Code)),
            _ => (1, None),
        },
        State::Text { hashes: Some(count) } => {
            let closing = chars[at] == '"' && hashes_at(chars, at + 1) >= *count;
            if closing { (1 + count, Some(State::Code)) } else { (1, None) }
        }
    }
}

fn step_in_code(chars: &[char], at: usize) -> (usize, Option<State>) {
    match (chars[at], chars.get(at + 1), chars.get(at + 2)) {
        ('/', Some('/'), _) => (2, Some(State::LineComment)),
        ('/', Some('*'), _) => (2, Some(State::BlockComment { depth: 1 })),
        ('"', ..) => (1, Some(State::Text { hashes: None })),
        ('r', ..) if !continues_a_word(chars, at) && opens_raw(chars, at) => {
            let hashes = hashes_at(chars, at + 1);
            (hashes + 2, Some(State::Text { hashes: Some(hashes) }))
        }
        ('\'', Some('\\'), _) => {
            let rest = chars.iter().skip(at + 3).take_while(|c| **c != '\'').count();
            (rest + 4, Some(State::Code))
        }
        ('\'', Some(_), Some('\'')) => (3, Some(State::Code)),
        _ => (1, None),
    }
}

/// `r"`, `r#"`; the `r` of `br"` continues a word, of which only the `b` counts as one.
fn opens_raw(chars: &[char], at: usize) -> bool {
    chars.get(at + 1 + hashes_at(chars, at + 1)) == Some(&'"')
}

fn continues_a_word(chars: &[char], at: usize) -> bool {
    let is_part = |index: usize| chars[index].is_alphanumeric() || chars[index] == '_';
    match at {
        0 => false,
        1 => is_part(0) && chars[0] != 'b',
        _ => is_part(at - 1) && (!matches!(chars[at - 1], 'b' | 'c') || is_part(at - 2)),
    }
}

fn hashes_at(chars: &[char], at: usize) -> usize {
    chars.iter().skip(at).take_while(|c| **c == '#').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        split(text).0
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        assert_eq!(code("a // b\nc").replace(' ', ""), "a\nc");
        assert_eq!(code("a /* b /* c */ d */ e").replace(' ', ""), "ae");
        assert_eq!(code("f(\"x \\\" y\", z)").replace(' ', ""), "f(,z)");
        assert_eq!(code("f(r#\"x \" y\"#, z)").replace(' ', ""), "f(,z)");
        assert_eq!(code("f(br\"\\\", z)").replace(' ', ""), "f(b,z)");
    }

    #[test]
    fn quotes_in_character_literals_do_not_start_a_string() {
        assert_eq!(code("'\"' a '\\'' b '\\\\' c '\\u{1f}' d").replace(' ', ""), "abcd");
        assert_eq!(code("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
    }

    #[test]
    fn comments_are_separated_from_code() {
        let (_, comments) = split("let a = \"// no\"; // yes");
        assert_eq!(comments.trim(), "yes");
    }

    #[test]
    fn line_numbers_are_preserved() {
        let text = "a\n/* b\nc */\n\"d\ne\"\nf";
        assert_eq!(code(text).lines().count(), text.lines().count());
        assert_eq!(code(text).lines().last(), Some("f"));
    }

    #[test]
    fn a_word_inside_a_longer_one_is_not_found() {
        assert!(names("use wasmtime::Engine;", "wasmtime"));
        assert!(!names("let my_wasmtime = 1;", "wasmtime"));
        assert!(!names("wasmtime_wasi::x", "wasmtime"));
        assert!(names("println!(x)", "println!"));
        assert!(!names("eprintln!(x)", "println!"));
    }

    #[test]
    fn the_test_module_of_a_file_is_test_code() {
        let source = Source::new("host/src/a.rs", "one\n#[cfg(test)]\nmod tests {\n    two\n}\n");
        assert_eq!(source.code().map(|(_, line)| line).collect::<Vec<_>>(), ["one"]);
        assert!(source.test_code().any(|(number, line)| number == 4 && line.contains("two")));
        assert_eq!(source.length(), 1);
    }

    #[test]
    fn files_in_a_tests_folder_are_test_code() {
        let source = Source::new("host/tests/a.rs", "one");
        assert_eq!(source.code().count(), 0);
        assert_eq!(source.test_code().count(), 1);
    }
}
