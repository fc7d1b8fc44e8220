//! What the shop sells.

use serde::Serialize;

/// One product at its price in the shop's currency.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Product {
    /// The product's number.
    pub id: u32,
    /// What it is called.
    pub name: &'static str,
    /// The shelf it would stand on in a shop with doors.
    pub category: &'static str,
    /// Its price, to the cent.
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
