//! The host behind the WIT world: the generated bindings under shorter names.

pub use crate::bindings::spandrel::service::client::{Error as FetchError, Outgoing, fetch, fetch_all, fetch_within};
pub use crate::bindings::spandrel::service::http::{Header, Method, Request, Response, Route};
pub use crate::bindings::spandrel::service::tracing::{Attribute, Severity, Span, Value, log, recording};
pub use crate::bindings::wasi::config::store::{Error as ConfigError, get as config_get};
pub use crate::bindings::wasi::keyvalue::atomics::{Cas, CasError, swap};
pub use crate::bindings::wasi::keyvalue::store::{Bucket, Error as StoreError, open};
