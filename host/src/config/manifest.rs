//! From the manifest's text to a [`Config`]: every key known, every value checked, every error with its place.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};

use super::attributes::{attributes, redaction};
use super::environment::Environment;
use super::error::ConfigError;
use super::outbound::outbound;
use super::quantity::{SIZE_HELP, duration};
use super::responses;
use super::section::{Placed, Reader, Section};
use super::standard;
use super::telemetry;
use super::types::{
    Bind, Config, Connections, ConsoleConfig, DEFAULT_VERSION, Isolation, Limits, ServiceConfig, ServiceName,
    ShutdownConfig, StateConfig, SwapConfig,
};
use crate::trace::Keep;

/// Where the console listens when the manifest does not say.
const CONSOLE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8010);

/// What a span counts as under `recent_spans`, the older form of `traces`, in bytes.
const SPAN_BYTES: usize = 3 << 10;

type Result<T, E = ConfigError> = std::result::Result<T, E>;

pub(super) fn read(text: &str, manifest: &Path, environment: &Environment) -> Result<Config> {
    environment.check()?;
    let base = manifest.parent().unwrap_or(Path::new(""));
    let reader = Reader { text, manifest, base, environment };
    let parsed = DeTable::parse(text).map_err(|error| {
        let problem = error.message().to_owned();
        reader.error(error.span().unwrap_or(0..0), problem, "the manifest is TOML (https://toml.io)")
    })?;
    let place = parsed.span();
    let table = parsed.get_ref();
    let root = Section { reader: &reader, name: "the manifest", table: Some(table), place };
    root.only(&["console", "limits", "state", "telemetry", "swap", "shutdown", "service"])?;
    let console_section = root.section("console", "[console]")?;
    let console = console(&console_section, environment)?;
    let mut telemetry_settings = telemetry::settings(environment)?;
    let telemetry_section = root.section("telemetry", "[telemetry]")?;
    telemetry_settings.keep = keep(&telemetry_section)?;
    telemetry_settings.response_header = telemetry_section.boolean("response_header")?.unwrap_or(true);
    telemetry_settings.store_bytes = store_bytes(&console_section, &console, telemetry_settings.store_bytes)?;
    let config = Config {
        manifest: manifest.to_owned(),
        base: base.to_owned(),
        connections: connections(&root.section("limits", "[limits]")?)?,
        state: state(&root.section("state", "[state]")?)?,
        swap: swap(&root.section("swap", "[swap]")?)?,
        shutdown: shutdown(&root.section("shutdown", "[shutdown]")?)?,
        services: services(&root, console.listen)?,
        console,
        telemetry: telemetry_settings,
        redaction: redaction(&telemetry_section)?,
        attributes: attributes(&telemetry_section)?,
        resource: telemetry::resource(environment),
        bind: Bind::Declared,
        cache_dir: environment.cache_dir(),
    };
    Ok(config)
}

fn console(section: &Section<'_>, environment: &Environment) -> Result<ConsoleConfig> {
    section.only(&["listen", "traces", "recent_spans", "otlp", "jaeger_ui"])?;
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
    let (otlp, jaeger_ui) = (otlp(section)?, section.path("jaeger_ui")?);
    let of_console = [("otlp", otlp.is_some()), ("jaeger_ui", jaeger_ui.is_some())];
    if let Some((key, _)) = of_console.into_iter().find(|(_, is_given)| *is_given && listen.is_none()) {
        let problem = format!("`{key}` is given, but the console is off, and nothing else shows what it is for");
        return Err(section.error(key, problem, "leave it out, or give the console an address"));
    }
    Ok(ConsoleConfig { listen, admin_token, otlp, jaeger_ui })
}

/// Where spans of other processes are taken. Nobody there sends a token, so that only this machine may.
fn otlp(section: &Section<'_>) -> Result<Option<SocketAddr>> {
    let Some(address) = section.address("otlp")? else { return Ok(None) };
    if address.ip().is_loopback() {
        return Ok(Some(address));
    }
    let problem = format!("spans of other machines would be taken on {address}, without a token");
    Err(section.error("otlp", problem, "use an address of this machine, as in \"127.0.0.1:4327\""))
}

/// Without a console nobody could read recent traces, and so none are kept.
fn store_bytes(section: &Section<'_>, console: &ConsoleConfig, standard: usize) -> Result<usize> {
    let spans = section.count("recent_spans")?.map(|spans| spans.saturating_mul(SPAN_BYTES));
    let bytes = section.size("traces")?.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    Ok(if console.listen.is_some() { bytes.or(spans).unwrap_or(standard) } else { 0 })
}

