//! product-service.

use std::time::Instant;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, Uri};
use axum::routing::get;
use axum::{Json, Router};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::inventory::Availability;
use super::telemetry::{self, Operation, answered, server, within};

#[derive(Clone)]
struct Shop {
    tracer: SdkTracer,
    client: reqwest::Client,
    inventory: String,
}

#[derive(Clone, Debug, Serialize)]
struct Product {
    id: u32,
    name: &'static str,
    category: &'static str,
    price: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    available_quantity: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warehouse_location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_shipping_days: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Asked {
    category: Option<String>,
    user_id: Option<String>,
}

pub(super) fn router(tracer: SdkTracer, client: reqwest::Client, inventory: String) -> Router {
    Router::new().route("/products/recommend", get(recommend)).with_state(Shop { tracer, client, inventory })
}

fn catalogue() -> [Product; 3] {
    let product = |id, name, category, price| Product {
        id,
        name,
        category,
        price,
        available_quantity: None,
        warehouse_location: None,
        estimated_shipping_days: None,
    };
    [
        product(1, "Laptop Pro", "electronics", 1299.99),
        product(2, "Wireless Headphones", "electronics", 199.99),
        product(3, "Programming Book", "books", 49.99),
    ]
}

async fn recommend(State(shop): State<Shop>, Query(asked): Query<Asked>, uri: Uri, headers: HeaderMap) -> Json<Value> {
    let server = server(&shop.tracer, &headers, "/products/recommend", &uri, asked.user_id.as_deref());
    let operation = Operation::start(&shop.tracer, "recommend_products", "product_recommendation", &server);
    operation.set("feature_flag.recommendation_engine", true);
    let span = &operation.context;
    let began = Instant::now();
    let score = user_score(&shop, asked.user_id.is_some(), span);
    let category = asked.category.as_deref();
    let mut products: Vec<Product> = within(&shop.tracer, "filter_products_by_category", span, |span| {
        let matches = |product: &Product| category.is_none_or(|category| product.category == category);
        let (all, found) = (catalogue(), catalogue().into_iter().filter(matches).collect::<Vec<_>>());
        span.set_attribute(KeyValue::new("products.count_before", all.len() as i64));
        span.set_attribute(KeyValue::new("products.count_after", found.len() as i64));
        found
    });
    within(&shop.tracer, "apply_pricing_logic", span, |span| {
        span.set_attribute(KeyValue::new("recommendation.user_score", score));
        products.iter_mut().filter(|_| score > 120).for_each(|product| product.price *= 0.9);
    });
    operation.set("feature_flag.inventory_enrichment", true);
    enrich(&shop, &mut products, span).await;
    operation.set("recommendation.user_score", score);
    operation.end();
    let body = json!({
        "total_count": products.len(),
        "products": products,
        "user_score": score,
        "metadata": {"operation_duration_ms": began.elapsed().as_secs_f64() * 1e3, "service": "product-service"},
    });
    answered(&server, 200);
    Json(body)
}

async fn enrich(shop: &Shop, products: &mut [Product], parent: &Context) {
    let operation = Operation::start(&shop.tracer, "enrich_with_inventory", "data_enrichment", parent);
    let asked = products.iter().map(|product| {
        let url = format!("{}/inventory/{}", shop.inventory, product.id);
        telemetry::get::<Availability>(&shop.tracer, &shop.client, url, &operation.context)
    });
    let answers = futures_util::future::join_all(asked).await;
    let successful = answers.iter().flatten().count();
    for (product, answer) in products.iter_mut().zip(answers) {
        let Some(answer) = answer else { continue };
        product.available_quantity = Some(answer.available_quantity);
        product.warehouse_location = Some(answer.warehouse_location);
        product.estimated_shipping_days = Some(answer.estimated_shipping_days);
    }
    operation.set("enrichment.successful_calls", successful as i64);
    operation.set("enrichment.failed_calls", (products.len() - successful) as i64);
    operation.end();
}

fn user_score(shop: &Shop, is_known: bool, parent: &Context) -> i64 {
    let operation = Operation::start(&shop.tracer, "calculate_user_score", "user_scoring", parent);
    let score = if is_known { 110 } else { 100 };
    operation.set("feature_flag.personalization_enabled", true);
    operation.set("recommendation.user_score", score);
    operation.end();
    score
}
