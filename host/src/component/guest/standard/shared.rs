//! An instance of 0.3 that serves several requests at once.
//!
//! It has a task of its own, which takes requests for as long as there are any; when nothing is left to do in the
//! instance, it is given back. What happens to one request must not harm the others, with one exception: a trap ends them
//! all, since the instance is gone. A request that is given up or has no answer in time cannot be stopped by itself; its
//! instance takes no more requests, and goes when the others have ended.
//!
//! Wasmtime does not tell when the work of one request has ended, only when none is left. A request therefore keeps its
//! spans and its generation until then, or for [`AFTER_RESPONSE`] after its response body has left. Its place it gives up
//! with the response: an instance that always serves somebody would else hold up to a second's worth of places.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use futures_util::task::AtomicWaker;
use http::Request;
use tokio::sync::{Notify, oneshot, watch};
use wasmtime::AsContextMut as _;
use wasmtime::component::Accessor;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{Error, WasiHttpView as _};

use super::body::GuestRequestBody;
use super::call::{Answer, Handler, HttpInvocation, request_p3};
use super::{
    GiveBack, HttpHandled, Run, StandardInstance, check, no_answer, take_trailers, takes_trailers, why_stopped,
};
use crate::component::background::BackgroundWork;
use crate::component::failure::{Exception, Failure};
use crate::component::guest_output::{GuestOutput, Printed};
use crate::component::invocation::Reply;
use crate::component::store_data::StoreData;
use crate::hostfn::guest_request::{HttpGuestRequest, Requests};

/// How long a request keeps its spans and its generation after its response has left, where its instance still works.
const AFTER_RESPONSE: Duration = Duration::from_secs(1);

/// An instance that serves, and that more requests may join. Clones are the same.
#[derive(Clone)]
pub(in crate::component) struct SharedInstance(Arc<Shared>);

struct Shared {
    /// How many requests it serves at once.
    most: u32,
    seats: Mutex<Seats>,
    /// Wakes the instance for requests that wait.
    waker: AtomicWaker,
    /// Told whenever a request has left its seat.
    changed: Notify,
    requests: Requests,
    ended: watch::Sender<bool>,
}

struct Seats {
    waiting: VecDeque<Job>,
    /// Requests whose response has not left yet.
    taken: u32,
    /// Requests that it may yet take.
    left: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Serving,
    /// Takes no more requests.
    Retired,
}

/// A request on its way to the instance.
pub(in crate::component) struct Job {
    request: Request<GuestRequestBody>,
    active: HttpGuestRequest,
    answer: oneshot::Sender<Answer>,
}

/// One that waits for the answer to a job.
pub(in crate::component) struct Waiter {
    answered: oneshot::Receiver<Answer>,
    run: Arc<Run>,
    takes_trailers: bool,
    place: Box<dyn Send>,
    hold: Box<dyn Send>,
}

/// A request's place in an instance. One that is dropped before the request has ended was given up.
struct Seat {
    shared: SharedInstance,
    run: Arc<Run>,
    has_ended: bool,
    /// Its place among the service's requests, until its response has left.
    place: Option<Box<dyn Send>>,
    _hold: Box<dyn Send>,
}

impl Job {
    /// What the instance gets of a request, and what stays with whoever waits for the answer.
    pub fn new(invocation: HttpInvocation) -> (Job, Waiter) {
        let HttpInvocation { request, recorder, locals, place, hold } = invocation;
        let (takes_trailers, run) = (takes_trailers(request.headers()), Arc::new(Run::default()));
        let printed = Some((GuestOutput::default(), GuestOutput::default()));
        let active = HttpGuestRequest { recorder, locals, run: run.clone(), printed };
        let (answer, answered) = oneshot::channel();
        let job = Job { request: request.map(GuestRequestBody::new), active, answer };
        (job, Waiter { answered, run, takes_trailers, place, hold })
    }
}

impl SharedInstance {
    /// Starts an instance with its first request. It serves `most` at once and `requests` altogether.
    pub fn start(
        instance: StandardInstance,
        job: Job,
        (most, requests): (u32, u32),
        give_back: GiveBack,
        background: &BackgroundWork,
    ) -> SharedInstance {
        let left = requests.saturating_sub(instance.served).saturating_sub(1);
        let waiting = VecDeque::from([job]);
        let shared = SharedInstance(Arc::new(Shared {
            most,
            seats: Mutex::new(Seats { waiting, taken: 1, left, state: State::Serving }),
            waker: AtomicWaker::new(),
            changed: Notify::new(),
            requests: Requests::default(),
            ended: watch::Sender::new(false),
        }));
        tokio::spawn(instance.share(shared.clone(), give_back, background.clone()));
        shared
    }

    /// Adds a request, or gives it back where there is no place for it.
    pub fn join(&self, job: Job) -> Result<(), Job> {
        let mut seats = self.lock();
        if seats.state == State::Retired || seats.taken >= self.0.most || seats.left == 0 {
            return Err(job);
        }
        seats.taken += 1;
        seats.left -= 1;
        seats.waiting.push_back(job);
        drop(seats);
        self.0.waker.wake();
        Ok(())
    }

