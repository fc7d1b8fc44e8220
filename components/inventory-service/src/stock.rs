//! The stock of the shop. Pure functions: no HTTP, no storage, no WebAssembly.

use std::str::FromStr;

use serde::Serialize;
use tracing::{Span, field};

/// The id of a product: any integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductId(i64);

impl ProductId {
    /// The integer.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl FromStr for ProductId {
    type Err = NotAnInteger;

    fn from_str(text: &str) -> Result<Self, NotAnInteger> {
        text.parse().map(Self).map_err(|_| NotAnInteger)
    }
}

/// The error for a product id such as `abc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an integer")]
pub struct NotAnInteger;

/// The number of pieces to reserve: at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity(u64);

impl Quantity {
    /// The number of pieces.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Quantity {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        match text.parse() {
            Ok(pieces) if pieces >= 1 => Ok(Self(pieces)),
            _ => Err(InvalidQuantity),
        }
    }
}

/// The error for a quantity such as `0`, `-3` or `many`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an integer of at least 1")]
pub struct InvalidQuantity;

/// Why a product is not available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StockError {
    /// The shop does not have this product.
    #[error("Product not found in inventory")]
    UnknownProduct,
    /// Fewer pieces are available than requested.
    #[error("Insufficient inventory. Available: {available}")]
    Insufficient {
        /// The number of available pieces.
        available: u64,
    },
}

/// A product in stock.
#[derive(Debug)]
pub struct Item {
    /// The product's id.
    pub product: i64,
    /// The number of pieces, including reserved ones.
    pub total: u64,
    /// The number of pieces that are reserved initially.
    pub initially_reserved: u64,
    /// Warehouse and shelf, as in `A-1`.
    pub location: &'static str,
}

impl Item {
    /// The warehouse in the location: the part before the dash.
    pub fn warehouse(&self) -> &'static str {
        self.location.split('-').next().unwrap_or(self.location)
    }
}

const ITEMS: [Item; 3] = [
    Item { product: 1, total: 50, initially_reserved: 5, location: "A-1" },
    Item { product: 2, total: 120, initially_reserved: 10, location: "B-2" },
    Item { product: 3, total: 200, initially_reserved: 0, location: "C-1" },
];

/// The stock item of a product.
///
/// # Errors
/// [`StockError::UnknownProduct`]
pub fn item(product: ProductId) -> Result<&'static Item, StockError> {
    ITEMS.iter().find(|item| item.product == product.0).ok_or(StockError::UnknownProduct)
}

/// The response to a lookup.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Availability {
    product_id: i64,
    available_quantity: u64,
    total_quantity: u64,
    warehouse_location: &'static str,
    warehouse_capacity_percent: u8,
    estimated_shipping_days: u8,
}

/// The availability of an item of which `reserved` pieces are reserved.
pub fn availability(item: &Item, reserved: u64) -> Availability {
    Availability {
        product_id: item.product,
        available_quantity: item.total.saturating_sub(reserved),
        total_quantity: item.total,
        warehouse_location: item.location,
        warehouse_capacity_percent: check_warehouse_capacity(item.location),
        estimated_shipping_days: calculate_shipping_time(item.location),
    }
}

/// The utilization of a warehouse, 80 to 100 per cent. The demo has no sensors, so the figure is derived from the
/// location and is constant.
#[tracing::instrument(skip_all, fields(warehouse.location = location, warehouse.capacity_percent = field::Empty))]
fn check_warehouse_capacity(location: &str) -> u8 {
    let hash = location.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let percent = 80 + (hash % 21) as u8;
    Span::current().record("warehouse.capacity_percent", percent);
    percent
}

/// The delivery time in days from a warehouse, which is given by the first letter of the location.
#[tracing::instrument(skip_all, fields(warehouse.location = location, shipping.estimated_days = field::Empty))]
fn calculate_shipping_time(location: &str) -> u8 {
    let days = match location.as_bytes().first() {
        Some(b'A') => 1,
        Some(b'B') => 2,
        Some(b'C') => 3,
        _ => 5,
    };
    Span::current().record("shipping.estimated_days", days);
    days
}

/// The response to a successful reservation.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Reservation {
    success: bool,
    reserved_quantity: u64,
    remaining_available: u64,
}

/// Reserves pieces of an item of which `reserved` are reserved already. Returns the new number of reserved pieces.
///
/// # Errors
/// [`StockError::Insufficient`]
pub fn reserve(item: &Item, reserved: u64, quantity: Quantity) -> Result<(u64, Reservation), StockError> {
    let available = item.total.saturating_sub(reserved);
    let Some(remaining_available) = available.checked_sub(quantity.0) else {
        return Err(StockError::Insufficient { available });
    };
    let reservation = Reservation { success: true, reserved_quantity: quantity.0, remaining_available };
    Ok((reserved + quantity.0, reservation))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn reserved_pieces_are_not_available() {
        let laptop = item(ProductId(1)).unwrap();
        let availability = availability(laptop, laptop.initially_reserved);
        assert_eq!((availability.available_quantity, availability.total_quantity), (45, 50));
        assert_eq!((availability.warehouse_location, availability.estimated_shipping_days), ("A-1", 1));
    }

    #[test]
    fn an_unknown_product_is_an_error() {
        assert_eq!(item(ProductId(4)).unwrap_err(), StockError::UnknownProduct);
        assert_eq!(StockError::UnknownProduct.to_string(), "Product not found in inventory");
    }

    #[test]
    fn all_available_pieces_can_be_reserved_and_no_more() {
        let laptop = item(ProductId(1)).unwrap();
        let (reserved, reservation) = reserve(laptop, 5, quantity("45")).unwrap();
        assert_eq!((reserved, reservation.remaining_available), (50, 0));
        let refused = reserve(laptop, reserved, quantity("1")).unwrap_err();
        assert_eq!(refused.to_string(), "Insufficient inventory. Available: 0");
    }

    #[test]
    fn a_quantity_is_a_whole_number_of_at_least_one() {
        for text in ["0", "-3", "many", "1.5", ""] {
            assert_eq!(text.parse::<Quantity>(), Err(InvalidQuantity), "{text}");
        }
        assert_eq!(quantity("18446744073709551615").get(), u64::MAX);
    }

    #[test]
    fn warehouses_are_between_80_and_100_percent_full() {
        for location in ["A-1", "B-2", "C-1", "Z-99", ""] {
            assert!((80..=100).contains(&check_warehouse_capacity(location)), "{location}");
        }
    }

    #[test]
    fn parcels_from_an_unknown_warehouse_take_five_days() {
        assert_eq!(["A-1", "B-2", "C-1", "D-1", ""].map(calculate_shipping_time), [1, 2, 3, 5, 5]);
    }
}
