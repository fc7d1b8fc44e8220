//! The answer to `GET /health` of a service that depends on nothing.

use serde::Serialize;

use crate::{Json, Request};

/// What [`healthy`] answers.
#[derive(Debug, Serialize)]
pub struct Health {
    status: &'static str,
    service: &'static str,
}

/// Answers `{"status":"healthy","service":NAME}`, where NAME is the name of the service's package.
pub fn healthy(request: &Request) -> Json<Health> {
    Json(Health { status: "healthy", service: request.service() })
}
