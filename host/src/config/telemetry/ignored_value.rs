//! An invalid value of the environment that counts as unset, as shown in warnings.

use std::fmt::{self, Display};

/// The longest value that a warning shows.
const MAX_SHOWN: usize = 64;

/// An invalid value that counts as unset. Its text contains the variable, the value unless it may be a secret, the
/// accepted values, and the value used instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    name: String,
    value: String,
    help: String,
    instead: String,
}

impl Ignored {
    /// A value that is shown if it consists of words and numbers.
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

/// Whether a value consists of words and numbers. URLs and key-value pairs may contain secrets.
fn is_plain(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-+./, ".contains(&byte);
    value.len() <= MAX_SHOWN && value.bytes().all(plain)
}
