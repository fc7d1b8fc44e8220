//! From the manifest's text to a [`Config`]: every key known, every value checked, every error with its place.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::error::ConfigError;
use super::expand::expand;
use super::quantity::{DURATION_HELP, SIZE_HELP, duration, size};
use super::telemetry;
use super::types::{
    Bind, Config, ConsoleConfig, DEFAULT_VERSION, Isolation, Limits, Origin, Outbound, ServiceConfig, ServiceName,
    StateConfig, SwapConfig,
};
use crate::trace::Keep;

/// Where the console listens when the manifest does not say.
const CONSOLE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8010);

type Value<'a> = Spanned<DeValue<'a>>;
type Result<T, E = ConfigError> = std::result::Result<T, E>;

/// A text and where it stands.
type Placed = (String, Range<usize>);

/// What every step needs: the text for line numbers, and the environment for `${...}`.
struct Reader<'a> {
    text: &'a str,
    manifest: &'a Path,
    environment: &'a Environment,
}

/// One table of the manifest.
struct Section<'a> {
    reader: &'a Reader<'a>,
    name: &'static str,
    table: Option<&'a DeTable<'a>>,
    place: Range<usize>,
}

pub(super) fn read(text: &str, manifest: &Path, environment: &Environment) -> Result<Config> {
    let reader = Reader { text, manifest, environment };
    let parsed = DeTable::parse(text).map_err(|error| {
        let problem = error.message().to_owned();
        reader.error(error.span().unwrap_or(0..0), problem, "the manifest is TOML (https://toml.io)")
    })?;
    let place = parsed.span();
    let table = parsed.get_ref();
    let root = Section { reader: &reader, name: "the manifest", table: Some(table), place };
    root.only(&["console", "state", "telemetry", "swap", "service"])?;
    let console = console(&root.section("console", "[console]")?, environment)?;
    let mut telemetry_settings = telemetry::settings(environment)?;
    telemetry_settings.keep = keep(&root.section("telemetry", "[telemetry]")?)?;
    let config = Config {
        manifest: manifest.to_owned(),
        state: state(&root.section("state", "[state]")?)?,
        swap: swap(&root.section("swap", "[swap]")?)?,
        services: services(&root, console.listen)?,
        console,
        telemetry: telemetry_settings,
        resource: telemetry::resource(environment)?,
        bind: Bind::Declared,
        cache_dir: environment.cache_dir(),
    };
    Ok(config)
}

fn console(section: &Section<'_>, environment: &Environment) -> Result<ConsoleConfig> {
    section.only(&["listen"])?;
    let listen = match section.text("listen")? {
        None => Some(CONSOLE),
        Some((text, _)) if text == "off" => None,
        Some(_) => section.address("listen")?,
    };
    let admin_token = environment.admin_token();
    if let Some(address) = listen
        && !address.ip().is_loopback()
        && admin_token.is_none()
    {
        let problem = format!("the console would listen on {address}, where others can reach it, without a token");
        return Err(section.error("listen", problem, "set SPANDREL_ADMIN_TOKEN, or listen on 127.0.0.1"));
    }
    Ok(ConsoleConfig { listen, admin_token })
}

fn state(section: &Section<'_>) -> Result<StateConfig> {
    section.only(&["backend", "path"])?;
    let Some((backend, _)) = section.text("backend")? else {
        return match section.get("path") {
            Some(_) => Err(section.error(
                "path",
                "`path` is given, but no backend that writes it".to_owned(),
                "add `backend = \"redb\"`",
            )),
            None => Ok(StateConfig::Memory),
        };
    };
    match backend.as_str() {
        "memory" => Ok(StateConfig::Memory),
        "redb" => match section.path("path")? {
            Some(path) => Ok(StateConfig::Redb { path }),
            None => Err(section.error(
                "backend",
                "`backend = \"redb\"` needs a file".to_owned(),
                "add `path = \"data/state.redb\"`",
            )),
        },
        other => Err(section.error("backend", format!("`{other}` is no backend"), "write \"memory\" or \"redb\"")),
    }
}

fn swap(section: &Section<'_>) -> Result<SwapConfig> {
    section.only(&["watch", "guard", "drain"])?;
    let standard = SwapConfig::default();
    Ok(SwapConfig {
        watch: section.boolean("watch")?.unwrap_or(standard.watch),
        guard: section.duration("guard")?.unwrap_or(standard.guard),
        drain: section.duration("drain")?.unwrap_or(standard.drain),
        keep: standard.keep,
    })
}

