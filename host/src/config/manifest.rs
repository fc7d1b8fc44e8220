//! Parses a manifest into a [`Config`]: rejects unknown keys, validates all values and locates all errors.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use http::uri::PathAndQuery;
use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::attributes::{attributes, redaction};
use super::environment::Environment;
use super::error::ConfigError;
use super::outbound::outbound;
use super::quantity::{SIZE_HELP, duration};
use super::responses;
use super::section::{Reader, Reported, Result, Section, SpannedText, all};
use super::standard;
use super::telemetry;
use super::types::{
    Bind, Config, Connections, ConsoleConfig, DEFAULT_VERSION, Isolation, Limits, ServiceConfig, ServiceName,
    ShutdownConfig, StateConfig, SwapConfig,
};
use crate::http::redaction::Redaction;
use crate::state::DEFAULT_QUOTA;
use crate::trace::TailPolicy;

/// The default listen address of the console, if the manifest has the table `[console]`.
const CONSOLE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8010);

/// The size of a span in bytes, for `recent_spans`, the older form of `traces`.
const SPAN_BYTES: usize = 3 << 10;

pub(super) fn read(text: &str, manifest: &Path, environment: &Environment) -> Result<Config, ConfigError> {
    let reader = Reader::new(text, manifest, environment);
    let (parsed, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let problem = error.message().to_owned();
        reader.error(error.span().unwrap_or(0..0), problem, "the manifest is TOML (https://toml.io)");
    }
    // A partially parsed manifest would cause misleading errors.
    let config = if errors.is_empty() { config(&reader, &parsed) } else { Err(Reported) };
    reader.finish(config)
}

fn config(reader: &Reader<'_>, parsed: &Spanned<DeTable<'_>>) -> Result<Config> {
    let environment = reader.environment;
    if let Err(error) = environment.check() {
        reader.report(error);
    }
    let root = Section { reader, name: "the manifest", table: Some(parsed.get_ref()), span: parsed.span() };
    root.allow_keys(&["console", "limits", "state", "telemetry", "swap", "shutdown", "service"]);
    let console_section = root.section("console", "[console]");
    let telemetry_section = root.section("telemetry", "[telemetry]");
    let console = console_section.as_ref().map_err(|_| Reported).and_then(|section| console(section, environment));
    let store = console_section.and_then(|section| store_bytes(&section));
    let settings = telemetry::settings(environment).map_err(|error| reader.report(error));
    let (tail_policy, redaction, attributes) = match &telemetry_section {
        Ok(section) => {
            let redaction = redaction(section);
            let attributes = attributes(section, redaction.as_ref().unwrap_or(&Redaction::default()));
            (tail_policy(section), redaction, attributes)
        }
        Err(Reported) => (Err(Reported), Err(Reported), Err(Reported)),
    };
    let response_header = telemetry_section.and_then(|section| section.boolean("response_header"));
    let connections = root.section("limits", "[limits]").and_then(|section| connections(&section));
    let state = root.section("state", "[state]").and_then(|section| state(&section));
    let swap = root.section("swap", "[swap]").and_then(|section| swap(&section));
    let shutdown = root.section("shutdown", "[shutdown]").and_then(|section| shutdown(&section));
    let services = services(&root, console.as_ref().ok());
    let (console, mut telemetry_settings) = (console?, settings?);
    telemetry_settings.tail_policy = tail_policy?;
    telemetry_settings.response_header = response_header?.unwrap_or(true);
    // Without a console stored traces could not be read, so none are stored.
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
    section.allow_keys(&["listen", "traces", "recent_spans", "otlp", "jaeger_ui"]);
    let listen = match section.text("listen") {
        Ok(None) if section.table.is_none() => Ok(None),
        Ok(None) => Ok(Some(CONSOLE)),
        Ok(Some((text, _))) if text == "off" => Ok(None),
        Ok(Some(_)) => section.address("listen"),
        Err(Reported) => Err(Reported),
    };
    let (otlp, jaeger_ui) = (otlp(section), section.path("jaeger_ui"));
    let (listen, otlp, jaeger_ui) = (listen?, otlp?, jaeger_ui?);
    if let Some((listen, otlp)) = listen.zip(otlp) {
        reject_shared_address(section, "otlp", (otlp, "`[console] otlp`"), &[(listen, "the console".to_owned())]);
    }
    let admin_token = environment.admin_token();
    if let Some(address) = listen
        && !address.ip().is_loopback()
        && admin_token.is_none()
    {
        let problem = format!("the console would listen on {address}, which other machines can reach, without a token");
        return Err(section.error("listen", problem, "set SPANDREL_ADMIN_TOKEN, or listen on 127.0.0.1"));
    }
    let requires_console = [("otlp", otlp.is_some()), ("jaeger_ui", jaeger_ui.is_some())];
    if let Some((key, _)) = requires_console.into_iter().find(|(_, is_given)| *is_given && listen.is_none()) {
        let problem = format!("`{key}` has no effect because the console is off");
        return Err(section.error(key, problem, "remove it, or set `listen`"));
    }
    Ok(ConsoleConfig { listen, admin_token, otlp, jaeger_ui })
}

