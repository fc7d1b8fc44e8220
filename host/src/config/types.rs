//! The resolved configuration: no raw strings, no options that mean a default.

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

/// Everything that a host is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file that it came from.
    pub manifest: PathBuf,
    /// The folder that relative paths start at: the manifest's. Empty where that is the current one.
    pub base: PathBuf,
    /// The console's listener.
    pub console: ConsoleConfig,
    /// The connections of all listeners.
    pub connections: Connections,
    /// What `wasi:keyvalue` is backed by.
    pub state: StateConfig,
    /// How components are swapped.
    pub swap: SwapConfig,
    /// How the host stops.
    pub shutdown: ShutdownConfig,
    /// The services, in the order of the manifest.
    pub services: Vec<ServiceConfig>,
    /// Telemetry.
    pub telemetry: Settings,
    /// What of a request stands on its spans.
    pub attributes: Vec<RequestAttribute>,
    /// What is left out of URLs on spans.
    pub redaction: Redaction,
    /// Attributes of every service's Resource.
    pub resource: Vec<(String, String)>,
    /// Which ports are taken.
    pub bind: Bind,
    /// Where compiled components are kept; nowhere where there is no home folder.
    pub cache_dir: Option<PathBuf>,
}

/// Which ports are taken for declared addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// Those that are declared.
    Declared,
    /// Any that are free. Calls between services still go by the declared addresses.
    Ephemeral,
}

/// `[console]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleConfig {
    /// Where it listens; none where it is turned off.
    pub listen: Option<SocketAddr>,
    /// What callers must send; always there where `listen` is not loopback.
    pub admin_token: Option<AdminToken>,
    /// Where it takes spans of other processes by OTLP.
    pub otlp: Option<SocketAddr>,
    /// A folder with a build of the Jaeger UI.
    pub jaeger_ui: Option<PathBuf>,
}

/// `[limits]`: the connections that clients make to this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// The most that one service's port holds open.
    pub per_port: usize,
    /// The longest that a request's head may take to arrive, and the longest wait for a connection's first one.
    pub head_timeout: Duration,
    /// The longest wait for another request on a connection.
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
    /// Gone with the process.
    Memory {
        /// The most that one service keeps, in bytes.
        room: usize,
    },
    /// A file.
    Redb {
        /// The file.
        path: PathBuf,
        /// The most that one service keeps, in bytes.
        room: usize,
    },
}

/// `[swap]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapConfig {
    /// Whether files are watched.
    pub watch: bool,
    /// How long a new generation is watched for being worse than the one before; zero is not at all.
    pub guard: Duration,
    /// How long an old generation's requests are waited for before its instances are freed.
    pub drain: Duration,
    /// How many earlier generations are kept for a rollback.
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
    /// How long requests in flight may take to end, when the host stops and when a service is taken out.
    pub drain: Duration,
    /// How long the host goes on accepting after it has said that it is not ready: a balancer needs a while to notice.
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
    /// The name, where `text` is one.
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
    /// `version`, the value of `service.version`; `0.0.0` where the manifest names none.
    pub version: String,
    /// `component`, the file.
    pub component: PathBuf,
    /// `listen`.
    pub listen: SocketAddr,
    /// `trusted_proxies`: whose `Forwarded` and `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `isolation`, where the manifest names it; else the kind of component decides.
    pub isolation: Option<Isolation>,
    /// `requests_per_instance`.
    pub requests_per_instance: Option<u32>,
    /// `concurrency_per_instance`.
    pub concurrency_per_instance: Option<u32>,
    /// `next`: the service that the handler which a middleware imports leads to.
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
    /// `[service.cors]`: which web pages may read its answers.
    pub cors: Option<Cors>,
    /// `compression`: the codings that its responses may have, the preferred one first.
    pub compression: Vec<Coding>,
    /// `[service.limits]`.
    pub limits: Limits,
    /// `probe`: the path that a new version must answer before it serves.
    pub probe: Option<String>,
}

impl ServiceConfig {
    /// Whether a version that runs under this runs under `other` too. Where a service listens is no part of a version.
    pub fn is_same_version_as(&self, other: &ServiceConfig) -> bool {
        *self == ServiceConfig { listen: self.listen, ..other.clone() }
    }

    /// A service that no manifest names, for looking at a component: default limits, nothing outbound.
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

/// The version of a service whose manifest names none.
pub(super) const DEFAULT_VERSION: &str = "0.0.0";

/// How far requests are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Instances are reused, for one request at a time.
    Instance,
    /// Every request has an instance of its own.
    Request,
}

/// `[service.limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    pub memory: u64,
    /// A request's body, in bytes.
    pub request_body: usize,
    /// A response's body, in bytes: the service's own, and of those it calls.
    pub response_body: usize,
    /// The longest time until the head of a response.
    pub request_timeout: Duration,
    /// The longest pause in a body, in either direction.
    pub idle_timeout: Duration,
    /// Requests that are served at one time.
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
    fn names_are_plain() {
        assert!(ServiceName::parse("user-service").is_some());
        assert!(ServiceName::parse(&"a".repeat(63)).is_some());
        for bad in ["", "User", "a_b", "-a", "a-", "a b", "\u{e9}", &"a".repeat(64)] {
            assert_eq!(ServiceName::parse(bad), None, "{bad}");
        }
    }
}
