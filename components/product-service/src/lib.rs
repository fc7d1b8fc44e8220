//! Products: the catalogue, and recommendations from it.

pub mod catalogue;
mod inventory;
pub mod recommendation;

use std::time::Instant;

use catalogue::Product;
use guest::{Json, Problem, Request, Router};
use inventory::StockInfo;
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

/// A product, with its stock if it was requested and available.
#[derive(Debug, Serialize)]
struct Recommended {
    #[serde(flatten)]
    product: Product,
    #[serde(flatten)]
    stock: Option<StockInfo>,
}

#[derive(Debug, Serialize)]
struct Metadata {
    operation_duration_ms: f64,
    session_id: Option<String>,
    /// RFC 3339 in UTC, with milliseconds.
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
    let category = optional_text(request, "category")?;
    if let Some(category) = &category {
        Span::current().record("request.category", category);
    }
    let (products, user_score) = select_products(category.as_deref(), optional_text(request, "user_id")?.is_some());
    Span::current().record("recommendation.user_score", user_score);
    let products = if guest::flag("inventory_enrichment") {
        enrich_with_inventory(products)?
    } else {
        products.into_iter().map(|product| Recommended { product, stock: None }).collect()
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

/// Selects the products of a category, or all, and prices them for this client. Without the flag
/// `recommendation_engine`, the score is the base score and the prices are those of the catalogue.
fn select_products(category: Option<&str>, user_is_known: bool) -> (Vec<Product>, u32) {
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

/// Adds the stock of all products, with concurrent calls to inventory-service. A product whose call fails has no stock.
#[tracing::instrument(skip_all, fields(
    custom.operation_type = "data_enrichment",
    enrichment.successful_calls = field::Empty,
    enrichment.failed_calls = field::Empty,
))]
fn enrich_with_inventory(products: Vec<Product>) -> Result<Vec<Recommended>, Problem> {
    let stock = inventory::fetch_stock(&products)?;
    let found = stock.iter().flatten().count();
    tracing::record_all!(
        Span::current(),
        enrichment.successful_calls = found,
        enrichment.failed_calls = stock.len() - found,
    );
    Ok(products.into_iter().zip(stock).map(|(product, stock)| Recommended { product, stock }).collect())
}

/// A query parameter that counts as missing if it is empty, as in `?category=`.
fn optional_text(request: &Request, name: &str) -> Result<Option<String>, Problem> {
    Ok(request.optional_query(name)?.filter(|text: &String| !text.is_empty()))
}
