//! Content codings (RFC 9110, 8.4.1 and 12.5.3): which coding a client accepts, which responses are compressible, and
//! the compression of bodies.

mod encoded;
mod encoder;
mod kind;
mod selection;

pub use self::encoded::EncoderLimit;
pub use self::kind::Coding;
pub use self::selection::{is_compressible, select, weaken_etag};
