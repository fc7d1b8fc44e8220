//! The requests that an instance serves: what goes with each, and which of them is whose task's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime::component::GuestTaskId;

use crate::component::{GuestExecution, GuestOutput};
use crate::outbound::LocalCalls;
use crate::trace::SharedRecorder;

/// What goes with a request while a standard guest serves it.
#[derive(Clone)]
pub(crate) struct HttpGuestRequest {
    /// The request's spans.
    pub recorder: SharedRecorder,
    /// The services of this host that the guest may call without a socket.
    pub locals: Arc<dyn LocalCalls>,
    /// What the request costs.
    pub execution: Arc<GuestExecution>,
    /// What it prints, where the instance serves others as well.
    pub printed: Option<(GuestOutput, GuestOutput)>,
}

/// Where a request of a guest goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Where its URL says, if the manifest allows it.
    Outbound,
    /// To the service that `next` names in the manifest.
    Next,
}

/// The requests that an instance is serving at once, by their tasks. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct ConcurrentRequests(Arc<Mutex<BTreeMap<GuestTaskId, HttpGuestRequest>>>);

impl ConcurrentRequests {
    /// Adds one. A task that is gone may have had the same id.
    pub fn add(&self, task: GuestTaskId, request: HttpGuestRequest) {
        let before = self.lock().insert(task, request);
        drop(before);
    }

    /// Forgets the one of this run, and gives it.
    pub fn remove(&self, execution: &Arc<GuestExecution>) -> Option<HttpGuestRequest> {
        let mut requests = self.lock();
        let task =
            requests.iter().find(|(_, request)| Arc::ptr_eq(&request.execution, execution)).map(|(task, _)| *task)?;
        requests.remove(&task)
    }

    /// All of them.
    pub fn all(&self) -> Vec<HttpGuestRequest> {
        self.lock().values().cloned().collect()
    }

    /// Divides CPU time of the instance equally among the requests whose response was not sent yet. Only if none is left, it
    /// is divided among the others, which may still work after their response.
    pub fn add_busy(&self, time: Duration) {
        let requests = self.lock();
        let executions = || requests.values().map(|request| &request.execution);
        let serving = executions().filter(|execution| !execution.is_answered()).count();
        let sharing = if serving == 0 { requests.len() } else { serving };
        let share = time / u32::try_from(sharing.max(1)).unwrap_or(u32::MAX);
        executions()
            .filter(|execution| serving == 0 || !execution.is_answered())
            .for_each(|execution| execution.add_busy(share));
    }

    /// Says how much linear memory the instance has.
    pub fn set_memory(&self, bytes: u64) {
        self.lock().values().for_each(|request| request.execution.set_memory(bytes));
    }

    /// The one of a task, or the only one there is where no task leads to the call.
    pub fn of(&self, task: Option<GuestTaskId>) -> Option<HttpGuestRequest> {
        let requests = self.lock();
        match task {
            Some(task) => requests.get(&task).cloned(),
            None => requests.values().next().filter(|_| requests.len() == 1).cloned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GuestTaskId, HttpGuestRequest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
