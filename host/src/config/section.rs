//! Typed reading of the manifest's tables: `${...}` replaced, and every error with its line and column.
//!
//! An error is noted where it is found, and reading fails in the end where any was. So whoever reads may go on without a
//! value, to find what else is wrong.

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
pub(super) type Result<T, E = Noted> = std::result::Result<T, E>;

/// An error that the reader has noted.
#[derive(Debug)]
pub(super) struct Noted;

/// A text and where it stands.
pub(super) type Placed = (String, Range<usize>);

/// What every step needs: the text for line numbers, and the environment for `${...}`.
pub(super) struct Reader<'a> {
    pub text: &'a str,
    pub manifest: &'a Path,
    /// Where relative paths start.
    pub base: &'a Path,
    pub environment: &'a Environment,
    /// What is wrong, with the byte that it stands at.
    errors: RefCell<Vec<(usize, ConfigError)>>,
}

/// One table of the manifest.
pub(super) struct Section<'a> {
    pub reader: &'a Reader<'a>,
    /// Its header, for messages.
    pub name: &'static str,
    /// None where the manifest does not have it.
    pub table: Option<&'a DeTable<'a>>,
    pub place: Range<usize>,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str, manifest: &'a Path, environment: &'a Environment) -> Reader<'a> {
        let base = manifest.parent().unwrap_or(Path::new(""));
        Reader { text, manifest, base, environment, errors: RefCell::default() }
    }

    /// What was read, or everything that is wrong, in the order of the manifest.
    pub fn finish<T>(self, read: Result<T>) -> Result<T, ConfigError> {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|(place, _)| *place);
        let errors = errors.into_iter().map(|(_, error)| error).collect();
        match (read, ConfigError::of_all(errors)) {
            (Ok(read), None) => Ok(read),
            (_, Some(error)) => Err(error),
            (Err(Noted), None) => Err(ConfigError::Several(Vec::new())),
        }
    }

    /// Notes an error that is none of the manifest's.
    pub fn note(&self, error: ConfigError) -> Noted {
        self.errors.borrow_mut().push((0, error));
        Noted
    }

    pub fn error(&self, place: Range<usize>, problem: String, help: &str) -> Noted {
        let before = self.text.get(..place.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let error = ConfigError::Manifest {
            manifest: self.manifest.display().to_string(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            problem,
            help: help.to_owned(),
        };
        self.errors.borrow_mut().push((place.start, error));
        Noted
    }

    pub fn expand(&self, text: &str, place: Range<usize>) -> Result<String> {
        expand(text, self.environment).map_err(|error| self.error(place, error.to_string(), &error.help()))
    }

    pub fn table(&'a self, value: &'a Value<'a>, name: &'static str) -> Result<Section<'a>> {
        match value.get_ref().as_table() {
            Some(table) => Ok(Section { reader: self, name, table: Some(table), place: value.span() }),
            None => Err(self.error(
                value.span(),
                format!("{name} is no table"),
                &format!("write `{name}` on a line of its own"),
            )),
        }
    }
}

impl<'a> Section<'a> {
    pub fn get(&self, key: &str) -> Option<&'a Value<'a>> {
        self.table?.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    /// A table in this one; an empty one where it is not there.
    pub fn section(&self, key: &str, name: &'static str) -> Result<Section<'a>> {
        match self.get(key) {
            Some(value) => self.reader.table(value, name),
            None => Ok(Section { reader: self.reader, name, table: None, place: self.place.clone() }),
        }
    }

    /// Refuses keys that mean nothing, and names the nearest that does.
    pub fn only(&self, known: &[&str]) {
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

    /// An error at the value of a key, or at the section where the key is not there.
    pub fn error(&self, key: &str, problem: String, help: &str) -> Noted {
        let place = self.get(key).map_or_else(|| self.place.clone(), Spanned::span);
        self.reader.error(place, problem, help)
    }

    fn wrong_type(&self, key: &str, value: &Value<'_>, expected: &str) -> Noted {
        let problem = format!("`{key}` in {} is of type {}, not {expected}", self.name, value.get_ref().type_str());
        self.reader.error(value.span(), problem, &format!("write `{key}` as {expected}"))
    }

    pub fn required<T>(&self, value: Option<T>, key: &str, example: &str) -> Result<T> {
        value.ok_or_else(|| {
            self.reader.error(self.place.clone(), format!("{} has no `{key}`", self.name), &format!("add `{example}`"))
        })
    }

    pub fn text(&self, key: &str) -> Result<Option<Placed>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref().as_str() {
            Some(text) => Ok(Some((self.reader.expand(text, value.span())?, value.span()))),
            None => Err(self.wrong_type(key, value, "a string in quotes")),
        }
    }

    pub fn texts(&self, key: &str) -> Result<Option<Vec<Placed>>> {
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

    /// A list of texts, or one text in its place.
    pub fn one_or_more(&self, key: &str) -> Result<Option<Vec<Placed>>> {
        match self.get(key) {
            Some(value) if value.get_ref().is_str() => Ok(self.text(key)?.map(|text| vec![text])),
            _ => self.texts(key),
        }
    }

    /// Relative paths start at the manifest's folder.
    pub fn path(&self, key: &str) -> Result<Option<PathBuf>> {
        Ok(self.text(key)?.map(|(path, _)| self.reader.base.join(path)))
    }

    pub fn address(&self, key: &str) -> Result<Option<SocketAddr>> {
        let Some((text, place)) = self.text(key)? else { return Ok(None) };
        let parsed = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}").parse(),
            None => text.parse(),
        };
        parsed.map(Some).map_err(|_| {
            let help = "write an IP address and a port, as in \"127.0.0.1:8001\" or \"[::1]:8001\"";
            self.reader.error(place, format!("`{text}` is no address to listen on"), help)
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
        let problem = || format!("`{key}` is `{text}`, which is no duration");
        duration(&text).map(Some).ok_or_else(|| self.reader.error(value.span(), problem(), DURATION_HELP))
    }

    /// A size is a string with a unit, or a number of bytes.
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
        let problem = || format!("`{key}` is `{text}`, which is no size");
        bytes.map(Some).ok_or_else(|| self.reader.error(value.span(), problem(), SIZE_HELP))
    }

    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Some(number) = value.get_ref().as_integer() else {
            return Err(self.wrong_type(key, value, "a whole number"));
        };
        let problem = || format!("`{key}` is `{number}`, which is no count");
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
        let problem = || format!("`{key}` is {text}, which is no share");
        let ratio = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
        ratio.map(Some).ok_or_else(|| self.reader.error(value.span(), problem(), "write a number from 0 to 1"))
    }
}

/// What was read of a list. All of it is looked at, whatever is wrong with a part.
pub(super) fn all<T>(read: impl Iterator<Item = Result<T>>) -> Result<Vec<T>> {
    read.collect::<Vec<_>>().into_iter().collect()
}

/// A number in any of TOML's bases, unless it is negative or too large.
fn whole(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}
