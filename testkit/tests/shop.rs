//! The responses of the shop, endpoint by endpoint.

use serde_json::{Value, json};
use testkit::Shop;

const JOHN: fn() -> Value = || json!({"id": 1, "name": "John Doe", "email": "john@example.com"});
const JANE: fn() -> Value = || json!({"id": 2, "name": "Jane Smith", "email": "jane@example.com"});

fn ids(products: &Value) -> Vec<i64> {
    products.as_array().into_iter().flatten().filter_map(|product| product["id"].as_i64()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_reports_its_health() {
    let shop = Shop::start().await;
    for service in ["product-service", "inventory-service"] {
        let answer = shop.get(service, "/health").await;
        answer.assert_json(200, &json!({"status": "healthy", "service": service}));
    }
    let answer = shop.get("user-service", "/health").await;
    let dependencies = json!({"product_service": "healthy", "database": "healthy"});
    answer.assert_json(200, &json!({"status": "healthy", "service": "user-service", "dependencies": dependencies}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_service_is_unhealthy_without_the_product_service() {
    let nowhere = format!("http://{}", testkit::process::free_address());
    let shop = Shop::builder().without("product-service").env("PRODUCT_SERVICE_URL", &nowhere).start().await;
    let answer = shop.get("user-service", "/health").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json()["status"], "unhealthy");
    assert_eq!(answer.json()["dependencies"]["product_service"], "unhealthy");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_listed_and_looked_up() {
    let shop = Shop::start().await;
    shop.get("user-service", "/users").await.assert_json(200, &json!([JOHN(), JANE()]));
    shop.get("user-service", "/users/1").await.assert_json(200, &JOHN());
    shop.get("user-service", "/users/2").await.assert_json(200, &JANE());
    shop.get("user-service", "/users/3").await.assert_problem(404, "User not found");
    shop.get("user-service", "/users/x").await.assert_problem(422, "user_id");
    shop.get("user-service", "/users/99/recommendations").await.assert_problem(404, "User not found");
    shop.get("user-service", "/users/99/shopping-analysis").await.assert_problem(404, "User not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn products_are_listed() {
    let shop = Shop::start().await;
    let expected = json!([
        {"id": 1, "name": "Laptop Pro", "category": "electronics", "price": 1299.99},
        {"id": 2, "name": "Wireless Headphones", "category": "electronics", "price": 199.99},
        {"id": 3, "name": "Programming Book", "category": "books", "price": 49.99},
    ]);
    shop.get("product-service", "/products").await.assert_json(200, &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn recommendations_contain_products_with_inventory_data() {
    let shop = Shop::start().await;
    let request = shop.request("GET", "product-service", "/products/recommend?category=electronics&user_id=1001");
    let answer = request.header("x-session-id", "s-7").send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(ids(&body["products"]), [1, 2]);
    let laptop = json!({
        "id": 1, "name": "Laptop Pro", "category": "electronics", "price": 1299.99,
        "available_quantity": 45, "warehouse_location": "A-1", "estimated_shipping_days": 1,
    });
    assert_eq!(body["products"][0], laptop);
    assert_eq!(body["products"][1]["available_quantity"], 110);
    assert_eq!(body["products"][1]["estimated_shipping_days"], 2);
    assert_eq!(body["user_score"], 110);
    assert_eq!(body["total_count"], 2);
    assert_eq!(body["metadata"]["session_id"], "s-7");
    assert_eq!(body["metadata"]["service"], "product-service");
    assert!(body["metadata"]["operation_duration_ms"].is_number(), "{body}");
    assert!(!body["metadata"]["timestamp"].is_null(), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_user_the_score_is_100_and_without_a_category_all_products_are_listed() {
    let shop = Shop::start().await;
    let body = shop.get("product-service", "/products/recommend").await.json();
    assert_eq!(ids(&body["products"]), [1, 2, 3]);
    assert_eq!(body["user_score"], 100);
    let body = shop.get("product-service", "/products/recommend?category=books").await.json();
    assert_eq!(ids(&body["products"]), [3]);
    let body = shop.get("product-service", "/products/recommend?category=boats").await.json();
    assert_eq!((ids(&body["products"]), &body["total_count"]), (vec![], &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_whose_inventory_call_fails_is_listed_without_inventory_data() {
    let nowhere = format!("http://{}", testkit::process::free_address());
    let shop = Shop::builder().without("inventory-service").env("INVENTORY_SERVICE_URL", &nowhere).start().await;
    let answer = shop.get("product-service", "/products/recommend?category=books").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let book = json!({"id": 3, "name": "Programming Book", "category": "books", "price": 49.99});
    assert_eq!(answer.json()["products"], json!([book]));
    let tree = shop.whole_trace(&answer.trace).await;
    let enrich = tree.one("enrich_with_inventory");
    enrich.assert_attribute("enrichment.failed_calls", 1);
    enrich.assert_attribute("enrichment.successful_calls", 0);
    assert!(tree.line("product-service GET CLIENT").is_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn user_recommendations_contain_the_response_of_the_product_service() {
    let shop = Shop::start().await;
    let body = shop.get("user-service", "/users/1/recommendations").await.json();
    assert_eq!(body["user"], JOHN());
    assert_eq!(ids(&body["products"]["products"]), [1, 2, 3]);
    assert_eq!(body["products"]["user_score"], 110);
    assert_eq!(body["products"]["metadata"]["service"], "product-service");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shopping_analysis_summarizes_available_products() {
    let shop = Shop::start().await;
    let answer = shop.get("user-service", "/users/1/shopping-analysis").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["user"], JOHN());
    assert_eq!(body["preferences"], json!({"preferred_categories": ["electronics"], "budget_range": "high"}));
    let status = |product: i64, quantity: u64| json!({"product_id": product, "available": true, "quantity": quantity});
    assert_eq!(body["inventory_status"], json!([status(1, 45), status(2, 110), status(3, 200)]));
    let summary = json!({
        "total_recommendations": 3, "available_products": 3, "user_score": 110, "final_shopping_score": 140,
    });
    assert_eq!((&body["shopping_score"], &body["analysis_summary"]), (&json!(140), &summary));
    assert_eq!(ids(&body["recommendations"]), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_service_is_a_gateway_to_recommendations() {
    let shop = Shop::start().await;
    let path = "/products/recommend?user_id=1001&category=electronics";
    let mut bodies = Vec::new();
    for service in ["product-service", "user-service"] {
        let request = shop.request("GET", service, path).header("x-client-id", "web").header("x-session-id", "s-3");
        let answer = request.send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), "application/json");
        let mut body = answer.json();
        assert_eq!(body["metadata"]["session_id"], "s-3");
        body["metadata"] = Value::Null;
        bodies.push(body);
    }
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_passes_queries_on_unchanged() {
    let shop = Shop::start().await;
    let body = shop.get("user-service", "/products/recommend?category=b%6Foks").await.json();
    assert_eq!(ids(&body["products"]), [3]);
    let body = shop.get("user-service", "/products/recommend").await.json();
    assert_eq!(ids(&body["products"]), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inventory_reports_stock() {
    let shop = Shop::start().await;
    for (id, available, total, shelf, days) in [(1, 45, 50, "A-1", 1), (2, 110, 120, "B-2", 2), (3, 200, 200, "C-1", 3)]
    {
        let answer = shop.get("inventory-service", &format!("/inventory/{id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = answer.json();
        assert_eq!(body["product_id"], id);
        assert_eq!(body["available_quantity"], available);
        assert_eq!(body["total_quantity"], total);
        assert_eq!(body["warehouse_location"], shelf);
        assert_eq!(body["estimated_shipping_days"], days);
        let capacity = body["warehouse_capacity_percent"].as_f64().unwrap_or_default();
        assert!((80.0..=100.0).contains(&capacity), "{body}");
    }
    shop.get("inventory-service", "/inventory/4").await.assert_problem(404, "Product not found in inventory");
    shop.get("inventory-service", "/inventory/x").await.assert_problem(422, "product_id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_reduces_the_available_quantity() {
    let shop = Shop::start().await;
    let reserve = async |query: &str| shop.post("inventory-service", &format!("/inventory/1/reserve{query}")).await;
    let expected = json!({"success": true, "reserved_quantity": 5, "remaining_available": 40});
    let answer = reserve("?quantity=5").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for (key, value) in expected.as_object().into_iter().flatten() {
        assert_eq!(answer.json()[key], *value, "{key}");
    }
    assert_eq!(shop.get("inventory-service", "/inventory/1").await.json()["available_quantity"], 40);
    reserve("?quantity=41").await.assert_problem(400, "Insufficient inventory. Available: 40");
    reserve("").await.assert_problem(422, "quantity");
    reserve("?quantity=0").await.assert_problem(422, "quantity");
    reserve("?quantity=-1").await.assert_problem(422, "quantity");
    reserve("?quantity=many").await.assert_problem(422, "quantity");
    let answer = shop.post("inventory-service", "/inventory/4/reserve?quantity=1").await;
    answer.assert_problem(404, "Product not found in inventory");
}
