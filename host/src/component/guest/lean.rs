//! A lean guest: an instance of a component that exports `spandrel:service/handler`, and the request that it serves.
//!
//! During a call, the instance owns the request's state: its recorder, its output and its outgoing calls. The call
//! returns all of it in [`InvocationOutcome`], however it ends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use wasmtime::Store;
use wasmtime::component::{Component, HasSelf, Linker};

use super::instance::start;
use super::store::new_store;
use super::{Guest, StartFailure};
use crate::component::bindings::{Service, ServicePre, spandrel::service::http as wit};
use crate::component::capacity::OnDemandPermit;
use crate::component::context::ServiceContext;
use crate::component::cost::{Cost, measured};
use crate::component::failure::{Exception, Failure};
use crate::component::guest_output::{GuestOutput, OutputLines};
use crate::component::instance_counts::InstanceCounts;
use crate::component::invocation::{GuestRequest, Invocation, InvocationOutcome, Reply};
use crate::component::store_data::StoreData;
use crate::component::symbolizer::Symbolizer;
use crate::component::within::within;
use crate::http::Body;
use crate::http::header_rules::{self, FIELD_COUNT_LIMIT, is_hop_by_hop};
use crate::http::routes::Route;
use crate::trace::Recorder;

/// The most bytes of an invalid header name in an error message.
const MAX_SHOWN_NAME: usize = 64;

/// A compiled and linked lean component.
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

/// An instantiated guest.
pub struct LeanInstance {
    store: Store<StoreData>,
    guest: Service,
    symbolizer: Arc<Symbolizer>,
    stdout: GuestOutput,
    stderr: GuestOutput,
    /// The CPU time of the current request.
    busy: Duration,
    served: u32,
    healthy: bool,
}

impl Guest for LeanInstance {
    type Pre = LeanPre;

    async fn instantiate(
        (pre, symbolizer): (&LeanPre, &Arc<Symbolizer>),
        context: &Arc<ServiceContext>,
        counted: (Arc<InstanceCounts>, OnDemandPermit),
    ) -> Result<LeanInstance, StartFailure> {
        let (stdout, stderr) = (GuestOutput::default(), GuestOutput::default());
        let mut store = new_store(pre.engine(), (&stdout, &stderr), context, counted)?;
        let limit = context.limits.request_timeout;
        let guest = start(pre.instantiate_async(&mut store), limit, (&stdout, &stderr)).await;
        let guest = guest.map_err(|failure| failure.with_account(&store.data().account))?;
        let symbolizer = symbolizer.clone();
        Ok(LeanInstance { store, guest, symbolizer, stdout, stderr, busy: Duration::ZERO, served: 0, healthy: true })
    }

    fn is_healthy(&self) -> bool {
        self.healthy
    }

    fn served(&self) -> u32 {
        self.served
    }
}

impl LeanInstance {
    /// Calls the guest's `routes` function.
    pub(in crate::component) async fn routes(&mut self) -> Result<Vec<Route>, Exception> {
        let result = self.guest.spandrel_service_handler().call_routes(&mut self.store).await;
        let routes = result.map_err(|trap| {
            let mut printed = OutputLines::take(&self.stdout, &self.stderr);
            self.exception(&trap, &mut printed)
        })?;
        Ok(routes.into_iter().map(Into::into).collect())
    }

    /// Describes a trap, with what the guest printed about it.
    fn exception(&self, trap: &wasmtime::Error, printed: &mut OutputLines) -> Exception {
        let memory = self.store.data().memory_use();
        Exception::from_trap(trap, printed.take_trap_output(), &self.symbolizer, memory)
    }

    /// The linear memory in bytes.
    pub(in crate::component) fn memory(&self) -> u64 {
        self.store.data().memory()
    }

