//! The host as a contender: the release binary with the demo shop, on free ports.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::contender::{self, Contender};
use crate::load::Target;
use crate::target;

/// The shop's services, in the order of their addresses.
pub(crate) const SERVICES: [&str; 3] = ["inventory-service", "product-service", "user-service"];

/// The shop in one host.
pub(crate) struct Shop {
    /// Where the services listen, in the order of [`SERVICES`].
    pub(crate) addresses: [SocketAddr; 3],
    pub(crate) console: SocketAddr,
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Shop {
    /// Writes a manifest for it.
    pub(crate) fn new() -> Result<Shop> {
        let [inventory, product, user, console] = contender::free_addresses()?;
        let folder = tempfile::tempdir()?;
        Ok(Shop { addresses: [inventory, product, user], console, folder, environment: Vec::new() })
    }

    /// With this in the environment.
    pub(crate) fn env(mut self, variable: &'static str, value: impl Into<String>) -> Shop {
        self.environment.push((variable, value.into()));
        self
    }

    /// Starts the host, with `console` under `[console]`, as a contender that is asked for the whole chain.
    pub(crate) fn chain(&self, name: &str, console: &str) -> Result<Contender> {
        let target = Target::chain(self.addresses[2]);
        Contender::start(name, target, vec![self.command(console)?])
    }

    /// Starts the host as a contender that is asked for one component's answer.
    pub(crate) fn inventory(&self, name: &str) -> Result<Contender> {
        let target = Target::inventory(self.addresses[0]);
        Contender::start(name, target, vec![self.command("")?])
    }

    fn command(&self, console: &str) -> Result<Command> {
        let binary = target()?.join("release/spandrel");
        ensure!(binary.is_file(), "{} is not there; `cargo xtask bench` builds it", binary.display());
        let manifest = self.folder.path().join("services.toml");
        std::fs::write(&manifest, self.manifest(console)?)?;
        let mut command = Command::new(binary);
        command.arg("run").arg("--manifest").arg(manifest);
        command.envs(self.environment.iter().map(|(variable, value)| (variable, value)));
        Ok(command)
    }

    fn manifest(&self, console: &str) -> Result<String> {
        let [inventory, product, _] = self.addresses;
        let mut text = format!(
            "[console]\nlisten = \"{}\"\n{console}\n[state]\nbackend = \"memory\"\n[swap]\nguard = \"0s\"\n",
            self.console
        );
        for (name, address) in SERVICES.iter().zip(self.addresses) {
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
                component(name)?.display()
            )?;
        }
        Ok(text)
    }
}

/// The file of a component of the shop.
pub(crate) fn component(service: &str) -> Result<PathBuf> {
    let file = format!("{}.wasm", service.replace('-', "_"));
    Ok(target()?.join("wasm32-wasip2/release").join(file))
}
