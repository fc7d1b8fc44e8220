//! A standard guest: an instance of a component that exports a `wasi:http` handler of WASI 0.2 or 0.3.
//!
//! The guest returns the head of its response and may continue afterwards: the body streams while the guest runs, and
//! the guest may work after its response. Until the head is returned, the guest runs within the task of its request.
//! The rest of its work then moves to a task of its own, which ends with the guest, `request_timeout` after the body
//! has ended, or at shutdown. The concurrency permit and the lease on the generation are released when the guest has
//! ended. An instance whose guest ended without a failure goes back to the pool, unless it leaves its response body
//! unfinished.

mod after_response;
mod body;
mod body_buffer;
mod call;
mod execution;
mod linker;
mod shared;
mod until_blocked;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::Request;
use http::response::Parts;
use tokio::sync::oneshot::{self, error::TryRecvError};
use wasmtime::Store;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::Error;

use self::after_response::{BackgroundRun, EndedGuest};
pub(crate) use self::body::request_body_error;
use self::body::{GuestResponseBody, SharedBody};
pub use self::call::HttpInvocation;
use self::call::{Handler, HandlerResponse};
pub use self::execution::GuestExecution;
pub use self::linker::StandardPre;
pub(in crate::component) use self::linker::{link, linker};
pub(in crate::component) use self::shared::{Job, SharedInstance};
use self::until_blocked::{ReusableWaker, UntilBlocked};
use super::instance::start;
use super::store::new_store;
use super::{Guest, StartFailure};
use crate::boxed::boxed;
use crate::component::background::BackgroundWork;
use crate::component::capacity::OnDemandPermit;
use crate::component::context::ServiceContext;
use crate::component::failure::{Exception, Failure};
use crate::component::guest_output::{GuestOutput, OutputLines};
use crate::component::instance_counts::InstanceCounts;
use crate::component::invocation::Reply;
use crate::component::store_data::StoreData;
use crate::component::symbolizer::Symbolizer;
use crate::component::within::within;
use crate::config::Isolation;
use crate::hostfn::guest_request::HttpGuestRequest;
use crate::http::Body;

/// How long the head of a response waits for a guest that is busy with the body: one turn of a guest on its thread.
const MAX_AFTER_RESPONSE: Duration = Duration::from_millis(5);

/// Puts an instance whose call ended without a trap back into its pool.
pub(in crate::component) type ReturnToPool = Arc<dyn Fn(StandardInstance) + Send + Sync>;

/// An instantiated guest.
pub struct StandardInstance {
    store: Store<StoreData>,
    handler: Handler,
    symbolizer: Arc<Symbolizer>,
    stdout: GuestOutput,
    stderr: GuestOutput,
    waker: ReusableWaker,
    served: u32,
}

/// The result of a request, and the state of the guest that served it.
pub struct HttpOutcome {
    /// The response, or the reason why there is none.
    pub result: Result<Reply, Failure>,
    /// The guest's cost and failure, which change until the guest has ended.
    pub(crate) execution: Arc<GuestExecution>,
}

/// The future that runs a guest on one request.
type GuestFuture = BoxFuture<'static, EndedGuest<StandardInstance>>;

impl Guest for StandardInstance {
    type Pre = StandardPre;

    async fn instantiate(
        (pre, symbolizer): (&StandardPre, &Arc<Symbolizer>),
        context: &Arc<ServiceContext>,
        counted: (Arc<InstanceCounts>, OnDemandPermit),
    ) -> Result<StandardInstance, StartFailure> {
        let (stdout, stderr) = (GuestOutput::default(), GuestOutput::default());
        let mut store = new_store(pre.engine(), (&stdout, &stderr), context, counted)?;
        let limit = context.limits.request_timeout;
        let handler = start(Handler::instantiate(pre, &mut store), limit, (&stdout, &stderr)).await;
        let handler = handler.map_err(|failure| failure.with_account(&store.data().account))?;
        Ok(StandardInstance {
            store,
            handler,
            symbolizer: symbolizer.clone(),
            stdout,
            stderr,
            waker: ReusableWaker::default(),
            served: 0,
        })
    }

    /// An instance whose call failed is dropped and never returned to its pool.
    fn is_healthy(&self) -> bool {
        !self.store.data().exceeds_idle_reservation()
    }

    fn served(&self) -> u32 {
        self.served
    }
}