    /// Runs the guest's handler within `request_timeout`.
    pub(in crate::component) async fn handle(&mut self, invocation: Invocation) -> InvocationOutcome {
        let Invocation { route, params, query, headers, body, active } = invocation;
        let request = wit::Request { route, params, query, headers: to_wit(&headers), body: body.into() };
        self.begin(active);
        let limit = self.store.data().context().limits.request_timeout;
        let ended = {
            let call = pin!(self.guest.spandrel_service_handler().call_handle(&mut self.store, &request));
            within(limit, measured(&mut self.busy, call)).await
        };
        let mut printed = OutputLines::take(&self.stdout, &self.stderr);
        let result = match ended {
            Ok(Ok(response)) => self.check(response),
            Ok(Err(trap)) => Err(Failure::Trapped(self.exception(&trap, &mut printed))),
            Err(_) => Err(Failure::TimedOut),
        };
        let exceeds_idle_reservation = self.store.data().exceeds_idle_reservation();
        self.healthy = !exceeds_idle_reservation && !matches!(result, Err(Failure::Trapped(_) | Failure::TimedOut));
        let Some((recorder, cost)) = self.end(printed, "timeout") else {
            // Only `end` removes the request.
            unreachable!("the request left the instance that serves it");
        };
        self.served += 1;
        InvocationOutcome { result, recorder, cost }
    }

    /// Sets the current request. The instance counts as unhealthy until the call has ended, so that it is not reused if
    /// the call is dropped.
    fn begin(&mut self, active: GuestRequest) {
        self.healthy = false;
        self.busy = Duration::ZERO;
        self.store.data_mut().begin(active);
        self.store.set_epoch_deadline(1);
    }

    /// Removes the current request and returns its recorder, with the guest's output, and its cost. `call_error_type`
    /// is the `error.type` of its pending calls.
    fn end(&mut self, printed: OutputLines, call_error_type: &'static str) -> Option<(Recorder, Cost)> {
        let memory = self.memory();
        self.store.data_mut().end_pending_calls(call_error_type);
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
            other => Err(format!("{other} is not the status of a final response")),
        };
        let status = status.map_err(Failure::InvalidResponse)?;
        Ok(Reply {
            status,
            headers: from_wit(headers).map_err(Failure::InvalidResponse)?,
            body: Body::Whole(body.into()),
        })
    }
}

/// If the request was cancelled, its output and cost are recorded with its spans.
impl Drop for LeanInstance {
    fn drop(&mut self) {
        let printed = OutputLines::take(&self.stdout, &self.stderr);
        if let Some((mut recorder, cost)) = self.end(printed, "cancelled") {
            cost.record(&mut recorder);
        }
    }
}

/// The header fields for a guest, without hop-by-hop fields.
pub(crate) fn to_wit(headers: &HeaderMap) -> Vec<wit::Header> {
    let fields = headers.iter().filter(|(name, _)| !is_hop_by_hop(name));
    fields
        .map(|(name, value)| wit::Header { name: name.as_str().to_owned(), value: value.as_bytes().to_vec() })
        .collect()
}

/// Validates the header fields of a guest and removes those that it may not set. The error message names the field.
pub(crate) fn from_wit(fields: Vec<wit::Header>) -> Result<HeaderMap, String> {
    if fields.len() > FIELD_COUNT_LIMIT {
        return Err(format!("there are more than {FIELD_COUNT_LIMIT} header fields"));
    }
    let mut headers = HeaderMap::with_capacity(fields.len());
    for wit::Header { name, value } in fields {
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let shown = || name.get(..name.floor_char_boundary(MAX_SHOWN_NAME)).unwrap_or_default().escape_debug();
        let parsed = parsed.map_err(|_| format!("`{}` is not a header field name", shown()))?;
        let value = HeaderValue::from_maybe_shared(Bytes::from(value));
        let value = value.map_err(|_| format!("the header field `{parsed}` has a value that HTTP does not allow"))?;
        headers.append(parsed, value);
    }
    header_rules::remove_hop_by_hop(&mut headers);
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
        Route { method: Some(route.method.into()), template: route.path.into() }
    }
}
