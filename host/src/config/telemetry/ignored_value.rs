//! A value of the environment that is of no use and counts as not set, as it is told.

use std::fmt::{self, Display};

/// The longest value that a warning shows.
const SHOWN: usize = 64;

/// A value that counts as not set. Shown whole, it names the variable, the value where that can be no secret, what is
/// accepted, and what holds instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    name: String,
    value: String,
    help: String,
    instead: String,
}

impl Ignored {
    /// A value that may be shown if it looks like a word or a number.
    pub(super) fn value(name: &str, value: &str, help: &str, instead: impl Display) -> Ignored {
        let value = if is_plain(value) { value } else { "(not shown)" };
        Ignored { name: name.to_owned(), value: value.to_owned(), help: help.to_owned(), instead: instead.to_string() }
    }

    /// A value that is never shown.
    pub(super) fn hidden(name: &str, help: &str, instead: impl Display) -> Ignored {
        Ignored {
            name: name.to_owned(),
            value: "(not shown)".to_owned(),
            help: help.to_owned(),
            instead: instead.to_string(),
        }
    }
}

impl Display for Ignored {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ignored { name, value, help, instead } = self;
        write!(formatter, "ignored: {name}={value}; {help}; used instead: {instead}")
    }
}

/// Whether a value has the form of the words and numbers that the variables take. URLs and pairs may hold secrets.
fn is_plain(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-+./, ".contains(&byte);
    value.len() <= SHOWN && value.bytes().all(plain)
}
