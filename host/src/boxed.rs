//! Boxes the large futures of requests without copying them.

use std::pin::Pin;

/// Boxes the future that `make` returns. The memory is allocated before the future is created, so that the compiler can
/// create it in place. `Box::pin` would copy it from the stack: several kilobytes for each request.
#[inline(always)]
pub(crate) fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let place = Box::new_uninit();
    Box::into_pin(Box::write(place, make()))
}
