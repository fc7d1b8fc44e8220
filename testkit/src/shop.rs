//! A host in this process, on free ports, and a collector that receives its telemetry.
//!
//! Services listen on free ports, but the manifest contains the addresses of the demo, and calls between services of
//! the host use those, so traces look as in production.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use spandrel::Host;
use spandrel::config::{Bind, Config, Environment};
use tempfile::TempDir;

use crate::host_permit::HostPermit;
use crate::{Admin, Answer, Client, Collector, Request, SpanTree, TraceId, artifacts};

/// The services of the demo with their default ports.
pub const SERVICES: [(&str, u16); 3] = [("product-service", 8000), ("user-service", 8001), ("inventory-service", 8002)];
/// The port of the misbehaving component.
pub const ODDITIES_PORT: u16 = 8009;

/// The components of `wasi:http` 0.2 and 0.3, with the ports by which they call each other.
pub const STANDARD: [(&str, u16); 2] = [("standard-p2", 8022), ("standard-p3", 8023)];

/// A running host and its collector.
pub struct Shop {
    host: Option<Host>,
    client: Client,
    collector: Collector,
    /// The folder of the manifest and the state. Deleted when the shop is dropped.
    folder: TempDir,
    /// Dropped after the host.
    _permit: HostPermit,
}

/// The configuration of a host to start.
#[must_use]
pub struct ShopBuilder {
    services: Vec<Declared>,
    environment: Vec<(String, String)>,
    head: String,
    attributes: String,
    state: String,
    console: Option<u16>,
    collector: Option<Collector>,
    http: bool,
}

/// The request attributes in the manifest of the demo.
const ATTRIBUTES: &str = r#"[[telemetry.attributes]]
from = "header:x-client-id"
as = "business.client_id"
baggage = true

[[telemetry.attributes]]
from = "header:x-session-id"
as = ["business.session_id", "session.id"]
baggage = true

[[telemetry.attributes]]
from = ["path:user_id", "query:user_id"]
as = ["business.user_id", "user.id"]
baggage = true
"#;

/// One service of a manifest.
struct Declared {
    name: String,
    component: PathBuf,
    port: u16,
    keys: String,
    config: String,
    outbound: String,
    limits: String,
}

impl Shop {
    /// Starts the shop as in the demo, with its state in memory.
    pub async fn start() -> Shop {
        Shop::builder().start().await
    }

    /// The configuration of the shop as in the demo, which can be changed before the start.
    pub fn builder() -> ShopBuilder {
        let mut builder = ShopBuilder::empty();
        for (name, port) in SERVICES {
            builder = builder.service(name, &artifacts::component(name), port);
        }
        for flag in ["recommendation_engine", "inventory_enrichment", "personalization_enabled"] {
            builder = builder.config("product-service", &format!("\"flag.{flag}\" = \"true\""));
        }
        builder
            .config("user-service", "product_url = \"${PRODUCT_SERVICE_URL:-http://localhost:8000}\"")
            .outbound("user-service", "allow = [\"${PRODUCT_SERVICE_URL:-http://localhost:8000}\", \"${INVENTORY_SERVICE_URL:-http://localhost:8002}\"]\nbaggage = true")
            .config("user-service", "inventory_url = \"${INVENTORY_SERVICE_URL:-http://localhost:8002}\"")
            .config("product-service", "inventory_url = \"${INVENTORY_SERVICE_URL:-http://localhost:8002}\"")
            .outbound("product-service", "allow = [\"${INVENTORY_SERVICE_URL:-http://localhost:8002}\"]\nbaggage = true")
    }

    /// A host with only the misbehaving component, which may call itself.
    pub fn oddities() -> ShopBuilder {
        ShopBuilder::empty()
            .service("oddities", &artifacts::component("oddities"), ODDITIES_PORT)
            .config("oddities", &format!("self_url = \"http://localhost:{ODDITIES_PORT}\""))
            .outbound("oddities", &format!("allow = [\"http://localhost:{ODDITIES_PORT}\"]"))
    }

