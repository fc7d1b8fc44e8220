//! The `wasi:http` handler that a middleware component imports: it forwards requests to the service that `next` names
//! in the manifest.
//!
//! A forwarded request is a call between services of one host, with a client span, the callee's server span and one
//! more hop. A 0.3 component can forward any request. A 0.2 component cannot create requests, so it forwards the one
//! that it received, with the part of the body that it has not read.

use http_body_util::BodyExt as _;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpHooks as _;
use wasmtime_wasi_http::p2::bindings::http::types as p2;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};
use wasmtime_wasi_http::p3::bindings::http::types as p3;
use wasmtime_wasi_http::p3::{Request, Response};

use super::caller;
use super::guest_request::Destination;
use crate::component::{StoreData, request_body_error};

/// Links `wasi:http/handler@0.3`.
pub(crate) fn add_p3_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    linker.instance("wasi:http/handler@0.3.0")?.func_wrap_concurrent(
        "handle",
        |accessor, (request,): (Resource<Request>,)| {
            Box::pin(async move {
                let answer: Result<Resource<Response>, p3::ErrorCode> =
                    match caller::send(accessor, request, Destination::Next).await {
                        Ok(response) => Ok(response),
                        Err(error) => Err(error.downcast()?),
                    };
                Ok((answer,))
            })
        },
    )
}

/// Links `wasi:http/incoming-handler@0.2`.
pub(crate) fn add_p2_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    linker.instance("wasi:http/incoming-handler@0.2.0")?.func_wrap_async(
        "handle",
        |store: StoreContextMut<'_, StoreData>,
         (request, outparam): (Resource<HostIncomingRequest>, Resource<HostResponseOutparam>)| {
            Box::new(forward(store, request, outparam))
        },
    )
}

/// Forwards the current request. The response is returned as soon as its head is available; its body bypasses the
/// guest.
async fn forward(
    mut store: StoreContextMut<'_, StoreData>,
    request: Resource<HostIncomingRequest>,
    outparam: Resource<HostResponseOutparam>,
) -> wasmtime::Result<()> {
    let data = store.data_mut();
    data.table.delete(request)?;
    let HostResponseOutparam { send: answer } = data.table.delete(outparam)?;
    let Some(request) = data.http.take_incoming() else {
        answer(Err(p2::ErrorCode::HttpRequestDenied));
        return Ok(());
    };
    let (head, body) = request.into_parts();
    let request = http::Request::from_parts(head, body.map_err(|error| request_body_error(&error)).boxed_unsync());
    data.http.outgoing.destination = Destination::Next;
    let sent = data.http.outgoing.send_request(request, None, Box::new(async { Ok(()) }));
    data.http.outgoing.destination = Destination::Url;
    match Box::into_pin(sent).await {
        Ok((response, _)) => answer(Ok(response)),
        Err(error) => answer(Err(p2::ErrorCode::InternalError(Some(error.to_string())))),
    }
    Ok(())
}