    /// Whether requests may come to it at some time.
    pub fn is_serving(&self) -> bool {
        let seats = self.lock();
        seats.state == State::Serving && seats.left > 0
    }

    /// Waits for the answer to a request.
    pub async fn answer(&self, waiter: Waiter, limit: Duration) -> HttpHandled {
        let Waiter { answered, run, takes_trailers, place, hold } = waiter;
        let (shared, place) = (self.clone(), Some(place));
        let seat = Seat { shared, run: run.clone(), has_ended: false, place, _hold: hold };
        let result = match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answer)) => match check(answer, &run) {
                Ok((head, mut body)) => {
                    let headers = &head.headers;
                    let is_here = takes_trailers && take_trailers(headers, &mut body).await;
                    tokio::spawn(seat.finish());
                    let (body, headers) = if is_here {
                        body.gathered(head.headers, takes_trailers)
                    } else {
                        (body.streamed(), head.headers)
                    };
                    Ok(Reply { status: head.status, headers, body })
                }
                Err(failure) => {
                    // An error code is an answer, and there is no body to wait for.
                    run.end_body();
                    tokio::spawn(seat.finish());
                    Err(failure)
                }
            },
            Ok(Err(_)) => {
                // The instance has ended, or is about to.
                self.ended().await;
                Err(no_answer(&run))
            }
            Err(_) => Err(Failure::TimedOut),
        };
        HttpHandled { result, run }
    }

    async fn ended(&self) {
        let mut ended = self.0.ended.subscribe();
        // The sender is held here.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Says that the instance is gone or given back. Whoever still waits for it has no answer.
    fn end(&self) {
        drop(self.retire());
        self.0.ended.send_replace(true);
    }

    /// Retires the instance for good, and gives the requests that it will not come to.
    fn retire(&self) -> VecDeque<Job> {
        let mut seats = self.lock();
        seats.state = State::Retired;
        std::mem::take(&mut seats.waiting)
    }

    fn next(&self) -> Option<Job> {
        self.lock().waiting.pop_front()
    }

    /// Retires the instance for good, unless somebody waits for it.
    fn close(&self) -> bool {
        let mut seats = self.lock();
        let is_empty = seats.waiting.is_empty();
        if is_empty {
            seats.state = State::Retired;
        }
        is_empty
    }

    /// Retires the instance for good, unless a request has joined it meanwhile.
    fn retire_if_free(&self) -> bool {
        let mut seats = self.lock();
        let is_free = seats.taken == 0;
        if is_free {
            seats.state = State::Retired;
        }
        is_free
    }

    fn leave(&self, state: Option<State>) {
        let mut seats = self.lock();
        seats.taken = seats.taken.saturating_sub(1);
        seats.state = state.unwrap_or(seats.state);
        drop(seats);
        self.0.changed.notify_waiters();
        self.0.waker.wake();
    }

    /// Resolves when nobody waits for the instance any more, and it was retired or has had `limit` for the rest.
    async fn abandoned(&self, limit: Duration) {
        loop {
            let changed = self.0.changed.notified();
            let (taken, state) = {
                let seats = self.lock();
                (seats.taken, seats.state)
            };
            match (taken, state) {
                (0, State::Retired) => return,
                (0, State::Serving) => {
                    if tokio::time::timeout(limit, changed).await.is_err() && self.retire_if_free() {
                        return;
                    }
                }
                _ => changed.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.0.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Keeps what the request takes up until its body has left and its work has ended, as far as that can be told.
    async fn finish(mut self) {
        self.run.body_over().await;
        self.has_ended = true;
        self.shared.leave(None);
        drop(self.place.take());
        // What the guest does for it later is for nobody.
        let _ = tokio::time::timeout(AFTER_RESPONSE, self.shared.ended()).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.has_ended {
            self.shared.leave(Some(State::Retired));
        }
        let request = self.shared.0.requests.remove(&self.run);
        request.iter().for_each(|request| settle(request, None));
    }
}

impl StandardInstance {
    /// Serves requests until there is nothing left to do.
    async fn share(mut self, shared: SharedInstance, give_back: GiveBack, background: BackgroundWork) {
        let mut working = background.begin();
        let _end = EndOnDrop(shared.clone());
        let requests = shared.0.requests.clone();
        let limit = self.store.data().context().limits.request_timeout;
        self.store.set_epoch_deadline(1);
        self.store.data_mut().http.share(Some(requests.clone()));
        let reused = self.served > 0;
        let StandardInstance { store, handler, served, .. } = &mut self;
        let ended = match handler {
            Handler::P3(guest) => {
                let serving =
                    store.run_concurrent(async |accessor| serve(accessor, guest, &shared, (served, reused)).await);
                tokio::select! {
                    biased;
                    ended = split(serving, &requests) => Ended::ByItself(ended.flatten()),
                    () = shared.abandoned(limit) => Ended::Stopped(why_stopped(limit)),
                    () = working.stopped() => Ended::Stopped("the host was told to stop".to_owned()),
                }
            }
            // Only components of 0.3 are shared.
            Handler::P2(_) => Ended::ByItself(Ok(())),
        };
        let waiting = shared.retire();
        let failure = match &ended {
            // A guest that says that it is done is done.
            Ended::ByItself(Err(trap)) if trap.downcast_ref::<I32Exit>().is_none_or(|exit| exit.0 != 0) => {
                Some(self.shared_trap(trap, &requests))
            }
            Ended::ByItself(_) => None,
            Ended::Stopped(why) => {
                requests.all().iter().for_each(|request| super::say_stopped(&request.recorder, why));
                None
            }
        };
        requests.all().iter().for_each(|request| settle(request, failure.as_ref()));
        // Those that came while it ended are not left to wait for their time limit.
        waiting.iter().for_each(|job| settle(&job.active, failure.as_ref()));
        drop(waiting);
        self.store.data_mut().http.share(None);
        if let Ended::ByItself(Ok(())) = ended {
            give_back(self);
        } else {
            // Bodies that are cut off ask why, and find it.
            drop(self);
        }
    }

    /// The panic's message is on the standard error of the one that panicked.
    fn shared_trap(&self, trap: &wasmtime::Error, requests: &Requests) -> Failure {
        let mut output = None;
        for request in requests.all() {
            let printed = request.printed.as_ref().map(|(stdout, stderr)| Printed::take(stdout, stderr));
            if let Some(mut printed) = printed {
                output = printed.take_last_output().or(output);
                request.recorder.with(|recorder| printed.log(recorder));
            }
        }
        let memory = self.store.data().memory_use();
        Failure::Trapped(Exception::from_trap(trap, output, &self.symbolizer, memory))
    }
}

/// Says that an instance has ended, however its task did.
struct EndOnDrop(SharedInstance);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// How an instance came to its end.
enum Ended {
    ByItself(wasmtime::Result<()>),
    Stopped(String),
}

/// Says that the instance's work on a request has ended, as far as that can be told.
fn settle(request: &HttpGuestRequest, failure: Option<&Failure>) {
    let printed = request.printed.as_ref().map(|(stdout, stderr)| Printed::take(stdout, stderr));
    request.recorder.with(|recorder| {
        printed.into_iter().for_each(|printed| printed.log(recorder));
        request.run.end(failure.cloned(), recorder);
    });
}

/// Runs the instance, and puts the time that it keeps a thread busy down to the requests in it, in equal parts.
async fn split<T>(serving: impl Future<Output = T>, requests: &Requests) -> T {
    let mut serving = pin!(serving);
    poll_fn(|context| {
        let start = Instant::now();
        let polled = serving.as_mut().poll(context);
        requests.add_busy(start.elapsed());
        polled
    })
    .await
}

/// Takes requests until nobody waits and the instance has nothing left to do. A trap ends it.
async fn serve(
    accessor: &Accessor<StoreData>,
    guest: &Service,
    shared: &SharedInstance,
    (served, reused): (&mut u32, bool),
) -> wasmtime::Result<()> {
    let mut calls = FuturesUnordered::new();
    poll_fn(|context| {
        loop {
            shared.0.waker.register(context.waker());
            while let Some(job) = shared.next() {
                job.active.run.set_reused(reused || *served > 0);
                *served += 1;
                calls.push(answer(accessor, guest, job, shared));
            }
            match calls.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(()))) => {}
                Poll::Ready(Some(Err(trap))) => return Poll::Ready(Err(trap)),
                Poll::Ready(None) => {
                    if accessor.poll_no_interesting_tasks(context).is_pending() {
                        return Poll::Pending;
                    }
                    if shared.close() {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// Calls the guest's handler for one request.
async fn answer(
    accessor: &Accessor<StoreData>,
    guest: &Service,
    job: Job,
    shared: &SharedInstance,
) -> wasmtime::Result<()> {
    let Job { request, active, answer } = job;
    if answer.is_closed() {
        return Ok(());
    }
    let (call, sent) = accessor.with(|mut access| {
        let (request, sent) = request_p3(access.data_mut(), request)?;
        let handle = guest.wasi_http_handler().func_handle();
        let call = handle.start_call_concurrent(access.as_context_mut(), (request,))?;
        active.run.set_memory(access.data_mut().memory());
        shared.0.requests.add(call.task(), active);
        wasmtime::error::Ok((call, sent))
    })?;
    let handle = guest.wasi_http_handler().func_handle();
    let (answered,) = handle.finish_call_concurrent(accessor, call).await?;
    let response = match answered {
        Ok(response) => Ok(accessor.with(|mut access| {
            let response = access.data_mut().http().table.delete(response)?;
            response.into_http(&mut access, sent)
        })?),
        Err(error) => Err(Error::from(error)),
    };
    // Where nobody waits any more, the guest goes on without knowing it.
    let _ = answer.send(response);
    Ok(())
}
