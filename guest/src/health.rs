//! The response to `GET /health` of a service without dependencies.

use serde::Serialize;

use crate::{Json, Request};

/// The response body of [`healthy`].
#[derive(Debug, Serialize)]
pub struct Health {
    status: &'static str,
    service: &'static str,
}

/// Responds with `{"status":"healthy","service":NAME}`, where NAME is the name of the service's package.
pub fn healthy(request: &Request) -> Json<Health> {
    Json(Health { status: "healthy", service: request.service() })
}
