//! A 0.3 instance that serves several requests concurrently.
//!
//! The instance runs in the task of its first request until it waits, and then in a task of its own, which accepts
//! requests as long as there are any. When it has no work left and the responses were sent, it is returned to its pool;
//! if a body lasts longer than [`UNFINISHED_BODY`], it is dropped, which ends the body. A request must not affect the
//! others, with one exception: a trap ends all of them, because it ends the instance. A request that was cancelled
//! or timed out cannot be stopped on its own; its instance accepts no further requests and is dropped when the others
//! have ended.
//!
//! Wasmtime does not report when the work of one request has ended, only when no work is left. A request therefore
//! keeps its spans and its generation until then, or for [`AFTER_RESPONSE`] after its response body was sent if other
//! requests keep the instance busy. It releases its concurrency permit with the response: otherwise a busy instance
//! would occupy permits for up to a second after each request.
//!
//! A guest that computes keeps its instance from starting the requests that have joined it. After [`MAX_WAIT`] no others
//! join it, so that one in an endless loop is stopped once `request_timeout` has passed.

mod calls;
mod job;
mod request_end;
mod task;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use http::response::Parts;
use smallvec::{SmallVec, smallvec};
use tokio::sync::{Notify, oneshot};

pub(in crate::component) use self::job::{Job, PendingResponse};
use self::request_end::record_end;
use super::after_response::UNFINISHED_BODY;
use super::body::GuestResponseBody;
use super::call::{HandlerResponse, Held};
use super::{GuestExecution, HttpOutcome, ReturnToPool, StandardInstance, check, missing_response};
use crate::boxed::boxed;
use crate::component::background::BackgroundWork;
use crate::component::failure::Failure;
use crate::component::invocation::Reply;
use crate::component::within::within;
use crate::hostfn::guest_request::ConcurrentRequests;
use crate::http::Body;

/// How long a request keeps its spans and its generation after its response was sent, if other requests keep its
/// instance busy.
const AFTER_RESPONSE: Duration = Duration::from_secs(1);
/// The time between two checks of [`AFTER_RESPONSE`].
const RELEASE_INTERVAL: Duration = Duration::from_millis(250);
/// If a request has waited in an instance for this long before its start, no others join it. Longer than most guests
/// compute.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// A running instance that further requests may join. Clones are handles to the same instance.
#[derive(Clone)]
pub(in crate::component) struct SharedInstance(Arc<SharedState>);

struct SharedState {
    /// How many requests it serves concurrently.
    max_concurrent: u32,
    load: Mutex<InstanceLoad>,
    /// Wakes the instance's task for waiting requests.
    waker: AtomicWaker,
    /// Notified whenever a request releases its place in the instance.
    changed: Notify,
    requests: ConcurrentRequests,
    /// Responses that the guest has returned since the instance's task was polled.
    responses: Mutex<SmallVec<[ReturnedResponse; 1]>>,
    /// Requests whose response was sent, oldest first.
    answered: Mutex<VecDeque<(Instant, RequestGuard)>>,
    /// The instance was dropped, or has no work left.
    has_ended: AtomicBool,
    /// Notified when it has ended.
    ended: Notify,
}

/// A response, and the channel to its requester.
type ReturnedResponse = (oneshot::Sender<HandlerResponse>, HandlerResponse);

struct InstanceLoad {
    /// Requests that it has not started, oldest first. Rarely more than one.
    waiting: SmallVec<[Job; 1]>,
    /// When a request joined the queue that the instance has not looked at since, even if the request has left it.
    unnoticed_since: Option<Instant>,
    /// Requests whose response was not sent completely yet.
    active: u32,
    /// When a request that the instance had started ended last.
    ended_at: Option<Instant>,
    /// Requests that it may still accept.
    remaining: u32,
    state: InstanceState,
    /// The thread that ran it last, whose core has its memory in the caches.
    thread: Option<ThreadId>,
    /// The instance, if it has no work left and responses are still being sent.
    finished: Option<(StandardInstance, ReturnToPool)>,
}

#[derive(Clone, Copy, PartialEq)]
enum InstanceState {
    Serving,
    /// Accepts no further requests.
    Retired,
}

