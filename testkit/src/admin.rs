//! The admin API of a host, as an operator uses it.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::Value;

use crate::{Answer, Client, PATIENCE};

/// Talks to one console.
#[derive(Clone)]
pub struct Admin {
    client: Client,
    console: SocketAddr,
}

impl Admin {
    /// Of the host whose console listens here.
    pub fn at(console: SocketAddr) -> Admin {
        Admin { client: Client::default(), console }
    }

    /// Sends a request about services, as in `/NAME/component?canary=10%25`.
    pub async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Answer {
        let path = format!("/admin/v1/services{path}");
        // What is compiled gives way to what is served: on a machine that is busy serving, a swap takes its time.
        self.client.request(method, self.console, &path).untraced().body(body).patience(9 * PATIENCE).send().await
    }

    /// Puts a component in place of the one that serves.
    pub async fn swap(&self, service: &str, bytes: Vec<u8>) -> Answer {
        self.send("PUT", &format!("/{service}/component"), bytes).await
    }

    /// `rollback`, `promote` or `abort`.
    pub async fn act(&self, service: &str, action: &str) -> Answer {
        self.send("POST", &format!("/{service}/{action}"), Vec::new()).await
    }

    /// What is told of a service; null where there is none of this name.
    pub async fn status(&self, service: &str) -> Value {
        let all = self.send("GET", "", Vec::new()).await.json();
        let found = all.as_array().expect("a list").iter().find(|one| one["name"] == service);
        found.cloned().unwrap_or_default()
    }

    /// Waits until what is told of a service fits.
    pub async fn wait_until(&self, service: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + 3 * PATIENCE;
        loop {
            let status = self.status(service).await;
            if fits(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{status:#}");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a generation of a service serves.
    pub async fn wait_for_generation(&self, service: &str, generation: u64) -> Value {
        self.wait_until(service, |status| status["generation"] == generation).await
    }

    /// The sum of a metric's samples on the console's page, over all services.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = self.client.request("GET", self.console, "/metrics").untraced().send().await.text();
        let samples = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}
