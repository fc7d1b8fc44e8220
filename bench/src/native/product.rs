//! product-service.

use std::time::Instant;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Json, Router};
use opentelemetry::trace::TraceContextExt;
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::inventory::Availability;
use super::telemetry::{self, answered, internal, server, within};

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

async fn recommend(State(shop): State<Shop>, Query(asked): Query<Asked>, headers: HeaderMap) -> Json<Value> {
    let server = server(&shop.tracer, &headers, "/products/recommend", "/products/recommend");
    let span = internal(&shop.tracer, "recommend_products", &server);
    let began = Instant::now();
    let score = within(&shop.tracer, "calculate_user_score", &span, || if asked.user_id.is_some() { 110 } else { 100 });
    let category = asked.category.as_deref();
    let mut products: Vec<Product> = within(&shop.tracer, "filter_products_by_category", &span, || {
        let matches = |product: &Product| category.is_none_or(|category| product.category == category);
        catalogue().into_iter().filter(matches).collect()
    });
    within(&shop.tracer, "apply_pricing_logic", &span, || {
        products.iter_mut().filter(|_| score > 120).for_each(|product| product.price *= 0.9);
    });
    enrich(&shop, &mut products, &span).await;
    span.span().set_attribute(KeyValue::new("recommendation.user_score", score));
    span.span().end();
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
    let span = internal(&shop.tracer, "enrich_with_inventory", parent);
    let asked = products.iter().map(|product| {
        let url = format!("{}/inventory/{}", shop.inventory, product.id);
        telemetry::get::<Availability>(&shop.tracer, &shop.client, url, &span)
    });
    let answers = futures_util::future::join_all(asked).await;
    let successful = answers.iter().flatten().count();
    for (product, answer) in products.iter_mut().zip(answers) {
        let Some(answer) = answer else { continue };
        product.available_quantity = Some(answer.available_quantity);
        product.warehouse_location = Some(answer.warehouse_location);
        product.estimated_shipping_days = Some(answer.estimated_shipping_days);
    }
    span.span().set_attribute(KeyValue::new("enrichment.successful_calls", successful as i64));
    span.span().end();
}
