//! Rules for the form of every file.

use super::finding::Finding;
use super::source::{Source, names};

/// The most lines of a file without its tests, unless its head explains why it needs more.
const LONGEST: usize = 500;
const REASON: &str = "//! Long because:";

const LONGEST_MAIN: usize = 80;

const MARKERS_IN_COMMENTS: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];
const MARKERS_IN_CODE: [&str; 2] = ["todo!", "unimplemented!"];

/// File names that do not describe the content.
const VAGUE_NAMES: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];

/// Tests that must sleep, each with the reason.
const SLEEPING_TESTS: [(&str, &str); 2] = [
    ("host/src/trace/otlp/tests/collector.rs", "polls with a deadline; it cannot use the poll of testkit"),
    ("host/src/trace/otlp/tests/delivery.rs", "polls with a deadline; it cannot use the poll of testkit"),
];

/// Every module starts with its contract.
pub(crate) fn opens_with_a_contract(source: &Source) -> Vec<Finding> {
    let first = source.text.lines().find(|line| !line.trim().is_empty());
    match first {
        Some(line) if line.starts_with("//! ") => Vec::new(),
        _ => vec![source.finding(1, "start the module with a few lines of `//!` that describe it")],
    }
}

/// A file is short, or explains at its head why not.
pub(crate) fn is_short_or_explains_why_not(source: &Source) -> Vec<Finding> {
    let length = source.length();
    if source.is_test() || length <= LONGEST || head(source).any(|line| line.starts_with(REASON)) {
        return Vec::new();
    }
    let message =
        format!("{length} lines without tests; split the file at {LONGEST}, or explain at its head: `{REASON} ...`");
    vec![source.finding(0, message)]
}

/// `main` parses, starts and waits; what it starts is in the library, where tests can reach it.
pub(crate) fn main_is_thin(source: &Source) -> Vec<Finding> {
    let length = source.length();
    if !source.path.ends_with("src/main.rs") || length < LONGEST_MAIN {
        return Vec::new();
    }
    vec![source.finding(0, format!("{length} lines; the limit for main is {LONGEST_MAIN}"))]
}

/// Unfinished work is not marked in the code.
pub(crate) fn has_no_unfinished_work(source: &Source) -> Vec<Finding> {
    let comments = source.comments().filter_map(|(number, line)| Some((number, named(line, &MARKERS_IN_COMMENTS)?)));
    let code = source.code().chain(source.test_code());
    let code = code.filter_map(|(number, line)| Some((number, named(line, &MARKERS_IN_CODE)?)));
    let message = |word: &str| format!("`{word}` marks unfinished work; finish it or remove it");
    comments.chain(code).map(|(line, word)| source.finding(line, message(word))).collect()
}

/// Ignored tests are not allowed.
pub(crate) fn ignores_no_test(source: &Source) -> Vec<Finding> {
    let all = source.code().chain(source.test_code());
    let found = all.filter(|(_, line)| line.trim_start().starts_with("#[ignore"));
    found.map(|(line, _)| source.finding(line, "ignored tests are not allowed; fix the test or remove it")).collect()
}

/// A sleep is either too short on a slow machine or too long on a fast one: wait for a condition instead.
pub(crate) fn sleeps_in_no_test(source: &Source) -> Vec<Finding> {
    if SLEEPING_TESTS.iter().any(|(path, _)| source.path == *path) {
        return Vec::new();
    }
    let found = source.test_code().filter(|(_, line)| names(line, "sleep("));
    found.map(|(line, _)| source.finding(line, "poll with a deadline instead of sleeping")).collect()
}

/// A file is named after its content.
pub(crate) fn has_a_descriptive_name(source: &Source) -> Vec<Finding> {
    let parts = source.path.split('/').map(|part| part.trim_end_matches(".rs"));
    match parts.into_iter().find(|part| VAGUE_NAMES.contains(part)) {
        None => Vec::new(),
        Some(part) => vec![source.finding(0, format!("`{part}` is not descriptive; name the file after its content"))],
    }
}

/// rustfmt does not check these in comments and strings.
pub(crate) fn has_no_tabs_or_trailing_space(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().enumerate();
    let found = lines.filter(|(_, line)| line.contains('\t') || line.ends_with(char::is_whitespace));
    found.map(|(index, _)| source.finding(index + 1, "a tab or trailing space")).collect()
}

fn head(source: &Source) -> impl Iterator<Item = &str> {
    source.text.lines().take_while(|line| line.starts_with("//!"))
}

fn named<'a>(line: &str, words: &[&'a str]) -> Option<&'a str> {
    words.iter().find(|word| names(line, word)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        rule(&Source::new(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_module_without_a_contract_is_found() {
        assert_eq!(lines(opens_with_a_contract, "a.rs", "use std::fmt;\n"), [1]);
        assert_eq!(lines(opens_with_a_contract, "a.rs", ""), [1]);
        assert!(lines(opens_with_a_contract, "a.rs", "//! A contract.\n").is_empty());
    }

    #[test]
    fn a_long_file_without_an_explanation_is_found() {
        let long = "//! A contract.\n".to_owned() + &"fn f() {}\n".repeat(LONGEST);
        assert_eq!(lines(is_short_or_explains_why_not, "a.rs", &long), [0]);
        let reasoned = format!("//! A contract.\n{REASON} it is a table.\n{long}");
        assert!(lines(is_short_or_explains_why_not, "a.rs", &reasoned).is_empty());
        let tested = "//! A contract.\n#[cfg(test)]\nmod tests {\n".to_owned() + &"    fn f() {}\n".repeat(LONGEST);
        assert!(lines(is_short_or_explains_why_not, "a.rs", &tested).is_empty());
    }

    #[test]
    fn a_long_main_is_found() {
        let long = "fn f() {}\n".repeat(LONGEST_MAIN);
        assert_eq!(lines(main_is_thin, "host/src/main.rs", &long), [0]);
        assert!(lines(main_is_thin, "host/src/lib.rs", &long).is_empty());
    }

    #[test]
    fn markers_of_unfinished_work_are_found_in_comments_and_code() {
        let text = "// TODO: more\nfn f() { todo!() }\nlet x = \"TODO\";\n";
        assert_eq!(lines(has_no_unfinished_work, "a.rs", text), [1, 2]);
    }

    #[test]
    fn an_ignored_test_is_found() {
        let text = "#[cfg(test)]\nmod tests {\n    #[test]\n    #[ignore = \"slow\"]\n    fn f() {}\n}\n";
        assert_eq!(lines(ignores_no_test, "a.rs", text), [4]);
    }

    #[test]
    fn a_sleep_in_a_test_is_found() {
        let text = "tokio::time::sleep(x).await;\n";
        assert_eq!(lines(sleeps_in_no_test, "host/tests/swap.rs", text), [1]);
        assert!(lines(sleeps_in_no_test, "host/src/swap.rs", text).is_empty());
    }

    #[test]
    fn a_vague_name_is_found() {
        assert_eq!(lines(has_a_descriptive_name, "host/src/utils.rs", ""), [0]);
        assert_eq!(lines(has_a_descriptive_name, "host/tests/common/mod.rs", ""), [0]);
        assert!(lines(has_a_descriptive_name, "host/src/routes.rs", "").is_empty());
    }

    #[test]
    fn tabs_and_trailing_space_are_found() {
        assert_eq!(lines(has_no_tabs_or_trailing_space, "a.rs", "fn f() {} \n\t// a\nok\n"), [1, 2]);
    }
}
