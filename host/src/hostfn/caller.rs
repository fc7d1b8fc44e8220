//! Finds the request that a host function is called for.
//!
//! An instance that serves one request at a time has only that one. In a 0.3 instance that serves several requests,
//! each request is a task of the component model, and Wasmtime reports the tasks that lead to a host call: the oldest
//! of them is the task of the request.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use wasmtime::component::{Access, Accessor, HasData, HasSelf, Resource};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi::TrappableError;
use wasmtime_wasi_http::p3::bindings::http::client;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::{Request, Response};
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtxView, WasiHttpView as _};

use super::guest_request::Destination;
use crate::component::StoreData;

/// Makes the request whose task is calling the current one.
pub(super) fn enter(store: &mut StoreContextMut<'_, StoreData>) {
    let Some(requests) = store.data().http.requests().cloned() else { return };
    let task = store.async_call_stack().ok().and_then(Iterator::last);
    let request = requests.for_task(task);
    store.data_mut().http.set_current(request);
}

/// Ends what [`enter`] began.
pub(super) fn leave(data: &mut StoreData) {
    if data.http.requests().is_some() {
        data.http.set_current(None);
    }
}

/// Runs a host function with the request of the calling task as the current one.
pub(super) fn with_caller<R>(
    mut access: Access<'_, StoreData, HasSelf<StoreData>>,
    function: impl FnOnce(&mut StoreData) -> R,
) -> R {
    with_caller_in_store(access.as_context_mut(), function)
}

/// The same for a host function that gets the store.
pub(super) fn with_caller_in_store<R>(
    mut store: StoreContextMut<'_, StoreData>,
    function: impl FnOnce(&mut StoreData) -> R,
) -> R {
    enter(&mut store);
    let result = function(store.data_mut());
    leave(store.data_mut());
    result
}

/// `wasi:http/client` of `wasmtime-wasi-http`, with the request of the calling task as the current one.
pub(crate) struct Client;

impl HasData for Client {
    type Data<'a> = WasiHttpCtxView<'a>;
}

impl client::HostWithStore<StoreData> for Client {
    async fn send(
        store: &Accessor<StoreData, Self>,
        request: Resource<Request>,
    ) -> Result<Resource<Response>, TrappableError<ErrorCode>> {
        send(store, request, Destination::Url).await
    }
}

/// Sends a 0.3 request for the request of the calling task.
pub(super) async fn send<D: HasData>(
    store: &Accessor<StoreData, D>,
    request: Resource<Request>,
    destination: Destination,
) -> Result<Resource<Response>, TrappableError<ErrorCode>> {
    let inner = store.with_getter::<WasiHttp>(StoreData::http);
    let mut send = pin!(<WasiHttp as client::HostWithStore<StoreData>>::send(&inner, request));
    // `wasmtime-wasi-http` calls the hooks in the first poll.
    let first = poll_fn(|context| {
        store.with(|mut access| {
            enter(&mut access.as_context_mut());
            access.data_mut().http.outgoing.destination = destination;
        });
        let polled = send.as_mut().poll(context);
        store.with(|mut access| {
            access.data_mut().http.outgoing.destination = Destination::Url;
            leave(access.data_mut());
        });
        Poll::Ready(polled)
    });
    match first.await {
        Poll::Ready(sent) => sent,
        Poll::Pending => send.await,
    }
}
