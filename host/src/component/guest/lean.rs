//! A lean guest: an instance of a component that exports `spandrel:service/handler`, and the request that it serves.
//!
//! The instance owns everything about its request while the call runs: the recorder with its spans, what the guest
//! printed, the calls it may make. When the call ends, however it ends, all of that comes back in [`InvocationOutcome`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use wasmtime::Store;
use wasmtime::component::{Component, HasSelf, Linker};

use super::Guest;
use super::store::new_store;
use crate::component::bindings::{Service, ServicePre, spandrel::service::http as wit};
use crate::component::context::ServiceContext;
use crate::component::cost::{Cost, measured};
use crate::component::failure::{Exception, Failure};
use crate::component::guest_output::{GuestOutput, OutputLines};
use crate::component::instance_counts::InstanceCounts;
use crate::component::invocation::{GuestRequest, Invocation, InvocationOutcome, Reply};
use crate::component::store_data::StoreData;
use crate::component::symbolizer::Symbolizer;
use crate::http::Body;
use crate::http::header_rules::{self, FIELDS, is_hop_by_hop};
use crate::http::routes::Route;
use crate::trace::Recorder;

/// How much of a name that is none is shown, in bytes.
const SHOWN: usize = 64;

/// A lean component that was compiled and linked.
pub type LeanPre = ServicePre<StoreData>;

/// The host functions that lean components may import.
pub(in crate::component) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<StoreData>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    Service::add_to_linker::<StoreData, HasSelf<StoreData>>(&mut linker, |data| data)?;
    Ok(linker)
}

/// Links a component against the host functions.
pub(in crate::component) fn link(linker: &Linker<StoreData>, component: &Component) -> wasmtime::Result<LeanPre> {
    ServicePre::new(linker.instantiate_pre(component)?)
}

/// A guest that was instantiated.
pub struct LeanInstance {
    store: Store<StoreData>,
    guest: Service,
    symbolizer: Arc<Symbolizer>,
    stdout: GuestOutput,
    stderr: GuestOutput,
    /// How long the request at hand has kept a thread busy.
    busy: Duration,
    served: u32,
    healthy: bool,
}

impl Guest for LeanInstance {
    type Pre = LeanPre;

    async fn instantiate(
        (pre, symbolizer): (&LeanPre, &Arc<Symbolizer>),
        context: &Arc<ServiceContext>,
        counts: Arc<InstanceCounts>,
    ) -> wasmtime::Result<LeanInstance> {
        let (stdout, stderr) = (GuestOutput::default(), GuestOutput::default());
        let mut store = new_store(pre.engine(), (&stdout, &stderr), context, counts)?;
        let limit = context.limits.request_timeout;
        let guest = tokio::time::timeout(limit, pre.instantiate_async(&mut store)).await;
        let guest = guest.map_err(|_| wasmtime::format_err!("the component did not start within {limit:?}"))??;
        let symbolizer = symbolizer.clone();
        Ok(LeanInstance { store, guest, symbolizer, stdout, stderr, busy: Duration::ZERO, served: 0, healthy: true })
    }

    fn engine(pre: &LeanPre) -> &wasmtime::Engine {
        pre.engine()
    }

    fn is_healthy(&self) -> bool {
        self.healthy
    }

    fn served(&self) -> u32 {
        self.served
    }
}

impl LeanInstance {
    /// Asks the guest for its endpoints.
    pub(in crate::component) async fn routes(&mut self) -> Result<Vec<Route>, Exception> {
        let asked = self.guest.spandrel_service_handler().call_routes(&mut self.store).await;
        let routes = asked.map_err(|trap| {
            let mut printed = OutputLines::take(&self.stdout, &self.stderr);
            self.exception(&trap, &mut printed)
        })?;
        Ok(routes.into_iter().map(Into::into).collect())
    }

    /// What a trap was about, and without what the guest printed of that.
    fn exception(&self, trap: &wasmtime::Error, printed: &mut OutputLines) -> Exception {
        let memory = self.store.data().memory_use();
        Exception::from_trap(trap, printed.take_trap_output(), &self.symbolizer, memory)
    }

    /// The linear memory in bytes.
    pub(in crate::component) fn memory(&self) -> u64 {
        self.store.data().memory()
    }

