//! Rate limit of login attempts: one at a time, a pause after each wrong one, and a short queue. Guessing is limited to
//! two attempts a second, over all connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::secret::same;

/// The pause after a wrong token.
const PAUSE: Duration = Duration::from_millis(500);
/// The most attempts in the queue, including the current one.
const WAITING: usize = 8;

/// Limits login attempts.
pub(super) struct Attempts {
    waiting: Arc<Semaphore>,
    turn: Arc<Semaphore>,
    pause: Duration,
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The token is correct.
    Right,
    /// The token is wrong.
    Wrong,
    /// The queue is full; the token was not checked.
    TooMany,
}

impl Default for Attempts {
    fn default() -> Attempts {
        Attempts::pausing(PAUSE)
    }
}

impl Attempts {
    fn pausing(pause: Duration) -> Attempts {
        Attempts { waiting: Arc::new(Semaphore::new(WAITING)), turn: Arc::new(Semaphore::new(1)), pause }
    }

    /// Waits for its turn and compares. The pause continues even if the client disconnects.
    pub async fn compare(&self, given: &str, expected: &str) -> Attempt {
        let Ok(place) = self.waiting.clone().try_acquire_owned() else { return Attempt::TooMany };
        let Ok(turn) = self.turn.clone().acquire_owned().await else { return Attempt::TooMany };
        if same(given, expected) {
            return Attempt::Right;
        }
        let pause = self.pause;
        let paused = tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            drop((turn, place));
        });
        paused.await.ok();
        Attempt::Wrong
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn wrong_tokens_take_their_time_one_after_the_other() {
        let (attempts, began) = (Attempts::pausing(Duration::from_millis(50)), Instant::now());
        let wrong = join_all((0..4).map(|_| attempts.compare("guess", "token"))).await;
        assert_eq!(wrong, [Attempt::Wrong; 4]);
        assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
        assert_eq!(attempts.compare("token", "token").await, Attempt::Right);
    }

    #[tokio::test]
    async fn a_client_that_does_not_wait_gains_nothing() {
        let (attempts, began) = (Attempts::pausing(Duration::from_millis(100)), Instant::now());
        for _ in 0..3 {
            let given_up = tokio::time::timeout(Duration::from_millis(1), attempts.compare("guess", "token")).await;
            assert!(given_up.is_err());
        }
        assert_eq!(attempts.compare("token", "token").await, Attempt::Right);
        assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn few_attempts_wait() {
        let attempts = Attempts::pausing(Duration::from_millis(10));
        let tried = join_all((0..WAITING + 3).map(|_| attempts.compare("guess", "token"))).await;
        assert_eq!(tried.iter().filter(|attempt| **attempt == Attempt::TooMany).count(), 3);
        assert_eq!(tried.iter().filter(|attempt| **attempt == Attempt::Wrong).count(), WAITING);
    }
}
