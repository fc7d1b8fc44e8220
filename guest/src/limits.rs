//! How large bodies may be where no Spandrel host sets limits: as large as such a host lets them be without a word in its
//! manifest.

/// The most bytes of a request's body.
pub const REQUEST_BODY: usize = 1 << 20;
/// The most bytes of a response's body: of the service's own, and of those that it gets from others.
pub const RESPONSE_BODY: usize = 8 << 20;
