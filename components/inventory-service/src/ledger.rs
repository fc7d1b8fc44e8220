//! How many pieces of each item are reserved. The number stands in decimal in the bucket `default` under
//! `reserved/{product_id}`; as long as nothing does, it is the number from the opening of the shop.

use guest::kv;

use crate::stock::{self, Item, Quantity, Reservation, StockError};

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rules of the shop forbid it.
    #[error(transparent)]
    Refused(#[from] StockError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] kv::Error),
    /// Somebody else wrote to the ledger.
    #[error("the ledger holds no number at `{0}`")]
    Unreadable(String),
}

/// How many pieces of `item` are reserved now.
pub fn reserved(item: &Item) -> Result<u64, Error> {
    let key = key(item);
    let stored = kv::open("default")?.get(&key)?;
    number(item, &key, stored.as_deref())
}

/// Reserves pieces of `item`. However many requests do so at once, no piece is reserved twice.
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
    let Some(stored) = stored else { return Ok(item.reserved_at_first) };
    let text = std::str::from_utf8(stored).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| Error::Unreadable(key.to_owned()))
}
