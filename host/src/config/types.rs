//! The resolved configuration: parsed types, with defaults applied.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::admin_token::AdminToken;
use super::attributes::RequestAttribute;
use super::folder::Folder;
use super::outbound::OutboundConfig;
use crate::http::coding::Coding;
use crate::http::cors::Cors;
use crate::http::redaction::Redaction;
use crate::http::routes::Route;
use crate::trace::Settings;

/// The complete configuration of a host.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The manifest file.
    pub manifest: PathBuf,
    /// The folder that relative paths are relative to: the manifest's. Empty if it is the current folder.
    pub base: PathBuf,
    /// The settings of the console.
    pub console: ConsoleConfig,
    /// The limits for connections.
    pub connections: Connections,
    /// The backend of `wasi:keyvalue`.
    pub state: StateConfig,
    /// The settings of swaps.
    pub swap: SwapConfig,
    /// The settings of the shutdown.
    pub shutdown: ShutdownConfig,
    /// The services, in the order of the manifest.
    pub services: Vec<ServiceConfig>,
    /// The settings of telemetry.
    pub telemetry: Settings,
    /// The values of requests that become attributes of spans.
    pub attributes: Vec<RequestAttribute>,
    /// The parameters that are redacted in URLs on spans.
    pub redaction: Redaction,
    /// The Resource attributes of all services.
    pub resource: Vec<(String, String)>,
    /// How addresses are bound.
    pub bind: Bind,
    /// The folder of the cache of compiled components; `None` if there is no home folder.
    pub cache_dir: Option<PathBuf>,
}

/// Which ports are bound for the addresses in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// The declared ports.
    Declared,
    /// Free ports that the operating system chooses. Calls between services still use the declared addresses.
    Ephemeral,
}

/// `[console]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleConfig {
    /// The listen address; `None` if the console is off.
    pub listen: Option<SocketAddr>,
    /// The token that callers must send; always set if `listen` is not a loopback address.
    pub admin_token: Option<AdminToken>,
    /// The listen address of the OTLP receiver for spans of other processes.
    pub otlp: Option<SocketAddr>,
    /// A folder with a build of the Jaeger UI.
    pub jaeger_ui: Option<PathBuf>,
}

/// `[limits]`: the connections that clients make to this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// The largest number of open connections per port of a service.
    pub per_port: usize,
    /// The longest time to receive the head of a request, and to wait for the first request of a connection.
    pub head_timeout: Duration,
    /// The longest time to wait for the next request on a connection.
    pub keep_alive: Duration,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections { per_port: 10_000, head_timeout: Duration::from_secs(10), keep_alive: Duration::from_secs(75) }
    }
}

/// `[state]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateConfig {
    /// In memory; lost when the process ends.
    Memory {
        /// The capacity per service, in bytes.
        per_service: usize,
    },
    /// In a file.
    Redb {
        /// The file.
        path: PathBuf,
        /// The capacity per service, in bytes.
        per_service: usize,
    },
}

/// `[swap]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapConfig {
    /// Whether files are watched.
    pub watch: bool,
    /// How long the guard compares a new generation with the one before; zero turns the guard off.
    pub guard: Duration,
    /// The longest time to drain an old generation before its instances are freed.
    pub drain: Duration,
    /// The number of earlier generations kept for rollbacks.
    pub keep: usize,
}

impl Default for SwapConfig {
    fn default() -> SwapConfig {
        SwapConfig { watch: true, guard: Duration::from_secs(30), drain: Duration::from_secs(30), keep: 3 }
    }
}

/// `[shutdown]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// The longest time to drain requests in flight when the host stops or a service is removed.
    pub drain: Duration,
    /// How long the host accepts connections after `/readyz` has turned to 503, until load balancers have noticed.
    pub delay: Duration,
}

impl Default for ShutdownConfig {
    fn default() -> ShutdownConfig {
        ShutdownConfig { drain: Duration::from_secs(20), delay: Duration::ZERO }
    }
}

