//! The host functions of standard components, and the linker for them.
//!
//! Every component is linked with all of WASI, because language runtimes import far more than they use. The manifest
//! decides what a service may do with it: sockets, folders and environment variables are absent unless configured.

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime_wasi_http::{WasiHttp, WasiHttpView as _, p2, p3};

use crate::component::bindings::wasi as lean;
use crate::component::contract::{HttpWorld, is_logging};
use crate::component::standard_bindings::wasi as proposals;
use crate::component::store_data::StoreData;
use crate::hostfn::{caller, logging, name_lookup, next, output};

/// The draft of `wasi:logging` in the shared linker.
const LOGGING: &str = "wasi:logging/logging@0.1.0-draft";

/// A compiled and linked standard component.
#[derive(Clone)]
pub enum StandardPre {
    /// Exports `wasi:http/incoming-handler@0.2`.
    P2(p2::bindings::ProxyPre<StoreData>),
    /// Exports `wasi:http/handler@0.3`.
    P3(p3::bindings::ServicePre<StoreData>),
}

impl StandardPre {
    /// The engine that compiled it.
    pub fn engine(&self) -> &wasmtime::Engine {
        match self {
            StandardPre::P2(pre) => pre.engine(),
            StandardPre::P3(pre) => pre.engine(),
        }
    }

    /// Which handler it exports.
    pub fn world(&self) -> HttpWorld {
        match self {
            StandardPre::P2(_) => HttpWorld::P2,
            StandardPre::P3(_) => HttpWorld::P3,
        }
    }
}

/// The host functions that a component of `world` may import. 0.3 components may import 0.2 interfaces too, because
/// language runtimes still use them.
pub(in crate::component) fn linker(engine: &wasmtime::Engine, world: HttpWorld) -> wasmtime::Result<Linker<StoreData>> {
    let mut linker = Linker::new(engine);
    let mut options = wasmtime_wasi::p2::bindings::LinkOptions::default();
    options.network_error_code(true);
    wasmtime_wasi::p2::add_to_linker_with_options_async(&mut linker, &options)?;
    p2::add_only_http_to_linker_async(&mut linker)?;
    name_lookup::shadow_p2(&mut linker)?;
    if world == HttpWorld::P3 {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        name_lookup::shadow_p3(&mut linker)?;
        p3::bindings::http::types::add_to_linker::<_, WasiHttp>(&mut linker, StoreData::http)?;
        p3::bindings::http::client::add_to_linker::<_, caller::Client>(&mut linker, StoreData::http)?;
        output::shadow_output_functions(&mut linker)?;
        next::add_p3_to_linker(&mut linker)?;
    } else {
        next::add_p2_to_linker(&mut linker)?;
    }
    add_proposals(&mut linker)?;
    Ok(linker)
}

fn add_proposals(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    type Own = HasSelf<StoreData>;
    lean::config::store::add_to_linker::<StoreData, Own>(linker, |data| data)?;
    lean::keyvalue0_2_0_draft2::store::add_to_linker::<StoreData, Own>(linker, |data| data)?;
    lean::keyvalue0_2_0_draft2::atomics::add_to_linker::<StoreData, Own>(linker, |data| data)?;
    proposals::keyvalue0_2_0_draft2::batch::add_to_linker::<StoreData, Own>(linker, |data| data)?;
    proposals::keyvalue0_2_0_draft::store::add_to_linker::<StoreData, Own>(linker, |data| data)?;
    proposals::keyvalue0_2_0_draft::atomics::add_to_linker::<StoreData, Own>(linker, |data| data)?;
    proposals::keyvalue0_2_0_draft::batch::add_to_linker::<StoreData, Own>(linker, |data| data)?;
    proposals::logging::logging::add_to_linker::<StoreData, Own>(linker, |data| data)?;
    proposals::otel::types::add_to_linker::<StoreData, Own>(linker, |data| data)?;
    proposals::otel::tracing::add_to_linker::<StoreData, Own>(linker, |data| data)?;
    proposals::otel::metrics::add_to_linker::<StoreData, Own>(linker, |data| data)?;
    proposals::otel::logs::add_to_linker::<StoreData, Own>(linker, |data| data)
}

/// Links a component against the host functions.
pub(in crate::component) fn link(
    linker: &Linker<StoreData>,
    component: &Component,
    world: HttpWorld,
    imports: &[String],
) -> wasmtime::Result<StandardPre> {
    let others: Vec<_> = imports.iter().filter(|name| is_logging(name) && name.as_str() != LOGGING).collect();
    let pre = if others.is_empty() {
        linker.instantiate_pre(component)?
    } else {
        let mut linker = linker.clone();
        for name in others {
            logging::add_to_linker(&mut linker, name)?;
        }
        linker.instantiate_pre(component)?
    };
    match world {
        HttpWorld::P2 => p2::bindings::ProxyPre::new(pre).map(StandardPre::P2),
        HttpWorld::P3 => p3::bindings::ServicePre::new(pre).map(StandardPre::P3),
    }
}
