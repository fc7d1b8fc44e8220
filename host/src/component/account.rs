//! What the host holds in its own memory on a guest's behalf, counted against the guest's memory limit.
//!
//! An instance has one account. Its linear memory may have `limits.memory`, and what is held beside it (open buckets,
//! snapshots, the messages of calls under way) as much again: linear memory never shrinks, and an instance that once
//! needed all of it must still be able to call others. What is held is given back when its owner is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is put down for anything that is held, besides its bytes.
pub(crate) const OVERHEAD: usize = 256;

/// The memory of one instance: its own, and the host's on its behalf.
pub(crate) struct MemoryAccount {
    limit: u64,
    memory: AtomicU64,
    held: AtomicU64,
    /// Whether linear memory was to grow beyond the limit.
    growth_denied: AtomicBool,
}

/// Bytes that are held: given back when this is dropped.
pub(crate) struct MemoryReservation {
    account: Arc<MemoryAccount>,
    bytes: u64,
}

impl MemoryAccount {
    /// The account of an instance that has nothing yet.
    pub fn new(limit: u64) -> Arc<MemoryAccount> {
        let growth_denied = AtomicBool::new(false);
        Arc::new(MemoryAccount { limit, memory: AtomicU64::new(0), held: AtomicU64::new(0), growth_denied })
    }

    /// Linear memory in bytes, over all memories of the instance.
    pub fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// What is held beside it.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether linear memory may grow by so many bytes. If so, it is counted.
    pub fn grow(&self, bytes: u64) -> bool {
        let total = self.memory().saturating_add(bytes);
        let fits = total <= self.limit;
        if fits {
            self.memory.store(total, Ordering::Relaxed);
        } else {
            self.growth_denied.store(true, Ordering::Relaxed);
        }
        fits
    }

    /// The most that linear memory may have, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether linear memory was to grow beyond it since this was asked last.
    pub fn take_growth_denied(&self) -> bool {
        self.growth_denied.swap(false, Ordering::Relaxed)
    }

    /// Nothing, to which more can be added.
    pub fn nothing(self: &Arc<Self>) -> MemoryReservation {
        MemoryReservation { account: self.clone(), bytes: 0 }
    }

    /// Holds so many bytes and what goes with them, if there is room.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Option<MemoryReservation> {
        let mut held = self.nothing();
        held.add(bytes.saturating_add(OVERHEAD)).then_some(held)
    }
}

impl MemoryReservation {
    /// How many bytes are held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds more bytes, if there is room.
    pub fn add(&mut self, bytes: usize) -> bool {
        let (account, bytes) = (&self.account, bytes as u64);
        let before = account.held.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= account.limit;
        if fits {
            self.bytes += bytes;
        } else {
            account.held.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        self.account.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_memory_has_the_limit_and_what_is_held_as_much_again() {
        let account = MemoryAccount::new(1_000);
        assert!(account.grow(600));
        assert!(account.grow(400));
        assert!(!account.take_growth_denied());
        assert!(!account.grow(1));
        assert!(account.take_growth_denied() && !account.take_growth_denied());
        assert_eq!(account.memory(), 1_000);
        assert!(account.hold(800).is_none(), "with its overhead it is too much");
        let held = account.hold(700).unwrap();
        assert_eq!(account.held(), 956);
        assert!(account.hold(0).is_none());
        drop(held);
        assert_eq!(account.held(), 0);
    }

    #[test]
    fn what_does_not_fit_is_not_counted() {
        let account = MemoryAccount::new(1_000);
        let mut held = account.nothing();
        assert!(held.add(999));
        for bytes in [2, usize::MAX] {
            assert!(!held.add(bytes));
        }
        assert!(held.add(1));
        assert_eq!(account.held(), 1_000);
    }
}
