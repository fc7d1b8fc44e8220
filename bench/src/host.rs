//! The host as a contender: the release binary with the demo shop, on free ports.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::contender::{self, Contender, Plan, Process};
use crate::folders::target;
use crate::load::Target;

/// The shop's services, in the order of their addresses.
pub(crate) const SERVICES: [&str; 3] = ["inventory-service", "product-service", "user-service"];

/// The shop in one host, with new addresses at each start.
pub(crate) struct Shop {
    /// The folder of the manifest, which must exist while a host runs.
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
    /// Further keys of `[console]`.
    console: &'static str,
    /// The target folder of the host and the components.
    target: PathBuf,
    /// [`ATTRIBUTES`], or nothing if the host does not support them.
    attributes: &'static str,
}

/// The addresses of the shop between a start and the next one.
struct Addresses {
    /// In the order of [`SERVICES`].
    services: [SocketAddr; 3],
    console: SocketAddr,
}

impl Shop {
    pub(crate) fn new() -> Result<Shop> {
        Shop::of(&target()?)
    }

    /// The shop with the host and the components in this target folder.
    fn of(target: &Path) -> Result<Shop> {
        let (folder, target) = (tempfile::tempdir()?, target.to_owned());
        Ok(Shop { folder, environment: Vec::new(), console: "", target, attributes: ATTRIBUTES })
    }

    /// The shop of another checkout. An older host rejects [`ATTRIBUTES`], and sets the user on spans without them.
    pub(crate) fn of_other(target: &Path) -> Result<Shop> {
        let shop = Shop::of(target)?;
        let mut check = command(target, "check", &shop.folder, &shop.manifest(&Addresses::free()?)?)?;
        let attributes = if check.output()?.status.success() { ATTRIBUTES } else { "" };
        Ok(Shop { attributes, ..shop })
    }

    /// Adds an environment variable.
    pub(crate) fn env(mut self, variable: &'static str, value: impl Into<String>) -> Shop {
        self.environment.push((variable, value.into()));
        self
    }

    /// Adds settings to `[console]`.
    pub(crate) fn console(mut self, settings: &'static str) -> Shop {
        self.console = settings;
        self
    }

    /// A contender that serves the whole chain.
    pub(crate) fn chain(self, name: &'static str) -> Plan {
        Plan::new(name, move || self.start_chain().map(|(contender, _)| contender))
    }

    /// A contender that serves one component.
    pub(crate) fn inventory(self, name: &'static str) -> Plan {
        Plan::new(name, move || {
            self.start(|[inventory, ..]| Target::inventory(inventory)).map(|(contender, _)| contender)
        })
    }

    /// Starts the host for the whole chain. Also returns the address of its console.
    pub(crate) fn start_chain(&self) -> Result<(Contender, SocketAddr)> {
        self.start(|[.., user]| Target::chain(user))
    }

    fn start(&self, target: impl FnOnce([SocketAddr; 3]) -> Target) -> Result<(Contender, SocketAddr)> {
        let addresses = Addresses::free()?;
        let target = target(addresses.services);
        let process = Process { command: self.command(&addresses)?, address: target.address };
        Ok((Contender::start(target, vec![process])?, addresses.console))
    }

    fn command(&self, addresses: &Addresses) -> Result<Command> {
        let mut command = command(&self.target, "run", &self.folder, &self.manifest(addresses)?)?;
        command.envs(self.environment.iter().map(|(variable, value)| (variable, value)));
        Ok(command)
    }

    fn manifest(&self, addresses: &Addresses) -> Result<String> {
        let [inventory, product, _] = addresses.services;
        let mut text = format!(
            "[console]\nlisten = \"{}\"\n{}\n[state]\nbackend = \"memory\"\n[swap]\nguard = \"0s\"\n",
            addresses.console, self.console
        );
        for (name, address) in SERVICES.iter().zip(addresses.services) {
            let (config, allowed) = match *name {
                "inventory-service" => (String::new(), String::new()),
                "product-service" => (
                    format!(
                        "inventory_url = \"http://{inventory}\"\n\"flag.recommendation_engine\" = \"true\"\n\
                         \"flag.inventory_enrichment\" = \"true\"\n\"flag.personalization_enabled\" = \"true\""
                    ),
                    format!("\"http://{inventory}\""),
                ),
                _ => (format!("product_url = \"http://{product}\""), format!("\"http://{product}\"")),
            };
            write!(
                text,
                "[[service]]\nname = \"{name}\"\nversion = \"1.0.0\"\ncomponent = \"{}\"\nlisten = \"{address}\"\n\
                 [service.config]\n{config}\n[service.outbound]\nallow = [{allowed}]\n",
                component(&self.target, name).display()
            )?;
        }
        text.push_str(self.attributes);
        Ok(text)
    }
}

/// Attributes from requests: the native contenders set the user on their spans, too.
const ATTRIBUTES: &str = r#"
[[telemetry.attributes]]
from = ["path:user_id", "query:user_id"]
as = ["business.user_id", "user.id"]
baggage = true
"#;

impl Addresses {
    fn free() -> Result<Addresses> {
        let [inventory, product, user, console] = contender::free_addresses()?;
        Ok(Addresses { services: [inventory, product, user], console })
    }
}

/// A command of the host in a target folder, such as `run`, with this manifest, which is written to `folder`.
pub(crate) fn command(target: &Path, name: &str, folder: &TempDir, manifest: &str) -> Result<Command> {
    let binary = target.join("release/spandrel");
    ensure!(binary.is_file(), "{} does not exist; `cargo xtask bench` builds it", binary.display());
    let file = folder.path().join("services.toml");
    std::fs::write(&file, manifest)?;
    let mut command = Command::new(binary);
    command.arg(name).arg("--manifest").arg(file);
    Ok(command)
}

/// The file of a component, by the name of its package.
pub(crate) fn component(target: &Path, package: &str) -> PathBuf {
    target.join("wasm32-wasip2/release").join(format!("{}.wasm", package.replace('-', "_")))
}
