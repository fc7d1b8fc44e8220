//! Boxes the large futures of requests without copying them.

use std::pin::Pin;

/// Boxes the future that `make` returns. Its memory is allocated first, so that the compiler builds the future there;
/// `Box::pin` copies it from the stack, which takes several kilobytes of copying for each request.
#[inline(always)]
pub(crate) fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let place = Box::new_uninit();
    Box::into_pin(Box::write(place, make()))
}
