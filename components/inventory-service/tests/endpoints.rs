//! Tests of the endpoints of inventory-service on the native test host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use guest::Response;
use guest::testing::Host;
use inventory_service::service;
use serde_json::{Value, json};

fn body(response: &Response) -> Value {
    response.json().unwrap()
}

#[test]
fn health_names_the_service() {
    let answer = Host::new(service()).get("/health");
    assert_eq!(body(&answer), json!({ "status": "healthy", "service": "inventory-service" }));
}

#[test]
fn a_lookup_returns_quantity_and_location() {
    let answer = Host::new(service()).get("/inventory/1");
    let expected = json!({
        "product_id": 1,
        "available_quantity": 45,
        "total_quantity": 50,
        "warehouse_location": "A-1",
        "warehouse_capacity_percent": 86,
        "estimated_shipping_days": 1,
    });
    assert_eq!((answer.status(), body(&answer)), (200, expected));
}

#[test]
fn a_lookup_is_one_span_with_two_children() {
    let host = Host::new(service());
    host.get("/inventory/2");
    let expected = [
        "SERVER > get_inventory",
        "get_inventory > check_warehouse_capacity",
        "get_inventory > calculate_shipping_time",
    ];
    assert_eq!(host.tree(), expected);
    let attributes = serde_json::to_value(host.span("get_inventory").unwrap().attributes).unwrap();
    let expected = json!({
        "custom.operation_type": "inventory_lookup",
        "product.id": 2,
        "inventory.found": true,
        "inventory.quantity": 120,
        "inventory.reserved": 10,
        "warehouse.location": "B-2",
    });
    assert_eq!(attributes, expected);
    assert_eq!(host.span("calculate_shipping_time").unwrap().attributes["shipping.estimated_days"], 2);
}

#[test]
fn an_unknown_product_is_404_and_does_not_fail_the_span() {
    let host = Host::new(service());
    let answer = host.get("/inventory/99");
    assert_eq!((answer.status(), &body(&answer)["detail"]), (404, &json!("Product not found in inventory")));
    let span = host.span("get_inventory").unwrap();
    assert_eq!((&span.attributes["inventory.found"], span.error), (&json!(false), None));
}

#[test]
fn a_product_id_that_is_not_an_integer_is_422() {
    let answer = Host::new(service()).get("/inventory/abc");
    assert_eq!(answer.status(), 422);
    assert_eq!(body(&answer)["detail"], "path parameter `product_id`: must be an integer");
}

#[test]
fn a_reservation_is_stored_and_reduces_the_available_quantity() {
    let host = Host::new(service());
    let answer = host.post("/inventory/1/reserve?quantity=3");
    let expected = json!({ "success": true, "reserved_quantity": 3, "remaining_available": 42 });
    assert_eq!((answer.status(), body(&answer)), (200, expected));
    assert_eq!(host.value("default", "reserved/1").as_deref(), Some(b"8".as_slice()));
    assert_eq!(body(&host.get("/inventory/1"))["available_quantity"], 42);
    assert_eq!(host.counter("inventory.pieces.reserved", &[("warehouse", "A")]), 3);
    let attributes = serde_json::to_value(host.span("reserve_inventory").unwrap().attributes).unwrap();
    assert_eq!(attributes, json!({ "product.id": 1, "reservation.quantity": 3, "reservation.success": true }));
}

#[test]
fn more_than_the_available_quantity_cannot_be_reserved() {
    let host = Host::new(service());
    let answer = host.post("/inventory/1/reserve?quantity=46");
    assert_eq!((answer.status(), &body(&answer)["detail"]), (400, &json!("Insufficient inventory. Available: 45")));
    assert_eq!(host.value("default", "reserved/1"), None);
    assert_eq!(host.span("reserve_inventory").unwrap().attributes["reservation.success"], false);
}

#[test]
fn a_quantity_that_is_missing_or_below_one_is_422() {
    let host = Host::new(service());
    for (target, detail) in [
        ("/inventory/1/reserve", "query parameter `quantity` is missing"),
        ("/inventory/1/reserve?quantity=0", "query parameter `quantity`: must be an integer of at least 1"),
        ("/inventory/1/reserve?quantity=-1", "query parameter `quantity`: must be an integer of at least 1"),
    ] {
        let answer = host.post(target);
        assert_eq!((answer.status(), body(&answer)["detail"].as_str()), (422, Some(detail)));
    }
}

#[test]
fn an_invalid_reservation_lists_all_errors() {
    let answer = body(&Host::new(service()).post("/inventory/abc/reserve?quantity=0"));
    let detail =
        "path parameter `product_id`: must be an integer; query parameter `quantity`: must be an integer of at least 1";
    assert_eq!(answer["detail"], detail);
    assert_eq!([&answer["errors"][0]["name"], &answer["errors"][1]["name"]], ["product_id", "quantity"]);
}

#[test]
fn reserving_an_unknown_product_is_404() {
    let answer = Host::new(service()).post("/inventory/99/reserve?quantity=1");
    assert_eq!((answer.status(), &body(&answer)["detail"]), (404, &json!("Product not found in inventory")));
}

#[test]
fn an_unreadable_ledger_entry_is_a_failure_and_is_not_changed() {
    let host = Host::new(service()).with_value("default", "reserved/1", b"lots");
    assert_eq!(host.get("/inventory/1").status(), 500);
    assert_eq!(host.post("/inventory/1/reserve?quantity=1").status(), 500);
    assert_eq!(host.value("default", "reserved/1").as_deref(), Some(b"lots".as_slice()));
    assert!(host.spans().iter().all(|span| span.error.is_some()));
}
