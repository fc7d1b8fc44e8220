//! Expands `${NAME}` and `${NAME:-default}` in strings of the manifest. `$$` is a dollar sign, as is `$` before any other
//! character. An empty variable counts as unset. Defaults cannot contain variables.

use thiserror::Error;

use super::environment::Environment;

/// An invalid variable in a string.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum ExpandError {
    /// The closing brace is missing.
    #[error("`${{` has no closing brace")]
    Unclosed,
    /// The text in braces cannot be the name of a variable.
    #[error("`${{{0}}}` is not a valid environment variable")]
    InvalidName(String),
    /// The default contains a variable.
    #[error("the default of `{0}` contains another variable")]
    Nested(String),
    /// The variable is unset and has no default.
    #[error("the environment variable {0} is not set, or is empty")]
    NotSet(String),
    /// The value of the variable is not valid UTF-8.
    #[error("the environment variable {0} is not valid UTF-8")]
    NotUtf8(String),
}

impl ExpandError {
    /// The remedy.
    pub fn help(&self) -> String {
        match self {
            ExpandError::Unclosed | ExpandError::InvalidName(_) => {
                "write `${NAME}`, `${NAME:-default}`, or `$$` for a dollar sign".to_owned()
            }
            ExpandError::NotUtf8(name) => format!("encode {name} in UTF-8"),
            ExpandError::Nested(_) => "write the default as plain text".to_owned(),
            ExpandError::NotSet(name) => format!("set {name}, or add a default: `${{{name}:-default}}`"),
        }
    }
}

/// Replaces all variables in the text.
pub(super) fn expand(text: &str, environment: &Environment) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = if let Some(after) = after.strip_prefix('{') {
            let (inside, after) = after.split_once('}').ok_or(ExpandError::Unclosed)?;
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
        return Err(ExpandError::InvalidName(inside.to_owned()));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(ExpandError::Nested(name.to_owned()));
    }
    if environment.is_non_utf8(name) {
        return Err(ExpandError::NotUtf8(name.to_owned()));
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
    fn invalid_and_unset_variables_are_errors() {
        let environment = Environment::from_pairs([("EMPTY", "")]);
        let check = |text: &str, expected: &str, help: &str| {
            let error = expand(text, &environment).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.help().contains(help)), (expected, true), "{text}");
        };
        check("${NONE}", "the environment variable NONE is not set, or is empty", "set NONE, or add");
        check("${EMPTY}", "the environment variable EMPTY is not set, or is empty", "`${EMPTY:-default}`");
        check("${NONE", "`${` has no closing brace", "`$$`");
        check("${}", "`${}` is not a valid environment variable", "`${NAME}`");
        check("${A-b}", "`${A-b}` is not a valid environment variable", "`${NAME:-default}`");
        check("${1A}", "`${1A}` is not a valid environment variable", "`${NAME}`");
        check("${A:-${B}}", "the default of `A` contains another variable", "plain text");
    }
}
