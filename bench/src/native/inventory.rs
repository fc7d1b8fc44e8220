//! inventory-service.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanRef;
use opentelemetry_sdk::trace::SdkTracer;
use serde::{Deserialize, Serialize};

use super::telemetry::{Operation, answered, server, within};

/// The response of inventory-service.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Availability {
    pub(super) product_id: u32,
    pub(super) available_quantity: u32,
    total_quantity: u32,
    pub(super) warehouse_location: String,
    warehouse_capacity_percent: u32,
    pub(super) estimated_shipping_days: u32,
}

#[derive(Clone)]
struct Shelves {
    tracer: SdkTracer,
    /// The reserved quantity of each product.
    reserved: Arc<Mutex<HashMap<u32, u32>>>,
}

pub(super) fn router(tracer: SdkTracer) -> Router {
    let reserved = Arc::new(Mutex::new(HashMap::from([(1, 5), (2, 10)])));
    Router::new().route("/inventory/{product_id}", get(inventory)).with_state(Shelves { tracer, reserved })
}

async fn inventory(State(shelves): State<Shelves>, Path(product): Path<u32>, uri: Uri, headers: HeaderMap) -> Response {
    let server = server(&shelves.tracer, &headers, "/inventory/{product_id}", &uri, None);
    let answer = look_up(&shelves, product, &server);
    let status = if answer.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    answered(&server, status.as_u16());
    answer.map_or_else(|| status.into_response(), |answer| Json(answer).into_response())
}

fn look_up(shelves: &Shelves, product: u32, server: &opentelemetry::Context) -> Option<Availability> {
    let operation = Operation::start(&shelves.tracer, "get_inventory", "inventory_lookup", server);
    let found = availability(shelves, product, &operation);
    operation.set("product.id", i64::from(product));
    operation.set("inventory.found", found.is_some());
    operation.end();
    found
}

fn availability(shelves: &Shelves, product: u32, operation: &Operation) -> Option<Availability> {
    let (total, location) = stock(product)?;
    let reserved = shelves.reserved.lock().unwrap_or_else(PoisonError::into_inner).get(&product).copied().unwrap_or(0);
    operation.set("inventory.quantity", i64::from(total));
    operation.set("inventory.reserved", i64::from(reserved));
    operation.set("warehouse.location", location);
    let capacity = |span: &SpanRef<'_>| {
        let percent = 80 + total % 21;
        span.set_attribute(KeyValue::new("warehouse.location", location));
        span.set_attribute(KeyValue::new("warehouse.capacity_percent", i64::from(percent)));
        percent
    };
    let shipping = |span: &SpanRef<'_>| {
        let days = shipping_days(location);
        span.set_attribute(KeyValue::new("warehouse.location", location));
        span.set_attribute(KeyValue::new("shipping.estimated_days", i64::from(days)));
        days
    };
    Some(Availability {
        product_id: product,
        available_quantity: total - reserved,
        total_quantity: total,
        warehouse_location: location.to_owned(),
        warehouse_capacity_percent: within(&shelves.tracer, "check_warehouse_capacity", &operation.context, capacity),
        estimated_shipping_days: within(&shelves.tracer, "calculate_shipping_time", &operation.context, shipping),
    })
}

fn stock(product: u32) -> Option<(u32, &'static str)> {
    match product {
        1 => Some((50, "A-1")),
        2 => Some((120, "B-2")),
        3 => Some((200, "C-1")),
        _ => None,
    }
}

fn shipping_days(location: &str) -> u32 {
    match location.as_bytes().first() {
        Some(b'A') => 1,
        Some(b'B') => 2,
        Some(b'C') => 3,
        _ => 5,
    }
}
