//! From the manifest's text to a [`Config`]: every key known, every value checked, every error with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::attributes::{attributes, redaction};
use super::environment::Environment;
use super::error::ConfigError;
use super::outbound::outbound;
use super::quantity::{SIZE_HELP, duration};
use super::responses;
use super::section::{Noted, Placed, Reader, Result, Section, all};
use super::standard;
use super::telemetry;
use super::types::{
    Bind, Config, Connections, ConsoleConfig, DEFAULT_VERSION, Isolation, Limits, ServiceConfig, ServiceName,
    ShutdownConfig, StateConfig, SwapConfig,
};
use crate::http::redaction::Redaction;
use crate::state::ROOM;
use crate::trace::TailPolicy;

/// Where the console listens when the manifest has a table for it that does not say.
const CONSOLE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8010);

/// What a span counts as under `recent_spans`, the older form of `traces`, in bytes.
const SPAN_BYTES: usize = 3 << 10;

pub(super) fn read(text: &str, manifest: &Path, environment: &Environment) -> Result<Config, ConfigError> {
    let reader = Reader::new(text, manifest, environment);
    let (parsed, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let problem = error.message().to_owned();
        reader.error(error.span().unwrap_or(0..0), problem, "the manifest is TOML (https://toml.io)");
    }
    // What is there of a table that is no TOML would be misread.
    let config = if errors.is_empty() { config(&reader, &parsed) } else { Err(Noted) };
    reader.finish(config)
}

fn config(reader: &Reader<'_>, parsed: &Spanned<DeTable<'_>>) -> Result<Config> {
    let environment = reader.environment;
    if let Err(error) = environment.check() {
        reader.note(error);
    }
    let root = Section { reader, name: "the manifest", table: Some(parsed.get_ref()), place: parsed.span() };
    root.only(&["console", "limits", "state", "telemetry", "swap", "shutdown", "service"]);
    let console_section = root.section("console", "[console]");
    let telemetry_section = root.section("telemetry", "[telemetry]");
    let console = console_section.as_ref().map_err(|_| Noted).and_then(|section| console(section, environment));
    let store = console_section.and_then(|section| store_bytes(&section));
    let settings = telemetry::settings(environment).map_err(|error| reader.note(error));
    let (keep, redaction, attributes) = match &telemetry_section {
        Ok(section) => {
            let redaction = redaction(section);
            let attributes = attributes(section, redaction.as_ref().unwrap_or(&Redaction::default()));
            (keep(section), redaction, attributes)
        }
        Err(Noted) => (Err(Noted), Err(Noted), Err(Noted)),
    };
    let response_header = telemetry_section.and_then(|section| section.boolean("response_header"));
    let connections = root.section("limits", "[limits]").and_then(|section| connections(&section));
    let state = root.section("state", "[state]").and_then(|section| state(&section));
    let swap = root.section("swap", "[swap]").and_then(|section| swap(&section));
    let shutdown = root.section("shutdown", "[shutdown]").and_then(|section| shutdown(&section));
    let services = services(&root, console.as_ref().ok());
    let (console, mut telemetry_settings) = (console?, settings?);
    telemetry_settings.tail_policy = keep?;
    telemetry_settings.response_header = response_header?.unwrap_or(true);
    // Without a console nobody could read recent traces, and so none are kept.
    let store_bytes = store?.unwrap_or(telemetry_settings.store_bytes);
    telemetry_settings.store_bytes = if console.listen.is_some() { store_bytes } else { 0 };
    Ok(Config {
        manifest: reader.manifest.to_owned(),
        base: reader.base.to_owned(),
        connections: connections?,
        state: state?,
        swap: swap?,
        shutdown: shutdown?,
        services: services?,
        console,
        telemetry: telemetry_settings,
        redaction: redaction?,
        attributes: attributes?,
        resource: telemetry::resource(environment),
        bind: Bind::Declared,
        cache_dir: environment.cache_dir(),
    })
}

