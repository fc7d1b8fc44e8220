//! What inventory-service knows of a product.

use guest::client::{self, Request};
use guest::{Response, config};
use serde::{Deserialize, Serialize};

use crate::catalogue::Product;

/// The part of inventory-service's answer that clients of this service get to see.
#[derive(Debug, Serialize, Deserialize)]
pub struct Shelf {
    available_quantity: u64,
    warehouse_location: String,
    estimated_shipping_days: u32,
}

/// Asks for all products at once. Where a call fails, the reason is logged and the product has no shelf.
///
/// # Errors
/// Where the configuration does not say where inventory-service is.
pub fn shelves(products: &[Product]) -> Result<Vec<Option<Shelf>>, config::Error> {
    let base = config::require("inventory_url")?;
    let base = base.trim_end_matches('/');
    let requests: Vec<_> =
        products.iter().map(|product| Request::get(format!("{base}/inventory/{}", product.id))).collect();
    let answers = client::send_all(&requests);
    Ok(products.iter().zip(answers).map(|(product, answer)| shelf(product, answer)).collect())
}

fn shelf(product: &Product, answer: Result<Response, client::Error>) -> Option<Shelf> {
    match answer.and_then(Response::success).and_then(|answer| answer.json()) {
        Ok(shelf) => Some(shelf),
        Err(error) => {
            tracing::warn!(product.id = product.id, %error, "inventory-service gave no answer to use");
            None
        }
    }
}
