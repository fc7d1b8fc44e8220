//! The task of an instance that serves several requests concurrently.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use wasmtime::AsContextMut as _;
use wasmtime::component::Accessor;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{Error, WasiHttpView as _};

use super::calls::Calls;
use super::request_end::record_end;
use super::{Drained, Job, SharedInstance};
use crate::component::background::BackgroundWork;
use crate::component::failure::{Exception, Failure};
use crate::component::guest::standard::after_response::{log_stopped, stop_reason};
use crate::component::guest::standard::body::GuestResponseBody;
use crate::component::guest::standard::call::{Handler, request_p3};
use crate::component::guest::standard::until_blocked::UntilBlocked;
use crate::component::guest::standard::{ReturnToPool, StandardInstance};
use crate::component::guest_output::{GuestOutput, OutputLines};
use crate::component::store_data::StoreData;
use crate::hostfn::guest_request::ConcurrentRequests;

/// How often output that belongs to no request is logged.
const UNASSIGNED_INTERVAL: Duration = Duration::from_secs(1);
/// The most lines of it that are logged at one time. The host's own log lines must not be displaced.
const UNASSIGNED_LINES: usize = 100;

impl StandardInstance {
    /// Serves requests until no work is left.
    pub(super) async fn serve_shared(
        mut self,
        shared: SharedInstance,
        return_to_pool: ReturnToPool,
        background: BackgroundWork,
    ) {
        let _end = EndOnDrop(shared.clone());
        let mut registration = None;
        let requests = shared.0.requests.clone();
        let context = self.store.data().context().clone();
        let limit = context.limits.request_timeout;
        self.store.set_epoch_deadline(1);
        self.store.data_mut().http.set_concurrent(Some(requests.clone()));
        let reused = self.served > 0;
        // What was printed before any request: the first one shows it.
        let output = OutputLines::take(&self.stdout, &self.stderr);
        let StandardInstance { store, handler, served, waker, stdout, stderr, .. } = &mut self;
        let ended = match handler {
            Handler::P3(guest) => {
                let serving = store
                    .run_concurrent(async |accessor| serve(accessor, guest, &shared, (served, reused, output)).await);
                let serving = pin!(serving);
                let mut serving = UntilBlocked::new(serving, waker, |time| requests.add_busy(time));
                let serving = poll_fn(|context| {
                    let polled = Pin::new(&mut serving).poll(context);
                    shared.send_responses();
                    polled
                });
                tokio::select! {
                    biased;
                    ended = serving => Ended::ByItself(ended.flatten()),
                    never = shared.release_answered() => match never {},
                    never = log_unassigned((stdout, stderr), &context.name) => match never {},
                    drained = shared.drained(limit) => match drained {
                        Drained::Retired => Ended::Retired,
                        Drained::StillRunning => Ended::Stopped(stop_reason(limit)),
                    },
                    // Registered once the guest waits, which is before a response is sent.
                    () = async { registration.insert(background.begin()).stopped().await } => {
                        Ended::Stopped("the host is shutting down".to_owned())
                    }
                }
            }
            // Only components of 0.3 are shared.
            Handler::P2(_) => Ended::ByItself(Ok(())),
        };
        let mut unassigned = OutputLines::take(&self.stdout, &self.stderr);
        let waiting = shared.retire();
        let failure = match &ended {
            // Exit status 0 is a regular end.
            Ended::ByItself(Err(trap)) if trap.downcast_ref::<I32Exit>().is_none_or(|exit| exit.0 != 0) => {
                Some(self.shared_trap(trap, &requests, &mut unassigned))
            }
            Ended::ByItself(_) | Ended::Retired => None,
            Ended::Stopped(reason) => {
                requests.all().iter().for_each(|request| log_stopped(&request.recorder, reason));
                None
            }
        };
        unassigned.log_some_to_host(UNASSIGNED_LINES, &context.name);
        let unfinished = requests.take_all();
        unfinished.iter().for_each(|request| record_end(request, failure.as_ref()));
        // Requests that joined while the instance ended fail now, not at their timeout.
        waiting.iter().for_each(|job| record_end(&job.active, failure.as_ref()));
        drop(waiting);
        self.store.data_mut().http.set_concurrent(None);
        if let Ended::ByItself(Ok(())) = ended {
            shared.give_back(self, return_to_pool);
        } else {
            // The failure is recorded before the store is dropped, so that bodies which end early report it.
            drop(self);
            unfinished.iter().for_each(|request| request.execution.store_dropped(&request.recorder));
        }
    }

