//! Content codings: which one a client accepts, what is worth coding, and bodies that are coded on their way
//! (RFC 9110, 8.4.1 and 12.5.3).

mod encoded;
mod encoder;
mod kind;
mod selection;

pub use self::encoded::EncoderLimit;
pub use self::kind::Coding;
pub use self::selection::{is_codable, select, weaken_etag};
