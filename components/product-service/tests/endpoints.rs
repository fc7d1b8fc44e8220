//! Tests of the endpoints of product-service on the native test host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use guest::testing::Host;
use guest::{Method, Response, client};
use product_service::service;
use serde_json::{Value, json};

fn body(response: &Response) -> Value {
    response.json().unwrap()
}

fn stock(quantity: u32) -> Value {
    json!({
        "product_id": 1,
        "available_quantity": quantity,
        "total_quantity": 200,
        "warehouse_location": "A-1",
        "warehouse_capacity_percent": 90,
        "estimated_shipping_days": 1,
    })
}

/// A host with all flags on, and stock for all products.
fn shop() -> Host {
    Host::new(service())
        .with_config("inventory_url", "http://inventory")
        .with_config("flag.recommendation_engine", "true")
        .with_config("flag.inventory_enrichment", "true")
        .with_config("flag.personalization_enabled", "true")
        .with_json_response("http://inventory/inventory/1", 200, &stock(45))
        .with_json_response("http://inventory/inventory/2", 200, &stock(110))
        .with_json_response("http://inventory/inventory/3", 200, &stock(200))
}

#[test]
fn health_names_the_service() {
    let response = shop().get("/health");
    assert_eq!(body(&response), json!({ "status": "healthy", "service": "product-service" }));
}

#[test]
fn the_catalogue_has_three_products() {
    let expected = json!([
        { "id": 1, "name": "Laptop Pro", "category": "electronics", "price": 1299.99 },
        { "id": 2, "name": "Wireless Headphones", "category": "electronics", "price": 199.99 },
        { "id": 3, "name": "Programming Book", "category": "books", "price": 49.99 },
    ]);
    assert_eq!(body(&shop().get("/products")), expected);
}

#[test]
fn a_recommendation_lists_products_with_their_stock() {
    let target = "/products/recommend?user_id=1001&category=electronics";
    let response = shop().send(Method::Get, target, &[("x-session-id", "s-7")], b"");
    let mut response = body(&response);
    let metadata = response["metadata"].take();
    let expected = json!({
        "products": [
            { "id": 1, "name": "Laptop Pro", "category": "electronics", "price": 1299.99,
              "available_quantity": 45, "warehouse_location": "A-1", "estimated_shipping_days": 1 },
            { "id": 2, "name": "Wireless Headphones", "category": "electronics", "price": 199.99,
              "available_quantity": 110, "warehouse_location": "A-1", "estimated_shipping_days": 1 },
        ],
        "user_score": 110,
        "total_count": 2,
        "metadata": null,
    });
    assert_eq!(response, expected);
    assert_eq!((&metadata["session_id"], &metadata["service"]), (&json!("s-7"), &json!("product-service")));
    assert!(metadata["operation_duration_ms"].as_f64().unwrap() >= 0.0);
    let timestamp = metadata["timestamp"].as_str().unwrap();
    assert_eq!(timestamp.len(), "2026-01-31T08:15:00.250Z".len());
    assert!(timestamp.parse::<jiff::Timestamp>().is_ok(), "{timestamp}");
}

#[test]
fn without_session_and_user_the_score_is_the_base_score() {
    for target in ["/products/recommend", "/products/recommend?user_id=&category="] {
        let response = body(&shop().get(target));
        assert_eq!((&response["user_score"], &response["total_count"]), (&json!(100), &json!(3)));
        assert_eq!(response["metadata"]["session_id"], Value::Null);
    }
}

#[test]
fn a_recommendation_is_one_span_with_four_children_and_the_calls_below_the_last() {
    let host = shop();
    host.get("/products/recommend?user_id=1");
    let expected = [
        "SERVER > recommend_products",
        "recommend_products > calculate_user_score",
        "recommend_products > filter_products_by_category",
        "recommend_products > apply_pricing_logic",
        "recommend_products > enrich_with_inventory",
        "enrich_with_inventory > GET http://inventory/inventory/1",
        "enrich_with_inventory > GET http://inventory/inventory/2",
        "enrich_with_inventory > GET http://inventory/inventory/3",
    ];
    assert_eq!(host.tree(), expected);
}

