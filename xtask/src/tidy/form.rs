//! Rules for the form of every file.

use super::finding::Finding;
use super::source::{Source, names};

/// The most lines of a file without its tests, unless its head says why it needs more.
const LONGEST: usize = 500;
const REASON: &str = "//! Long because:";

const LONGEST_MAIN: usize = 80;

const LATER_COMMENTS: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];
const LATER_CODE: [&str; 2] = ["todo!", "unimplemented!"];

/// File names that say nothing about the content.
const EMPTY_NAMES: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];

/// Tests that must sleep, each with the reason.
const SLEEPERS: [(&str, &str); 2] = [
    ("host/src/trace/otlp/tests/collector.rs", "polls with a deadline; the kit's own poll is out of its reach"),
    ("host/src/trace/otlp/tests/delivery.rs", "polls with a deadline; the kit's own poll is out of its reach"),
];

/// Every module starts with its contract.
pub(crate) fn opens_with_a_contract(source: &Source) -> Vec<Finding> {
    let first = source.text.lines().find(|line| !line.trim().is_empty());
    match first {
        Some(line) if line.starts_with("//! ") => Vec::new(),
        _ => vec![source.finding(1, "open the module with a few lines of `//!` that say what it is for")],
    }
}

/// A file can be read in one go, or says at its head why not.
pub(crate) fn is_short_or_says_why_not(source: &Source) -> Vec<Finding> {
    let length = source.length();
    if source.is_test() || length <= LONGEST || head(source).any(|line| line.starts_with(REASON)) {
        return Vec::new();
    }
    let message = format!("{length} lines without tests; split it at {LONGEST}, or say at the head `{REASON} ...`");
    vec![source.finding(0, message)]
}

/// `main` parses, starts and waits; what it starts is in the library, where tests can reach it.
pub(crate) fn main_is_thin(source: &Source) -> Vec<Finding> {
    let length = source.length();
    if !source.path.ends_with("src/main.rs") || length < LONGEST_MAIN {
        return Vec::new();
    }
    vec![source.finding(0, format!("{length} lines; main stays under {LONGEST_MAIN}"))]
}

/// Unfinished work is not marked in the code.
pub(crate) fn leaves_nothing_for_later(source: &Source) -> Vec<Finding> {
    let comments = source.comments().filter_map(|(number, line)| Some((number, named(line, &LATER_COMMENTS)?)));
    let code = source.code().chain(source.test_code());
    let code = code.filter_map(|(number, line)| Some((number, named(line, &LATER_CODE)?)));
    let message = |word: &str| format!("`{word}`: do it now, or leave it out");
    comments.chain(code).map(|(line, word)| source.finding(line, message(word))).collect()
}

/// Ignored tests are not allowed.
pub(crate) fn ignores_no_test(source: &Source) -> Vec<Finding> {
    let all = source.code().chain(source.test_code());
    let found = all.filter(|(_, line)| line.trim_start().starts_with("#[ignore"));
    found.map(|(line, _)| source.finding(line, "run the test or remove it; none is ignored")).collect()
}

/// A sleep is either too short on a slow machine or too long on a fast one: wait for a condition instead.
pub(crate) fn sleeps_in_no_test(source: &Source) -> Vec<Finding> {
    if SLEEPERS.iter().any(|(path, _)| source.path == *path) {
        return Vec::new();
    }
    let found = source.test_code().filter(|(_, line)| names(line, "sleep("));
    found.map(|(line, _)| source.finding(line, "poll with a deadline instead of sleeping")).collect()
}

/// A file is named after its content.
pub(crate) fn has_a_telling_name(source: &Source) -> Vec<Finding> {
    let parts = source.path.split('/').map(|part| part.trim_end_matches(".rs"));
    match parts.into_iter().find(|part| EMPTY_NAMES.contains(part)) {
        None => Vec::new(),
        Some(part) => vec![source.finding(0, format!("`{part}` says nothing; name the file by what it holds"))],
    }
}

/// rustfmt does not check these in comments and strings.
pub(crate) fn has_no_tabs_or_trailing_space(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().enumerate();
    let found = lines.filter(|(_, line)| line.contains('\t') || line.ends_with(char::is_whitespace));
    found.map(|(index, _)| source.finding(index + 1, "a tab, or space at the end of the line")).collect()
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
    fn a_long_file_has_to_say_why() {
        let long = "//! A contract.\n".to_owned() + &"fn f() {}\n".repeat(LONGEST);
        assert_eq!(lines(is_short_or_says_why_not, "a.rs", &long), [0]);
        let reasoned = format!("//! A contract.\n{REASON} it is a table.\n{long}");
        assert!(lines(is_short_or_says_why_not, "a.rs", &reasoned).is_empty());
        let tested = "//! A contract.\n#[cfg(test)]\nmod tests {\n".to_owned() + &"    fn f() {}\n".repeat(LONGEST);
        assert!(lines(is_short_or_says_why_not, "a.rs", &tested).is_empty());
    }

    #[test]
    fn a_thick_main_is_found() {
        let thick = "fn f() {}\n".repeat(LONGEST_MAIN);
        assert_eq!(lines(main_is_thin, "host/src/main.rs", &thick), [0]);
        assert!(lines(main_is_thin, "host/src/lib.rs", &thick).is_empty());
    }

    #[test]
    fn notes_for_later_are_found_in_comments_and_code() {
        let text = "// TODO: more\nfn f() { todo!() }\nlet x = \"TODO\";\n";
        assert_eq!(lines(leaves_nothing_for_later, "a.rs", text), [1, 2]);
    }

    #[test]
    fn an_ignored_test_is_found() {
        let text = "#[cfg(test)]\nmod tests {\n    #[test]\n    #[ignore = \"slow\"]\n    fn f() {}\n}\n";
        assert_eq!(lines(ignores_no_test, "a.rs", text), [4]);
    }

    #[test]
    fn a_sleep_counts_in_tests_only() {
        let text = "tokio::time::sleep(x).await;\n";
        assert_eq!(lines(sleeps_in_no_test, "host/tests/swap.rs", text), [1]);
        assert!(lines(sleeps_in_no_test, "host/src/swap.rs", text).is_empty());
    }

    #[test]
    fn a_name_that_says_nothing_is_found() {
        assert_eq!(lines(has_a_telling_name, "host/src/utils.rs", ""), [0]);
        assert_eq!(lines(has_a_telling_name, "host/tests/common/mod.rs", ""), [0]);
        assert!(lines(has_a_telling_name, "host/src/routes.rs", "").is_empty());
    }

    #[test]
    fn tabs_and_trailing_space_are_found() {
        assert_eq!(lines(has_no_tabs_or_trailing_space, "a.rs", "fn f() {} \n\t// a\nok\n"), [1, 2]);
    }
}