/// Why an instance without active requests is dropped though it has work left.
enum Drained {
    /// One of its requests was cancelled or timed out. Whose work is left is unknown.
    Retired,
    /// A guest runs for too long after its response.
    StillRunning,
}

/// A request's place in an instance. If it is dropped before the request has ended, the request was cancelled.
struct RequestGuard {
    shared: SharedInstance,
    execution: Arc<GuestExecution>,
    has_ended: bool,
    /// The request's concurrency permit, until its response was sent.
    permit: Option<Held>,
    _lease: Held,
}

impl SharedInstance {
    /// Starts an instance with its first request, and runs it until it waits: most guests never do, and need no task. It
    /// serves `max_concurrent` requests concurrently and `requests` in total.
    pub async fn start(
        instance: StandardInstance,
        job: Job,
        (max_concurrent, requests): (u32, u32),
        return_to_pool: ReturnToPool,
        background: &BackgroundWork,
    ) -> SharedInstance {
        let remaining = requests.saturating_sub(instance.served).saturating_sub(1);
        let waiting = smallvec![job];
        let thread = Some(thread::current().id());
        let state = InstanceState::Serving;
        let load = InstanceLoad {
            waiting,
            unnoticed_since: None,
            active: 1,
            ended_at: None,
            remaining,
            state,
            thread,
            finished: None,
        };
        let shared = SharedInstance::new(max_concurrent, load);
        let mut serving = boxed(|| instance.serve_shared(shared.clone(), return_to_pool, background.clone()));
        if poll_fn(|context| Poll::Ready(serving.as_mut().poll(context))).await.is_pending() {
            tokio::spawn(serving);
        }
        shared
    }

    fn new(max_concurrent: u32, load: InstanceLoad) -> SharedInstance {
        SharedInstance(Arc::new(SharedState {
            max_concurrent,
            load: Mutex::new(load),
            waker: AtomicWaker::new(),
            changed: Notify::new(),
            requests: ConcurrentRequests::default(),
            responses: Mutex::default(),
            answered: Mutex::default(),
            has_ended: AtomicBool::new(false),
            ended: Notify::new(),
        }))
    }

    /// Adds a request, or returns it if the instance cannot accept it. With `thread`, only an instance that this thread
    /// ran last accepts it.
    pub fn join(&self, job: Job, thread: Option<ThreadId>) -> Result<(), Job> {
        let mut load = self.lock();
        let has_place = load.active < self.0.max_concurrent && load.remaining > 0;
        let is_here = thread.is_none() || load.thread == thread;
        let is_stuck = load.unnoticed_since.is_some_and(|since| since.elapsed() > MAX_WAIT);
        if load.state == InstanceState::Retired || !has_place || !is_here || is_stuck {
            return Err(job);
        }
        load.active += 1;
        load.remaining -= 1;
        load.waiting.push(job);
        load.unnoticed_since.get_or_insert_with(Instant::now);
        drop(load);
        self.0.waker.wake();
        Ok(())
    }

    /// Whether the instance may still accept requests.
    pub fn is_serving(&self) -> bool {
        let load = self.lock();
        load.state == InstanceState::Serving && load.remaining > 0
    }

    /// Waits for the response to a request, for up to `limit`. Its body may have up to `response_limit` bytes.
    pub async fn answer(&self, pending: PendingResponse, (limit, response_limit): (Duration, usize)) -> HttpOutcome {
        let PendingResponse { answered, execution, permit, lease } = pending;
        let (shared, permit) = (self.clone(), Some(permit));
        let guard = RequestGuard { shared, execution: execution.clone(), has_ended: false, permit, _lease: lease };
        let result = match within(limit, answered).await {
            Ok(Ok(answer)) => {
                let reply = match check(answer) {
                    Ok((head, body)) => reply(head, body, response_limit),
                    Err(failure) => Err(failure),
                };
                match &reply {
                    Ok(Reply { body: Body::Stream(_), .. }) => drop(tokio::spawn(guard.finish())),
                    // There is no body to wait for.
                    Ok(_) | Err(_) => guard.finish_with_instance(),
                }
                reply
            }
            Ok(Err(_)) => {
                // The instance has ended or is ending.
                self.ended().await;
                Err(missing_response(&execution))
            }
            Err(_) => Err(Failure::TimedOut),
        };
        HttpOutcome { result, execution }
    }

