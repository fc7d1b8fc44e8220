//! A service: its name, its routes, and the life of one request inside the guest.

use std::io::Write;

use crate::{IntoResponse, Problem, Router, host, spans};

/// What [`serve!`](crate::serve) makes of a crate.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    router: Router,
}

impl Service {
    /// A service of this name with these endpoints.
    pub fn new(name: &'static str, router: Router) -> Self {
        Self { name, router }
    }

    /// The endpoints, for the host.
    #[doc(hidden)]
    pub fn routes(&self) -> Vec<host::Route> {
        self.router.routes()
    }

    /// Answers one request. The tracing subscriber starts with an empty state.
    #[doc(hidden)]
    pub fn handle(&self, incoming: host::Request) -> host::Response {
        spans::begin_request();
        let answer = self.router.answer(self.name, &incoming);
        spans::end_request();
        // Output without a newline at its end belongs to this request too.
        let _ = std::io::stdout().flush();
        let unknown = || Problem::internal(format!("{} has no route {}", self.name, incoming.route)).into_response();
        answer.unwrap_or_else(unknown).into_host()
    }
}
