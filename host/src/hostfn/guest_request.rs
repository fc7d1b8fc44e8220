//! The requests that a standard instance serves, and the request of each task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use wasmtime::component::GuestTaskId;

use crate::component::GuestExecution;
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
}

/// Where an outgoing request is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To its URL, if the manifest allows it.
    Url,
    /// To the service that `next` names in the manifest.
    Next,
}

/// The requests that an instance serves concurrently, by task. Clones are handles to the same requests.
#[derive(Clone, Default)]
pub(crate) struct ConcurrentRequests(Arc<Mutex<Requests>>);

/// Rarely more than one: most guests respond without waiting.
type Requests = SmallVec<[(GuestTaskId, HttpGuestRequest); 1]>;

impl ConcurrentRequests {
    /// Adds a request. Returns the earlier request whose task had the same id, if there is one: Wasmtime uses the ids of
    /// tasks that have ended again.
    #[must_use = "the end of the earlier request must be recorded"]
    pub fn add(&self, task: GuestTaskId, request: HttpGuestRequest) -> Option<HttpGuestRequest> {
        let mut requests = self.lock();
        let earlier = requests.iter().position(|(known, _)| *known == task);
        let earlier = earlier.map(|place| requests.swap_remove(place).1);
        requests.push((task, request));
        earlier
    }

    /// Removes and returns the request with this execution.
    pub fn remove(&self, execution: &Arc<GuestExecution>) -> Option<HttpGuestRequest> {
        let mut requests = self.lock();
        let place = requests.iter().position(|(_, request)| Arc::ptr_eq(&request.execution, execution))?;
        Some(requests.swap_remove(place).1)
    }

    /// Removes and returns all requests.
    pub fn take_all(&self) -> SmallVec<[HttpGuestRequest; 1]> {
        std::mem::take(&mut *self.lock()).into_iter().map(|(_, request)| request).collect()
    }

    /// All requests.
    pub fn all(&self) -> Vec<HttpGuestRequest> {
        self.lock().iter().map(|(_, request)| request.clone()).collect()
    }

    /// Divides CPU time of the instance equally among the requests whose response was not sent yet. If there are none,
    /// it is divided among all requests, which may still work after their response.
    pub fn add_busy(&self, time: Duration) {
        let requests = self.lock();
        let executions = || requests.iter().map(|(_, request)| &request.execution);
        let serving = executions().filter(|execution| !execution.is_answered()).count();
        let sharing = if serving == 0 { requests.len() } else { serving };
        let share = time / u32::try_from(sharing.max(1)).unwrap_or(u32::MAX);
        executions()
            .filter(|execution| serving == 0 || !execution.is_answered())
            .for_each(|execution| execution.add_busy(share));
    }

    /// Sets the size of the instance's linear memory.
    pub fn set_memory(&self, bytes: u64) {
        self.lock().iter().for_each(|(_, request)| request.execution.set_memory(bytes));
    }

    /// The request of a task. If no task leads to the call, the only request, if there is exactly one.
    pub fn for_task(&self, task: Option<GuestTaskId>) -> Option<HttpGuestRequest> {
        let requests = self.lock();
        let (_, request) = match task {
            Some(task) => requests.iter().find(|(known, _)| *known == task),
            None => requests.first().filter(|_| requests.len() == 1),
        }?;
        Some(request.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
