//! Whether the host is ready for requests.

/// The state that `/readyz` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Some services do not serve yet.
    Starting,
    /// All services serve.
    Ready,
    /// The host is stopping: it finishes requests in flight; new requests should go elsewhere.
    Draining,
}

impl Readiness {
    /// The name in the response of `/readyz`.
    pub fn as_str(self) -> &'static str {
        match self {
            Readiness::Starting => "starting",
            Readiness::Ready => "ready",
            Readiness::Draining => "draining",
        }
    }
}