fn console(section: &Section<'_>, environment: &Environment) -> Result<ConsoleConfig> {
    section.only(&["listen", "traces", "recent_spans", "otlp", "jaeger_ui"]);
    let listen = match section.text("listen") {
        Ok(None) if section.table.is_none() => Ok(None),
        Ok(None) => Ok(Some(CONSOLE)),
        Ok(Some((text, _))) if text == "off" => Ok(None),
        Ok(Some(_)) => section.address("listen"),
        Err(Noted) => Err(Noted),
    };
    let (otlp, jaeger_ui) = (otlp(section), section.path("jaeger_ui"));
    let (listen, otlp, jaeger_ui) = (listen?, otlp?, jaeger_ui?);
    if let Some((listen, otlp)) = listen.zip(otlp) {
        apart(section, "otlp", (otlp, "`[console] otlp`"), &[(listen, "the console".to_owned())]);
    }
    let admin_token = environment.admin_token();
    if let Some(address) = listen
        && !address.ip().is_loopback()
        && admin_token.is_none()
    {
        let problem = format!("the console would listen on {address}, where others can reach it, without a token");
        return Err(section.error("listen", problem, "set SPANDREL_ADMIN_TOKEN, or listen on 127.0.0.1"));
    }
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

/// The size of the store of recent traces, where the manifest gives one.
fn store_bytes(section: &Section<'_>) -> Result<Option<usize>> {
    let (spans, bytes) = (section.count("recent_spans"), section.size("traces"));
    let spans = spans?.map(|spans| spans.saturating_mul(SPAN_BYTES));
    Ok(bytes?.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)).or(spans))
}

fn connections(section: &Section<'_>) -> Result<Connections> {
    section.only(&["connections", "head_timeout", "keep_alive"]);
    let standard = Connections::default();
    let connections = Connections {
        per_port: section.count("connections").unwrap_or_default().unwrap_or(standard.per_port),
        head_timeout: section.duration("head_timeout").unwrap_or_default().unwrap_or(standard.head_timeout),
        keep_alive: section.duration("keep_alive").unwrap_or_default().unwrap_or(standard.keep_alive),
    };
    let zero = [
        ("connections", connections.per_port == 0),
        ("head_timeout", connections.head_timeout == Duration::ZERO),
        ("keep_alive", connections.keep_alive == Duration::ZERO),
    ];
    for (key, _) in zero.into_iter().filter(|(_, zero)| *zero) {
        let problem = format!("with `{key}` at zero no client could be answered");
        section.error(key, problem, "give a larger one, or leave the key out");
    }
    Ok(connections)
}

