//! Tests of the endpoints of user-service on the native test host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use guest::testing::Host;
use guest::{Method, Response, client};
use serde_json::{Value, json};
use user_service::service;

const RECOMMEND: &str = "http://products/products/recommend?user_id=1";

fn body(response: &Response) -> Value {
    response.json().unwrap()
}

fn host() -> Host {
    Host::new(service()).with_config("product_url", "http://products/")
}

fn recommended() -> Value {
    json!({
        "products": [
            { "id": 1, "name": "Laptop Pro", "price": 1299.99, "available_quantity": 45 },
            { "id": 2, "name": "Wireless Headphones", "price": 199.99 },
            { "id": 3, "name": "Programming Book", "price": 49.99, "available_quantity": 200 },
        ],
        "user_score": 110,
        "total_count": 3,
        "metadata": { "service": "product-service" },
    })
}

fn john() -> Value {
    json!({ "id": 1, "name": "John Doe", "email": "john@example.com" })
}

#[test]
fn health_calls_product_service_with_a_timeout_of_five_seconds() {
    let host = host().with_json_response("http://products/health", 200, &json!({ "status": "healthy" }));
    let response = host.get("/health");
    let expected = json!({
        "status": "healthy",
        "service": "user-service",
        "dependencies": { "product_service": "healthy", "database": "healthy" },
    });
    assert_eq!((response.status(), body(&response)), (200, expected));
    assert_eq!(host.calls()[0].timeout_ms, Some(5_000));
}

#[test]
fn health_is_503_if_product_service_is_unreachable_or_unhealthy() {
    let url = "http://products/health";
    for host in [
        host().with_failure(url, client::Error::TimedOut),
        host().with_json_response(url, 500, &json!({})),
        Host::new(service()),
    ] {
        let response = host.get("/health");
        let expected = json!({
            "status": "unhealthy",
            "service": "user-service",
            "dependencies": { "product_service": "unhealthy", "database": "healthy" },
        });
        assert_eq!((response.status(), body(&response)), (503, expected));
    }
}

#[test]
fn there_are_two_users() {
    let jane = json!({ "id": 2, "name": "Jane Smith", "email": "jane@example.com" });
    assert_eq!(body(&host().get("/users")), json!([john(), jane]));
    assert_eq!(body(&host().get("/users/1")), john());
}

#[test]
fn an_unknown_user_is_404_and_an_invalid_id_is_422_everywhere() {
    for path in ["", "/recommendations", "/shopping-analysis"] {
        let unknown = host().get(&format!("/users/99{path}"));
        assert_eq!((unknown.status(), &body(&unknown)["detail"]), (404, &json!("User not found")));
        let malformed = host().get(&format!("/users/abc{path}"));
        let detail = "path parameter `user_id`: must be an integer";
        assert_eq!((malformed.status(), &body(&malformed)["detail"]), (422, &json!(detail)));
    }
}

#[test]
fn recommendations_are_the_response_of_product_service() {
    let host = host().with_json_response(RECOMMEND, 200, &recommended());
    let response = host.get("/users/1/recommendations");
    assert_eq!((response.status(), body(&response)), (200, json!({ "user": john(), "products": recommended() })));
    let call = format!("get_user_recommendations > GET {RECOMMEND}");
    assert_eq!(host.tree(), ["SERVER > get_user_recommendations", &call]);
    let span = host.span("get_user_recommendations").unwrap();
    assert_eq!(span.attributes["custom.operation_type"], "user_recommendations");
}

#[test]
fn an_analysis_combines_stock_and_score() {
    let host = host().with_json_response(RECOMMEND, 200, &recommended());
    let response = host.get("/users/1/shopping-analysis");
    let expected = json!({
        "user": john(),
        "preferences": { "preferred_categories": ["electronics"], "budget_range": "high" },
        "recommendations": recommended()["products"],
        "inventory_status": [
            { "product_id": 1, "available": true, "quantity": 45 },
            { "product_id": 2, "available": false, "quantity": 0 },
            { "product_id": 3, "available": true, "quantity": 200 },
        ],
        "shopping_score": 130,
        "analysis_summary": {
            "total_recommendations": 3,
            "available_products": 2,
            "user_score": 110,
            "final_shopping_score": 130,
        },
    });
    assert_eq!((response.status(), body(&response)), (200, expected));
    let expected = [
        "SERVER > get_shopping_analysis".to_owned(),
        "get_shopping_analysis > check_user_preferences".to_owned(),
        "get_shopping_analysis > validate_inventory_availability".to_owned(),
        "get_shopping_analysis > calculate_shopping_score".to_owned(),
        format!("get_shopping_analysis > GET {RECOMMEND}"),
    ];
    assert_eq!(host.tree(), expected);
    assert_eq!(host.span("check_user_preferences").unwrap().attributes["preferences.categories"], "electronics");
    assert_eq!(host.span("calculate_shopping_score").unwrap().attributes["shopping.score"], 130);
}

#[test]
fn the_gateway_passes_query_headers_status_and_body() {
    let url = "http://products/products/recommend?user_id=1001&category=electronics";
    let refusal = json!({ "status": 418 });
    let host = host().with_json_response(url, 418, &refusal);
    let headers = [("x-client-id", "web"), ("x-session-id", "s-7"), ("authorization", "secret")];
    let target = "/products/recommend?user_id=1001&category=electronics";
    let response = host.send(Method::Get, target, &headers, b"");
    assert_eq!((response.status(), body(&response)), (418, refusal));
    assert_eq!(response.header("content-type"), Some("application/json"));
    let passed = [("x-client-id", "web"), ("x-session-id", "s-7")];
    assert_eq!(host.calls()[0].headers, passed.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_failing_product_service_is_a_problem_that_names_it() {
    let denied = client::Error::Denied("http://products".to_owned());
    let cases = [
        (denied, 502, "product-service: the manifest does not allow calls to http://products"),
        (client::Error::TooLarge, 502, "product-service: the response is too large"),
        (client::Error::TimedOut, 503, "product-service: the request timed out"),
        (client::Error::Unreachable("refused".to_owned()), 503, "product-service: unreachable: "),
    ];
    for (error, status, detail) in cases {
        let host = host().with_failure(RECOMMEND, error);
        for target in ["/users/1/recommendations", "/users/1/shopping-analysis", "/products/recommend?user_id=1"] {
            let response = host.get(target);
            let answered = body(&response);
            assert_eq!(response.status(), status, "{target}");
            assert!(answered["detail"].as_str().unwrap().starts_with(detail), "{target}: {answered}");
        }
        assert!(host.span("get_user_recommendations").unwrap().error.is_some());
    }
}

#[test]
fn an_unusable_response_is_502() {
    for (status, response) in [(500, recommended()), (404, recommended()), (200, json!([]))] {
        let host = host().with_json_response(RECOMMEND, status, &response);
        assert_eq!(host.get("/users/1/shopping-analysis").status(), 502);
    }
}
