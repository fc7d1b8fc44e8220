//! Calls to inventory-service.

use guest::client::{self, Request};
use guest::{Response, config};
use serde::{Deserialize, Serialize};

use crate::catalogue::Product;

/// The part of inventory-service's response that is passed to clients.
#[derive(Debug, Serialize, Deserialize)]
pub struct StockInfo {
    available_quantity: u64,
    warehouse_location: String,
    estimated_shipping_days: u32,
}

/// Gets the stock of all products concurrently. If a call fails, the error is logged and the product has no stock
/// information.
///
/// # Errors
/// If the configuration does not contain the URL of inventory-service.
pub fn fetch_stock(products: &[Product]) -> Result<Vec<Option<StockInfo>>, config::Error> {
    let base = config::require("inventory_url")?;
    let base = base.trim_end_matches('/');
    let requests: Vec<_> =
        products.iter().map(|product| Request::get(format!("{base}/inventory/{}", product.id))).collect();
    let responses = client::send_all(&requests);
    Ok(products.iter().zip(responses).map(|(product, response)| parse_stock(product, response)).collect())
}

fn parse_stock(product: &Product, response: Result<Response, client::Error>) -> Option<StockInfo> {
    match response.and_then(Response::success).and_then(|response| response.json()) {
        Ok(stock) => Some(stock),
        Err(error) => {
            tracing::warn!(product.id = product.id, %error, "no stock from inventory-service");
            None
        }
    }
}