fn state(section: &Section<'_>) -> Result<StateConfig> {
    section.only(&["backend", "path", "per_service"]);
    let (backend, path, room) = (section.text("backend"), section.path("path"), section.size("per_service"));
    let room = room?.map_or(ROOM, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if room == 0 {
        let problem = "with `per_service` at zero nothing could be kept".to_owned();
        section.error("per_service", problem, "give a larger one, or leave the key out");
    }
    let error = |key, problem: &str, help| Err(section.error(key, problem.to_owned(), help));
    match (backend?.as_ref().map(|(backend, _)| backend.as_str()), path?) {
        (None, Some(_)) => error("path", "`path` is given, but no backend that writes it", "add `backend = \"redb\"`"),
        (None | Some("memory"), _) => Ok(StateConfig::Memory { room }),
        (Some("redb"), Some(path)) => Ok(StateConfig::Redb { path, room }),
        (Some("redb"), None) => {
            error("backend", "`backend = \"redb\"` needs a file", "add `path = \"data/state.redb\"`")
        }
        (Some(other), _) => error("backend", &format!("`{other}` is no backend"), "write \"memory\" or \"redb\""),
    }
}

fn swap(section: &Section<'_>) -> Result<SwapConfig> {
    section.only(&["watch", "guard", "drain"]);
    let standard = SwapConfig::default();
    Ok(SwapConfig {
        watch: section.boolean("watch").unwrap_or_default().unwrap_or(standard.watch),
        guard: section.duration("guard").unwrap_or_default().unwrap_or(standard.guard),
        drain: section.duration("drain").unwrap_or_default().unwrap_or(standard.drain),
        keep: standard.keep,
    })
}

fn shutdown(section: &Section<'_>) -> Result<ShutdownConfig> {
    section.only(&["drain", "delay"]);
    let standard = ShutdownConfig::default();
    Ok(ShutdownConfig {
        drain: section.duration("drain").unwrap_or_default().unwrap_or(standard.drain),
        delay: section.duration("delay").unwrap_or_default().unwrap_or(standard.delay),
    })
}

fn keep(section: &Section<'_>) -> Result<Option<TailPolicy>> {
    section.only(&["keep", "keep_rate", "redact", "response_header", "attributes"]);
    let (rate, rules) = (section.ratio("keep_rate"), section.texts("keep"));
    let rate = rate?;
    let Some(rules) = rules?.filter(|rules| !rules.is_empty()) else {
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
    let mut keep = TailPolicy { errors: false, slower_than: None, rate: rate.unwrap_or(0.0) };
    for (rule, place) in rules {
        // One of two limits would be without effect, and nobody would know which.
        let again = match rule.strip_prefix("slower than ").map(duration) {
            None if rule == "errors" => std::mem::replace(&mut keep.errors, true),
            Some(Some(limit)) => keep.slower_than.replace(limit).is_some(),
            _ => {
                let help = "write \"errors\" or \"slower than 250ms\"";
                section.reader.error(place, format!("`{rule}` is no rule for keeping traces"), help);
                continue;
            }
        };
        if again {
            section.reader.error(place, format!("`{rule}` is the second rule of its kind"), "leave one out");
        }
    }
    Ok(Some(keep))
}

fn services(root: &Section<'_>, console: Option<&ConsoleConfig>) -> Result<Vec<ServiceConfig>> {
    let Some(value) = root.get("service") else { return Ok(Vec::new()) };
    let Some(tables) = value.get_ref().as_array() else {
        return Err(root.error("service", "`service` is no list of tables".to_owned(), "write `[[service]]`"));
    };
    let listeners = console.map(|console| [(console.listen, "the console"), (console.otlp, "`[console] otlp`")]);
    let listeners = listeners.into_iter().flatten().filter_map(|(address, name)| Some((address?, name.to_owned())));
    let mut listeners: Vec<(SocketAddr, String)> = listeners.collect();
    let mut names = BTreeSet::new();
    let made = tables.iter().map(|value| {
        let section = root.reader.table(value, "[[service]]")?;
        let made = service(&section)?;
        if !names.insert(made.name.clone()) {
            let problem = format!("there are two services named `{}`", made.name);
            section.error("name", problem, "give each service a name of its own");
        }
        apart(&section, "listen", (made.listen, &format!("`{}`", made.name)), &listeners);
        listeners.push((made.listen, made.name.to_string()));
        Ok(made)
    });
    let services = all(made)?;
    for (service, value) in services.iter().zip(tables.iter()) {
        let known = |next: &ServiceName| services.iter().any(|other| other.name == *next && other.name != service.name);
        if let Some(next) = service.next.as_ref().filter(|next| !known(next)) {
            let section = root.reader.table(value, "[[service]]")?;
            let problem = format!("`next` is `{next}`, and there is no other service of that name");
            section.error("next", problem, "name the service that the component's requests go on to");
        }
    }
    Ok(services)
}

/// Refuses an address that somebody else listens on.
fn apart(section: &Section<'_>, key: &str, (address, name): (SocketAddr, &str), others: &[(SocketAddr, String)]) {
    let Some((taken, other)) = others.iter().find(|(taken, _)| collide(*taken, address)) else { return };
    let problem = if *taken == address {
        format!("{name} listens on {address}, and so does {other}")
    } else {
        format!("{name} listens on {address}, and {other} on {taken}")
    };
    section.error(key, problem, "give each an address of its own");
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
    ]);
    let name = section.text("name").and_then(|name| section.required(name, "name", "name = \"user-service\""));
    let name = name.and_then(|(name, place)| {
        if name == crate::telemetry::SERVICE {
            let problem = format!("`{name}` is the name of the host itself in telemetry");
            return Err(section.reader.error(place, problem, "give the service another name"));
        }
        let help = "use lower-case letters, digits and dashes, as in \"user-service\"";
        let error = || section.reader.error(place, format!("`{name}` is no name for a service"), help);
        ServiceName::parse(&name).ok_or_else(error)
    });
    let component = section.path("component");
    let component = component.and_then(|path| section.required(path, "component", "component = \"FILE.wasm\""));
    let listen = section.address("listen");
    let listen = listen.and_then(|address| section.required(address, "listen", "listen = \"127.0.0.1:8001\""));
    let config = section.section("config", "[service.config]").and_then(|section| settings(&section));
    let env = section.section("env", "[service.env]").and_then(|section| standard::env(&section));
    let outbound = section.section("outbound", "[service.outbound]").and_then(|section| outbound(&section));
    let cors = section.section("cors", "[service.cors]").and_then(|section| responses::cors(&section));
    let limits = section.section("limits", "[service.limits]").and_then(|section| limits(&section));
    let version = section.text("version").unwrap_or_default().map(|(version, _)| version);
    let service = ServiceConfig {
        version: version.unwrap_or_else(|| DEFAULT_VERSION.to_owned()),
        trusted_proxies: trusted_proxies(section).unwrap_or_default(),
        isolation: isolation(section).unwrap_or_default(),
        requests_per_instance: standard::requests(section, "requests_per_instance").unwrap_or_default(),
        concurrency_per_instance: standard::requests(section, "concurrency_per_instance").unwrap_or_default(),
        next: standard::next(section).unwrap_or_default(),
        routes: standard::routes(section).unwrap_or_default(),
        env: env.unwrap_or_default(),
        files: standard::files(section).unwrap_or_default(),
        config: config.unwrap_or_default(),
        outbound: outbound.unwrap_or_default(),
        cors: cors.unwrap_or_default(),
        compression: responses::compression(section).unwrap_or_default(),
        limits: limits.unwrap_or_default(),
        probe: probe(section).unwrap_or_default(),
        name: name?,
        component: component?,
        listen: listen?,
    };
    Ok(service)
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
    all(section.texts("trusted_proxies")?.unwrap_or_default().into_iter().map(network))
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
    let setting = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
        let text = match value.get_ref() {
            DeValue::String(text) => section.reader.expand(text, value.span())?,
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(truth) => truth.to_string(),
            _ => {
                let problem = format!("`{}` is neither text, number nor boolean", key.get_ref());
                let help = "put names with dots in quotes: \"flag.name\" = \"true\"";
                return Err(section.reader.error(value.span(), problem, help));
            }
        };
        Ok((key.get_ref().to_string(), text))
    };
    all(section.table.into_iter().flatten().map(setting)).map(BTreeMap::from_iter)
}