    /// The panic message is in the standard error of the request that panicked, or in `unassigned` if that request has
    /// ended.
    fn shared_trap(
        &self,
        trap: &wasmtime::Error,
        requests: &ConcurrentRequests,
        unassigned: &mut OutputLines,
    ) -> Failure {
        let mut output = unassigned.take_trap_output();
        for request in requests.all() {
            if let Some((stdout, stderr)) = request.execution.output() {
                let mut printed = OutputLines::take(stdout, stderr);
                output = printed.take_trap_output().or(output);
                request.recorder.with(|recorder| printed.log(recorder));
            }
        }
        let memory = self.store.data().memory_use();
        Failure::Trapped(Exception::from_trap(trap, output, &self.symbolizer, memory))
    }
}

/// Logs what the guest prints for no request, such as through a stream that outlives its request. Runs until it is
/// dropped.
async fn log_unassigned((stdout, stderr): (&GuestOutput, &GuestOutput), service: &str) -> Infallible {
    loop {
        tokio::time::sleep(UNASSIGNED_INTERVAL).await;
        OutputLines::take(stdout, stderr).log_some_to_host(UNASSIGNED_LINES, service);
    }
}

/// Marks an instance as ended, however its task ends.
struct EndOnDrop(SharedInstance);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// How an instance ended.
enum Ended {
    ByItself(wasmtime::Result<()>),
    /// After a request that was cancelled or timed out.
    Retired,
    Stopped(String),
}

/// Serves requests until none is waiting and the instance has no work left. A trap ends it.
async fn serve(
    accessor: &Accessor<StoreData>,
    guest: &Service,
    shared: &SharedInstance,
    (served, reused, output): (&mut u32, bool, OutputLines),
) -> wasmtime::Result<()> {
    let mut output = Some(output);
    let first = pin!(None);
    let mut calls = Calls::new(first);
    poll_fn(|context| {
        loop {
            shared.0.waker.register(context.waker());
            while let Some(job) = shared.next() {
                job.active.execution.set_reused(reused || *served > 0);
                if let Some(output) = output.take() {
                    job.active.recorder.with(|recorder| output.log(recorder));
                }
                *served += 1;
                calls.push(answer(accessor, guest, job, shared));
            }
            match calls.poll_next(context) {
                Poll::Ready(Some(Ok(()))) => {}
                Poll::Ready(Some(Err(trap))) => return Poll::Ready(Err(trap)),
                Poll::Ready(None) => {
                    if accessor.poll_no_interesting_tasks(context).is_pending() {
                        return Poll::Pending;
                    }
                    if shared.retire_if_empty() {
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
    let execution = active.execution.clone();
    if answer.is_closed() {
        return Ok(());
    }
    let (call, sent, ended) = accessor.with(|mut access| {
        let (request, sent) = request_p3(access.data_mut(), request)?;
        let handle = guest.wasi_http_handler().func_handle();
        let call = handle.start_call_concurrent(access.as_context_mut(), (request,))?;
        active.execution.set_memory(access.data_mut().memory());
        let ended = shared.0.requests.add(call.task(), active);
        wasmtime::error::Ok((call, sent, ended))
    })?;
    ended.iter().for_each(|request| record_end(request, None));
    let handle = guest.wasi_http_handler().func_handle();
    let (answered,) = handle.finish_call_concurrent(accessor, call).await?;
    let response = match answered {
        Ok(response) => {
            let response = accessor.with(|mut access| {
                let response = access.data_mut().http().table.delete(response)?;
                response.into_http(&mut access, sent)
            })?;
            Ok(GuestResponseBody::of(response, &execution))
        }
        Err(error) => Err(Error::from(error)),
    };
    shared.responses().push((answer, response));
    Ok(())
}
