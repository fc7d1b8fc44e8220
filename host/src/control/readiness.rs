//! Whether the host wants requests.

/// What `/readyz` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Not everything serves yet.
    Starting,
    /// Everything serves.
    Ready,
    /// The host is stopping: what is in flight is finished, new requests belong elsewhere.
    Draining,
}

impl Readiness {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Readiness::Starting => "starting",
            Readiness::Ready => "ready",
            Readiness::Draining => "draining",
        }
    }
}
