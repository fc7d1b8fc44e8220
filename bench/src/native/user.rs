//! user-service.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use opentelemetry::KeyValue;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::trace::SdkTracer;
use serde_json::{Value, json};

use super::telemetry::{self, answered, internal, server};

#[derive(Clone)]
struct Users {
    tracer: SdkTracer,
    client: reqwest::Client,
    products: String,
}

pub(super) fn router(tracer: SdkTracer, client: reqwest::Client, products: String) -> Router {
    let users = Users { tracer, client, products };
    Router::new().route("/users/{user_id}/recommendations", get(recommendations)).with_state(users)
}

async fn recommendations(State(users): State<Users>, Path(user): Path<u32>, headers: HeaderMap) -> Response {
    let path = format!("/users/{user}/recommendations");
    let server = server(&users.tracer, &headers, "/users/{user_id}/recommendations", &path);
    let span = internal(&users.tracer, "get_user_recommendations", &server);
    span.span().set_attribute(KeyValue::new("user.id", i64::from(user)));
    let url = format!("{}/products/recommend?user_id={user}", users.products);
    let products = telemetry::get::<Value>(&users.tracer, &users.client, url, &span).await;
    span.span().end();
    let status = if products.is_some() { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
    answered(&server, status.as_u16());
    let user = json!({"id": user, "name": "John Doe", "email": "john@example.com"});
    (status, Json(json!({"user": user, "products": products}))).into_response()
}