    /// A host with only the standard components, which may call each other.
    pub fn standard() -> ShopBuilder {
        let allowed = STANDARD.map(|(_, port)| format!("\"http://localhost:{port}\"")).join(", ");
        STANDARD.iter().fold(ShopBuilder::empty(), |builder, (name, port)| {
            builder.service(name, &artifacts::component(name), *port).outbound(name, &format!("allow = [{allowed}]"))
        })
    }

    /// The address that a service listens on.
    #[track_caller]
    pub fn address(&self, service: &str) -> SocketAddr {
        self.host().address(service).unwrap_or_else(|| panic!("no service `{service}`"))
    }

    /// The address that the console listens on.
    #[track_caller]
    pub fn console(&self) -> SocketAddr {
        self.host().console_address().expect("the console is on")
    }

    /// The admin API of the host.
    #[track_caller]
    pub fn admin(&self) -> Admin {
        Admin::at(self.console())
    }

    /// The host itself.
    pub fn host(&self) -> &Host {
        self.host.as_ref().expect("the host runs")
    }

    /// The collector that the host exports to.
    pub fn collector(&self) -> &Collector {
        &self.collector
    }

    /// The same, mutable, to stop and start it.
    pub fn collector_mut(&mut self) -> &mut Collector {
        &mut self.collector
    }

    /// The folder of the state.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A request to a service, in a new trace.
    #[track_caller]
    pub fn request(&self, method: &str, service: &str, path: &str) -> Request {
        self.client.request(method, self.address(service), path)
    }

    /// Sends a GET request.
    pub async fn get(&self, service: &str, path: &str) -> Answer {
        self.request("GET", service, path).send().await
    }

    /// Sends a POST request without a body.
    pub async fn post(&self, service: &str, path: &str) -> Answer {
        self.request("POST", service, path).send().await
    }

    /// Waits until a trace has this many spans.
    pub async fn trace(&self, id: &TraceId, count: usize) -> SpanTree {
        self.collector.wait_for_trace(id, count).await
    }

    /// Stops the host as SIGTERM does, which exports all remaining spans, and returns the collector.
    pub async fn shut_down(mut self) -> Collector {
        if let Some(host) = self.host.take() {
            host.shutdown().await;
        }
        self.collector
    }

    /// All spans of one trace. Stops the host first, so that none is still being exported.
    pub async fn whole_trace(self, id: &TraceId) -> SpanTree {
        self.shut_down().await.trace(id)
    }
}

impl ShopBuilder {
    /// A manifest without services.
    pub fn empty() -> ShopBuilder {
        ShopBuilder {
            services: Vec::new(),
            environment: Vec::new(),
            head: String::new(),
            attributes: ATTRIBUTES.to_owned(),
            state: "backend = \"memory\"".to_owned(),
            console: None,
            collector: None,
            http: false,
        }
    }

    /// Adds a service.
    pub fn service(mut self, name: &str, component: &Path, port: u16) -> ShopBuilder {
        self.services.push(Declared {
            name: name.to_owned(),
            component: component.to_owned(),
            port,
            keys: String::new(),
            config: String::new(),
            outbound: String::new(),
            limits: String::new(),
        });
        self
    }

    /// Removes a service.
    pub fn without(mut self, name: &str) -> ShopBuilder {
        self.services.retain(|service| service.name != name);
        self
    }

    /// Adds a line to a service's `[[service]]`.
    pub fn keys(mut self, service: &str, line: &str) -> ShopBuilder {
        push(&mut self.declared(service).keys, line);
        self
    }

    /// Adds a line to a service's `[service.config]`.
    pub fn config(mut self, service: &str, line: &str) -> ShopBuilder {
        push(&mut self.declared(service).config, line);
        self
    }

    /// Sets a service's `[service.outbound]`.
    pub fn outbound(mut self, service: &str, line: &str) -> ShopBuilder {
        self.declared(service).outbound = line.to_owned();
        self
    }

    /// Adds a line to a service's `[service.limits]`.
    pub fn limits(mut self, service: &str, line: &str) -> ShopBuilder {
        push(&mut self.declared(service).limits, line);
        self
    }

