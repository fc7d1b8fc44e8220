//! A standard guest: an instance of a component that exports a `wasi:http` handler of WASI 0.2 or 0.3.
//!
//! The guest answers with a head, and may go on: its body streams while it runs, and it may work after its response.
//! Until the head is there it runs within the task of its request. What is left to do then moves to a task of its
//! own, which ends with the guest, `request_timeout` after the body has ended, or with the host. What the request takes up
//! (its place among the service's requests, its generation) is given back when the guest has ended, and so is an instance
//! that came to its end well.

mod body;
mod call;
mod linker;
mod run;
mod shared;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{TE, TRAILER};
use http::response::Parts;
use http::{HeaderMap, Request};
use tokio::sync::oneshot::{self, error::TryRecvError};
use wasmtime::Store;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::Error;

pub(crate) use self::body::to_guest;
use self::body::{GuestRequestBody, ResponseBody};
pub use self::call::HttpInvocation;
use self::call::{Answer, Handler};
pub use self::linker::StandardPre;
pub(in crate::component) use self::linker::{link, linker};
pub use self::run::Run;
pub(in crate::component) use self::shared::{Job, SharedInstance};
use super::Guest;
use super::store::new_store;
use crate::component::background::BackgroundWork;
use crate::component::context::ServiceContext;
use crate::component::failure::{Exception, Failure};
use crate::component::gauge::Gauge;
use crate::component::guest_output::{GuestOutput, Printed};
use crate::component::invocation::Reply;
use crate::component::store_data::StoreData;
use crate::component::symbolizer::Symbolizer;
use crate::hostfn::guest_request::HttpGuestRequest;
use crate::http::Body;
use crate::trace::{Attribute, Severity, SharedRecorder};

/// How long the head of a response waits for trailers to announce, for a client that takes them.
const TRAILERS: Duration = Duration::from_millis(20);

/// Where an instance goes that came to its end well.
pub(in crate::component) type GiveBack = Box<dyn FnOnce(StandardInstance) + Send>;

/// A guest that was instantiated.
pub struct StandardInstance {
    store: Store<StoreData>,
    handler: Handler,
    symbolizer: Arc<Symbolizer>,
    stdout: GuestOutput,
    stderr: GuestOutput,
    served: u32,
}

/// The answer to a request, and what is to be known of the guest that gave it.
pub struct HttpHandled {
    /// The answer or what went wrong.
    pub result: Result<Reply, Failure>,
    /// What the request costs, until its guest has ended.
    pub(crate) run: Arc<Run>,
}

/// A guest at work on a request.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Guest for StandardInstance {
    type Pre = StandardPre;

    async fn instantiate(
        (pre, symbolizer): (&StandardPre, &Arc<Symbolizer>),
        context: &Arc<ServiceContext>,
        gauge: Arc<Gauge>,
    ) -> wasmtime::Result<StandardInstance> {
        let (stdout, stderr) = (GuestOutput::default(), GuestOutput::default());
        let mut store = new_store(pre.engine(), (&stdout, &stderr), context, gauge)?;
        let limit = context.limits.request_timeout;
        let handler = tokio::time::timeout(limit, Handler::instantiate(pre, &mut store)).await;
        let handler = handler.map_err(|_| wasmtime::format_err!("the component did not start within {limit:?}"))??;
        Ok(StandardInstance { store, handler, symbolizer: symbolizer.clone(), stdout, stderr, served: 0 })
    }

    fn engine(pre: &StandardPre) -> &wasmtime::Engine {
        pre.engine()
    }

    /// One that did not end well is never given back.
    fn is_healthy(&self) -> bool {
        !self.store.data().has_leftovers()
    }

    fn served(&self) -> u32 {
        self.served
    }
}