/// The listen address of the OTLP receiver. It must be a loopback address because the receiver requires no token.
fn otlp(section: &Section<'_>) -> Result<Option<SocketAddr>> {
    let Some(address) = section.address("otlp")? else { return Ok(None) };
    if address.ip().is_loopback() {
        return Ok(Some(address));
    }
    let problem = format!("the OTLP receiver on {address} would accept spans of other machines without a token");
    Err(section.error("otlp", problem, "use a loopback address, as in \"127.0.0.1:4327\""))
}

/// The size of the trace store, if the manifest contains it.
fn store_bytes(section: &Section<'_>) -> Result<Option<usize>> {
    let (spans, bytes) = (section.count("recent_spans"), section.size("traces"));
    let spans = spans?.map(|spans| spans.saturating_mul(SPAN_BYTES));
    Ok(bytes?.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)).or(spans))
}

fn connections(section: &Section<'_>) -> Result<Connections> {
    section.allow_keys(&["connections", "head_timeout", "keep_alive"]);
    let default = Connections::default();
    let connections = Connections {
        per_port: section.count("connections").unwrap_or_default().unwrap_or(default.per_port),
        head_timeout: section.duration("head_timeout").unwrap_or_default().unwrap_or(default.head_timeout),
        keep_alive: section.duration("keep_alive").unwrap_or_default().unwrap_or(default.keep_alive),
    };
    let zero = [
        ("connections", connections.per_port == 0),
        ("head_timeout", connections.head_timeout == Duration::ZERO),
        ("keep_alive", connections.keep_alive == Duration::ZERO),
    ];
    for (key, _) in zero.into_iter().filter(|(_, zero)| *zero) {
        let problem = format!("`{key}` must not be zero");
        section.error(key, problem, "use a larger value, or remove the key");
    }
    Ok(connections)
}

