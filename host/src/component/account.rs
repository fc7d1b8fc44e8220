//! The memory of an instance: its linear memory, and the host memory that is reserved on its behalf.
//!
//! Each instance has one account. Its linear memory may grow to `limits.memory`. Host memory for it (open buckets,
//! compare-and-swap snapshots, messages of outgoing calls) has a separate limit of the same size: linear memory never
//! shrinks, and an instance that once used all of it must still be able to make calls. A reservation is released when
//! its owner is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes that are added to each reservation for the host's own data structures.
pub(crate) const RESERVATION_OVERHEAD: usize = 256;

/// The memory of one instance, in its linear memory and in the host.
pub(crate) struct MemoryAccount {
    limit: u64,
    memory: AtomicU64,
    reserved: AtomicU64,
    /// The linear memory in bytes that the instance asked for when it was last denied; 0 if it was not.
    denied: AtomicU64,
}

/// Reserved bytes, released on drop.
pub(crate) struct MemoryReservation {
    account: Arc<MemoryAccount>,
    bytes: u64,
}

impl MemoryAccount {
    /// The account of a new instance.
    pub fn new(limit: u64) -> Arc<MemoryAccount> {
        let (memory, reserved, denied) = Default::default();
        Arc::new(MemoryAccount { limit, memory, reserved, denied })
    }

    /// The linear memory in bytes, over all memories of the instance.
    pub fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// The reserved host memory in bytes.
    pub fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Counts `bytes` more of linear memory if they are within the limit. Returns whether they are.
    pub fn try_grow(&self, bytes: u64) -> bool {
        let total = self.memory().saturating_add(bytes);
        let fits = total <= self.limit;
        if fits {
            self.memory.store(total, Ordering::Relaxed);
        } else {
            self.denied.store(total, Ordering::Relaxed);
        }
        fits
    }

    /// The limit of linear memory, and of reservations, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The linear memory in bytes that was last denied since the last call, over all memories of the instance.
    pub fn take_denied(&self) -> Option<u64> {
        Some(self.denied.swap(0, Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// A reservation of zero bytes, which can grow.
    pub fn empty_reservation(self: &Arc<Self>) -> MemoryReservation {
        MemoryReservation { account: self.clone(), bytes: 0 }
    }

    /// Reserves `bytes` and [`RESERVATION_OVERHEAD`], if they are within the limit.
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Option<MemoryReservation> {
        let mut reserved = self.empty_reservation();
        reserved.try_grow(bytes.saturating_add(RESERVATION_OVERHEAD)).then_some(reserved)
    }
}

impl MemoryReservation {
    /// The reserved bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reserves more bytes if they are within the limit. Returns whether they are.
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        let (account, bytes) = (&self.account, bytes as u64);
        let before = account.reserved.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= account.limit;
        if fits {
            self.bytes += bytes;
        } else {
            account.reserved.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        self.account.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_memory_and_reservations_each_have_the_limit() {
        let account = MemoryAccount::new(1_000);
        assert!(account.try_grow(600));
        assert!(account.try_grow(400));
        assert_eq!(account.take_denied(), None);
        assert!(!account.try_grow(1));
        assert_eq!(account.take_denied(), Some(1_001), "all memories count");
        assert_eq!(account.take_denied(), None);
        assert_eq!(account.memory(), 1_000);
        assert!(account.reserve(800).is_none(), "with its overhead it is too much");
        let reserved = account.reserve(700).unwrap();
        assert_eq!(account.reserved(), 956);
        assert!(account.reserve(0).is_none());
        drop(reserved);
        assert_eq!(account.reserved(), 0);
    }

    #[test]
    fn a_refused_reservation_is_not_counted() {
        let account = MemoryAccount::new(1_000);
        let mut reserved = account.empty_reservation();
        assert!(reserved.try_grow(999));
        for bytes in [2, usize::MAX] {
            assert!(!reserved.try_grow(bytes));
        }
        assert!(reserved.try_grow(1));
        assert_eq!(account.reserved(), 1_000);
    }
}
