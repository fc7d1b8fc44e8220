//! The calls of the guest's handler that an instance runs concurrently.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, StreamExt as _};

/// Calls in progress. The first one has its place in the caller: most guests respond without waiting, so that an instance
/// rarely has a second call, and a set of futures takes several allocations.
pub(super) struct Calls<'a, F> {
    first: Pin<&'a mut Option<F>>,
    others: Option<FuturesUnordered<F>>,
}

impl<'a, F: Future> Calls<'a, F> {
    /// No calls yet. `first` is empty.
    pub fn new(first: Pin<&'a mut Option<F>>) -> Calls<'a, F> {
        Calls { first, others: None }
    }

    /// Adds a call.
    pub fn push(&mut self, call: F) {
        if self.first.is_none() {
            self.first.set(Some(call));
        } else {
            self.others.get_or_insert_default().push(call);
        }
    }

    /// The result of a call that has ended; `None` if there are no calls.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<F::Output>> {
        if let Some(Poll::Ready(result)) = self.first.as_mut().as_pin_mut().map(|call| call.poll(context)) {
            self.first.set(None);
            return Poll::Ready(Some(result));
        }
        match self.others.as_mut().map_or(Poll::Ready(None), |others| others.poll_next_unpin(context)) {
            Poll::Ready(None) if self.first.is_some() => Poll::Pending,
            polled => polled,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use futures_util::future::poll_fn;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn calls_end_in_any_order_and_free_their_places() {
        let first = pin!(None);
        let mut calls = Calls::new(first);
        let next = |calls: &mut Calls<'_, _>| poll_fn(|context| calls.poll_next(context)).now_or_never();
        assert_eq!(next(&mut calls), Some(None));
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let (mut senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
            receivers.into_iter().for_each(|receiver| calls.push(receiver));
            let mut senders: Vec<_> = senders.drain(..).map(Some).collect();
            for call in order {
                assert_eq!(next(&mut calls), None);
                senders[call].take().unwrap().send(call).unwrap();
                assert_eq!(next(&mut calls), Some(Some(Ok(call))));
            }
            assert_eq!(next(&mut calls), Some(None));
        }
    }
}
