//! The commands that need no running host, and the banner of `spandrel run`.

use std::path::Path;
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::arguments::{CheckArguments, InspectArguments, LogFormat, RunArguments};
use super::error::CommandError;
use super::table::{row, table};
use crate::component::{self, Engine, HttpWorld, Inspection, Kind};
use crate::config::{Config, Environment, ServiceConfig, telemetry};
use crate::console::address_url;
use crate::host::Host;
use crate::http::routes::Route;
use crate::metrics::Metrics;
use crate::outbound::Network;
use crate::printable::{printable, printable_lines};
use crate::services::GenerationBuilder;
use crate::state::{DEFAULT_QUOTA, StateStore};
use crate::trace::{Exporter, Propagators};

/// The telemetry settings on one line.
fn telemetry_line(config: &Config) -> String {
    telemetry::summary(&config.telemetry)
}

/// The telemetry settings of `spandrel run` on one line. With `--quiet`, log records do not go to the terminal.
pub fn running_telemetry_line(config: &Config, arguments: &RunArguments) -> String {
    let mut settings = config.telemetry.clone();
    if arguments.quiet {
        settings.logs.exporters.retain(|exporter| *exporter != Exporter::Console);
    }
    telemetry::summary(&settings)
}

/// The text that `spandrel run` prints when all services serve: the services, and example requests.
pub fn banner(host: &Host, telemetry: &str, format: LogFormat) -> String {
    match format {
        LogFormat::Text => text_banner(host, telemetry),
        LogFormat::Json => {
            let line = json!({
                "level": "INFO",
                "message": "started",
                "services": host.services(),
                "console": host.console_address().map(|address| address.to_string()),
                "telemetry": telemetry,
            });
            format!("{line}\n")
        }
    }
}

fn text_banner(host: &Host, telemetry: &str) -> String {
    let mut rows = vec![row(["SERVICE", "VERSION", "KIND", "URL", "DIGEST"])];
    let mut urls = Vec::new();
    for service in host.services() {
        let url = host.address(&service.name).map(address_url).unwrap_or_default();
        let digest = service.digest.get(..19).unwrap_or(&service.digest);
        rows.push(row([&service.name, &service.version, &service.kind, &url, digest]));
        urls.extend(host.examples(&service.name).into_iter().map(|path| format!("  curl {url}{}\n", printable(&path))));
    }
    let examples = if urls.is_empty() { String::new() } else { format!("Try:\n{}\n", urls.concat()) };
    let text = format!("{}\n{telemetry}\n\n{examples}", table(&rows));
    // The console comes last, so that it stays visible above the first lines of the log.
    match host.console_address() {
        Some(console) => format!("{text}console: {}\n", address_url(console)),
        None => format!("{text}console: none; add `[console]` to the manifest for one\n"),
    }
}

