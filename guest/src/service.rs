//! A service: its name, its routes, and the handling of one request.

use std::io::Write;

use crate::{IntoResponse, Problem, Router, host, spans};

/// A service, as created by [`serve!`](crate::serve).
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    router: Router,
}

impl Service {
    /// A service with this name and these endpoints.
    pub fn new(name: &'static str, router: Router) -> Self {
        Self { name, router }
    }

    /// The routes, for the host.
    #[doc(hidden)]
    pub fn routes(&self) -> Vec<host::Route> {
        self.router.routes()
    }

    /// Handles one request. The tracing subscriber starts with an empty state.
    #[doc(hidden)]
    pub fn handle(&self, incoming: host::Request) -> host::Response {
        spans::begin_request();
        let response = self.router.dispatch(self.name, &incoming);
        spans::end_request();
        // Flushes output that does not end with a newline, so that it is attributed to this request.
        let _ = std::io::stdout().flush();
        let missing_route =
            || Problem::internal(format!("{} has no route {}", self.name, incoming.route)).into_response();
        response.unwrap_or_else(missing_route).into_host()
    }
}
