//! Standard output and standard error of 0.3 components.
//!
//! An instance may serve several requests. What one of them prints becomes its own log records: the host functions that
//! write set the request of the calling task as the current one, which redirects the output streams.

use wasmtime::component::{Access, FutureReader, HasData, Linker, Resource, StreamReader};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi::cli::{WasiCli, WasiCliCtxView, WasiCliView as _};
use wasmtime_wasi::p2::bindings::sync::io::streams::StreamError;
use wasmtime_wasi::p2::{DynOutputStream, StreamError as Trappable};
use wasmtime_wasi::p3::bindings::cli::types::ErrorCode;
use wasmtime_wasi::p3::bindings::cli::{stderr, stdout};

use super::caller::{enter, leave};
use crate::component::StoreData;

/// The most bytes of one blocking write, as specified by `wasi:io`.
const MAX_BLOCKING_WRITE: usize = 4096;

/// The result of `write-via-stream` of `wasi:cli` 0.3.
type Written = wasmtime::Result<FutureReader<Result<(), ErrorCode>>>;

/// `wasi:cli/stdout` and `wasi:cli/stderr` of `wasmtime-wasi`. A stream belongs to the request that passes it.
struct Output;

impl HasData for Output {
    type Data<'a> = WasiCliCtxView<'a>;
}

impl stdout::HostWithStore<StoreData> for Output {
    fn write_via_stream(store: Access<'_, StoreData, Self>, data: StreamReader<u8>) -> Written {
        with_cli(store, |cli| <WasiCli as stdout::HostWithStore<StoreData>>::write_via_stream(cli, data))
    }
}

impl stderr::HostWithStore<StoreData> for Output {
    fn write_via_stream(store: Access<'_, StoreData, Self>, data: StreamReader<u8>) -> Written {
        with_cli(store, |cli| <WasiCli as stderr::HostWithStore<StoreData>>::write_via_stream(cli, data))
    }
}

/// Runs a host function of `wasmtime-wasi` with the request of the calling task as the current one.
fn with_cli<R>(
    mut store: Access<'_, StoreData, Output>,
    function: impl FnOnce(Access<'_, StoreData, WasiCli>) -> R,
) -> R {
    enter(&mut store.as_context_mut());
    let result = function(Access::<StoreData, WasiCli>::new(store.as_context_mut(), StoreData::cli));
    leave(store.data_mut());
    result
}

/// Replaces the functions that write to standard output and standard error by functions that set the current request.
pub(crate) fn shadow_output_functions(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    stdout::add_to_linker::<StoreData, Output>(linker, StoreData::cli)?;
    stderr::add_to_linker::<StoreData, Output>(linker, StoreData::cli)?;
    shadow_streams(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Replaces the write functions of `wasi:io/streams` of 0.2, which the streams of `wasi:cli` have too.
fn shadow_streams(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
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
    )
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