/// `spandrel check`.
pub async fn check(arguments: CheckArguments, environment: &Environment) -> Result<String, CommandError> {
    let config = Config::load(&arguments.manifest, environment)?;
    if arguments.strict {
        reject_invalid(environment)?;
    }
    let ignored = telemetry::ignored(environment);
    let found = crate::host::check(&config).await?;
    if arguments.json {
        let services = found.iter().map(|(service, prepared)| {
            json!({
                "name": service.name.to_string(),
                "kind": prepared.kind().to_string(),
                "listen": service.listen.to_string(),
                "version": service.version,
                "digest": prepared.digest().as_str(),
                "size": prepared.size(),
                "routes": prepared.routes().routes().iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        });
        let services: Vec<_> = services.collect();
        let value = json!({
            "manifest": arguments.manifest,
            "services": services,
            "telemetry": telemetry_line(&config),
            "ignored": ignored,
        });
        return Ok(format!("{value:#}\n"));
    }
    let mut rows = vec![row(["SERVICE", "VERSION", "KIND", "LISTEN", "ROUTES", "SIZE", "DIGEST"])];
    for (service, prepared) in &found {
        rows.push(row([
            service.name.as_str(),
            &service.version,
            &prepared.kind().to_string(),
            &service.listen.to_string(),
            &prepared.routes().routes().len().to_string(),
            &size(prepared.size()),
            prepared.digest().as_str().get(..19).unwrap_or_default(),
        ]));
    }
    let telemetry = telemetry_line(&config);
    let ignored: String = ignored.iter().map(|line| format!("{}\n", printable(line))).collect();
    let manifest = arguments.manifest.display();
    Ok(format!("{}\n{telemetry}\n{ignored}{manifest} is valid; nothing was started\n", table(&rows)))
}

/// Rejects an environment with invalid values, which `run` treats as unset.
fn reject_invalid(environment: &Environment) -> Result<(), CommandError> {
    let invalid: Vec<_> = telemetry::invalid(environment).iter().map(ToString::to_string).collect();
    if invalid.is_empty() { Ok(()) } else { Err(CommandError::Ignored(invalid)) }
}

/// `spandrel inspect`.
pub async fn inspect(arguments: InspectArguments) -> Result<String, CommandError> {
    let path = arguments.file.display().to_string();
    let bytes = read(&arguments.file).await?;
    let builder = GenerationBuilder::new(
        Engine::new(None)?,
        StateStore::memory(DEFAULT_QUOTA),
        Network::new().map_err(crate::host::StartError::from)?,
        Propagators::default(),
        Metrics::new(Vec::new()),
        Vec::new(),
    );
    let service = ServiceConfig::unnamed(&arguments.file);
    let environment = builder.context(&service, &builder.resource(&service));
    let inspection = component::inspect(builder.engine(), bytes, &environment).await;
    let inspection = inspection.map_err(|reason| CommandError::Component { path: path.clone(), reason })?;
    Ok(if arguments.json {
        format!("{:#}\n", inspection_json(&path, &inspection))
    } else {
        inspection_text(&path, &inspection)
    })
}

/// Reads a component file.
pub(super) async fn read(path: &Path) -> Result<Arc<[u8]>, CommandError> {
    let bytes = tokio::fs::read(path).await;
    let bytes = bytes.map_err(|reason| CommandError::Unreadable { path: path.display().to_string(), reason })?;
    Ok(bytes.into())
}

fn inspection_json(path: &str, inspection: &Inspection) -> Value {
    let routes = inspection.routes.as_ref().map(|routes| {
        routes
            .iter()
            .map(|route| json!({ "method": route.method.as_ref().map(Method::as_str), "path": &*route.template }))
            .collect::<Vec<_>>()
    });
    let imports = inspection.imports.iter();
    json!({
        "file": path,
        "kind": inspection.kind.to_string(),
        "digest": inspection.digest.as_str(),
        "size": inspection.size,
        "routes": routes.as_ref().ok(),
        "error": routes.as_ref().err().map(ToString::to_string),
        "imports": imports.map(|import| json!({ "name": import.name, "offered": import.offered })).collect::<Vec<_>>(),
        "exports": inspection.exports,
    })
}

fn inspection_text(path: &str, inspection: &Inspection) -> String {
    let mut text = format!(
        "{path}\n  kind    {}\n  size    {}\n  digest  {}\n\nroutes\n",
        match inspection.kind {
            Kind::Unknown => "unknown (it exports no handler)".to_owned(),
            Kind::Standard(HttpWorld::P2) => "standard (wasi:http 0.2)".to_owned(),
            Kind::Standard(HttpWorld::P3) => "standard (wasi:http 0.3)".to_owned(),
            Kind::Lean => Kind::Lean.to_string(),
        },
        size(inspection.size),
        inspection.digest.as_str(),
    );
    match &inspection.routes {
        Ok(routes) => {
            let method = |route: &Route| route.method.as_ref().map_or("any", Method::as_str).to_owned();
            text.extend(routes.iter().map(|route| format!("  {:<7} {}\n", method(route), printable(&route.template))));
        }
        Err(error) => text.push_str(&format!("  none: {}\n", printable_lines(&error.to_string()))),
    }
    text.push_str("\nimports\n");
    for import in &inspection.imports {
        let has = if import.offered { "ok     " } else { "MISSING" };
        text.push_str(&format!("  {has} {}\n", printable(&import.name)));
    }
    text.push_str("\nexports\n");
    text.extend(inspection.exports.iter().map(|export| format!("  {}\n", printable(export))));
    text
}

fn size(bytes: usize) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