impl StandardInstance {
    /// Runs the guest until its response is available, and spawns a task for the rest of its work.
    pub async fn handle(
        self,
        invocation: HttpInvocation,
        return_to_pool: ReturnToPool,
        background: &BackgroundWork,
    ) -> HttpOutcome {
        let execution = Arc::new(GuestExecution::default());
        let recorder = invocation.recorder.clone();
        execution.set_memory(self.store.data().memory());
        execution.set_reused(self.served > 0);
        let limits = &self.store.data().context().limits;
        let (limit, response_limit) = (limits.request_timeout, limits.response_body);
        let (answer, mut answered) = oneshot::channel();
        let executed = execution.clone();
        let mut work: GuestFuture = boxed(move || self.run_to_end(invocation, answer, executed, return_to_pool));
        let answer = within(limit, first_response(&mut work, &mut answered)).await;
        let result = match answer {
            Ok((Some(answer), state)) => match check(answer) {
                Ok((head, body)) => {
                    let background_run =
                        || BackgroundRun { recorder, execution: execution.clone(), background: background.clone() };
                    reply(head, body, (work, state), (limit, response_limit), background_run).await
                }
                Err(failure) => {
                    state.release();
                    Err(failure)
                }
            },
            Ok((None, state)) => {
                state.release();
                Err(missing_response(&execution))
            }
            // Dropping the future also drops the guest.
            Err(_) => Err(Failure::TimedOut),
        };
        HttpOutcome { result, execution }
    }

    async fn run_to_end(
        self,
        invocation: HttpInvocation,
        answer: oneshot::Sender<HandlerResponse>,
        execution: Arc<GuestExecution>,
        return_to_pool: ReturnToPool,
    ) -> EndedGuest<StandardInstance> {
        let HttpInvocation { request, recorder, locals, permit, lease } = invocation;
        let active = HttpGuestRequest { recorder, locals, execution };
        let is_reused = self.is_reused();
        let instance = self.serve(request, active, answer).await.map(|instance| (instance, is_reused));
        EndedGuest { instance, return_to_pool, _held: (permit, lease) }
    }

    /// Runs the guest. Returns the instance unless the guest has failed.
    async fn serve(
        mut self,
        request: Box<Request<Body>>,
        active: HttpGuestRequest,
        answer: oneshot::Sender<HandlerResponse>,
    ) -> Option<StandardInstance> {
        let (recorder, execution) = (active.recorder.clone(), active.execution.clone());
        self.store.set_epoch_deadline(1);
        self.store.data().account.take_denied();
        self.store.data_mut().http.set_request(active);
        let request = self.incoming(request);
        let ended = {
            let call = pin!(self.handler.call(&mut self.store, request, answer, &execution));
            UntilBlocked::new(call, &self.waker, |time| execution.add_busy(time)).await
        };
        self.served += 1;
        let failure = match &ended {
            // Exit status 0 is a regular end.
            Err(trap) if trap.downcast_ref::<I32Exit>().is_none_or(|exit| exit.0 != 0) => Some(self.trapped(trap)),
            _ => None,
        };
        execution.end(failure, &recorder);
        if ended.is_err() {
            drop(self);
            execution.store_dropped(&recorder);
            return None;
        }
        self.end();
        Some(self)
    }

    /// Whether the instance serves further requests.
    fn is_reused(&self) -> bool {
        let context = self.store.data().context();
        context.isolation.unwrap_or(self.handler.world().isolation()) == Isolation::Instance
    }

    /// The request for the guest. A 0.2 middleware can forward only this request, so the host keeps a copy of the head
    /// and shares the body.
    fn incoming(&mut self, mut request: Box<Request<Body>>) -> Box<Request<Body>> {
        let data = self.store.data_mut();
        if data.context().next.is_none() || matches!(self.handler, Handler::P3(_)) {
            return request;
        }
        let body = SharedBody::new(std::mem::take(request.body_mut()));
        *request.body_mut() = Body::stream(body.clone());
        let mut forwarded = Request::new(Body::stream(body));
        request.method().clone_into(forwarded.method_mut());
        *forwarded.uri_mut() = request.uri().clone();
        *forwarded.version_mut() = request.version();
        *forwarded.headers_mut() = request.headers().clone();
        data.http.store_incoming(forwarded);
        request
    }

    fn trapped(&mut self, trap: &wasmtime::Error) -> Failure {
        let mut printed = OutputLines::take(&self.stdout, &self.stderr);
        let (output, memory) = (printed.take_trap_output(), self.store.data().memory_use());
        let exception = Exception::from_trap(trap, output, &self.symbolizer, memory);
        self.log(printed);
        Failure::Trapped(exception)
    }

