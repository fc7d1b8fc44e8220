//! How a collector responds to exports.

use std::time::Duration;

/// The largest accepted request, in bytes. Collectors reject larger ones over gRPC by default.
pub(super) const LARGEST: usize = 4 << 20;

/// What a collector does with later exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Records everything.
    #[default]
    Accept,
    /// Rejects like an overloaded collector: UNAVAILABLE over gRPC, 503 over HTTP, both with a retry delay if one is
    /// given.
    Refuse {
        /// The retry delay.
        retry_after: Option<Duration>,
    },
    /// Rejects permanently: INVALID_ARGUMENT, or 400.
    Reject,
    /// Records everything, after this delay.
    Delay(Duration),
    /// Never responds.
    Hang,
    /// Records everything but reports this many items as rejected (partial success).
    Partial {
        /// Rejected items.
        rejected: i64,
    },
}

/// What remains to be done after the delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Record, and report this many items as rejected.
    Record { rejected: i64 },
    /// Reject; the client may retry.
    Again { after: Option<Duration> },
    /// Reject; the client must not retry.
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