    async fn ended(&self) {
        let mut ended = pin!(self.0.ended.notified());
        ended.as_mut().enable();
        if !self.has_ended() {
            ended.await;
        }
    }

    fn has_ended(&self) -> bool {
        self.0.has_ended.load(Ordering::Acquire)
    }

    /// Marks the instance as dropped or without work. Requests that still wait get no response.
    fn end(&self) {
        drop(self.retire());
        self.0.has_ended.store(true, Ordering::Release);
        self.0.ended.notify_waiters();
        let answered = std::mem::take(&mut *self.answered());
        drop(answered);
        // After a panic of the instance's task.
        drop(self.take_responses());
    }

    /// Sends the responses that the guest has returned. Called when the instance waits: what the guest has written of a
    /// body until then is sent with the head.
    fn send_responses(&self) {
        for (receiver, response) in self.take_responses() {
            // If the receiver is gone, the guest continues without an error.
            let _ = receiver.send(response);
        }
    }

    fn take_responses(&self) -> SmallVec<[ReturnedResponse; 1]> {
        std::mem::take(&mut *self.responses())
    }

    fn responses(&self) -> MutexGuard<'_, SmallVec<[ReturnedResponse; 1]>> {
        self.0.responses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases requests when [`AFTER_RESPONSE`] has passed since their response was sent, and other requests keep the
    /// instance busy or it is retired. Runs until it is dropped.
    async fn release_answered(&self) -> Infallible {
        loop {
            tokio::time::sleep(RELEASE_INTERVAL).await;
            let now = Instant::now();
            let is_last_due = {
                let load = self.lock();
                load.active as usize > load.waiting.len() || load.state == InstanceState::Retired
            };
            let mut answered = self.answered();
            let is_due = |(since, _): &(Instant, RequestGuard)| now.duration_since(*since) >= AFTER_RESPONSE;
            // What the guest does after the last response is assigned to that.
            let others = if is_last_due { answered.len() } else { answered.len().saturating_sub(1) };
            let due = answered.iter().take(others).take_while(|entry| is_due(entry)).count();
            let due: Vec<_> = answered.drain(..due).collect();
            drop(answered);
            drop(due);
        }
    }

    fn answered(&self) -> MutexGuard<'_, VecDeque<(Instant, RequestGuard)>> {
        self.0.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Retires the instance, and returns the requests that it has not started.
    fn retire(&self) -> SmallVec<[Job; 1]> {
        let mut load = self.lock();
        load.state = InstanceState::Retired;
        std::mem::take(&mut load.waiting)
    }

    /// The next request, for the thread that runs the instance.
    fn next(&self) -> Option<Job> {
        let mut load = self.lock();
        load.thread = Some(thread::current().id());
        load.unnoticed_since = None;
        (!load.waiting.is_empty()).then(|| load.waiting.remove(0))
    }

    /// Retires the instance unless a request is waiting. Returns whether it was retired.
    fn retire_if_empty(&self) -> bool {
        let mut load = self.lock();
        let is_empty = load.waiting.is_empty();
        if is_empty {
            load.state = InstanceState::Retired;
        }
        is_empty
    }

    /// Retires the instance unless a request has joined it. Returns whether it was retired.
    fn retire_if_free(&self) -> bool {
        let mut load = self.lock();
        let is_free = load.active == 0;
        if is_free {
            load.state = InstanceState::Retired;
        }
        is_free
    }

    /// Cancels a request. One that the instance has not started is only removed from the queue, and returned; otherwise
    /// the instance is retired, because a guest cannot be told to stop.
    fn cancel(&self, execution: &Arc<GuestExecution>) -> Option<Job> {
        let job = {
            let mut load = self.lock();
            let place = load.waiting.iter().position(|job| Arc::ptr_eq(&job.active.execution, execution));
            let job = place.map(|place| load.waiting.remove(place));
            load.remaining += u32::from(job.is_some());
            job
        };
        match job {
            Some(_) => self.release(None, None),
            None => self.release(Some(InstanceState::Retired), Some(Instant::now())),
        }
        job
    }

