//! The example `examples/polyglot`: one request, four services, three languages, one trace.
//!
//! If its components were not built, these tests print a message and pass.

use serde_json::{Value, json};
use testkit::{Shop, ShopBuilder, artifacts};

/// The manifest of the example with the built components; `None` if they were not built.
fn example() -> Option<ShopBuilder> {
    let (products, prices) = (artifacts::polyglot("product_service")?, artifacts::polyglot("pricing_service")?);
    let environment = "[service.env]\nPRICING_SERVICE_URL = \"http://localhost:8103\"\n\
                       INVENTORY_SERVICE_URL = \"http://localhost:8102\"";
    let builder = ShopBuilder::empty()
        .service("user-service", &artifacts::component("user-service"), 8101)
        .config("user-service", "product_url = \"http://localhost:8100\"")
        .outbound("user-service", "allow = [\"http://localhost:8100\"]")
        .service("product-service", &products, 8100)
        .keys("product-service", "routes = [\"GET /health\", \"GET /products\", \"GET /products/recommend\"]")
        .keys("product-service", environment)
        .outbound("product-service", "allow = [\"http://localhost:8103\", \"http://localhost:8102\"]")
        .limits("product-service", "memory = \"256MiB\"")
        .service("pricing-service", &prices, 8103)
        .keys("pricing-service", "routes = [\"GET /health\", \"POST /prices\"]")
        .limits("pricing-service", "memory = \"256MiB\"")
        .service("inventory-service", &artifacts::component("inventory-service"), 8102);
    // The first request of an interpreter can take seconds on a busy machine.
    let services = ["user-service", "product-service", "pricing-service"];
    Some(services.iter().fold(builder, |builder, name| builder.limits(name, "request_timeout = \"60s\"")))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_one_trace_over_three_languages() {
    let Some(builder) = example() else { return };
    let shop = builder.start().await;
    let answer = shop.get("user-service", "/users/1/recommendations").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let tree = shop.trace(&answer.trace, 21).await;
    let inventory = "        product-service GET CLIENT
          inventory-service GET /inventory/{product_id} SERVER
            inventory-service get_inventory INTERNAL
              inventory-service check_warehouse_capacity INTERNAL
              inventory-service calculate_shipping_time INTERNAL
";
    let expected = format!(
        "user-service GET /users/{{user_id}}/recommendations SERVER
  user-service get_user_recommendations INTERNAL
    user-service GET CLIENT
      product-service GET /products/recommend SERVER
        product-service POST CLIENT
          pricing-service POST /prices SERVER
{}",
        inventory.repeat(3)
    );
    tree.assert_text(&[], &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn product_service_has_the_same_responses_in_python_and_rust() {
    let Some(builder) = example() else { return };
    let (python, rust) = (builder.start().await, Shop::start().await);
    for path in ["/products", "/products/recommend", "/products/recommend?category=books&user_id=1", "/health"] {
        let (one, other) = (python.get("product-service", path).await, rust.get("product-service", path).await);
        assert_eq!(one.status, other.status, "{path}");
        assert_eq!(one.header("content-type"), other.header("content-type"), "{path}");
        assert_eq!(without_times(one.json()), without_times(other.json()), "{path}");
    }
}

/// A response without the parts that differ between runs.
fn without_times(mut answer: Value) -> Value {
    if let Some(metadata) = answer.get_mut("metadata") {
        metadata["operation_duration_ms"] = json!(0);
        metadata["timestamp"] = json!("");
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_dependency_does_not_fail_the_response() {
    let Some(builder) = example() else { return };
    let shop = builder.without("pricing-service").outbound("product-service", "allow = []").start().await;
    let answer = shop.get("product-service", "/products/recommend").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let products = &answer.json()["products"];
    assert_eq!(products[0], json!({ "id": 1, "name": "Laptop Pro", "category": "electronics", "price": 1299.99 }));
    let fits = |record: &testkit::collector::LogRecord| record.body.to_string().contains("pricing-service");
    let record = shop.collector().wait_for_log("what went wrong", fits).await;
    assert_eq!(record.trace_id, answer.trace.to_string());
}
