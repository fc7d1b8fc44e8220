//! The analysis of recommendations and their stock. Pure functions: no HTTP, no WebAssembly.

use serde::{Deserialize, Serialize};
use tracing::{Span, field};

use crate::users::User;

const SCORE_PER_AVAILABLE_PRODUCT: u64 = 10;

/// The preferences of a user.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Preferences {
    preferred_categories: [&'static str; 1],
    budget_range: &'static str,
}

/// The stock of a recommended product; the quantity is `None` if inventory-service failed.
#[derive(Debug, Deserialize)]
pub struct Stock {
    /// The product's id.
    pub id: i64,
    /// The number of available pieces.
    pub available_quantity: Option<u64>,
}

/// The availability of one product, as part of the response.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct InventoryStatus {
    product_id: i64,
    available: bool,
    quantity: u64,
}

/// The result of an analysis.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Analysis {
    inventory_status: Vec<InventoryStatus>,
    shopping_score: u64,
    analysis_summary: Summary,
}

/// The summary of an analysis.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Summary {
    total_recommendations: usize,
    available_products: usize,
    user_score: u64,
    final_shopping_score: u64,
}

/// The preferences of a user, which are the same for all users of the demo.
#[tracing::instrument(skip_all, fields(preferences.categories = field::Empty))]
pub fn check_user_preferences(_user: &User) -> Preferences {
    let preferences = Preferences { preferred_categories: ["electronics"], budget_range: "high" };
    Span::current().record("preferences.categories", preferences.preferred_categories.join(","));
    preferences
}

/// Analyses the stock of the recommended products and the score of the user.
pub fn analyse(stock: &[Stock], user_score: u64) -> Analysis {
    let inventory_status = validate_inventory_availability(stock);
    let available_products = inventory_status.iter().filter(|status| status.available).count();
    let shopping_score = calculate_shopping_score(available_products, user_score);
    let analysis_summary = Summary {
        total_recommendations: stock.len(),
        available_products,
        user_score,
        final_shopping_score: shopping_score,
    };
    Analysis { inventory_status, shopping_score, analysis_summary }
}

/// A product without a known quantity counts as sold out.
#[tracing::instrument(skip_all, fields(products.count_before = stock.len(), products.count_after = field::Empty))]
fn validate_inventory_availability(stock: &[Stock]) -> Vec<InventoryStatus> {
    let status = |product: &Stock| {
        let quantity = product.available_quantity.unwrap_or(0);
        InventoryStatus { product_id: product.id, available: quantity > 0, quantity }
    };
    let statuses: Vec<_> = stock.iter().map(status).collect();
    Span::current().record("products.count_after", statuses.iter().filter(|status| status.available).count());
    statuses
}

#[tracing::instrument(skip_all, fields(shopping.score = field::Empty))]
fn calculate_shopping_score(available_products: usize, user_score: u64) -> u64 {
    let score = SCORE_PER_AVAILABLE_PRODUCT * available_products as u64 + user_score;
    Span::current().record("shopping.score", score);
    score
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(quantities: &[Option<u64>]) -> Vec<Stock> {
        let product = |(id, quantity): (i64, &Option<u64>)| Stock { id, available_quantity: *quantity };
        (1..).zip(quantities).map(product).collect()
    }

    #[test]
    fn the_score_is_ten_for_each_available_product_plus_the_user_score() {
        let analysis = analyse(&stock(&[Some(45), Some(110), Some(200)]), 110);
        assert_eq!(analysis.shopping_score, 140);
        assert_eq!(analysis.analysis_summary.final_shopping_score, 140);
    }

    #[test]
    fn products_that_are_sold_out_or_unknown_are_not_available() {
        let analysis = analyse(&stock(&[Some(0), None, Some(1)]), 100);
        let available: Vec<_> = analysis.inventory_status.iter().map(|status| status.available).collect();
        assert_eq!(available, [false, false, true]);
        assert_eq!(analysis.analysis_summary.available_products, 1);
        assert_eq!(analysis.analysis_summary.total_recommendations, 3);
        assert_eq!(analysis.shopping_score, 110);
    }

    #[test]
    fn without_recommendations_the_score_is_the_user_score() {
        assert_eq!(analyse(&[], 100).shopping_score, 100);
    }
}
