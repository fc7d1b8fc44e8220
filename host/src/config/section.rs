//! Typed access to the manifest's tables: expands `${...}` and reports every error with its line and column.
//!
//! The reader collects errors where they are found and fails at the end if there are any. Callers can continue without a
//! value to find further errors.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::environment::Environment;
use super::error::ConfigError;
use super::expand::expand;
use super::nearest::nearest;
use super::quantity::{DURATION_HELP, SIZE_HELP, duration, size};

type Value<'a> = Spanned<DeValue<'a>>;
pub(super) type Result<T, E = Reported> = std::result::Result<T, E>;

/// Marks that an error has been reported to the reader.
#[derive(Debug)]
pub(super) struct Reported;

/// A text with its byte range in the manifest.
pub(super) type SpannedText = (String, Range<usize>);

/// The manifest being parsed, the environment for `${...}`, and the errors found so far.
pub(super) struct Reader<'a> {
    pub text: &'a str,
    pub manifest: &'a Path,
    /// The folder that relative paths are relative to.
    pub base: &'a Path,
    pub environment: &'a Environment,
    /// Errors with their byte offsets in the manifest.
    errors: RefCell<Vec<(usize, ConfigError)>>,
}

/// One table of the manifest.
pub(super) struct Section<'a> {
    pub reader: &'a Reader<'a>,
    /// Its header, for messages.
    pub name: &'static str,
    /// `None` if the manifest does not contain it.
    pub table: Option<&'a DeTable<'a>>,
    pub span: Range<usize>,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str, manifest: &'a Path, environment: &'a Environment) -> Reader<'a> {
        let base = manifest.parent().unwrap_or(Path::new(""));
        Reader { text, manifest, base, environment, errors: RefCell::default() }
    }

    /// Returns `read`, or all reported errors in the order of the manifest.
    pub fn finish<T>(self, read: Result<T>) -> Result<T, ConfigError> {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|(offset, _)| *offset);
        let errors = errors.into_iter().map(|(_, error)| error).collect();
        match (read, ConfigError::combine(errors)) {
            (Ok(read), None) => Ok(read),
            (_, Some(error)) => Err(error),
            (Err(Reported), None) => Err(ConfigError::Several(Vec::new())),
        }
    }

    /// Reports an error that is not in the manifest.
    pub fn report(&self, error: ConfigError) -> Reported {
        self.errors.borrow_mut().push((0, error));
        Reported
    }

    pub fn error(&self, span: Range<usize>, problem: String, help: &str) -> Reported {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let error = ConfigError::Manifest {
            manifest: self.manifest.display().to_string(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            problem,
            help: help.to_owned(),
        };
        self.errors.borrow_mut().push((span.start, error));
        Reported
    }

    pub fn expand(&self, text: &str, span: Range<usize>) -> Result<String> {
        expand(text, self.environment).map_err(|error| self.error(span, error.to_string(), &error.help()))
    }

    pub fn table(&'a self, value: &'a Value<'a>, name: &'static str) -> Result<Section<'a>> {
        match value.get_ref().as_table() {
            Some(table) => Ok(Section { reader: self, name, table: Some(table), span: value.span() }),
            None => Err(self.error(
                value.span(),
                format!("{name} is not a table"),
                &format!("write `{name}` on a line of its own"),
            )),
        }
    }
}

impl<'a> Section<'a> {
    pub fn get(&self, key: &str) -> Option<&'a Value<'a>> {
        self.table?.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    /// A nested table; an empty one if the manifest does not contain it.
    pub fn section(&self, key: &str, name: &'static str) -> Result<Section<'a>> {
        match self.get(key) {
            Some(value) => self.reader.table(value, name),
            None => Ok(Section { reader: self.reader, name, table: None, span: self.span.clone() }),
        }
    }

    /// Reports keys other than `known`, with the most similar known key.
    pub fn allow_keys(&self, known: &[&str]) {
        for (key, _) in self.table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let help = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys here are {}", known.join(", ")),
            };
            self.reader.error(key.span(), format!("unknown key `{name}` in {}", self.name), &help);
        }
    }

    /// Reports an error at the value of a key, or at the table if the key is missing.
    pub fn error(&self, key: &str, problem: String, help: &str) -> Reported {
        let span = self.get(key).map_or_else(|| self.span.clone(), Spanned::span);
        self.reader.error(span, problem, help)
    }

    fn wrong_type(&self, key: &str, value: &Value<'_>, expected: &str) -> Reported {
        let problem = format!("`{key}` in {} is of type {}, not {expected}", self.name, value.get_ref().type_str());
        self.reader.error(value.span(), problem, &format!("write `{key}` as {expected}"))
    }

