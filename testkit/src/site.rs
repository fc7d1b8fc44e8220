//! A folder with a manifest and components, for a host that runs as a separate process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::{Ended, free_address, run};
use crate::{Admin, SERVICES, Shop, ShopBuilder, Spandrel, artifacts};

/// The surroundings of a host: its folder, its ports, its environment.
pub struct Site {
    folder: TempDir,
    console: SocketAddr,
    addresses: BTreeMap<String, SocketAddr>,
    environment: Vec<(String, String)>,
}

impl Site {
    /// An empty folder, and free ports for the console and these services.
    pub fn new(services: &[&str]) -> Site {
        let addresses = services.iter().map(|name| ((*name).to_owned(), free_address())).collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let site = Site { folder, console: free_address(), addresses, environment: Vec::new() };
        let cache = artifacts::cache().display().to_string();
        site.env("SPANDREL_CACHE_DIR", &cache).env("OTEL_SDK_DISABLED", "true")
    }

    /// The shop with copies of the components, which tests can replace, and with its state on disk.
    pub fn shop() -> (Site, ShopBuilder) {
        let mut site = Site::new(&SERVICES.map(|(name, _)| name));
        let mut builder = Shop::builder();
        for (name, _) in SERVICES {
            let file = site.path(&format!("{name}.wasm"));
            std::fs::copy(artifacts::component(name), &file).expect("the component can be copied");
            builder = builder.component(name, &file).port(name, site.address(name).port());
            let variable = format!("{}_URL", name.replace('-', "_").to_uppercase());
            let url = format!("http://localhost:{}", site.address(name).port());
            site = site.env(&variable, &url);
        }
        let state = format!("backend = \"redb\"\npath = \"{}\"", site.path("state.redb").display());
        let builder = builder.state(&state).console_port(site.console.port());
        site.write(&builder);
        (site, builder)
    }

    /// Sets an environment variable of the host. Later calls replace earlier ones.
    pub fn env(mut self, name: &str, value: &str) -> Site {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The address that a service listens on.
    #[track_caller]
    pub fn address(&self, service: &str) -> SocketAddr {
        *self.addresses.get(service).unwrap_or_else(|| panic!("no address for `{service}`"))
    }

    /// The address that the console listens on.
    pub fn console(&self) -> SocketAddr {
        self.console
    }

    /// The admin API of the host in this folder.
    pub fn admin(&self) -> Admin {
        Admin::at(self.console)
    }

    /// Replaces the manifest atomically.
    pub fn write(&self, manifest: &ShopBuilder) {
        self.replace("services.toml", manifest.manifest().as_bytes());
    }

    /// Replaces a file atomically.
    pub fn replace(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path("next"), content).expect("a file can be written");
        std::fs::rename(self.path("next"), self.path(name)).expect("a file can be renamed");
    }

    /// The manifest.
    pub fn manifest(&self) -> PathBuf {
        self.path("services.toml")
    }

    /// Starts the host and waits until it is ready.
    pub fn serve(&self) -> Spandrel {
        let mut spandrel = self.begin();
        spandrel.wait_until_ready(self.console);
        spandrel
    }

    /// Starts the host without waiting until it is ready.
    pub fn begin(&self) -> Spandrel {
        Spandrel::serve(&self.manifest(), &self.environment())
    }

    /// Runs another command with this manifest.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let manifest = self.manifest().display().to_string();
        let arguments: Vec<_> = arguments.iter().copied().chain(["--manifest", manifest.as_str()]).collect();
        run(&arguments, &self.environment())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}
