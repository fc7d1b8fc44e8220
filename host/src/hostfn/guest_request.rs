//! The requests that a standard instance serves, and the request of each task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime::component::GuestTaskId;

use crate::component::{GuestExecution, GuestOutput};
use crate::outbound::LocalCalls;
use crate::trace::SharedRecorder;

/// The state of a request while a standard guest serves it.
#[derive(Clone)]
pub(crate) struct HttpGuestRequest {
    /// The request's spans.
    pub recorder: SharedRecorder,
    /// The services of this host, which the guest calls without a socket.
    pub locals: Arc<dyn LocalCalls>,
    /// The guest's cost and failure.
    pub execution: Arc<GuestExecution>,
    /// The request's own output streams, if the instance serves several requests.
    pub printed: Option<(GuestOutput, GuestOutput)>,
}

/// Where an outgoing request is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To its URL, if the manifest allows it.
    Url,
    /// To the service that `next` names in the manifest.
    Next,
}

/// The requests that an instance serves concurrently, by task. Clones are handles to the same map.
#[derive(Clone, Default)]
pub(crate) struct ConcurrentRequests(Arc<Mutex<BTreeMap<GuestTaskId, HttpGuestRequest>>>);

impl ConcurrentRequests {
    /// Adds a request. Returns the earlier request whose task had the same id, if there is one: Wasmtime uses the ids of
    /// tasks that have ended again.
    #[must_use = "the end of the earlier request must be recorded"]
    pub fn add(&self, task: GuestTaskId, request: HttpGuestRequest) -> Option<HttpGuestRequest> {
        self.lock().insert(task, request)
    }

    /// Removes and returns the request with this execution.
    pub fn remove(&self, execution: &Arc<GuestExecution>) -> Option<HttpGuestRequest> {
        let mut requests = self.lock();
        let task =
            requests.iter().find(|(_, request)| Arc::ptr_eq(&request.execution, execution)).map(|(task, _)| *task)?;
        requests.remove(&task)
    }

    /// Removes and returns all requests.
    pub fn take_all(&self) -> Vec<HttpGuestRequest> {
        std::mem::take(&mut *self.lock()).into_values().collect()
    }

    /// All requests.
    pub fn all(&self) -> Vec<HttpGuestRequest> {
        self.lock().values().cloned().collect()
    }

    /// Divides CPU time of the instance equally among the requests whose response was not sent yet. If there are none,
    /// it is divided among all requests, which may still work after their response.
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

    /// Sets the size of the instance's linear memory.
    pub fn set_memory(&self, bytes: u64) {
        self.lock().values().for_each(|request| request.execution.set_memory(bytes));
    }

    /// The request of a task. If no task leads to the call, the only request, if there is exactly one.
    pub fn for_task(&self, task: Option<GuestTaskId>) -> Option<HttpGuestRequest> {
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
