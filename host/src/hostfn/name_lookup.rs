//! Name lookup of `wasi:sockets`, which is not permitted, like every other use of sockets. `wasmtime-wasi` would report
//! a failure of the resolver.

use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime_wasi::p2::Network;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::ResolveAddressStream;
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode as NetworkError;
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup::{ErrorCode, IpAddress};

use crate::component::StoreData;

/// Replaces the function of 0.2.
pub(crate) fn shadow_p2(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    type Resolved = Result<Resource<ResolveAddressStream>, NetworkError>;
    linker.allow_shadowing(true);
    linker
        .instance("wasi:sockets/ip-name-lookup@0.2.12")?
        .func_wrap("resolve-addresses", |_, _: (Resource<Network>, String)| -> wasmtime::Result<(Resolved,)> {
            Ok((Err(NetworkError::AccessDenied),))
        })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Replaces the function of 0.3.
pub(crate) fn shadow_p3(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    type Resolved = Result<Vec<IpAddress>, ErrorCode>;
    linker.allow_shadowing(true);
    linker.instance("wasi:sockets/ip-name-lookup@0.3.0")?.func_wrap_concurrent(
        "resolve-addresses",
        |_: &Accessor<StoreData>, _: (String,)| {
            Box::pin(async { wasmtime::Result::<(Resolved,)>::Ok((Err(ErrorCode::AccessDenied),)) })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