fn state(section: &Section<'_>) -> Result<StateConfig> {
    section.allow_keys(&["backend", "path", "per_service"]);
    let (backend, path, per_service) = (section.text("backend"), section.path("path"), section.size("per_service"));
    let per_service = per_service?.map_or(DEFAULT_QUOTA, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if per_service == 0 {
        let problem = "`per_service` must not be zero".to_owned();
        section.error("per_service", problem, "use a larger value, or remove the key");
    }
    let error = |key, problem: &str, help| Err(section.error(key, problem.to_owned(), help));
    match (backend?.as_ref().map(|(backend, _)| backend.as_str()), path?) {
        (None, Some(_)) => {
            error("path", "`path` has no effect without a backend that writes a file", "add `backend = \"redb\"`")
        }
        (None | Some("memory"), _) => Ok(StateConfig::Memory { per_service }),
        (Some("redb"), Some(path)) => Ok(StateConfig::Redb { path, per_service }),
        (Some("redb"), None) => {
            error("backend", "`backend = \"redb\"` requires a file", "add `path = \"data/state.redb\"`")
        }
        (Some(other), _) => error("backend", &format!("`{other}` is not a backend"), "write \"memory\" or \"redb\""),
    }
}

fn swap(section: &Section<'_>) -> Result<SwapConfig> {
    section.allow_keys(&["watch", "guard", "drain"]);
    let default = SwapConfig::default();
    Ok(SwapConfig {
        watch: section.boolean("watch").unwrap_or_default().unwrap_or(default.watch),
        guard: section.duration("guard").unwrap_or_default().unwrap_or(default.guard),
        drain: section.duration("drain").unwrap_or_default().unwrap_or(default.drain),
        keep: default.keep,
    })
}

fn shutdown(section: &Section<'_>) -> Result<ShutdownConfig> {
    section.allow_keys(&["drain", "delay"]);
    let default = ShutdownConfig::default();
    Ok(ShutdownConfig {
        drain: section.duration("drain").unwrap_or_default().unwrap_or(default.drain),
        delay: section.duration("delay").unwrap_or_default().unwrap_or(default.delay),
    })
}

fn tail_policy(section: &Section<'_>) -> Result<Option<TailPolicy>> {
    section.allow_keys(&["keep", "keep_rate", "redact", "response_header", "attributes"]);
    let (rate, rules) = (section.ratio("keep_rate"), section.texts("keep"));
    let rate = rate?;
    let Some(rules) = rules?.filter(|rules| !rules.is_empty()) else {
        return match rate {
            Some(_) => {
                let help = "add `keep = [\"errors\"]`, or set OTEL_TRACES_SAMPLER to keep a share of all traces";
                Err(section.error("keep_rate", "`keep_rate` has no effect because `keep` is empty".to_owned(), help))
            }
            None => Ok(None),
        };
    };
    let mut policy = TailPolicy { errors: false, slower_than: None, rate: rate.unwrap_or(0.0) };
    for (rule, span) in rules {
        // Of two limits, only one could have an effect.
        let is_duplicate = match rule.strip_prefix("slower than ").map(duration) {
            None if rule == "errors" => std::mem::replace(&mut policy.errors, true),
            Some(Some(limit)) => policy.slower_than.replace(limit).is_some(),
            _ => {
                let help = "write \"errors\" or \"slower than 250ms\"";
                section.reader.error(span, format!("`{rule}` is not a rule for keeping traces"), help);
                continue;
            }
        };
        if is_duplicate {
            section.reader.error(span, format!("`{rule}` duplicates another rule"), "remove one of them");
        }
    }
    Ok(Some(policy))
}

fn services(root: &Section<'_>, console: Option<&ConsoleConfig>) -> Result<Vec<ServiceConfig>> {
    let Some(value) = root.get("service") else { return Ok(Vec::new()) };
    let Some(tables) = value.get_ref().as_array() else {
        return Err(root.error("service", "`service` is not a list of tables".to_owned(), "write `[[service]]`"));
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
            section.error("name", problem, "use a different name for each service");
        }
        reject_shared_address(&section, "listen", (made.listen, &format!("`{}`", made.name)), &listeners);
        listeners.push((made.listen, made.name.to_string()));
        Ok(made)
    });
    let services = all(made)?;
    for (service, value) in services.iter().zip(tables.iter()) {
        let known = |next: &ServiceName| services.iter().any(|other| other.name == *next && other.name != service.name);
        if let Some(next) = service.next.as_ref().filter(|next| !known(next)) {
            let section = root.reader.table(value, "[[service]]")?;
            let problem = format!("`next` is `{next}`, but there is no other service with this name");
            section.error("next", problem, "use the name of the service that receives the component's requests");
        }
    }
    Ok(services)
}

/// Reports an address that another listener uses.
fn reject_shared_address(
    section: &Section<'_>,
    key: &str,
    (address, name): (SocketAddr, &str),
    others: &[(SocketAddr, String)],
) {
    let Some((taken, other)) = others.iter().find(|(taken, _)| share_address(*taken, address)) else { return };
    let problem = if *taken == address {
        format!("{name} listens on {address}, and so does {other}")
    } else {
        format!("{name} listens on {address}, and {other} on {taken}")
    };
    section.error(key, problem, "use a different address for each");
}

/// Whether only one of these addresses can be bound. Port 0 is a different free port each time, and `[::]` includes IPv4.
fn share_address(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    let (a, b) = (one.ip(), other.ip());
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}