impl StandardInstance {
    /// Runs the guest until it has answered, and leaves the rest of its work to a task.
    pub async fn handle(
        self,
        invocation: HttpInvocation,
        give_back: GiveBack,
        background: &BackgroundWork,
    ) -> HttpHandled {
        let run = Arc::new(Run::default());
        let rest =
            RestOfWork { recorder: invocation.recorder.clone(), run: run.clone(), background: background.clone() };
        let takes_trailers = takes_trailers(invocation.request.headers());
        run.set_memory(self.store.data().memory());
        run.set_reused(self.served > 0);
        let limit = self.store.data().context().limits.request_timeout;
        let (answer, mut answered) = oneshot::channel();
        let mut work: Work = Box::pin(self.work(invocation, answer, run.clone(), give_back));
        let answer = tokio::time::timeout(limit, first_answer(&mut work, &mut answered)).await;
        let result = match answer {
            Ok((Some(answer), left)) => match check(answer, &run) {
                Ok((head, body)) => Ok(reply(head, body, (work, left), (takes_trailers, limit), rest).await),
                Err(failure) => Err(failure),
            },
            Ok((None, _)) => Err(no_answer(&run)),
            // The guest goes with its work.
            Err(_) => Err(Failure::TimedOut),
        };
        HttpHandled { result, run }
    }

    async fn work(
        self,
        invocation: HttpInvocation,
        answer: oneshot::Sender<Answer>,
        run: Arc<Run>,
        give_back: GiveBack,
    ) {
        let HttpInvocation { request, recorder, locals, place, hold } = invocation;
        self.serve(request, HttpGuestRequest { recorder, locals, run, printed: None }, answer, give_back).await;
        // Whoever waits for this finds the request's spans handed over, and the instance gone or given back.
        drop((place, hold));
    }

    async fn serve(
        mut self,
        request: Request<Body>,
        active: HttpGuestRequest,
        answer: oneshot::Sender<Answer>,
        give_back: GiveBack,
    ) {
        let (recorder, run) = (active.recorder.clone(), active.run.clone());
        self.store.set_epoch_deadline(1);
        self.store.data().account.take_refusal();
        self.store.data_mut().http.begin(active);
        let request = self.incoming(request);
        let ended = run.measured(self.handler.call(&mut self.store, request, answer)).await;
        self.served += 1;
        let failure = match &ended {
            // A guest that says that it is done is done.
            Err(trap) if trap.downcast_ref::<I32Exit>().is_none_or(|exit| exit.0 != 0) => Some(self.trapped(trap)),
            _ => None,
        };
        recorder.with(|recorder| run.end(failure, recorder));
        if ended.is_ok() {
            self.end();
            give_back(self);
        }
    }

    /// The request as the guest gets it. A middleware of 0.2 can hand on no other than this one: the host keeps hold of it.
    fn incoming(&mut self, request: Request<Body>) -> Request<GuestRequestBody> {
        let data = self.store.data_mut();
        if data.context().next.is_none() || matches!(self.handler, Handler::P3(_)) {
            return request.map(GuestRequestBody::new);
        }
        let (head, body) = request.into_parts();
        let (body, kept) = GuestRequestBody::kept(body);
        data.http.keep_incoming(Request::from_parts(head.clone(), kept));
        Request::from_parts(head, body)
    }

    fn trapped(&mut self, trap: &wasmtime::Error) -> Failure {
        let mut printed = Printed::take(&self.stdout, &self.stderr);
        let (output, memory) = (printed.take_last_output(), self.store.data().memory_use());
        let exception = Exception::from_trap(trap, output, &self.symbolizer, memory);
        self.log(printed);
        Failure::Trapped(exception)
    }

    /// Logs what the guest printed and forgets the request.
    fn end(&mut self) {
        let printed = Printed::take(&self.stdout, &self.stderr);
        self.log(printed);
        self.store.data_mut().http.end();
    }

    fn log(&mut self, printed: Printed) {
        if let Some(request) = self.store.data().http.request() {
            request.recorder.with(|recorder| printed.log(recorder));
        }
    }
}

