//! One instance: a store, the guest in it, and the request that it is serving.
//!
//! The instance owns everything about its request while the call runs: the recorder with its spans, what the guest
//! printed, the calls it may make. When the call ends, however it ends, all of that comes back in [`Handled`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bindings::{Service, ServicePre, spandrel::service::http as wit};
use super::cost::{Cost, measured};
use super::engine::Engine;
use super::failure::{Exception, Failure};
use super::pool::Gauge;
use super::symbols::Symbols;
use crate::config::{Isolation, Limits};
use crate::hostfn::client::Started;
use crate::hostfn::stdio::{GuestOutput, Printed};
use crate::metrics::{Metrics, ServiceMetrics};
use crate::outbound::{LocalCalls, Outbound};
use crate::routes::{Route, RouteIndex};
use crate::state::StateStore;
use crate::trace::Recorder;

/// What every instance of a service runs with. Fixed for a generation.
pub struct Environment {
    /// The service's name.
    pub name: Arc<str>,
    /// What `wasi:config` gives.
    pub config: BTreeMap<String, String>,
    /// What the service may use up.
    pub limits: Limits,
    /// Whether instances are reused.
    pub isolation: Isolation,
    /// What `wasi:keyvalue` is backed by.
    pub state: StateStore,
    /// The way out.
    pub outbound: Outbound,
    /// The figures of the whole process.
    pub process: Metrics,
    /// The service's instruments.
    pub metrics: Arc<ServiceMetrics>,
}

/// A request on its way into a guest.
pub struct Invocation {
    /// The route that matched.
    pub route: RouteIndex,
    /// Its parameters.
    pub params: Vec<String>,
    /// The query string without its `?`.
    pub query: Option<String>,
    /// The header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// What goes with the request.
    pub active: ActiveRequest,
}

/// What goes with a request while a guest serves it.
pub struct ActiveRequest {
    /// The request's spans.
    pub recorder: Recorder,
    /// The services of this host that the guest may call without a socket.
    pub locals: Arc<dyn LocalCalls>,
    /// Time spent in other services on the guest's behalf, which is not its own cost.
    pub elsewhere: Duration,
}

/// A guest's answer, checked to be HTTP.
#[derive(Debug)]
pub struct Reply {
    /// From 200 to 599.
    pub status: StatusCode,
    /// Without the fields that belong to a connection.
    pub headers: HeaderMap,
    /// At most `response_body` bytes.
    pub body: Bytes,
}

/// The end of a call.
pub struct Handled {
    /// The answer or what went wrong.
    pub result: Result<Reply, Failure>,
    /// The request's spans, some of them perhaps still open.
    pub recorder: Recorder,
    /// What it cost.
    pub cost: Cost,
}

impl Handled {
    pub(super) fn without_instance(invocation: Invocation, failure: Failure) -> Handled {
        Handled { result: Err(failure), recorder: invocation.active.recorder, cost: Cost::default() }
    }
}

/// What host functions work on.
pub struct State {
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    environment: Arc<Environment>,
    gauge: Arc<Gauge>,
    memory: u64,
    /// Counts the instance's requests, so that handles of one are not taken for handles of another.
    pub(crate) sequence: u16,
    /// The request being served; none while the component is instantiated or asked for its routes.
    pub(crate) request: Option<ActiveRequest>,
    /// The calls to other services that are under way.
    pub(crate) calls: Vec<Started>,
}

impl State {
    pub(crate) fn environment(&self) -> &Arc<Environment> {
        &self.environment
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.gauge.live.fetch_sub(1, Ordering::Relaxed);
        self.gauge.memory.fetch_sub(self.memory, Ordering::Relaxed);
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // An instance may be made of several memories: what counts is what this one adds.
        let total = self.memory + (desired - current) as u64;
        let fits = total <= self.environment.limits.memory;
        if fits {
            self.gauge.memory.fetch_add(total - self.memory, Ordering::Relaxed);
            self.gauge.memory_high_water.fetch_max(total, Ordering::Relaxed);
            self.memory = total;
        }
        Ok(fits)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= 40_000)
    }
}

/// A guest that was instantiated.
pub(super) struct Instance {
    store: Store<State>,
    guest: Service,
    symbols: Arc<Symbols>,
    stdout: GuestOutput,
    stderr: GuestOutput,
    /// How long the request at hand has kept a thread busy.
    busy: Duration,
    served: u32,
    healthy: bool,
}