fn keep(section: &Section<'_>) -> Result<Option<Keep>> {
    section.only(&["keep", "keep_rate"])?;
    let rate = section.ratio("keep_rate")?;
    let Some(rules) = section.texts("keep")?.filter(|rules| !rules.is_empty()) else {
        return match rate {
            Some(_) => {
                let help = "add `keep = [\"errors\"]`, or set OTEL_TRACES_SAMPLER to keep a share of all traces";
                Err(section.error(
                    "keep_rate",
                    "`keep_rate` is the share of the rest, but `keep` names nothing".to_owned(),
                    help,
                ))
            }
            None => Ok(None),
        };
    };
    let mut keep = Keep { errors: false, slower_than: None, rate: rate.unwrap_or(0.0) };
    for (rule, place) in rules {
        match rule.strip_prefix("slower than ").map(duration) {
            None if rule == "errors" => keep.errors = true,
            Some(Some(limit)) => keep.slower_than = Some(limit),
            _ => {
                let help = "write \"errors\" or \"slower than 250ms\"";
                return Err(section.reader.error(place, format!("`{rule}` is no rule for keeping traces"), help));
            }
        }
    }
    Ok(Some(keep))
}

fn services(root: &Section<'_>, console: Option<SocketAddr>) -> Result<Vec<ServiceConfig>> {
    let Some(value) = root.get("service") else { return Ok(Vec::new()) };
    let Some(tables) = value.get_ref().as_array() else {
        return Err(root.error("service", "`service` is no list of tables".to_owned(), "write `[[service]]`"));
    };
    let mut services: Vec<ServiceConfig> = Vec::new();
    for value in tables.iter() {
        let section = root.reader.table(value, "[[service]]")?;
        let made = service(&section)?;
        if services.iter().any(|known| known.name == made.name) {
            let problem = format!("there are two services named `{}`", made.name);
            return Err(section.error("name", problem, "give each service a name of its own"));
        }
        let taken = services.iter().find(|known| known.listen == made.listen && made.listen.port() != 0);
        let taken = taken.map(|known| known.name.to_string());
        let taken = taken.or_else(|| (console == Some(made.listen)).then(|| "the console".to_owned()));
        if let Some(other) = taken {
            let problem = format!("`{}` listens on {}, and so does {other}", made.name, made.listen);
            return Err(section.error("listen", problem, "give each an address of its own"));
        }
        services.push(made);
    }
    Ok(services)
}

fn service(section: &Section<'_>) -> Result<ServiceConfig> {
    section.only(&["name", "version", "component", "listen", "isolation", "probe", "config", "outbound", "limits"])?;
    let (name, place) = section.required(section.text("name")?, "name", "name = \"user-service\"")?;
    let Some(name) = ServiceName::parse(&name) else {
        let help = "use lower-case letters, digits and dashes, as in \"user-service\"";
        return Err(section.reader.error(place, format!("`{name}` is no name for a service"), help));
    };
    let component = section.required(section.path("component")?, "component", "component = \"FILE.wasm\"")?;
    let listen = section.required(section.address("listen")?, "listen", "listen = \"127.0.0.1:8001\"")?;
    Ok(ServiceConfig {
        name,
        version: section.text("version")?.map_or_else(|| DEFAULT_VERSION.to_owned(), |(version, _)| version),
        component,
        listen,
        isolation: isolation(section)?,
        config: settings(&section.section("config", "[service.config]")?)?,
        outbound: outbound(&section.section("outbound", "[service.outbound]")?)?,
        limits: limits(&section.section("limits", "[service.limits]")?)?,
        probe: probe(section)?,
    })
}

fn isolation(section: &Section<'_>) -> Result<Isolation> {
    match section.text("isolation")?.as_ref().map(|(text, _)| text.as_str()) {
        None | Some("instance") => Ok(Isolation::Instance),
        Some("request") => Ok(Isolation::Request),
        Some(other) => {
            let problem = format!("`{other}` is no kind of isolation");
            Err(section.error("isolation", problem, "write \"instance\" or \"request\""))
        }
    }
}

