//! Selection and pricing of recommended products. Pure functions: no HTTP, no WebAssembly.

use tracing::{Span, field};

use crate::catalogue::{self, Product};

/// The score of an unknown client.
pub const BASE_SCORE: u32 = 100;
const SCORE_PER_PREFERRED_CATEGORY: u32 = 10;
const PREFERRED_CATEGORIES: [&str; 1] = ["electronics"];
/// Clients with a higher score get a discount.
const DISCOUNT_ABOVE: u32 = 120;
const DISCOUNT_FACTOR: f64 = 0.9;

/// The score of a client: the base score, and points for each preferred category if the preferences are known.
pub fn user_score(personal: bool) -> u32 {
    let preferred = if personal { PREFERRED_CATEGORIES.as_slice() } else { &[] };
    preferred.iter().fold(BASE_SCORE, |score, _| score + SCORE_PER_PREFERRED_CATEGORY)
}

/// The products of one category, or all of them.
#[tracing::instrument(skip_all, fields(
    request.category = field::Empty,
    products.count_before = field::Empty,
    products.count_after = field::Empty,
))]
pub fn filter_products_by_category(category: Option<&str>) -> Vec<Product> {
    let all = catalogue::products();
    let matches = |product: &&Product| category.is_none_or(|category| product.category == category);
    let matching: Vec<_> = all.iter().filter(matches).cloned().collect();
    tracing::record_all!(
        Span::current(),
        request.category = category,
        products.count_before = all.len(),
        products.count_after = matching.len(),
    );
    matching
}

/// Reduces every price by a tenth for a client with a high score. The catalogue is not changed.
#[tracing::instrument(skip_all, fields(recommendation.user_score = user_score))]
pub fn apply_pricing_logic(mut products: Vec<Product>, user_score: u32) -> Vec<Product> {
    if user_score > DISCOUNT_ABOVE {
        for product in &mut products {
            product.price = round_to_cents(product.price * DISCOUNT_FACTOR);
        }
    }
    products
}

fn round_to_cents(price: f64) -> f64 {
    (price * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(products: &[Product]) -> Vec<u32> {
        products.iter().map(|product| product.id).collect()
    }

    #[test]
    fn a_client_scores_ten_points_for_each_preferred_category() {
        assert_eq!((user_score(false), user_score(true)), (100, 110));
    }

    #[test]
    fn a_category_leaves_only_its_own_products() {
        assert_eq!(ids(&filter_products_by_category(Some("electronics"))), [1, 2]);
        assert_eq!(ids(&filter_products_by_category(Some("books"))), [3]);
        assert_eq!(ids(&filter_products_by_category(Some("gardening"))), [0; 0]);
        assert_eq!(ids(&filter_products_by_category(None)), [1, 2, 3]);
    }

    #[test]
    fn prices_drop_by_a_tenth_above_a_score_of_120() {
        let prices = |score| {
            let priced = apply_pricing_logic(catalogue::products().to_vec(), score);
            priced.into_iter().map(|product| product.price).collect::<Vec<_>>()
        };
        assert_eq!(prices(120), [1299.99, 199.99, 49.99]);
        assert_eq!(prices(121), [1169.99, 179.99, 44.99]);
        assert_eq!(catalogue::products()[0].price, 1299.99);
    }
}
