//! State shared by the console's handlers: the control, authentication, and limits for slow operations.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use thiserror::Error;
use tokio::sync::Semaphore;

use super::auth::admin_auth::AdminAuth;
use super::responses;
use super::web::page_state::PageState;
use crate::control::Control;
use crate::trace::TraceStore;

/// The most concurrent searches of the store.
const MAX_QUERIES: usize = 2;
/// The most concurrent uploads of components, each of which is held in memory as a whole.
const MAX_UPLOADS: usize = 8;
/// How long a search may wait for a permit.
const QUERY_WAIT: Duration = Duration::from_secs(10);

/// The state of the console's handlers.
pub(super) struct Console {
    pub control: Arc<Control>,
    pub auth: AdminAuth,
    queries: Arc<Semaphore>,
    pub uploads: Semaphore,
    pub page_state: PageState,
}

/// Too many searches are waiting for this one to be answered in time.
#[derive(Clone, Copy, Debug, Error)]
#[error("the console is busy with other searches")]
pub(super) struct Busy;

impl Console {
    /// State shared by all handlers of one console.
    pub fn new(control: Arc<Control>, auth: AdminAuth) -> Arc<Console> {
        let page_state = PageState::start(Arc::downgrade(&control));
        let (queries, uploads) = (Arc::new(Semaphore::new(MAX_QUERIES)), Semaphore::new(MAX_UPLOADS));
        Arc::new(Console { control, auth, queries, uploads, page_state })
    }

    /// Queries the store on a blocking thread.
    pub async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&TraceStore) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let permit = tokio::time::timeout(QUERY_WAIT, self.queries.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(Busy) };
        let store = self.control.pipeline.store().clone();
        let result = tokio::task::spawn_blocking(move || {
            // Dropped when the search ends, which continues if the client disconnects.
            let _permit = permit;
            query(&store)
        });
        result.await.map_err(|_| Busy)
    }
}

impl IntoResponse for Busy {
    fn into_response(self) -> Response {
        responses::problem(StatusCode::SERVICE_UNAVAILABLE, &self.to_string())
    }
}
