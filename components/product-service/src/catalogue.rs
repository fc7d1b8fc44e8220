//! The products of the shop.

use serde::Serialize;

/// A product.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Product {
    /// The product's id.
    pub id: u32,
    /// The product's name.
    pub name: &'static str,
    /// The product's category.
    pub category: &'static str,
    /// The price in the shop's currency, rounded to cents.
    pub price: f64,
}

const PRODUCTS: [Product; 3] = [
    Product { id: 1, name: "Laptop Pro", category: "electronics", price: 1299.99 },
    Product { id: 2, name: "Wireless Headphones", category: "electronics", price: 199.99 },
    Product { id: 3, name: "Programming Book", category: "books", price: 49.99 },
];

/// All products.
pub fn products() -> &'static [Product] {
    &PRODUCTS
}
