//! Client for the admin API of a host.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::Value;

use crate::{Answer, Client, PATIENCE, poll};

/// A client for one console.
#[derive(Clone)]
pub struct Admin {
    client: Client,
    console: SocketAddr,
}

impl Admin {
    /// A client for the host whose console listens here.
    pub fn at(console: SocketAddr) -> Admin {
        Admin { client: Client::default(), console }
    }

    /// Sends a request about services, as in `/NAME/component?canary=10%25`.
    pub async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Answer {
        let path = format!("/admin/v1/services{path}");
        // Compilation yields to serving: on a machine that is busy serving requests, a swap takes long.
        self.client.request(method, self.console, &path).untraced().body(body).patience(9 * PATIENCE).send().await
    }

    /// Replaces the serving component.
    pub async fn swap(&self, service: &str, bytes: Vec<u8>) -> Answer {
        self.send("PUT", &format!("/{service}/component"), bytes).await
    }

    /// `rollback`, `promote` or `abort`.
    pub async fn act(&self, service: &str, action: &str) -> Answer {
        self.send("POST", &format!("/{service}/{action}"), Vec::new()).await
    }

    /// The report of a service; null if there is no service of this name.
    pub async fn status(&self, service: &str) -> Value {
        let all = self.send("GET", "", Vec::new()).await.json();
        let found = all.as_array().expect("a list").iter().find(|one| one["name"] == service);
        found.cloned().unwrap_or_default()
    }

    /// Waits until the report of a service satisfies a condition.
    pub async fn wait_until(&self, service: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + 3 * PATIENCE;
        loop {
            let status = self.status(service).await;
            if fits(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{status:#}");
            tokio::time::sleep(poll::PAUSE).await;
        }
    }

    /// Waits until a generation of a service serves.
    pub async fn wait_for_generation(&self, service: &str, generation: u64) -> Value {
        self.wait_until(service, |status| status["generation"] == generation).await
    }

    /// The sum of a metric's samples on the console's metrics page, over all services.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = self.client.request("GET", self.console, "/metrics").untraced().send().await.text();
        let samples = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}
