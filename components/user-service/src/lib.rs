//! Users: who the customers are, what to offer them, and the way into the shop.

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

/// Healthy where product-service is. The users are part of the program, so the database is always there.
fn health(request: &Request) -> (u16, Json<Health>) {
    let (status, word) = if products::is_healthy() { (200, "healthy") } else { (503, "unhealthy") };
    let dependencies = Dependencies { product_service: word, database: "healthy" };
    (status, Json(Health { status: word, service: request.service(), dependencies }))
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
    /// What product-service answered, as it stands.
    products: Box<RawValue>,
}

#[tracing::instrument(skip_all, fields(custom.operation_type = "user_recommendations"))]
fn get_user_recommendations(request: &Request) -> Result<Json<Recommendations>, Problem> {
    let user = user(request)?;
    let products = products::recommended_to(user, request)?.json().map_err(products::unusable)?;
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
    let answer: products::Recommended = products::recommended_to(user, request)?.json().map_err(products::unusable)?;
    let stock: Vec<Stock> = answer.stock().map_err(products::unusable)?;
    let analysis = shopping::analyse(&stock, answer.user_score);
    Ok(Json(ShoppingAnalysis { user, preferences, recommendations: answer.products, analysis }))
}

/// Hands the question on to product-service and its answer back, so that clients need to know one address only.
fn recommend(request: &Request) -> Result<Response, Problem> {
    let answer = products::recommend(request.raw_query(), request)?;
    let response = Response::new(answer.status());
    let response = match answer.header("content-type") {
        Some(content_type) => response.with_header("content-type", content_type),
        None => response,
    };
    Ok(response.with_body(answer.into_body()))
}

fn user(request: &Request) -> Result<&'static User, Problem> {
    let id: UserId = request.param("user_id")?;
    users::find(id).ok_or_else(|| Problem::not_found("User not found"))
}