    /// Runs the guest's handler under the service's deadline.
    pub(in crate::component) async fn handle(&mut self, invocation: Invocation) -> InvocationOutcome {
        let Invocation { route, params, query, headers, body, active } = invocation;
        let request = wit::Request { route, params, query, headers: to_wit(&headers), body: body.into() };
        self.begin(active);
        let limit = self.store.data().context().limits.request_timeout;
        let call = self.guest.spandrel_service_handler().call_handle(&mut self.store, &request);
        let ended = tokio::time::timeout(limit, measured(&mut self.busy, call)).await;
        let mut printed = OutputLines::take(&self.stdout, &self.stderr);
        let result = match ended {
            Ok(Ok(response)) => self.check(response),
            Ok(Err(trap)) => Err(Failure::Trapped(self.exception(&trap, &mut printed))),
            Err(_) => Err(Failure::TimedOut),
        };
        let exceeds_idle_reservation = self.store.data().exceeds_idle_reservation();
        self.healthy = !exceeds_idle_reservation && !matches!(result, Err(Failure::Trapped(_) | Failure::TimedOut));
        let Some((recorder, cost)) = self.end(printed, "timeout") else {
            // Nothing but `end` takes the request out of the state.
            unreachable!("the request left the instance that serves it");
        };
        self.served += 1;
        InvocationOutcome { result, recorder, cost }
    }

    /// Until the call has ended well the instance counts as broken, so that one dropped half-way is never reused.
    fn begin(&mut self, active: GuestRequest) {
        self.healthy = false;
        self.busy = Duration::ZERO;
        self.store.data_mut().begin(active);
        self.store.set_epoch_deadline(1);
    }

    /// Takes the request out of the state, with what was printed during it and what it cost. `cut` is why calls that it
    /// made have no answer, if there are such.
    fn end(&mut self, printed: OutputLines, cut: &'static str) -> Option<(Recorder, Cost)> {
        let memory = self.memory();
        self.store.data_mut().end_pending_calls(cut);
        let GuestRequest { mut recorder, call_time, .. } = self.store.data_mut().request.take()?;
        printed.log(&mut recorder);
        Some((recorder, Cost { busy: self.busy.saturating_sub(call_time), memory, reused: self.served > 0 }))
    }

    fn check(&self, response: wit::Response) -> Result<Reply, Failure> {
        let wit::Response { status, headers, body } = response;
        let limit = self.store.data().context().limits.response_body;
        if body.len() > limit {
            return Err(Failure::ResponseTooLarge { size: body.len() });
        }
        let status = match status {
            200..600 => StatusCode::from_u16(status).map_err(|error| error.to_string()),
            other => Err(format!("{other} is no status of a final response")),
        };
        let status = status.map_err(Failure::InvalidResponse)?;
        Ok(Reply {
            status,
            headers: from_wit(headers).map_err(Failure::InvalidResponse)?,
            body: Body::Whole(body.into()),
        })
    }
}

/// An instance whose request was given up half-way leaves what is known of it with the request's spans.
impl Drop for LeanInstance {
    fn drop(&mut self) {
        let printed = OutputLines::take(&self.stdout, &self.stderr);
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
    if fields.len() > FIELDS {
        return Err(format!("there are more than {FIELDS} header fields"));
    }
    let mut headers = HeaderMap::with_capacity(fields.len());
    for wit::Header { name, value } in fields {
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let shown = || name.get(..name.floor_char_boundary(SHOWN)).unwrap_or_default().escape_debug();
        let parsed = parsed.map_err(|_| format!("`{}` is no name of a header field", shown()))?;
        let value = HeaderValue::from_maybe_shared(Bytes::from(value));
        let value = value.map_err(|_| format!("the header field `{parsed}` has a value that HTTP does not allow"))?;
        headers.append(parsed, value);
    }
    header_rules::remove_all(&mut headers);
    Ok(headers)
}

impl From<wit::Method> for Method {
    fn from(method: wit::Method) -> Method {
        match method {
            wit::Method::Get => Method::GET,
            wit::Method::Head => Method::HEAD,
            wit::Method::Post => Method::POST,
            wit::Method::Put => Method::PUT,
            wit::Method::Patch => Method::PATCH,
            wit::Method::Delete => Method::DELETE,
            wit::Method::Options => Method::OPTIONS,
        }
    }
}

impl From<wit::Route> for Route {
    fn from(route: wit::Route) -> Route {
        Route { method: route.method.into(), template: route.path.into() }
    }
}