    pub fn required<T>(&self, value: Option<T>, key: &str, example: &str) -> Result<T> {
        value.ok_or_else(|| {
            self.reader.error(self.span.clone(), format!("{} has no `{key}`", self.name), &format!("add `{example}`"))
        })
    }

    pub fn text(&self, key: &str) -> Result<Option<SpannedText>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref().as_str() {
            Some(text) => Ok(Some((self.reader.expand(text, value.span())?, value.span()))),
            None => Err(self.wrong_type(key, value, "a string in quotes")),
        }
    }

    pub fn texts(&self, key: &str) -> Result<Option<Vec<SpannedText>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Some(values) = value.get_ref().as_array() else {
            return Err(self.wrong_type(key, value, "a list of strings"));
        };
        let text = |value: &Value<'_>| match value.get_ref().as_str() {
            Some(text) => Ok((self.reader.expand(text, value.span())?, value.span())),
            None => Err(self.wrong_type(key, value, "a list of strings")),
        };
        all(values.iter().map(text)).map(Some)
    }

    /// A list of texts, or a single text as a list of one.
    pub fn one_or_more(&self, key: &str) -> Result<Option<Vec<SpannedText>>> {
        match self.get(key) {
            Some(value) if value.get_ref().is_str() => Ok(self.text(key)?.map(|text| vec![text])),
            _ => self.texts(key),
        }
    }

    /// A path. Relative paths are relative to the manifest's folder.
    pub fn path(&self, key: &str) -> Result<Option<PathBuf>> {
        Ok(self.text(key)?.map(|(path, _)| self.reader.base.join(path)))
    }

    pub fn address(&self, key: &str) -> Result<Option<SocketAddr>> {
        let Some((text, span)) = self.text(key)? else { return Ok(None) };
        let parsed = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}").parse(),
            None => text.parse(),
        };
        parsed.map(Some).map_err(|_| {
            let help = "write an IP address and a port, as in \"127.0.0.1:8001\" or \"[::1]:8001\"";
            self.reader.error(span, format!("`{text}` is not a valid listen address"), help)
        })
    }

    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.get_ref().as_bool().map(Some).ok_or_else(|| self.wrong_type(key, value, "true or false"))
    }

    pub fn duration(&self, key: &str) -> Result<Option<Duration>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = match value.get_ref() {
            DeValue::String(text) => self.reader.expand(text, value.span())?,
            DeValue::Integer(number) => number.to_string(),
            _ => return Err(self.wrong_type(key, value, "a duration in quotes")),
        };
        let problem = || format!("`{key}` is `{text}`, which is not a valid duration");
        duration(&text).map(Some).ok_or_else(|| self.reader.error(value.span(), problem(), DURATION_HELP))
    }

    /// A size: a string with a unit, or a number of bytes.
    pub fn size(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let (bytes, text) = match value.get_ref() {
            DeValue::String(text) => {
                let text = self.reader.expand(text, value.span())?;
                (size(&text), text)
            }
            DeValue::Integer(number) => (whole(number), number.to_string()),
            _ => return Err(self.wrong_type(key, value, "a size")),
        };
        let problem = || format!("`{key}` is `{text}`, which is not a valid size");
        bytes.map(Some).ok_or_else(|| self.reader.error(value.span(), problem(), SIZE_HELP))
    }

    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Some(number) = value.get_ref().as_integer() else {
            return Err(self.wrong_type(key, value, "a whole number"));
        };
        let problem = || format!("`{key}` is `{number}`, which is not a valid count");
        let count = whole(number).and_then(|number| usize::try_from(number).ok());
        count.map(Some).ok_or_else(|| self.reader.error(value.span(), problem(), "write a whole number above 0"))
    }

    pub fn ratio(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = match value.get_ref() {
            DeValue::Float(number) => number.to_string(),
            DeValue::Integer(number) => number.to_string(),
            _ => return Err(self.wrong_type(key, value, "a number from 0 to 1")),
        };
        let problem = || format!("`{key}` is {text}, which is not a valid share");
        let ratio = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
        ratio.map(Some).ok_or_else(|| self.reader.error(value.span(), problem(), "write a number from 0 to 1"))
    }
}

/// Collects a list. All items are parsed, so that the errors of all of them are reported.
pub(super) fn all<T>(read: impl Iterator<Item = Result<T>>) -> Result<Vec<T>> {
    read.collect::<Vec<_>>().into_iter().collect()
}

/// Parses an integer in any of TOML's bases. `None` if it is negative or too large.
fn whole(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}