impl Instance {
    pub(super) async fn new(
        engine: &Engine,
        (pre, symbols): (&ServicePre<State>, &Arc<Symbols>),
        environment: &Arc<Environment>,
        gauge: Arc<Gauge>,
    ) -> wasmtime::Result<Instance> {
        gauge.live.fetch_add(1, Ordering::Relaxed);
        let (stdout, stderr) = (GuestOutput::default(), GuestOutput::default());
        let wasi = WasiCtx::builder().stdout(stdout.clone()).stderr(stderr.clone()).build();
        let state = State {
            wasi,
            table: ResourceTable::new(),
            environment: environment.clone(),
            gauge,
            memory: 0,
            sequence: 0,
            request: None,
            calls: Vec::new(),
        };
        let mut store = Store::new(&engine.engine, state);
        store.limiter(|state| state);
        store.set_epoch_deadline(1);
        // Tokio's own yield, and not Wasmtime's: only after it are timers and sockets looked at before the guest goes on.
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))));
        let limit = environment.limits.request_timeout;
        let guest = tokio::time::timeout(limit, pre.instantiate_async(&mut store)).await;
        let guest = guest.map_err(|_| wasmtime::format_err!("the component did not start within {limit:?}"))??;
        let symbols = symbols.clone();
        Ok(Instance { store, guest, symbols, stdout, stderr, busy: Duration::ZERO, served: 0, healthy: true })
    }

    /// Asks the guest for its endpoints.
    pub(super) async fn routes(&mut self) -> wasmtime::Result<Vec<Route>> {
        let routes = self.guest.spandrel_service_handler().call_routes(&mut self.store).await?;
        Ok(routes.into_iter().map(Into::into).collect())
    }

    /// Whether the last call ended as calls should. An instance that is not healthy must not serve again.
    pub(super) fn is_healthy(&self) -> bool {
        self.healthy
    }

    pub(super) fn served(&self) -> u32 {
        self.served
    }

    /// The linear memory in bytes.
    pub(super) fn memory(&self) -> u64 {
        self.store.data().memory
    }

    /// Runs the guest's handler under the service's deadline.
    pub(super) async fn handle(&mut self, invocation: Invocation) -> Handled {
        let Invocation { route, params, query, headers, body, active } = invocation;
        let request = wit::Request { route, params, query, headers: to_wit(&headers), body: body.into() };
        self.begin(active);
        let limit = self.store.data().environment.limits.request_timeout;
        let call = self.guest.spandrel_service_handler().call_handle(&mut self.store, &request);
        let ended = tokio::time::timeout(limit, measured(&mut self.busy, call)).await;
        let printed = Printed::take(&self.stdout, &self.stderr);
        let result = match ended {
            Ok(Ok(response)) => self.check(response),
            Ok(Err(trap)) => Err(Failure::Trapped(Exception::from_trap(&trap, &printed.stderr(), &self.symbols))),
            Err(_) => Err(Failure::TimedOut),
        };
        self.healthy = !matches!(result, Err(Failure::Trapped(_) | Failure::TimedOut));
        let Some((recorder, cost)) = self.end(printed, "timeout") else {
            // Nothing but `end` takes the request out of the state.
            unreachable!("the request left the instance that serves it");
        };
        self.served += 1;
        Handled { result, recorder, cost }
    }

    /// Until the call has ended well the instance counts as broken, so that one dropped half-way is never reused.
    fn begin(&mut self, active: ActiveRequest) {
        self.healthy = false;
        self.busy = Duration::ZERO;
        let state = self.store.data_mut();
        state.sequence = state.sequence.wrapping_add(1);
        state.request = Some(active);
        self.store.set_epoch_deadline(1);
    }

    /// Takes the request out of the state, with what was printed during it and what it cost. `cut` is why calls that it
    /// made have no answer, if there are such.
    fn end(&mut self, printed: Printed, cut: &'static str) -> Option<(Recorder, Cost)> {
        let memory = self.memory();
        self.store.data_mut().cut_calls_short(cut);
        let ActiveRequest { mut recorder, elsewhere, .. } = self.store.data_mut().request.take()?;
        printed.log(&mut recorder);
        Some((recorder, Cost { busy: self.busy.saturating_sub(elsewhere), memory, reused: self.served > 0 }))
    }

    fn check(&self, response: wit::Response) -> Result<Reply, Failure> {
        let wit::Response { status, headers, body } = response;
        let limit = self.store.data().environment.limits.response_body;
        if body.len() > limit {
            return Err(Failure::ResponseTooLarge { size: body.len() });
        }
        let status = match status {
            200..600 => StatusCode::from_u16(status).map_err(|error| error.to_string()),
            other => Err(format!("{other} is no status of a final response")),
        };
        let status = status.map_err(Failure::InvalidResponse)?;
        Ok(Reply { status, headers: from_wit(headers).map_err(Failure::InvalidResponse)?, body: body.into() })
    }
}

/// An instance whose request was given up half-way leaves what is known of it with the request's spans.
impl Drop for Instance {
    fn drop(&mut self) {
        let printed = Printed::take(&self.stdout, &self.stderr);
        if let Some((mut recorder, cost)) = self.end(printed, "cancelled") {
            cost.record(&mut recorder);
        }
    }
}

/// Header fields as a guest sees them. Those that belong to the connection stay with the host.
pub(crate) fn to_wit(headers: &HeaderMap) -> Vec<wit::Header> {
    let fields = headers.iter().filter(|(name, _)| !is_hop_by_hop(name));
    fields
        .map(|(name, value)| wit::Header { name: name.as_str().to_owned(), value: value.as_bytes().to_vec() })
        .collect()
}

/// Header fields as a guest gave them. The message of an error names the field.
pub(crate) fn from_wit(fields: Vec<wit::Header>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for wit::Header { name, value } in fields {
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let parsed = parsed.map_err(|_| format!("`{}` is no name of a header field", name.escape_debug()))?;
        let value = HeaderValue::from_maybe_shared(Bytes::from(value));
        let value = value.map_err(|_| format!("the header field `{parsed}` has a value that HTTP does not allow"))?;
        if !is_hop_by_hop(&parsed) {
            headers.append(parsed, value);
        }
    }
    Ok(headers)
}

/// Fields of RFC 9110, 7.6.1, and the length, which the host knows better than a guest.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "proxy-connection"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "content-length"
    )
}
