//! A time limit whose timer exists only for futures that wait.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

/// The time limit has passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Elapsed;

/// Runs a future for up to `limit`. Most calls of guests never wait and need no timer. If the limit has passed, the future
/// is not polled again: a call of the guest with the same time limit, which began later, never ends first.
pub(super) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut future = pin!(future);
    let began = Instant::now();
    if let Poll::Ready(output) = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        return Ok(output);
    }
    // Unconstrained, so that it expires even if the future uses up the task's cooperative budget in every poll.
    let timer = match began.checked_add(limit) {
        Some(end) => tokio::time::sleep_until(end.into()),
        None => tokio::time::sleep(limit),
    };
    let mut timer = pin!(tokio::task::unconstrained(timer));
    // The future was polled a moment ago, in the same poll of the task.
    let mut was_polled = true;
    poll_fn(|context| {
        if timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(Elapsed));
        }
        if std::mem::take(&mut was_polled) {
            return Poll::Pending;
        }
        future.as_mut().poll(context).map(Ok)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_future_that_uses_up_the_cooperative_budget_ends_at_the_limit() {
        let end = Instant::now() + Duration::from_secs(60);
        let busy = async {
            while Instant::now() < end {
                tokio::task::coop::consume_budget().await
            }
        };
        assert_eq!(within(Duration::from_millis(1), busy).await, Err(Elapsed));
    }

    #[tokio::test]
    async fn the_limit_passes_before_that_of_a_call_within_the_future() {
        for _ in 0..20 {
            let limit = Duration::from_millis(2);
            let call = async { tokio::time::timeout(limit, pending::<()>()).await };
            assert_eq!(within(limit, call).await, Err(Elapsed));
        }
    }

    #[tokio::test]
    async fn a_future_that_waits_ends_by_itself_or_at_the_limit() {
        let hour = Duration::from_secs(3600);
        assert_eq!(within(Duration::ZERO, ready(1)).await, Ok(1));
        assert_eq!(within(Duration::from_millis(1), pending::<()>()).await, Err(Elapsed));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(within(hour, receiver));
        tokio::task::yield_now().await;
        sender.send(2).unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(Ok(2)));
    }

    #[tokio::test]
    async fn a_future_is_polled_once_for_each_wake() {
        let mut polls = 0;
        let counted = poll_fn(|context| {
            polls += 1;
            context.waker().wake_by_ref();
            if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
        });
        assert_eq!(within(Duration::from_secs(3600), counted).await, Ok(()));
        assert_eq!(polls, 3);
    }
}