fn probe(section: &Section<'_>) -> Result<Option<String>> {
    match section.text("probe")? {
        Some((path, place)) if !path.starts_with('/') => {
            Err(section.reader.error(place, format!("`{path}` is no path"), "write a path such as \"/health\""))
        }
        probe => Ok(probe.map(|(path, _)| path)),
    }
}

/// `[service.config]`: any keys; numbers and booleans are taken as the text that they are.
fn settings(section: &Section<'_>) -> Result<BTreeMap<String, String>> {
    let mut settings = BTreeMap::new();
    for (key, value) in section.table.into_iter().flatten() {
        let text = match value.get_ref() {
            DeValue::String(text) => section.reader.expand(text, value.span())?,
            DeValue::Integer(number) => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(truth) => truth.to_string(),
            _ => {
                let problem = format!("`{}` is neither text, number nor boolean", key.get_ref());
                return Err(section.reader.error(
                    value.span(),
                    problem,
                    "put names with dots in quotes: \"flag.name\" = \"true\"",
                ));
            }
        };
        settings.insert(key.get_ref().to_string(), text);
    }
    Ok(settings)
}

fn outbound(section: &Section<'_>) -> Result<Outbound> {
    section.only(&["allow", "no_baggage"])?;
    let origins = |key| -> Result<Vec<Origin>> {
        let texts = section.texts(key)?.unwrap_or_default().into_iter();
        let origin = |(text, place): Placed| {
            let help = "write scheme, host and port only, as in \"http://localhost:8000\"";
            Origin::parse(&text)
                .ok_or_else(|| section.reader.error(place, format!("`{key}` lists `{text}`, which is no origin"), help))
        };
        texts.map(origin).collect()
    };
    Ok(Outbound { allow: origins("allow")?, no_baggage: origins("no_baggage")? })
}

fn limits(section: &Section<'_>) -> Result<Limits> {
    section.only(&["memory", "request_body", "response_body", "request_timeout", "concurrency"])?;
    let standard = Limits::default();
    let body = |key, standard: usize| -> Result<usize> {
        let given = section.size(key)?.map(usize::try_from);
        given.unwrap_or(Ok(standard)).map_err(|_| section.error(key, format!("`{key}` is too large"), SIZE_HELP))
    };
    let limits = Limits {
        memory: section.size("memory")?.unwrap_or(standard.memory),
        request_body: body("request_body", standard.request_body)?,
        response_body: body("response_body", standard.response_body)?,
        request_timeout: section.duration("request_timeout")?.unwrap_or(standard.request_timeout),
        concurrency: section.count("concurrency")?.unwrap_or(standard.concurrency),
    };
    if limits.memory > 4 << 30 {
        return Err(section.error(
            "memory",
            "`memory` is over 4GiB, the most that a component can have".to_owned(),
            SIZE_HELP,
        ));
    }
    let zero = [
        ("memory", limits.memory == 0),
        ("request_timeout", limits.request_timeout == Duration::ZERO),
        ("concurrency", limits.concurrency == 0),
    ];
    match zero.into_iter().find(|(_, zero)| *zero) {
        Some((key, _)) => Err(section.error(
            key,
            format!("with `{key}` at zero the service could answer nothing"),
            "give a larger one, or leave the key out",
        )),
        None => Ok(limits),
    }
}