fn connections(section: &Section<'_>) -> Result<Connections> {
    section.only(&["connections", "head_timeout", "keep_alive"])?;
    let standard = Connections::default();
    let connections = Connections {
        per_port: section.count("connections")?.unwrap_or(standard.per_port),
        head_timeout: section.duration("head_timeout")?.unwrap_or(standard.head_timeout),
        keep_alive: section.duration("keep_alive")?.unwrap_or(standard.keep_alive),
    };
    let zero = [
        ("connections", connections.per_port == 0),
        ("head_timeout", connections.head_timeout == Duration::ZERO),
        ("keep_alive", connections.keep_alive == Duration::ZERO),
    ];
    match zero.into_iter().find(|(_, zero)| *zero) {
        Some((key, _)) => Err(section.error(
            key,
            format!("with `{key}` at zero no client could be answered"),
            "give a larger one, or leave the key out",
        )),
        None => Ok(connections),
    }
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

fn shutdown(section: &Section<'_>) -> Result<ShutdownConfig> {
    section.only(&["drain", "delay"])?;
    let standard = ShutdownConfig::default();
    Ok(ShutdownConfig {
        drain: section.duration("drain")?.unwrap_or(standard.drain),
        delay: section.duration("delay")?.unwrap_or(standard.delay),
    })
}

fn keep(section: &Section<'_>) -> Result<Option<Keep>> {
    section.only(&["keep", "keep_rate", "redact", "response_header", "attributes"])?;
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
        // One of two limits would be without effect, and nobody would know which.
        let again = match rule.strip_prefix("slower than ").map(duration) {
            None if rule == "errors" => std::mem::replace(&mut keep.errors, true),
            Some(Some(limit)) => keep.slower_than.replace(limit).is_some(),
            _ => {
                let help = "write \"errors\" or \"slower than 250ms\"";
                return Err(section.reader.error(place, format!("`{rule}` is no rule for keeping traces"), help));
            }
        };
        if again {
            return Err(section.reader.error(
                place,
                format!("`{rule}` is the second rule of its kind"),
                "leave one out",
            ));
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
        let others = services.iter().map(|known| (known.listen, known.name.as_str()));
        let mut others = others.chain(console.map(|address| (address, "the console")));
        if let Some((address, other)) = others.find(|(address, _)| collide(*address, made.listen)) {
            let problem = if address == made.listen {
                format!("`{}` listens on {address}, and so does {other}", made.name)
            } else {
                format!("`{}` listens on {}, and {other} on {address}", made.name, made.listen)
            };
            return Err(section.error("listen", problem, "give each an address of its own"));
        }
        services.push(made);
    }
    for (service, value) in services.iter().zip(tables.iter()) {
        let known = |next: &ServiceName| services.iter().any(|other| other.name == *next && other.name != service.name);
        if let Some(next) = service.next.as_ref().filter(|next| !known(next)) {
            let section = root.reader.table(value, "[[service]]")?;
            let problem = format!("`next` is `{next}`, and there is no other service of that name");
            return Err(section.error("next", problem, "name the service that the component's requests go on to"));
        }
    }
    Ok(services)
}

/// Whether the second of these listeners would find its port taken. Port 0 is a free one each time, and `[::]` takes
/// IPv4 too.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    let (a, b) = (one.ip(), other.ip());
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}

fn service(section: &Section<'_>) -> Result<ServiceConfig> {
    section.only(&[
        "name",
        "version",
        "component",
        "listen",
        "trusted_proxies",
        "isolation",
        "requests_per_instance",
        "concurrency_per_instance",
        "next",
        "routes",
        "probe",
        "config",
        "compression",
        "env",
        "files",
        "outbound",
        "cors",
        "limits",
    ])?;
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
        trusted_proxies: trusted_proxies(section)?,
        isolation: isolation(section)?,
        requests_per_instance: standard::requests(section, "requests_per_instance")?,
        concurrency_per_instance: standard::requests(section, "concurrency_per_instance")?,
        next: standard::next(section)?,
        routes: standard::routes(section)?,
        env: standard::env(&section.section("env", "[service.env]")?)?,
        files: standard::files(section)?,
        config: settings(&section.section("config", "[service.config]")?)?,
        outbound: outbound(&section.section("outbound", "[service.outbound]")?)?,
        cors: responses::cors(&section.section("cors", "[service.cors]")?)?,
        compression: responses::compression(section)?,
        limits: limits(&section.section("limits", "[service.limits]")?)?,
        probe: probe(section)?,
    })
}

/// Networks, or single addresses.
fn trusted_proxies(section: &Section<'_>) -> Result<Vec<IpNet>> {
    let network = |(text, place): Placed| {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        match text.parse::<IpNet>().ok().or_else(address) {
            Some(network) => Ok(network.trunc()),
            None => {
                let help = "write a network such as \"10.0.0.0/8\", or an address";
                Err(section.reader.error(place, format!("`{text}` is no network of proxies"), help))
            }
        }
    };
    section.texts("trusted_proxies")?.unwrap_or_default().into_iter().map(network).collect()
}

fn isolation(section: &Section<'_>) -> Result<Option<Isolation>> {
    match section.text("isolation")?.as_ref().map(|(text, _)| text.as_str()) {
        None => Ok(None),
        Some("instance") => Ok(Some(Isolation::Instance)),
        Some("request") => Ok(Some(Isolation::Request)),
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
            DeValue::Integer(number) => number.to_string(),
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

fn limits(section: &Section<'_>) -> Result<Limits> {
    section.only(&["memory", "request_body", "response_body", "request_timeout", "idle_timeout", "concurrency"])?;
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
        idle_timeout: section.duration("idle_timeout")?.unwrap_or(standard.idle_timeout),
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
        ("idle_timeout", limits.idle_timeout == Duration::ZERO),
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

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "manifest_reference_tests.rs"]
mod reference_tests;
