//! Requests in the background, none of which may fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use testkit::{Client, PATIENCE, poll};
use tokio::task::JoinHandle;

use crate::shop::Shop;

/// A running load.
pub struct Load {
    served: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Load {
    /// Starts one client that sends one request after the other.
    pub fn start(shop: &Shop) -> Load {
        let (served, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (served.clone(), over.clone());
        let (client, address) = (Client::default(), shop.address("user-service"));
        let task = tokio::spawn(async move {
            // A low rate: an overloaded machine would only show its own limits.
            let mut pace = tokio::time::interval(Duration::from_millis(40));
            while !end.load(Ordering::Relaxed) {
                pace.tick().await;
                let answer = client.request("GET", address, "/users/2/recommendations").send().await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Load { served, over, task }
    }

    /// Waits until this many more requests have been served.
    pub async fn wait_for_more(&self, count: usize) {
        let goal = self.served.load(Ordering::Relaxed) + count;
        let reached = poll::until(PATIENCE, || (self.served.load(Ordering::Relaxed) >= goal).then_some(())).await;
        assert!(reached.is_some(), "the host serves too little: {} of {goal}", self.served.load(Ordering::Relaxed));
    }

    /// Stops the load and returns the number of served requests. Panics if a request failed.
    pub async fn stop(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.expect("no request failed");
        self.served.load(Ordering::Relaxed)
    }
}
