//! The host's binary with the repository's manifest, on free ports and in a separate folder.

use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;
use testkit::process::{Spandrel, free_address};
use testkit::{Answer, Client, Request, SERVICES};

use crate::running::{Stack, root};

/// A running host that exports to the stack.
pub struct Shop {
    host: Spandrel,
    addresses: Vec<(&'static str, SocketAddr)>,
    _folder: TempDir,
}

impl Shop {
    /// Starts `spandrel run`.
    pub fn start(stack: &Stack) -> Shop {
        let addresses: Vec<_> = SERVICES.iter().map(|(name, _)| (*name, free_address())).collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let manifest = folder.path().join("services.toml");
        std::fs::write(&manifest, services(&addresses)).expect("the folder can be written to");
        let url = |wanted: &str| {
            let found = addresses.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, address)| format!("http://localhost:{}", address.port())).expect("a service of the shop")
        };
        let endpoint = format!("http://{}", stack.address("otlp-grpc"));
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
            ("PRODUCT_SERVICE_URL", &url("product-service")),
            ("INVENTORY_SERVICE_URL", &url("inventory-service")),
        ];
        let mut host = Spandrel::serve(&manifest, &environment);
        addresses.iter().for_each(|(_, address)| host.wait_until_listening(*address));
        Shop { host, addresses, _folder: folder }
    }

    /// The address of a service.
    pub fn address(&self, service: &str) -> SocketAddr {
        let found = self.addresses.iter().find(|(name, _)| *name == service);
        found.unwrap_or_else(|| panic!("no service `{service}`")).1
    }

    /// A request without a traceparent, as `curl` sends it.
    pub fn request(&self, method: &str, service: &str, path: &str) -> Request {
        // A separate client: a connection from earlier requests may have reached the host's idle timeout.
        Client::default().request(method, self.address(service), path).untraced()
    }

    /// Requests one user's recommendations, in this session.
    pub async fn recommendations(&self, user: u32, session: &str) -> Answer {
        let request = self.request("GET", "user-service", &format!("/users/{user}/recommendations"));
        let answer = request.header("x-client-id", "web").header("x-session-id", session).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }

    /// Stops the host and checks its exit status.
    pub fn stop(self) {
        self.host.signal("TERM");
        let ended = self.host.wait(Duration::from_secs(60));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}

/// services.toml with these addresses, and with the built components.
fn services(addresses: &[(&str, SocketAddr)]) -> String {
    let path = root().join("services.toml");
    let text = std::fs::read_to_string(path).expect("the repository has a services.toml");
    let text = SERVICES.iter().zip(addresses).fold(text, |text, ((name, port), (_, address))| {
        let component = format!("target/wasm32-wasip2/release/{}.wasm", name.replace('-', "_"));
        text.replace(&format!("127.0.0.1:{port}"), &address.to_string())
            .replace(&component, &testkit::artifacts::component(name).display().to_string())
    });
    text.replace("127.0.0.1:8010", &free_address().to_string())
}
