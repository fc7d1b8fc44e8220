//! How a collector answers exports.

use std::time::Duration;

/// The largest request that is taken, in bytes: collectors refuse larger ones over gRPC unless they are told otherwise.
pub(super) const LARGEST: usize = 4 << 20;

/// What a collector does with the next exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Records everything.
    #[default]
    Accept,
    /// Refuses as a collector that is overloaded does: UNAVAILABLE over gRPC, 503 over HTTP, both with the time after
    /// which to try again where one is given.
    Refuse {
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// Refuses for good: INVALID_ARGUMENT, or 400.
    Reject,
    /// Records everything, this much later.
    Delay(Duration),
    /// Never answers.
    Hang,
    /// Records everything but says that so many items were rejected.
    Partial {
        /// Rejected items.
        rejected: i64,
    },
}

/// What is left to do once delays are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Record, and say that so many items were rejected.
    Record { rejected: i64 },
    /// Try again.
    Again { after: Option<Duration> },
    /// Do not try again.
    Never,
}

impl Behaviour {
    pub(super) async fn verdict(self) -> Verdict {
        match self {
            Behaviour::Accept => Verdict::Record { rejected: 0 },
            Behaviour::Partial { rejected } => Verdict::Record { rejected },
            Behaviour::Refuse { retry_after } => Verdict::Again { after: retry_after },
            Behaviour::Reject => Verdict::Never,
            Behaviour::Hang => std::future::pending().await,
            Behaviour::Delay(delay) => {
                tokio::time::sleep(delay).await;
                Verdict::Record { rejected: 0 }
            }
        }
    }
}
