//! What is on the shelves. Plain rules: no HTTP, no storage, no wasm.

use std::str::FromStr;

use serde::Serialize;
use tracing::{Span, field};

/// The number of a product. Any integer is one; few are in stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductId(i64);

impl ProductId {
    /// The number.
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

/// What is said of a product id like `abc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an integer")]
pub struct NotAnInteger;

/// How many pieces to reserve: at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity(u64);

impl Quantity {
    /// The number of pieces.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Quantity {
    type Err = NoQuantity;

    fn from_str(text: &str) -> Result<Self, NoQuantity> {
        match text.parse() {
            Ok(pieces) if pieces >= 1 => Ok(Self(pieces)),
            _ => Err(NoQuantity),
        }
    }
}

/// What is said of a quantity like `0`, `-3` or `many`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an integer of at least 1")]
pub struct NoQuantity;

/// Why a product cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StockError {
    /// The shop has never had it.
    #[error("Product not found in inventory")]
    UnknownProduct,
    /// Fewer pieces are left than were asked for.
    #[error("Insufficient inventory. Available: {available}")]
    Short {
        /// How many pieces are left.
        available: u64,
    },
}

/// One product on its shelf.
#[derive(Debug)]
pub struct Item {
    /// The product's number.
    pub product: i64,
    /// All pieces, the reserved ones included.
    pub total: u64,
    /// How many pieces are reserved when the shop opens.
    pub reserved_at_first: u64,
    /// Warehouse and shelf, as in `A-1`.
    pub location: &'static str,
}

impl Item {
    /// The warehouse in its location: the letters before the dash.
    pub fn warehouse(&self) -> &'static str {
        self.location.split('-').next().unwrap_or(self.location)
    }
}

const ITEMS: [Item; 3] = [
    Item { product: 1, total: 50, reserved_at_first: 5, location: "A-1" },
    Item { product: 2, total: 120, reserved_at_first: 10, location: "B-2" },
    Item { product: 3, total: 200, reserved_at_first: 0, location: "C-1" },
];

/// The shelf of a product.
///
/// # Errors
/// [`StockError::UnknownProduct`]
pub fn item(product: ProductId) -> Result<&'static Item, StockError> {
    ITEMS.iter().find(|item| item.product == product.0).ok_or(StockError::UnknownProduct)
}

/// What a client is told about a product.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Availability {
    product_id: i64,
    available_quantity: u64,
    total_quantity: u64,
    warehouse_location: &'static str,
    warehouse_capacity_percent: u8,
    estimated_shipping_days: u8,
}

/// What a client is told about an item of which `reserved` pieces are spoken for.
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

/// How full a warehouse is, 80 to 100 per cent. The demo's warehouses have no sensors: the figure is made from the
/// location's letters, so it looks measured and never changes.
#[tracing::instrument(skip_all, fields(warehouse.location = location, warehouse.capacity_percent = field::Empty))]
fn check_warehouse_capacity(location: &str) -> u8 {
    let spread = location.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let percent = 80 + (spread % 21) as u8;
    Span::current().record("warehouse.capacity_percent", percent);
    percent
}

/// How many days a parcel takes from a warehouse, known by its letter.
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

/// What a client is told when a reservation succeeded.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Reservation {
    success: bool,
    reserved_quantity: u64,
    remaining_available: u64,
}

/// Reserves pieces of an item of which `reserved` are spoken for already. Returns how many are spoken for then.
///
/// # Errors
/// [`StockError::Short`]
pub fn reserve(item: &Item, reserved: u64, quantity: Quantity) -> Result<(u64, Reservation), StockError> {
    let available = item.total.saturating_sub(reserved);
    let Some(remaining_available) = available.checked_sub(quantity.0) else {
        return Err(StockError::Short { available });
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
    fn what_is_reserved_is_not_available() {
        let laptop = item(ProductId(1)).unwrap();
        let availability = availability(laptop, laptop.reserved_at_first);
        assert_eq!((availability.available_quantity, availability.total_quantity), (45, 50));
        assert_eq!((availability.warehouse_location, availability.estimated_shipping_days), ("A-1", 1));
    }

    #[test]
    fn a_product_the_shop_never_had_is_unknown() {
        assert_eq!(item(ProductId(4)).unwrap_err(), StockError::UnknownProduct);
        assert_eq!(StockError::UnknownProduct.to_string(), "Product not found in inventory");
    }

    #[test]
    fn the_last_piece_can_be_reserved_and_not_one_more() {
        let laptop = item(ProductId(1)).unwrap();
        let (reserved, reservation) = reserve(laptop, 5, quantity("45")).unwrap();
        assert_eq!((reserved, reservation.remaining_available), (50, 0));
        let refused = reserve(laptop, reserved, quantity("1")).unwrap_err();
        assert_eq!(refused.to_string(), "Insufficient inventory. Available: 0");
    }

    #[test]
    fn a_quantity_is_a_whole_number_of_at_least_one() {
        for text in ["0", "-3", "many", "1.5", ""] {
            assert_eq!(text.parse::<Quantity>(), Err(NoQuantity), "{text}");
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
