//! `/events`: notifies pages of changes by server-sent events.
//!
//! An event has no content: the page requests itself again, so that there is only one way to render. Pages are notified
//! at most twice a second whatever the load, and the number of subscribed pages is bounded.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;

use super::super::state::Console;
use crate::trace::TraceSummary;

/// The shortest time between two events.
const PAUSE: Duration = Duration::from_millis(500);
/// How often the services are checked for changes.
const LOOK: Duration = Duration::from_secs(1);
/// How often something is sent, even without changes.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The data of an event: browsers ignore events without data.
const CHANGED: &str = "page";
/// When a browser reconnects after the host was unreachable.
const RETRY: Duration = Duration::from_secs(2);

/// A subscribed page.
struct Watcher {
    console: Arc<Console>,
    traces: Receiver<Arc<TraceSummary>>,
    looked: u64,
    told: Instant,
    _permit: OwnedSemaphorePermit,
}

/// What is sent to a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    Changed,
    /// No change for a while: a comment is sent, so that a closed connection is noticed.
    Nothing,
    Stopping,
}

pub(super) async fn follow(State(console): State<Arc<Console>>) -> Response {
    let Ok(permit) = console.web.watchers.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages follow this host").into_response();
    };
    let traces = console.control.pipeline.store().subscribe();
    let looked = fingerprint(&console);
    let watcher = Watcher { console, traces, looked, told: Instant::now(), _permit: permit };
    let events = stream::unfold(watcher, async |mut watcher| {
        let event = match watcher.next().await {
            News::Changed => Event::default().event("changed").data(CHANGED),
            News::Nothing => Event::default().comment(""),
            News::Stopping => return None,
        };
        Some((Ok::<_, Infallible>(event), watcher))
    });
    let first = stream::iter([Ok(Event::default().retry(RETRY).comment("following"))]);
    Sse::new(stream::StreamExt::chain(first, events)).into_response()
}

impl Watcher {
    /// Waits for the next change.
    async fn next(&mut self) -> News {
        let began = Instant::now();
        let mut looks = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
        loop {
            tokio::select! {
                trace = self.traces.recv() => match trace {
                    // Missed traces change the page too.
                    Ok(_) | Err(RecvError::Lagged(_)) => return self.changed().await,
                    Err(RecvError::Closed) => return News::Stopping,
                },
                _ = looks.tick() => {
                    if self.console.control.swapper.is_stopped() {
                        return News::Stopping;
                    }
                    let now = fingerprint(&self.console);
                    if now != self.looked {
                        self.looked = now;
                        return self.changed().await;
                    }
                    if began.elapsed() >= KEEP_ALIVE {
                        return News::Nothing;
                    }
                }
            }
        }
    }

    async fn changed(&mut self) -> News {
        tokio::time::sleep_until(self.told + PAUSE).await;
        self.told = Instant::now();
        // One event is enough for everything that has arrived meanwhile.
        while matches!(self.traces.try_recv(), Ok(_) | Err(TryRecvError::Lagged(_))) {}
        News::Changed
    }
}

/// A hash of what the page shows of the services.
fn fingerprint(console: &Console) -> u64 {
    let mut hasher = DefaultHasher::new();
    for report in console.control.reports() {
        let samples = console.web.history.samples(&report.name).len();
        (&report.name, report.generation, report.in_flight, report.swaps, &report.last_error, samples)
            .hash(&mut hasher);
        let canary = report.canary.map(|canary| (canary.figures.generation, canary.figures.requests));
        (report.serving.requests, canary, report.swap_history.len(), report.state as u8).hash(&mut hasher);
    }
    hasher.finish()
}
