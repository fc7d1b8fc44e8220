//! Products: the catalogue, and which of it to recommend to whom.

pub mod catalogue;
mod inventory;
pub mod recommendation;

use std::time::Instant;

use catalogue::Product;
use guest::{Json, Problem, Request, Router};
use inventory::Shelf;
use jiff::Timestamp;
use serde::Serialize;
use tracing::{Span, field};

guest::serve!(routes);

fn routes() -> Router {
    Router::new()
        .get("/health", guest::healthy)
        .get("/products", list_products)
        .get("/products/recommend", recommend_products)
}

#[derive(Debug, Serialize)]
struct Recommendations {
    products: Vec<Recommended>,
    user_score: u32,
    total_count: usize,
    metadata: Metadata,
}

/// A product, and what inventory-service says of it, where it was asked and answered.
#[derive(Debug, Serialize)]
struct Recommended {
    #[serde(flatten)]
    product: Product,
    #[serde(flatten)]
    shelf: Option<Shelf>,
}

#[derive(Debug, Serialize)]
struct Metadata {
    operation_duration_ms: f64,
    session_id: Option<String>,
    /// RFC 3339 in UTC, to the millisecond.
    timestamp: String,
    service: &'static str,
}

fn list_products(_: &Request) -> Json<&'static [Product]> {
    Json(catalogue::products())
}

#[tracing::instrument(skip_all, fields(
    custom.operation_type = "product_recommendation",
    request.category = field::Empty,
    recommendation.user_score = field::Empty,
))]
fn recommend_products(request: &Request) -> Result<Json<Recommendations>, Problem> {
    let started = Instant::now();
    let category = named(request, "category")?;
    if let Some(category) = &category {
        Span::current().record("request.category", category);
    }
    let (products, user_score) = choose(category.as_deref(), named(request, "user_id")?.is_some());
    Span::current().record("recommendation.user_score", user_score);
    let products = if guest::flag("inventory_enrichment") {
        enrich_with_inventory(products)?
    } else {
        products.into_iter().map(|product| Recommended { product, shelf: None }).collect()
    };
    Ok(Json(Recommendations {
        user_score,
        total_count: products.len(),
        products,
        metadata: Metadata {
            operation_duration_ms: started.elapsed().as_micros() as f64 / 1000.0,
            session_id: request.header("x-session-id").map(str::to_owned),
            timestamp: format!("{:.3}", Timestamp::now()),
            service: request.service(),
        },
    }))
}

/// The products of a category, or all, priced for this client. Without the flag `recommendation_engine` nobody is
/// scored and everybody pays what the catalogue says.
fn choose(category: Option<&str>, user_is_known: bool) -> (Vec<Product>, u32) {
    if !guest::flag("recommendation_engine") {
        return (recommendation::filter_products_by_category(category), recommendation::BASE_SCORE);
    }
    let user_score = calculate_user_score(user_is_known);
    let products = recommendation::filter_products_by_category(category);
    (recommendation::apply_pricing_logic(products, user_score), user_score)
}

#[tracing::instrument(skip_all, fields(
    custom.operation_type = "user_scoring",
    recommendation.user_score = field::Empty,
))]
fn calculate_user_score(user_is_known: bool) -> u32 {
    let personal = guest::flag("personalization_enabled") && user_is_known;
    let score = recommendation::user_score(personal);
    Span::current().record("recommendation.user_score", score);
    score
}

/// Asks inventory-service about all products at once. A product whose call fails stays, without its shelf.
#[tracing::instrument(skip_all, fields(
    custom.operation_type = "data_enrichment",
    enrichment.successful_calls = field::Empty,
    enrichment.failed_calls = field::Empty,
))]
fn enrich_with_inventory(products: Vec<Product>) -> Result<Vec<Recommended>, Problem> {
    let shelves = inventory::shelves(&products)?;
    let found = shelves.iter().flatten().count();
    tracing::record_all!(
        Span::current(),
        enrichment.successful_calls = found,
        enrichment.failed_calls = shelves.len() - found,
    );
    Ok(products.into_iter().zip(shelves).map(|(product, shelf)| Recommended { product, shelf }).collect())
}

/// A query parameter that counts as absent where it is empty, as in `?category=`.
fn named(request: &Request, name: &str) -> Result<Option<String>, Problem> {
    Ok(request.optional_query(name)?.filter(|text: &String| !text.is_empty()))
}
