//! Limits for body sizes under other hosts. They are the default limits of a Spandrel host.

/// The most bytes of a request body.
pub const REQUEST_BODY: usize = 1 << 20;
/// The most bytes of a response body: of the service's own responses, and of those from other services.
pub const RESPONSE_BODY: usize = 8 << 20;