fn limits(section: &Section<'_>) -> Result<Limits> {
    section.only(&["memory", "request_body", "response_body", "request_timeout", "idle_timeout", "concurrency"]);
    let standard = Limits::default();
    let body = |key, standard: usize| {
        let given = section.size(key).unwrap_or_default().map(usize::try_from);
        given.unwrap_or(Ok(standard)).unwrap_or_else(|_| {
            section.error(key, format!("`{key}` is too large"), SIZE_HELP);
            standard
        })
    };
    let duration = |key, standard| section.duration(key).unwrap_or_default().unwrap_or(standard);
    let limits = Limits {
        memory: section.size("memory").unwrap_or_default().unwrap_or(standard.memory),
        request_body: body("request_body", standard.request_body),
        response_body: body("response_body", standard.response_body),
        request_timeout: duration("request_timeout", standard.request_timeout),
        idle_timeout: duration("idle_timeout", standard.idle_timeout),
        concurrency: section.count("concurrency").unwrap_or_default().unwrap_or(standard.concurrency),
    };
    if limits.memory > 4 << 30 {
        let problem = "`memory` is over 4GiB, the most that a component can have".to_owned();
        section.error("memory", problem, SIZE_HELP);
    }
    let zero = [
        ("memory", limits.memory == 0),
        ("request_timeout", limits.request_timeout == Duration::ZERO),
        ("idle_timeout", limits.idle_timeout == Duration::ZERO),
        ("concurrency", limits.concurrency == 0),
    ];
    for (key, _) in zero.into_iter().filter(|(_, zero)| *zero) {
        let problem = format!("with `{key}` at zero the service could answer nothing");
        section.error(key, problem, "give a larger one, or leave the key out");
    }
    Ok(limits)
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "manifest_reference_tests.rs"]
mod reference_tests;
