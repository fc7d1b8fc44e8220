//! `${NAME}` and `${NAME:-default}` in the manifest's strings; `$$` stands for a dollar sign, and so does a dollar sign
//! that is followed by anything else. A variable that is empty counts as not set. Defaults do not nest.

use thiserror::Error;

use super::environment::Environment;

/// What is wrong with a variable in a string.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum ExpandError {
    /// It has a beginning only.
    #[error("`${{` has no closing brace")]
    Open,
    /// What stands in the braces cannot be a variable.
    #[error("`${{{0}}}` names no environment variable")]
    NoName(String),
    /// The default would have to be expanded too.
    #[error("the default of `{0}` holds another variable")]
    Nested(String),
    /// Nothing says what it is.
    #[error("the environment variable {0} is not set, or is empty")]
    NotSet(String),
    /// What it is cannot be read.
    #[error("the environment variable {0} holds bytes that are no text")]
    NoText(String),
}

impl ExpandError {
    /// What to do.
    pub fn help(&self) -> String {
        match self {
            ExpandError::Open | ExpandError::NoName(_) => {
                "write `${NAME}`, `${NAME:-default}`, or `$$` for a dollar sign".to_owned()
            }
            ExpandError::NoText(name) => format!("write {name} in UTF-8"),
            ExpandError::Nested(_) => "write the default as plain text".to_owned(),
            ExpandError::NotSet(name) => format!("set {name}, or give a default: `${{{name}:-default}}`"),
        }
    }
}

/// The text with every variable replaced.
pub(super) fn expand(text: &str, environment: &Environment) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = if let Some(after) = after.strip_prefix('{') {
            let (inside, after) = after.split_once('}').ok_or(ExpandError::Open)?;
            expanded.push_str(value(inside, environment)?);
            after
        } else {
            expanded.push('$');
            after.strip_prefix('$').unwrap_or(after)
        };
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn value<'a>(inside: &'a str, environment: &'a Environment) -> Result<&'a str, ExpandError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_name(name) {
        return Err(ExpandError::NoName(inside.to_owned()));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(ExpandError::Nested(name.to_owned()));
    }
    if environment.is_no_text(name) {
        return Err(ExpandError::NoText(name.to_owned()));
    }
    environment.get(name).or(default).ok_or_else(|| ExpandError::NotSet(name.to_owned()))
}

fn is_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !text.is_empty() && text.bytes().all(good) && !text.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced() {
        let environment = Environment::from_pairs([("HOST", "example"), ("EMPTY", ""), ("MONEY", "$${HOST}")]);
        let check = |text: &str, expected: &str| assert_eq!(expand(text, &environment).unwrap(), expected, "{text}");
        check("http://${HOST}:1", "http://example:1");
        check("${NONE:-a}${EMPTY:-b}${HOST:-c}", "abexample");
        check("[${NONE:-}]", "[]");
        check("${NONE:-http://a:1/?b=:-c}", "http://a:1/?b=:-c");
        check("cost: $$5 $x 3$", "cost: $5 $x 3$");
        check("$${HOST} $$${HOST}", "${HOST} $example");
        check("${MONEY}", "$${HOST}");
        check("", "");
    }

    #[test]
    fn what_cannot_be_replaced_is_an_error() {
        let environment = Environment::from_pairs([("EMPTY", "")]);
        let check = |text: &str, expected: &str, help: &str| {
            let error = expand(text, &environment).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.help().contains(help)), (expected, true), "{text}");
        };
        check("${NONE}", "the environment variable NONE is not set, or is empty", "set NONE, or give");
        check("${EMPTY}", "the environment variable EMPTY is not set, or is empty", "`${EMPTY:-default}`");
        check("${NONE", "`${` has no closing brace", "`$$`");
        check("${}", "`${}` names no environment variable", "`${NAME}`");
        check("${A-b}", "`${A-b}` names no environment variable", "`${NAME:-default}`");
        check("${1A}", "`${1A}` names no environment variable", "`${NAME}`");
        check("${A:-${B}}", "the default of `A` holds another variable", "plain text");
    }
}