/// What a guest printed until its request was given up goes with the request's spans.
impl Drop for StandardInstance {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether there is something left for a guest to do after its answer.
enum Left {
    Nothing,
    Work,
}

/// Lets the guest work until it has answered or has ended. The guest goes first: one that needs not wait for anything
/// is then done when its answer goes out.
async fn first_answer(work: &mut Work, answered: &mut oneshot::Receiver<Answer>) -> (Option<Answer>, Left) {
    tokio::select! {
        biased;
        () = &mut *work => match answered.try_recv() {
            Ok(answer) => (Some(answer), Left::Nothing),
            Err(TryRecvError::Empty | TryRecvError::Closed) => (None, Left::Nothing),
        },
        answer = &mut *answered => match answer {
            Ok(answer) => (Some(answer), Left::Work),
            // The guest threw away what it was to answer with, and may yet trap or end.
            Err(_) => {
                work.await;
                (None, Left::Nothing)
            }
        },
    }
}

/// What is needed to look after a guest that goes on after its response.
struct RestOfWork {
    recorder: SharedRecorder,
    run: Arc<Run>,
    background: BackgroundWork,
}

impl RestOfWork {
    /// Lets the guest work until it has ended, for so long after the response body has, or until the host stops.
    async fn finish(self, mut work: Work, limit: Duration) {
        let RestOfWork { recorder, run, background } = self;
        let mut working = background.begin();
        drop(background);
        let overtime = async {
            run.body_over().await;
            tokio::time::sleep(limit).await;
        };
        let why = tokio::select! {
            () = &mut work => return,
            () = overtime => why_stopped(limit),
            () = working.stopped() => "the host was told to stop".to_owned(),
        };
        say_stopped(&recorder, &why);
        recorder.with(|recorder| run.end(None, recorder));
        // What the request takes up is given back with the work, and by then its spans have been handed over.
        drop(recorder);
        drop(work);
    }
}

fn why_stopped(limit: Duration) -> String {
    format!("it was still at work {limit:?} after its response")
}

/// Leaves in a request's trace that its guest was stopped after its response.
fn say_stopped(recorder: &SharedRecorder, why: &str) {
    let kind = Attribute::new("error.type", "guest_stopped");
    recorder.with(|recorder| {
        recorder.log(recorder.server(), Severity::Warn, format!("the guest was stopped: {why}"), [kind]);
    });
}

fn check(answer: Answer, run: &Arc<Run>) -> Result<(Parts, ResponseBody), Failure> {
    let response = answer.map_err(|error| error_code(&error))?;
    if response.status().is_informational() {
        return Err(Failure::InvalidResponse(format!("{} is no status of a final response", response.status())));
    }
    let (head, body) = response.into_parts();
    let body = ResponseBody::new(body, run.clone(), &head.headers);
    Ok((head, body))
}

/// Makes the reply, and leaves what the guest still has to do to a task.
async fn reply(
    head: Parts,
    mut body: ResponseBody,
    (mut work, mut left): (Work, Left),
    (takes_trailers, limit): (bool, Duration),
    rest: RestOfWork,
) -> Reply {
    if matches!(left, Left::Work) && takes_trailers && !head.headers.contains_key(TRAILER) {
        left = wait_for_trailers(&mut work, &mut body).await;
    }
    let is_here = matches!(left, Left::Nothing) || body.has_trailers();
    if let Left::Work = left {
        tokio::spawn(rest.finish(work, limit));
    }
    let (body, headers) =
        if is_here { body.gathered(head.headers, takes_trailers) } else { (body.streamed(), head.headers) };
    Reply { status: head.status, headers, body }
}

/// Lets the guest go on for a moment: trailers that are there when the head leaves can be announced in it.
async fn wait_for_trailers(work: &mut Work, body: &mut ResponseBody) -> Left {
    let mut left = Left::Work;
    let go_on = poll_fn(|context| {
        if matches!(left, Left::Work) && work.as_mut().poll(context).is_ready() {
            left = Left::Nothing;
        }
        body.poll_gather(context)
    });
    // Where they come later, the head leaves without them.
    let _ = tokio::time::timeout(TRAILERS, go_on).await;
    left
}

/// Waits for a moment for trailers of a guest that goes on by itself. Whether they are here.
async fn take_trailers(headers: &HeaderMap, body: &mut ResponseBody) -> bool {
    if !headers.contains_key(TRAILER) {
        let _ = tokio::time::timeout(TRAILERS, poll_fn(|context| body.poll_gather(context))).await;
    }
    body.has_trailers()
}

/// Whether the client takes trailers (RFC 9110, 10.1.4).
fn takes_trailers(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(TE).into_iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Why a guest that has ended gave no answer.
fn no_answer(run: &Run) -> Failure {
    run.failure().cloned().unwrap_or(Failure::NoResponse)
}

fn error_code(error: &Error) -> Failure {
    Failure::ErrorCode(error.to_string())
}