fn service(section: &Section<'_>) -> Result<ServiceConfig> {
    section.allow_keys(&[
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
    let name = name.and_then(|(name, span)| {
        if name == crate::telemetry::SERVICE {
            let problem = format!("`{name}` is the name of the host itself in telemetry");
            return Err(section.reader.error(span, problem, "use another name"));
        }
        let help = "use lower-case letters, digits and dashes, as in \"user-service\"";
        let error = || section.reader.error(span, format!("`{name}` is not a valid service name"), help);
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

/// Parses networks and single addresses.
fn trusted_proxies(section: &Section<'_>) -> Result<Vec<IpNet>> {
    let network = |(text, span): SpannedText| {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        match text.parse::<IpNet>().ok().or_else(address) {
            Some(network) => Ok(network.trunc()),
            None => {
                let help = "write a network such as \"10.0.0.0/8\", or an address";
                Err(section.reader.error(span, format!("`{text}` is not a valid network or address"), help))
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
            let problem = format!("`{other}` is not a valid kind of isolation");
            Err(section.error("isolation", problem, "write \"instance\" or \"request\""))
        }
    }
}

fn probe(section: &Section<'_>) -> Result<Option<String>> {
    match section.text("probe")? {
        Some((path, span)) if !path.starts_with('/') || path.contains('#') || path.parse::<PathAndQuery>().is_err() => {
            let problem = format!("`{}` is not the path of a request", path.escape_debug());
            Err(section.reader.error(span, problem, "write a path such as \"/health\", with `%20` for a space"))
        }
        probe => Ok(probe.map(|(path, _)| path)),
    }
}

/// `[service.config]`: any keys. Numbers and booleans become text.
fn settings(section: &Section<'_>) -> Result<BTreeMap<String, String>> {
    let setting = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
        let text = match value.get_ref() {
            DeValue::String(text) => section.reader.expand(text, value.span())?,
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(truth) => truth.to_string(),
            _ => {
                let problem = format!("`{}` is not a string, number or boolean", key.get_ref());
                let help = "quote names with dots: \"flag.name\" = \"true\"";
                return Err(section.reader.error(value.span(), problem, help));
            }
        };
        Ok((key.get_ref().to_string(), text))
    };
    all(section.table.into_iter().flatten().map(setting)).map(BTreeMap::from_iter)
}

fn limits(section: &Section<'_>) -> Result<Limits> {
    section.allow_keys(&["memory", "request_body", "response_body", "request_timeout", "idle_timeout", "concurrency"]);
    let default = Limits::default();
    let body = |key, default: usize| {
        let given = section.size(key).unwrap_or_default().map(usize::try_from);
        given.unwrap_or(Ok(default)).unwrap_or_else(|_| {
            section.error(key, format!("`{key}` is too large"), SIZE_HELP);
            default
        })
    };
    let duration = |key, default| section.duration(key).unwrap_or_default().unwrap_or(default);
    let limits = Limits {
        memory: section.size("memory").unwrap_or_default().unwrap_or(default.memory),
        request_body: body("request_body", default.request_body),
        response_body: body("response_body", default.response_body),
        request_timeout: duration("request_timeout", default.request_timeout),
        idle_timeout: duration("idle_timeout", default.idle_timeout),
        concurrency: section.count("concurrency").unwrap_or_default().unwrap_or(default.concurrency),
    };
    if limits.memory > 4 << 30 {
        let problem = "`memory` is larger than 4GiB, the maximum of a component".to_owned();
        section.error("memory", problem, SIZE_HELP);
    }
    let zero = [
        ("memory", limits.memory == 0),
        ("request_timeout", limits.request_timeout == Duration::ZERO),
        ("idle_timeout", limits.idle_timeout == Duration::ZERO),
        ("concurrency", limits.concurrency == 0),
    ];
    for (key, _) in zero.into_iter().filter(|(_, zero)| *zero) {
        let problem = format!("`{key}` must not be zero");
        section.error(key, problem, "use a larger value, or remove the key");
    }
    Ok(limits)
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "manifest_reference_tests.rs"]
mod reference_tests;