#[test]
fn spans_have_operation_flags_and_figures() {
    let host = shop();
    host.get("/products/recommend?user_id=1&category=books");
    let attributes = |name| serde_json::to_value(host.span(name).unwrap().attributes).unwrap();
    let expected = json!({
        "custom.operation_type": "product_recommendation",
        "feature_flag.recommendation_engine": true,
        "feature_flag.inventory_enrichment": true,
        "request.category": "books",
        "recommendation.user_score": 110,
    });
    assert_eq!(attributes("recommend_products"), expected);
    let expected = json!({
        "custom.operation_type": "user_scoring",
        "feature_flag.personalization_enabled": true,
        "recommendation.user_score": 110,
    });
    assert_eq!(attributes("calculate_user_score"), expected);
    let expected = json!({ "request.category": "books", "products.count_before": 3, "products.count_after": 1 });
    assert_eq!(attributes("filter_products_by_category"), expected);
    let expected = json!({
        "custom.operation_type": "data_enrichment",
        "enrichment.successful_calls": 1,
        "enrichment.failed_calls": 0,
    });
    assert_eq!(attributes("enrich_with_inventory"), expected);
}

#[test]
fn a_product_whose_inventory_call_fails_is_listed_without_stock() {
    let host = Host::new(service())
        .with_config("inventory_url", "http://inventory/")
        .with_config("flag.inventory_enrichment", "true")
        .with_failure("http://inventory/inventory/1", client::Error::TimedOut)
        .with_json_response("http://inventory/inventory/2", 404, &json!({ "detail": "Product not found in inventory" }))
        .with_json_response("http://inventory/inventory/3", 200, &stock(200));
    let response = body(&host.get("/products/recommend"));
    let listed = |index: usize| response["products"][index].get("available_quantity").and_then(Value::as_u64);
    assert_eq!([listed(0), listed(1), listed(2)], [None, None, Some(200)]);
    assert_eq!(response["products"][0].as_object().unwrap().len(), 4);
    let span = host.span("enrich_with_inventory").unwrap();
    assert_eq!((&span.attributes["enrichment.failed_calls"], span.events.len()), (&json!(2), 2));
    assert_eq!(host.logs()[0].attributes["error"], "the request timed out");
}

#[test]
fn flags_that_are_off_disable_scoring_and_enrichment() {
    let host = Host::new(service());
    let response = body(&host.get("/products/recommend?user_id=1"));
    assert_eq!((&response["user_score"], &response["total_count"]), (&json!(100), &json!(3)));
    assert_eq!(host.tree(), ["SERVER > recommend_products", "recommend_products > filter_products_by_category"]);
}

#[test]
fn without_personalization_a_known_user_has_the_base_score() {
    let host = shop().with_config("flag.personalization_enabled", "false");
    assert_eq!(body(&host.get("/products/recommend?user_id=1"))["user_score"], 100);
}

#[test]
fn a_missing_inventory_url_is_a_failure_that_the_trace_explains() {
    let host = Host::new(service()).with_config("flag.inventory_enrichment", "true");
    let response = host.get("/products/recommend");
    assert_eq!(response.status(), 500);
    assert_eq!(body(&response), json!({ "status": 500, "title": "Internal Server Error" }));
    let (kind, message) = host.span("recommend_products").unwrap().error.unwrap();
    let reason = "the configuration key `inventory_url` is not set";
    assert_eq!((kind.as_str(), message.as_str()), ("500", reason));
    let (event, attributes) = &host.span("enrich_with_inventory").unwrap().events[0];
    assert_eq!((event.as_str(), &attributes["exception.message"]), ("exception", &json!(reason)));
}