impl<'a> Reader<'a> {
    fn error(&self, place: Range<usize>, problem: String, help: &str) -> ConfigError {
        let before = self.text.get(..place.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        ConfigError::Manifest {
            manifest: self.manifest.display().to_string(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            problem,
            help: help.to_owned(),
        }
    }

    fn expand(&self, text: &str, place: Range<usize>) -> Result<String> {
        expand(text, self.environment).map_err(|(problem, help)| self.error(place, problem, &help))
    }

    fn table(&'a self, value: &'a Value<'a>, name: &'static str) -> Result<Section<'a>> {
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
    fn get(&self, key: &str) -> Option<&'a Value<'a>> {
        self.table?.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    /// A table in this one; an empty one where it is not there.
    fn section(&self, key: &str, name: &'static str) -> Result<Section<'a>> {
        match self.get(key) {
            Some(value) => self.reader.table(value, name),
            None => Ok(Section { reader: self.reader, name, table: None, place: self.place.clone() }),
        }
    }

    /// Refuses keys that mean nothing, and names the nearest that does.
    fn only(&self, known: &[&str]) -> Result<()> {
        for (key, _) in self.table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let help = match nearest(name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the keys here are {}", known.join(", ")),
                };
                return Err(self.reader.error(key.span(), format!("unknown key `{name}` in {}", self.name), &help));
            }
        }
        Ok(())
    }

    /// An error at the value of a key, or at the section where the key is not there.
    fn error(&self, key: &str, problem: String, help: &str) -> ConfigError {
        let place = self.get(key).map_or_else(|| self.place.clone(), Spanned::span);
        self.reader.error(place, problem, help)
    }

    fn wrong_type(&self, key: &str, value: &Value<'_>, expected: &str) -> ConfigError {
        let problem = format!("`{key}` in {} is of type {}, not {expected}", self.name, value.get_ref().type_str());
        self.reader.error(value.span(), problem, &format!("write `{key}` as {expected}"))
    }

    fn required<T>(&self, value: Option<T>, key: &str, example: &str) -> Result<T> {
        value.ok_or_else(|| {
            self.reader.error(self.place.clone(), format!("{} has no `{key}`", self.name), &format!("add `{example}`"))
        })
    }

    fn text(&self, key: &str) -> Result<Option<Placed>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref().as_str() {
            Some(text) => Ok(Some((self.reader.expand(text, value.span())?, value.span()))),
            None => Err(self.wrong_type(key, value, "a string in quotes")),
        }
    }

    fn texts(&self, key: &str) -> Result<Option<Vec<Placed>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Some(values) = value.get_ref().as_array() else {
            return Err(self.wrong_type(key, value, "a list of strings"));
        };
        let text = |value: &Value<'_>| match value.get_ref().as_str() {
            Some(text) => Ok((self.reader.expand(text, value.span())?, value.span())),
            None => Err(self.wrong_type(key, value, "a list of strings")),
        };
        values.iter().map(text).collect::<Result<_>>().map(Some)
    }

    /// Relative paths start at the manifest's folder.
    fn path(&self, key: &str) -> Result<Option<PathBuf>> {
        let folder = self.reader.manifest.parent().unwrap_or(Path::new(""));
        Ok(self.text(key)?.map(|(path, _)| folder.join(path)))
    }

    fn address(&self, key: &str) -> Result<Option<SocketAddr>> {
        let Some((text, place)) = self.text(key)? else { return Ok(None) };
        let parsed = text.replace("localhost", "127.0.0.1").parse();
        parsed.map(Some).map_err(|_| {
            let help = "write an IP address and a port, as in \"127.0.0.1:8001\" or \"[::1]:8001\"";
            self.reader.error(place, format!("`{text}` is no address to listen on"), help)
        })
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.get_ref().as_bool().map(Some).ok_or_else(|| self.wrong_type(key, value, "true or false"))
    }

    fn duration(&self, key: &str) -> Result<Option<Duration>> {
        let Some((text, place)) = self.text(key)? else { return Ok(None) };
        duration(&text).map(Some).ok_or_else(|| {
            self.reader.error(place, format!("`{key}` is `{text}`, which is no duration"), DURATION_HELP)
        })
    }

    /// A size is a string with a unit, or a number of bytes.
    fn size(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = match value.get_ref() {
            DeValue::String(text) => self.reader.expand(text, value.span())?,
            DeValue::Integer(number) => number.as_str().to_owned(),
            _ => return Err(self.wrong_type(key, value, "a size")),
        };
        size(&text)
            .map(Some)
            .ok_or_else(|| self.reader.error(value.span(), format!("`{key}` is `{text}`, which is no size"), SIZE_HELP))
    }

    fn count(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.get_ref().as_integer().and_then(|number| number.as_str().parse().ok());
        number.map(Some).ok_or_else(|| self.wrong_type(key, value, "a whole number"))
    }

    fn ratio(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = match value.get_ref() {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| (0.0..=1.0).contains(number));
        number.map(Some).ok_or_else(|| self.wrong_type(key, value, "a number from 0 to 1"))
    }
}

/// The known key that is written most like `name`, unless none is.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known.iter().map(|key| (distance(name, key), *key)).min()?;
    (near.0 <= name.len().max(3) / 2).then_some(near.1)
}

/// Edit distance (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, byte) in from.bytes().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (above, other) in row.iter_mut().skip(1).zip(to.bytes()) {
            let cost = (diagonal + usize::from(byte != other)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, cost);
            left = cost;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
