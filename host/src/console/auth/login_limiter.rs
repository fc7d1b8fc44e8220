//! Rate limit of login attempts: one at a time, a pause after each wrong one, and a short queue. Guessing is limited to
//! two attempts a second, over all connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::secret::is_secret;

/// The pause after a wrong token.
const WRONG_TOKEN_DELAY: Duration = Duration::from_millis(500);
/// The most attempts in the queue, including the current one.
const MAX_QUEUED: usize = 8;

/// Limits login attempts.
pub(super) struct LoginLimiter {
    queue: Arc<Semaphore>,
    current: Arc<Semaphore>,
    delay: Duration,
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenCheck {
    /// The token is correct.
    Valid,
    /// The token is wrong.
    Invalid,
    /// The queue is full; the token was not checked.
    TooMany,
}

impl Default for LoginLimiter {
    fn default() -> LoginLimiter {
        LoginLimiter::with_delay(WRONG_TOKEN_DELAY)
    }
}

impl LoginLimiter {
    fn with_delay(delay: Duration) -> LoginLimiter {
        LoginLimiter { queue: Arc::new(Semaphore::new(MAX_QUEUED)), current: Arc::new(Semaphore::new(1)), delay }
    }

    /// Waits for its turn and compares. The pause continues even if the client disconnects.
    pub async fn check(&self, given: &str, expected: &str) -> TokenCheck {
        let Ok(queue_permit) = self.queue.clone().try_acquire_owned() else { return TokenCheck::TooMany };
        let Ok(current_permit) = self.current.clone().acquire_owned().await else { return TokenCheck::TooMany };
        if is_secret(given, expected) {
            return TokenCheck::Valid;
        }
        let delay = self.delay;
        let delayed = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            drop((current_permit, queue_permit));
        });
        delayed.await.ok();
        TokenCheck::Invalid
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn wrong_tokens_are_delayed_one_after_the_other() {
        let (attempts, began) = (LoginLimiter::with_delay(Duration::from_millis(50)), Instant::now());
        let wrong = join_all((0..4).map(|_| attempts.check("guess", "token"))).await;
        assert_eq!(wrong, [TokenCheck::Invalid; 4]);
        assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
        assert_eq!(attempts.check("token", "token").await, TokenCheck::Valid);
    }

    #[tokio::test]
    async fn the_delay_continues_after_the_client_disconnected() {
        let (attempts, began) = (LoginLimiter::with_delay(Duration::from_millis(500)), Instant::now());
        for _ in 0..3 {
            let timed_out = tokio::time::timeout(Duration::from_millis(1), attempts.check("guess", "token")).await;
            assert!(timed_out.is_err());
        }
        assert_eq!(attempts.check("token", "token").await, TokenCheck::Valid);
        assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn the_queue_of_attempts_is_bounded() {
        let attempts = LoginLimiter::with_delay(Duration::from_millis(10));
        let tried = join_all((0..MAX_QUEUED + 3).map(|_| attempts.check("guess", "token"))).await;
        assert_eq!(tried.iter().filter(|attempt| **attempt == TokenCheck::TooMany).count(), 3);
        assert_eq!(tried.iter().filter(|attempt| **attempt == TokenCheck::Invalid).count(), MAX_QUEUED);
    }
}
