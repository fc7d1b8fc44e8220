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
const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// How often the services are checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often something is sent, even without changes.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The data of an event: browsers ignore events without data.
const CHANGED: &str = "page";
/// When a browser reconnects after the host was unreachable.
const RETRY: Duration = Duration::from_secs(2);

/// A subscribed page.
struct Subscriber {
    console: Arc<Console>,
    traces: Receiver<Arc<TraceSummary>>,
    fingerprint: u64,
    last_event: Instant,
    _permit: OwnedSemaphorePermit,
}

/// What is sent to a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PageEvent {
    Changed,
    /// No change for a while: a comment is sent, so that a closed connection is noticed.
    KeepAlive,
    Stopping,
}

pub(super) async fn subscribe(State(console): State<Arc<Console>>) -> Response {
    let Ok(permit) = console.page_state.subscribers.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are subscribed to changes").into_response();
    };
    let traces = console.control.pipeline.store().subscribe();
    let fingerprint = fingerprint(&console);
    let subscriber = Subscriber { console, traces, fingerprint, last_event: Instant::now(), _permit: permit };
    let events = stream::unfold(subscriber, async |mut subscriber| {
        let event = match subscriber.next().await {
            PageEvent::Changed => Event::default().event("changed").data(CHANGED),
            PageEvent::KeepAlive => Event::default().comment(""),
            PageEvent::Stopping => return None,
        };
        Some((Ok::<_, Infallible>(event), subscriber))
    });
    let first = stream::iter([Ok(Event::default().retry(RETRY).comment("subscribed"))]);
    Sse::new(stream::StreamExt::chain(first, events)).into_response()
}

impl Subscriber {
    /// Waits for the next change.
    async fn next(&mut self) -> PageEvent {
        let began = Instant::now();
        let mut checks = tokio::time::interval_at(Instant::now() + CHECK_INTERVAL, CHECK_INTERVAL);
        loop {
            tokio::select! {
                trace = self.traces.recv() => match trace {
                    // Missed traces change the page too.
                    Ok(_) | Err(RecvError::Lagged(_)) => return self.changed().await,
                    Err(RecvError::Closed) => return PageEvent::Stopping,
                },
                _ = checks.tick() => {
                    if self.console.control.swapper.is_stopped() {
                        return PageEvent::Stopping;
                    }
                    let now = fingerprint(&self.console);
                    if now != self.fingerprint {
                        self.fingerprint = now;
                        return self.changed().await;
                    }
                    if began.elapsed() >= KEEP_ALIVE {
                        return PageEvent::KeepAlive;
                    }
                }
            }
        }
    }

    async fn changed(&mut self) -> PageEvent {
        tokio::time::sleep_until(self.last_event + MIN_INTERVAL).await;
        self.last_event = Instant::now();
        // One event is enough for everything that has arrived meanwhile.
        while matches!(self.traces.try_recv(), Ok(_) | Err(TryRecvError::Lagged(_))) {}
        PageEvent::Changed
    }
}

/// A hash of what the page shows of the services.
fn fingerprint(console: &Console) -> u64 {
    let mut hasher = DefaultHasher::new();
    for report in console.control.reports() {
        let samples = console.page_state.history.samples(&report.name).len();
        (&report.name, report.generation, report.in_flight, report.swaps, &report.last_error, samples)
            .hash(&mut hasher);
        let canary = report.canary.map(|canary| (canary.figures.generation, canary.figures.requests));
        (report.serving.requests, canary, report.swap_history.len(), report.state as u8).hash(&mut hasher);
    }
    hasher.finish()
}
