//! What the console's handlers share: the host's control, who may come in, and the turns of what takes long.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use thiserror::Error;
use tokio::sync::Semaphore;

use super::answer;
use super::auth::AdminAuth;
use super::web::Web;
use crate::control::Control;
use crate::trace::TraceStore;

/// Searches of the store that run at the same time.
const QUERIES: usize = 2;
/// Components that are received at the same time: each is held in memory as a whole.
const UPLOADS: usize = 8;
/// How long a search may wait for its turn.
const QUERY_WAIT: Duration = Duration::from_secs(10);

/// Everything that the console's handlers need.
pub(super) struct Console {
    pub control: Arc<Control>,
    pub auth: AdminAuth,
    queries: Arc<Semaphore>,
    pub uploads: Semaphore,
    pub web: Web,
}

/// So many searches wait already that one more would not be answered in time.
#[derive(Clone, Copy, Debug, Error)]
#[error("the console is busy with other searches")]
pub(super) struct Busy;

impl Console {
    /// What the handlers of one console share.
    pub fn new(control: Arc<Control>, auth: AdminAuth) -> Arc<Console> {
        let web = Web::start(Arc::downgrade(&control));
        let (queries, uploads) = (Arc::new(Semaphore::new(QUERIES)), Semaphore::new(UPLOADS));
        Arc::new(Console { control, auth, queries, uploads, web })
    }

    /// Asks the store, on a thread where that holds nobody up.
    pub async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&TraceStore) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let turn = tokio::time::timeout(QUERY_WAIT, self.queries.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Busy) };
        let store = self.control.pipeline.store().clone();
        let asked = tokio::task::spawn_blocking(move || {
            // Ends with the search, which goes on where the client goes away.
            let _turn = turn;
            ask(&store)
        });
        asked.await.map_err(|_| Busy)
    }
}

impl IntoResponse for Busy {
    fn into_response(self) -> Response {
        answer::problem(StatusCode::SERVICE_UNAVAILABLE, &self.to_string())
    }
}
