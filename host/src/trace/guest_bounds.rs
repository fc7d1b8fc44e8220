//! How much guests may measure: one set of bounds, whichever way a guest's metrics come.

/// The most instruments of one service.
pub const INSTRUMENTS: usize = 32;
/// The most series of one instrument, beside that of what does not fit.
pub const SERIES: usize = 100;
/// The most labels of one measurement.
pub const LABELS: usize = 8;
/// The most buckets of one histogram: as many as exponential ones of SDKs have.
pub const BUCKETS: usize = 160;
/// The longest names, units and label keys, in bytes.
pub const NAME_LENGTH: usize = 128;
/// The longest label values and descriptions, in bytes.
pub const TEXT_LENGTH: usize = 256;
/// The label that OpenTelemetry gives the series of what does not fit.
pub const OVERFLOW: &str = "otel.metric.overflow";
