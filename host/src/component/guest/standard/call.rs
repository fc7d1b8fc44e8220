//! One call of a guest's handler, through WASI 0.2 or 0.3.

use std::future::poll_fn;
use std::sync::Arc;

use http::{Request, Response};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error, FieldMap, WasiHttpView as _};
use wasmtime_wasi_http::{p2, p3};

use super::body::{GuestRequestBody, GuestResponseBody};
use super::execution::GuestExecution;
use super::linker::StandardPre;
use crate::component::contract::HttpWorld;
use crate::component::store_data::StoreData;
use crate::http::Body;
use crate::outbound::LocalCalls;
use crate::trace::SharedRecorder;

/// What a request holds until it ends. Clones hold the same.
pub type Held = Arc<dyn Send + Sync>;

/// A request for a standard guest.
pub struct HttpInvocation {
    /// Has an absolute URI, and the header fields that the guest may see.
    pub request: Box<Request<Body>>,
    /// The request's spans.
    pub recorder: SharedRecorder,
    /// The services of this host, which the guest calls without a socket.
    pub locals: Arc<dyn LocalCalls>,
    /// The request's permit under the service's concurrency limit.
    pub permit: Held,
    /// The request's lease on its generation, held until the guest has ended, which may be after its response. Dropped
    /// after the last span was handed over.
    pub lease: Held,
}

/// The guest's response, or the error code that it returned instead.
pub(super) type HandlerResponse = Result<Response<GuestResponseBody>, Error>;

/// The exported handler of an instance.
pub(super) enum Handler {
    P2(p2::bindings::Proxy),
    P3(p3::bindings::Service),
}

impl Handler {
    /// Instantiates a component.
    pub async fn instantiate(pre: &StandardPre, store: &mut Store<StoreData>) -> wasmtime::Result<Handler> {
        match pre {
            StandardPre::P2(pre) => pre.instantiate_async(store).await.map(Handler::P2),
            StandardPre::P3(pre) => pre.instantiate_async(store).await.map(Handler::P3),
        }
    }

    /// The version of the handler.
    pub fn world(&self) -> HttpWorld {
        match self {
            Handler::P2(_) => HttpWorld::P2,
            Handler::P3(_) => HttpWorld::P3,
        }
    }

    /// Calls the handler. The response is sent to `answer` when it is available, with its body in `execution`; the call
    /// ends when the guest has ended.
    pub async fn call(
        &self,
        store: &mut Store<StoreData>,
        request: Box<Request<Body>>,
        answer: oneshot::Sender<HandlerResponse>,
        execution: &Arc<GuestExecution>,
    ) -> wasmtime::Result<()> {
        match self {
            Handler::P2(guest) => call_p2(guest, store, request, answer, execution).await,
            Handler::P3(guest) => call_p3(guest, store, request, answer, execution).await,
        }
    }
}

async fn call_p2(
    guest: &p2::bindings::Proxy,
    store: &mut Store<StoreData>,
    request: Box<Request<Body>>,
    answer: oneshot::Sender<HandlerResponse>,
    execution: &Arc<GuestExecution>,
) -> wasmtime::Result<()> {
    let execution = execution.clone();
    let mut view = store.data_mut().http();
    let scheme = if request.uri().scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
    let request = view.new_incoming_request(scheme, request.map(GuestRequestBody))?;
    let answer = move |value: Result<_, p2::bindings::http::types::ErrorCode>| {
        // If the receiver is gone, the guest continues without an error.
        let _ = answer.send(value.map(|response| GuestResponseBody::of(response, &execution)).map_err(Error::from));
    };
    let outparam = view.new_response_outparam_from_callback(answer)?;
    guest.wasi_http_incoming_handler().call_handle(store, request, outparam).await
}

/// Creates a 0.3 request in the instance, and the future that resolves to the guest's result of reading its body.
pub(super) fn request_p3(
    data: &mut StoreData,
    request: Box<Request<Body>>,
) -> wasmtime::Result<(Resource<p3::Request>, impl Future<Output = Result<(), Error>> + Send + use<>)> {
    let view = data.http();
    let (head, body) = request.into_parts();
    let uri = head.uri.into_parts();
    let headers = FieldMap::new_immutable(view.hooks, head.headers);
    let (scheme, authority, path) = (uri.scheme, uri.authority, uri.path_and_query);
    let body = GuestRequestBody(body);
    let (request, sent) = p3::Request::new(head.method, scheme, authority, path, headers, None, body);
    Ok((view.table.push(request)?, sent))
}

async fn call_p3(
    guest: &p3::bindings::Service,
    store: &mut Store<StoreData>,
    request: Box<Request<Body>>,
    answer: oneshot::Sender<HandlerResponse>,
    execution: &Arc<GuestExecution>,
) -> wasmtime::Result<()> {
    let (request, sent) = request_p3(store.data_mut(), request)?;
    let call = async |accessor: &wasmtime::component::Accessor<StoreData>| {
        let answered = guest.wasi_http_handler().call_handle(accessor, request).await?;
        let response = answered.map_err(Error::from).map(|response| {
            accessor.with(|mut access| {
                let response = access.data_mut().http().table.delete(response)?;
                response.into_http(&mut access, sent)
            })
        });
        let response = match response {
            Ok(response) => Ok(GuestResponseBody::of(response?, execution)),
            Err(error) => Err(error),
        };
        let _ = answer.send(response);
        // Waits for the body and for the other tasks that the guest has started.
        poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
        wasmtime::error::Ok(())
    };
    store.run_concurrent(call).await?
}
