//! `wasi:logging`: log records of the request that the instance serves.

use wasmtime::StoreContextMut;
use wasmtime::component::{Access, HasSelf, Linker};

use super::caller::{with_caller, with_caller_in_store};
use crate::component::StoreData;
use crate::component::standard_bindings::wasi::logging::logging::{Host, HostWithStore, Level};
use crate::trace::{Attribute, Severity};

/// The attribute for the context, a string that groups related messages.
const CONTEXT: &str = "log.context";

impl From<Level> for Severity {
    fn from(level: Level) -> Severity {
        match level {
            Level::Trace => Severity::Trace,
            Level::Debug => Severity::Debug,
            Level::Info => Severity::Info,
            Level::Warn => Severity::Warn,
            Level::Error => Severity::Error,
            Level::Critical => Severity::Fatal,
        }
    }
}

/// Links the interface under the name of another draft, or without a version.
pub(crate) fn add_to_linker(linker: &mut Linker<StoreData>, name: &str) -> wasmtime::Result<()> {
    linker.instance(name)?.func_wrap(
        "log",
        |store: StoreContextMut<'_, StoreData>, (level, context, message): (Level, String, String)| {
            with_caller_in_store(store, |data| data.log(level, context, message));
            Ok(())
        },
    )
}

impl Host for StoreData {}

impl HostWithStore<StoreData> for HasSelf<StoreData> {
    fn log(
        access: Access<'_, StoreData, Self>,
        level: Level,
        context: String,
        message: String,
    ) -> wasmtime::Result<()> {
        with_caller(access, |data| data.log(level, context, message));
        Ok(())
    }
}

impl StoreData {
    fn log(&self, level: Level, context: String, message: String) {
        // Outside a request there is no trace for the record.
        let Some(request) = self.http.request() else { return };
        request.recorder.with(|recorder| {
            let context = (!context.is_empty()).then(|| Attribute::new(CONTEXT, context.as_str()));
            recorder.log_of_host(level.into(), message, context.as_slice(), None);
        });
    }
}