    /// Logs the guest's output and clears the request.
    fn end(&mut self) {
        let printed = OutputLines::take(&self.stdout, &self.stderr);
        self.log(printed);
        self.store.data_mut().http.clear_request();
    }

    fn log(&mut self, printed: OutputLines) {
        if let Some(request) = self.store.data().http.request() {
            request.recorder.with(|recorder| printed.log(recorder));
        }
    }
}

/// If the request was cancelled, the guest's output until then is logged with the request's spans.
impl Drop for StandardInstance {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether the guest has work left after its response.
enum GuestState {
    Ended(EndedGuest<StandardInstance>),
    Running,
}

impl GuestState {
    /// Returns the instance to its pool if the guest has ended.
    fn release(self) {
        if let GuestState::Ended(guest) = self {
            guest.release();
        }
    }
}

/// Runs the guest until its response is available or it has ended. The guest is polled first: if it never waits, it has
/// ended by the time its response is sent.
async fn first_response(
    work: &mut GuestFuture,
    answered: &mut oneshot::Receiver<HandlerResponse>,
) -> (Option<HandlerResponse>, GuestState) {
    tokio::select! {
        biased;
        guest = &mut *work => match answered.try_recv() {
            Ok(answer) => (Some(answer), GuestState::Ended(guest)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => (None, GuestState::Ended(guest)),
        },
        answer = &mut *answered => match answer {
            Ok(answer) => (Some(answer), GuestState::Running),
            // The guest dropped its response outparam; it may still trap or end.
            Err(_) => (None, GuestState::Ended(work.await)),
        },
    }
}

fn check(answer: HandlerResponse) -> Result<(Parts, GuestResponseBody), Failure> {
    let response = answer.map_err(|error| error_code_failure(&error))?;
    if response.status().is_informational() {
        return Err(Failure::InvalidResponse(format!("{} is not the status of a final response", response.status())));
    }
    Ok(response.into_parts())
}

/// Makes the reply, and spawns a task for the guest's remaining work. Fails if the body already exceeds
/// `response_limit`.
async fn reply(
    head: Parts,
    body: GuestResponseBody,
    (mut work, mut state): (GuestFuture, GuestState),
    (limit, response_limit): (Duration, usize),
    background_run: impl FnOnce() -> BackgroundRun,
) -> Result<Reply, Failure> {
    if matches!(state, GuestState::Running) {
        state = run_until_blocked(&mut work, &body).await;
    }
    let checked = body.check_size(response_limit);
    let is_complete = matches!(state, GuestState::Ended(_)) || body.has_ended();
    match state {
        GuestState::Running => drop(tokio::spawn(background_run().finish(work, limit))),
        GuestState::Ended(guest) if !body.has_ended() && guest.is_reused() => {
            drop(tokio::spawn(background_run().release_after_body(guest)));
        }
        GuestState::Ended(guest) => guest.release(),
    }
    checked.map(|()| body.into_reply(head, is_complete))
}

/// Runs the guest after its response for as long as it waits only for the reader of its body, up to
/// [`MAX_AFTER_RESPONSE`]. Most guests end here: their body is then sent in one write, and no task is spawned for them.
async fn run_until_blocked(work: &mut GuestFuture, body: &GuestResponseBody) -> GuestState {
    // The clock is read only if the guest runs more than once.
    let mut began: Option<Instant> = None;
    poll_fn(|context| {
        loop {
            let before = body.buffered_frames();
            // The guest's next poll is what fills the body again: nothing needs to be woken for it.
            let buffered = body.poll_buffer(&mut Context::from_waker(Waker::noop()));
            let is_blocked = buffered.is_pending() && body.buffered_frames() == before;
            if is_blocked || began.is_some_and(|began| began.elapsed() > MAX_AFTER_RESPONSE) {
                return Poll::Ready(GuestState::Running);
            }
            if let Poll::Ready(guest) = Pin::new(&mut *work).poll(context) {
                return Poll::Ready(GuestState::Ended(guest));
            }
            if buffered.is_ready() {
                return Poll::Ready(GuestState::Running);
            }
            began.get_or_insert_with(Instant::now);
        }
    })
    .await
}

/// Why a guest ended without a response.
fn missing_response(execution: &GuestExecution) -> Failure {
    execution.failure().unwrap_or(Failure::NoResponse)
}

fn error_code_failure(error: &Error) -> Failure {
    Failure::ErrorCode(error.to_string())
}
