//! Limits the hosts that run in this process at a time: each reserves 16 TiB for its instances, of the 128 TiB of
//! addresses that a process has. Tests run in as many threads as the machine has cores, so there can be many.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use crate::{PATIENCE, poll};

/// The most hosts at a time. The memory of a host that has stopped can remain reserved for a moment.
const HOSTS: usize = 6;

static RUNNING: Mutex<usize> = Mutex::new(0);

thread_local! {
    /// Whether the test of this thread has started a host.
    static HAS_STARTED: Cell<bool> = const { Cell::new(false) };
}

/// The permission for one host to run, until it is dropped.
pub(crate) struct HostPermit(());

impl HostPermit {
    /// Waits until another host may run. The last place is for the second host of a test, so that tests with one host
    /// each do not wait for each other.
    pub async fn acquire() -> HostPermit {
        let most = if HAS_STARTED.replace(true) { HOSTS } else { HOSTS - 1 };
        let permit = poll::until(9 * PATIENCE, || HostPermit::take(most)).await;
        permit.unwrap_or_else(|| panic!("{HOSTS} hosts run in this process, and none of them stops"))
    }

    fn take(most: usize) -> Option<HostPermit> {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        (*running < most).then(|| {
            *running += 1;
            HostPermit(())
        })
    }
}

impl Drop for HostPermit {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}
