//! Users: the customers, their recommendations, and a gateway to product-service.

mod products;
pub mod shopping;
pub mod users;

use guest::{Json, Problem, Request, Response, Router};
use serde::Serialize;
use serde_json::value::RawValue;
use shopping::{Analysis, Stock};
use users::{User, UserId};

guest::serve!(routes);

fn routes() -> Router {
    Router::new()
        .get("/health", health)
        .get("/users", list_users)
        .get("/users/{user_id}", get_user)
        .get("/users/{user_id}/recommendations", get_user_recommendations)
        .get("/users/{user_id}/shopping-analysis", get_shopping_analysis)
        .get("/products/recommend", recommend)
}

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    service: &'static str,
    dependencies: Dependencies,
}

#[derive(Debug, Serialize)]
struct Dependencies {
    product_service: &'static str,
    database: &'static str,
}

/// Healthy if product-service is. The users are constants, so the database is always available.
fn health(request: &Request) -> (u16, Json<Health>) {
    let (status, health) = if products::is_healthy() { (200, "healthy") } else { (503, "unhealthy") };
    let dependencies = Dependencies { product_service: health, database: "healthy" };
    (status, Json(Health { status: health, service: request.service(), dependencies }))
}

fn list_users(_: &Request) -> Json<&'static [User]> {
    Json(users::all())
}

fn get_user(request: &Request) -> Result<Json<&'static User>, Problem> {
    Ok(Json(user(request)?))
}

#[derive(Debug, Serialize)]
struct Recommendations {
    user: &'static User,
    /// The response of product-service, unchanged.
    products: Box<RawValue>,
}

#[tracing::instrument(skip_all, fields(custom.operation_type = "user_recommendations"))]
fn get_user_recommendations(request: &Request) -> Result<Json<Recommendations>, Problem> {
    let user = user(request)?;
    let products = products::recommended_to(user, request)?.json().map_err(products::upstream_problem)?;
    Ok(Json(Recommendations { user, products }))
}

#[derive(Debug, Serialize)]
struct ShoppingAnalysis {
    user: &'static User,
    preferences: shopping::Preferences,
    recommendations: Box<RawValue>,
    #[serde(flatten)]
    analysis: Analysis,
}

#[tracing::instrument(skip_all, fields(custom.operation_type = "shopping_analysis"))]
fn get_shopping_analysis(request: &Request) -> Result<Json<ShoppingAnalysis>, Problem> {
    let user = user(request)?;
    let preferences = shopping::check_user_preferences(user);
    let response: products::RecommendationResponse =
        products::recommended_to(user, request)?.json().map_err(products::upstream_problem)?;
    let stock: Vec<Stock> = response.stock().map_err(products::upstream_problem)?;
    let analysis = shopping::analyse(&stock, response.user_score);
    Ok(Json(ShoppingAnalysis { user, preferences, recommendations: response.products, analysis }))
}

/// Forwards the request to product-service and its response to the client.
fn recommend(request: &Request) -> Result<Response, Problem> {
    let upstream = products::recommend(request.raw_query(), request)?;
    let response = Response::new(upstream.status());
    let response = match upstream.header("content-type") {
        Some(content_type) => response.with_header("content-type", content_type),
        None => response,
    };
    Ok(response.with_body(upstream.into_body()))
}

fn user(request: &Request) -> Result<&'static User, Problem> {
    let id: UserId = request.param("user_id")?;
    users::find(id).ok_or_else(|| Problem::not_found("User not found"))
}