    /// Releases the place of a request, which has ended now unless the instance had not started it.
    fn release(&self, state: Option<InstanceState>, now: Option<Instant>) {
        let mut load = self.lock();
        load.ended_at = now.or(load.ended_at);
        load.active = load.active.saturating_sub(1);
        load.state = state.unwrap_or(load.state);
        let finished = if load.active == 0 { load.finished.take() } else { None };
        drop(load);
        if let Some((instance, return_to_pool)) = finished {
            return_to_pool(instance);
        }
        self.0.changed.notify_waiters();
        self.0.waker.wake();
    }

    /// Returns an instance without work to its pool as soon as its responses were sent.
    fn give_back(&self, instance: StandardInstance, return_to_pool: ReturnToPool) {
        let mut load = self.lock();
        if load.active > 0 {
            load.finished = Some((instance, return_to_pool));
            return;
        }
        drop(load);
        return_to_pool(instance);
    }

    /// Drops the instance when it has had no work for [`UNFINISHED_BODY`] and a response is still being sent.
    async fn drop_finished(&self) {
        self.ended().await;
        tokio::time::sleep(UNFINISHED_BODY).await;
        let finished = self.lock().finished.take();
        drop(finished);
    }

    /// Resolves when no request is active, and the instance was retired or no request has ended for `limit`. A retired
    /// instance also waits for [`AFTER_RESPONSE`] after the last response, because its guest may still work on it.
    async fn drained(&self, limit: Duration) -> Drained {
        loop {
            let changed = self.0.changed.notified();
            let (active, state, idle) = {
                let load = self.lock();
                (load.active, load.state, load.ended_at.map(|ended| ended.elapsed()))
            };
            match (active, state) {
                (0, InstanceState::Retired) if self.answered().is_empty() => return Drained::Retired,
                (0, InstanceState::Retired) => tokio::time::sleep(RELEASE_INTERVAL).await,
                (0, InstanceState::Serving) => {
                    let left = limit.saturating_sub(idle.unwrap_or_default());
                    if tokio::time::timeout(left, changed).await.is_err() && self.retire_if_free() {
                        return Drained::StillRunning;
                    }
                }
                _ => changed.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, InstanceLoad> {
        self.0.load.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the reply with what the guest has written of its body by now. Fails if that exceeds `response_limit`.
fn reply(head: Parts, body: GuestResponseBody, response_limit: usize) -> Result<Reply, Failure> {
    let _ = body.poll_buffer(&mut Context::from_waker(Waker::noop()));
    let is_complete = body.has_ended();
    body.check_size(response_limit)?;
    Ok(body.into_reply(head, is_complete))
}

impl RequestGuard {
    /// Holds the request's spans and lease until its body was sent and its instance has ended, for at most about
    /// [`AFTER_RESPONSE`]. Later work of the guest on this request is not recorded.
    async fn finish(self) {
        tokio::select! {
            biased;
            () = self.execution.body_ended() => {}
            () = self.shared.drop_finished() => self.execution.body_ended().await,
        }
        self.finish_with_instance();
    }

    /// The same for a request whose body was sent.
    fn finish_with_instance(mut self) {
        self.execution.set_answered();
        self.has_ended = true;
        let (shared, permit, now) = (self.shared.clone(), self.permit.take(), Instant::now());
        {
            let mut answered = shared.answered();
            // The instance takes the lock after it is marked as ended.
            if !shared.has_ended() {
                answered.push_back((now, self));
            }
        }
        shared.release(None, Some(now));
        drop(permit);
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let waiting = if self.has_ended { None } else { self.shared.cancel(&self.execution) };
        let started = self.shared.0.requests.remove(&self.execution);
        let request = started.or(waiting.map(|job| job.active));
        request.iter().for_each(|request| record_end(request, None));
    }
}

#[cfg(test)]
mod tests;
