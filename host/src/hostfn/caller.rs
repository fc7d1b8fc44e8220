//! Finds the request that a host function is called for.
//!
//! An instance that serves one request at a time has only that one. In a 0.3 instance that serves several requests,
//! each request is a task of the component model, and Wasmtime reports the tasks that lead to a host call: the oldest
//! of them is the task of the request.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use wasmtime::component::{Access, Accessor, HasData, HasSelf, Linker, Resource};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi::TrappableError;
use wasmtime_wasi::p2::bindings::sync::io::streams::StreamError;
use wasmtime_wasi::p2::{DynOutputStream, StreamError as Trappable};
use wasmtime_wasi_http::p3::bindings::http::client;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::{Request, Response};
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtxView, WasiHttpView as _};

use super::guest_request::Destination;
use crate::component::StoreData;

/// The most bytes of one blocking write, as specified by `wasi:io`.
const MAX_BLOCKING_WRITE: usize = 4096;

/// Makes the request whose task is calling the current one.
fn enter(store: &mut StoreContextMut<'_, StoreData>) {
    let Some(requests) = store.data().http.requests().cloned() else { return };
    let task = store.async_call_stack().ok().and_then(Iterator::last);
    let request = requests.for_task(task);
    store.data_mut().http.set_current(request);
}

fn leave(data: &mut StoreData) {
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

/// Replaces the write functions of `wasi:io/streams` by functions that set the current request, so that standard output
/// and standard error become log records of the right request.
pub(crate) fn shadow_output_functions(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut streams = linker.instance("wasi:io/streams@0.2.12")?;
    streams.func_wrap(
        "[method]output-stream.write",
        |mut store: StoreContextMut<'_, StoreData>, (stream, bytes): (Resource<DynOutputStream>, Vec<u8>)| {
            enter(&mut store);
            let table = &mut store.data_mut().table;
            let written = table.get_mut(&stream).map_err(Trappable::from).and_then(|stream| stream.write(bytes.into()));
            leave(store.data_mut());
            Ok((to_wit(written, store.data_mut())?,))
        },
    )?;
    streams.func_wrap_async(
        "[method]output-stream.blocking-write-and-flush",
        |mut store: StoreContextMut<'_, StoreData>, (stream, bytes): (Resource<DynOutputStream>, Vec<u8>)| {
            Box::new(async move {
                wasmtime::ensure!(
                    bytes.len() <= MAX_BLOCKING_WRITE,
                    "more than {MAX_BLOCKING_WRITE} bytes in one blocking write"
                );
                // No other task of the instance runs during this call.
                enter(&mut store);
                let table = &mut store.data_mut().table;
                let written = match table.get_mut(&stream) {
                    Ok(stream) => stream.blocking_write_and_flush(bytes.into()).await,
                    Err(error) => Err(error.into()),
                };
                leave(store.data_mut());
                Ok((to_wit(written, store.data_mut())?,))
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn to_wit(written: Result<(), Trappable>, data: &mut StoreData) -> wasmtime::Result<Result<(), StreamError>> {
    match written {
        Ok(()) => Ok(Ok(())),
        Err(Trappable::Closed) => Ok(Err(StreamError::Closed)),
        Err(Trappable::LastOperationFailed(error)) => {
            Ok(Err(StreamError::LastOperationFailed(data.table.push(error)?)))
        }
        Err(Trappable::Trap(error)) => Err(error),
    }
}
