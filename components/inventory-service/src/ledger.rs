//! The number of reserved pieces of each item, stored as a decimal number in the bucket `default` under
//! `reserved/{product_id}`. A missing entry means the initial number of the item.

use guest::kv;

use crate::stock::{self, Item, Quantity, Reservation, StockError};

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The reservation is not possible.
    #[error(transparent)]
    Refused(#[from] StockError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] kv::Error),
    /// The value of this key is not a number.
    #[error("the ledger holds no number at `{0}`")]
    Unreadable(String),
}

/// The number of reserved pieces of `item`.
pub fn reserved(item: &Item) -> Result<u64, Error> {
    let key = key(item);
    let stored = kv::open("default")?.get(&key)?;
    number(item, &key, stored.as_deref())
}

/// Reserves pieces of `item`. Concurrent requests never reserve a piece twice.
pub fn reserve(item: &Item, quantity: Quantity) -> Result<Reservation, Error> {
    let key = key(item);
    kv::open("default")?.update(&key, |stored| {
        let (reserved, reservation) = stock::reserve(item, number(item, &key, stored)?, quantity)?;
        Ok((reserved.to_string().into_bytes(), reservation))
    })
}

fn key(item: &Item) -> String {
    format!("reserved/{}", item.product)
}

fn number(item: &Item, key: &str, stored: Option<&[u8]>) -> Result<u64, Error> {
    let Some(stored) = stored else { return Ok(item.initially_reserved) };
    let text = std::str::from_utf8(stored).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| Error::Unreadable(key.to_owned()))
}
