//! user-service.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use opentelemetry_sdk::trace::SdkTracer;
use serde_json::{Value, json};

use super::telemetry::{self, Operation, answered, server};

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

async fn recommendations(State(users): State<Users>, Path(user): Path<u32>, uri: Uri, headers: HeaderMap) -> Response {
    let route = "/users/{user_id}/recommendations";
    let server = server(&users.tracer, &headers, route, &uri, Some(&user.to_string()));
    let operation = Operation::start(&users.tracer, "get_user_recommendations", "user_recommendations", &server);
    let url = format!("{}/products/recommend?user_id={user}", users.products);
    let products = telemetry::get::<Value>(&users.tracer, &users.client, url, &operation.context).await;
    operation.end();
    let status = if products.is_some() { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
    answered(&server, status.as_u16());
    let user = json!({"id": user, "name": "John Doe", "email": "john@example.com"});
    (status, Json(json!({"user": user, "products": products}))).into_response()
}