/// The name of a service: up to 63 lower-case letters, digits and dashes, as in a host name. It is the value of
/// `service.name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Parses a name. `None` if it is invalid.
    pub fn parse(text: &str) -> Option<ServiceName> {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let named = (1..=63).contains(&text.len()) && text.bytes().all(good);
        (named && !text.starts_with('-') && !text.ends_with('-')).then(|| ServiceName(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// `[[service]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceConfig {
    /// `name`.
    pub name: ServiceName,
    /// `version`, the value of `service.version`; `0.0.0` by default.
    pub version: String,
    /// `component`, the file.
    pub component: PathBuf,
    /// `listen`.
    pub listen: SocketAddr,
    /// `trusted_proxies`: the networks whose `Forwarded` and `X-Forwarded-*` fields are used.
    pub trusted_proxies: Vec<IpNet>,
    /// `isolation`; the default depends on the kind of component.
    pub isolation: Option<Isolation>,
    /// `requests_per_instance`.
    pub requests_per_instance: Option<u32>,
    /// `concurrency_per_instance`.
    pub concurrency_per_instance: Option<u32>,
    /// `next`: the service that receives the requests that a middleware passes on.
    pub next: Option<ServiceName>,
    /// `routes`: the endpoints of a standard component.
    pub routes: Vec<Route>,
    /// `[service.env]`.
    pub env: BTreeMap<String, String>,
    /// `[[service.files]]`.
    pub files: Vec<Folder>,
    /// `[service.config]`.
    pub config: BTreeMap<String, String>,
    /// `[service.outbound]`.
    pub outbound: OutboundConfig,
    /// `[service.cors]`.
    pub cors: Option<Cors>,
    /// `compression`: the content codings of responses, in the order of preference.
    pub compression: Vec<Coding>,
    /// `[service.limits]`.
    pub limits: Limits,
    /// `probe`: the path that a new version must answer with success before it is published.
    pub probe: Option<String>,
}

impl ServiceConfig {
    /// Whether a version with this configuration need not be replaced for `other`. The listen address is not a part of
    /// a version.
    pub fn is_same_version_as(&self, other: &ServiceConfig) -> bool {
        *self == ServiceConfig { listen: self.listen, ..other.clone() }
    }

    /// The configuration for inspecting a component without a manifest: default limits, no outbound calls.
    pub fn unnamed(component: &Path) -> ServiceConfig {
        ServiceConfig {
            name: ServiceName("unnamed".into()),
            version: DEFAULT_VERSION.to_owned(),
            component: component.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            trusted_proxies: Vec::new(),
            isolation: None,
            requests_per_instance: None,
            concurrency_per_instance: None,
            next: None,
            routes: Vec::new(),
            env: BTreeMap::new(),
            files: Vec::new(),
            config: BTreeMap::new(),
            outbound: OutboundConfig::default(),
            cors: None,
            compression: Vec::new(),
            limits: Limits::default(),
            probe: None,
        }
    }
}

/// The version of a service without `version` in the manifest.
pub(super) const DEFAULT_VERSION: &str = "0.0.0";

/// The isolation of requests from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Instances are reused, for one request at a time.
    Instance,
    /// Each request has an instance of its own.
    Request,
}

/// `[service.limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest linear memory of an instance, in bytes.
    pub memory: u64,
    /// The largest request body, in bytes.
    pub request_body: usize,
    /// The largest response body, in bytes: of the service's own responses and of those that it receives.
    pub response_body: usize,
    /// The longest time until the head of a response.
    pub request_timeout: Duration,
    /// The longest pause in a body, in either direction.
    pub idle_timeout: Duration,
    /// The largest number of concurrent requests.
    pub concurrency: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory: 64 << 20,
            request_body: 1 << 20,
            response_body: 8 << 20,
            request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            concurrency: 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_are_host_name_labels() {
        assert!(ServiceName::parse("user-service").is_some());
        assert!(ServiceName::parse(&"a".repeat(63)).is_some());
        for bad in ["", "User", "a_b", "-a", "a-", "a b", "\u{e9}", &"a".repeat(64)] {
            assert_eq!(ServiceName::parse(bad), None, "{bad}");
        }
    }
}