    /// Sets an environment variable. Later calls replace earlier ones.
    pub fn env(mut self, name: &str, value: &str) -> ShopBuilder {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds tables to the head of the manifest, such as `[telemetry]`.
    pub fn head(mut self, text: &str) -> ShopBuilder {
        push(&mut self.head, text);
        self
    }

    /// Sets `[[telemetry.attributes]]`, replacing those of the demo.
    pub fn attributes(mut self, text: &str) -> ShopBuilder {
        self.attributes = text.to_owned();
        self
    }

    /// Sets `[state]`.
    pub fn state(mut self, text: &str) -> ShopBuilder {
        self.state = text.to_owned();
        self
    }

    /// Enables the console.
    pub fn with_console(self) -> ShopBuilder {
        self.console_port(8010)
    }

    /// Enables the console on this port.
    pub fn console_port(mut self, port: u16) -> ShopBuilder {
        self.console = Some(port);
        self
    }

    /// Sets the address of a service.
    pub fn port(mut self, service: &str, port: u16) -> ShopBuilder {
        self.declared(service).port = port;
        self
    }

    /// Sets the file of a service's component.
    pub fn component(mut self, service: &str, file: &Path) -> ShopBuilder {
        self.declared(service).component = file.to_owned();
        self
    }

    /// Uses an existing collector.
    pub fn collector(mut self, collector: Collector) -> ShopBuilder {
        self.collector = Some(collector);
        self
    }

    /// Exports over HTTP instead of gRPC.
    pub fn over_http(mut self) -> ShopBuilder {
        self.http = true;
        self
    }

    /// Starts the host. Panics with its error message if it does not start.
    pub async fn start(self) -> Shop {
        self.try_start().await.unwrap_or_else(|error| panic!("the host did not start: {error}"))
    }

    /// Starts the host, or returns its error message.
    pub async fn try_start(mut self) -> Result<Shop, String> {
        let collector = self.collector.take().unwrap_or_else(Collector::start);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("services.toml");
        let environment = self.environment(&collector);
        let mut config = Config::parse(&self.manifest(), &path, &environment).map_err(|error| error.to_string())?;
        config.bind = Bind::Ephemeral;
        config.cache_dir = Some(artifacts::cache());
        let permit = HostPermit::acquire().await;
        let host = Host::start(config, environment).await.map_err(|error| error.to_string())?;
        Ok(Shop { host: Some(host), client: Client::default(), collector, folder, _permit: permit })
    }

    /// The text of the manifest.
    pub fn manifest(&self) -> String {
        let mut text = String::new();
        let console = self.console.map_or("off".to_owned(), |port| format!("127.0.0.1:{port}"));
        push(&mut text, &format!("[console]\nlisten = \"{console}\""));
        push(&mut text, &format!("[state]\n{}\n{}", self.state, self.head));
        for service in &self.services {
            let Declared { name, port, keys, config, outbound, limits, .. } = service;
            let component = service.component.display();
            let written = write!(
                text,
                "\n[[service]]\nname = \"{name}\"\nversion = \"1.0.0\"\ncomponent = \"{component}\"\nlisten = \"127.0.0.1:{port}\"\n\
                 {keys}\n[service.config]\n{config}\n[service.outbound]\n{outbound}\n[service.limits]\n{limits}\n"
            );
            written.expect("a string can be written to");
        }
        push(&mut text, &self.attributes);
        text
    }

    /// Exports without delay, so that tests need not wait.
    fn environment(&self, collector: &Collector) -> Environment {
        let (endpoint, protocol) = match self.http {
            true => (collector.http_endpoint(), "http/protobuf"),
            false => (collector.endpoint(), "grpc"),
        };
        let mut pairs = vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), protocol.to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "20".to_owned()),
            ("OTEL_BLRP_SCHEDULE_DELAY".to_owned(), "20".to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL".to_owned(), "100".to_owned()),
        ];
        pairs.retain(|(name, _)| self.environment.iter().all(|(given, _)| given != name));
        pairs.extend(self.environment.iter().cloned());
        Environment::from_pairs(pairs)
    }

    #[track_caller]
    fn declared(&mut self, name: &str) -> &mut Declared {
        let found = self.services.iter_mut().find(|service| service.name == name);
        found.unwrap_or_else(|| panic!("no service `{name}` in the manifest"))
    }
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
