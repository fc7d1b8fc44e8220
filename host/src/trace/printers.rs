//! Where finished traces and log records are printed for people: given by whoever owns the terminal.

use std::io::Write;

use super::segment::Segment;
use super::tree::TreeDetail;

/// Prints the log records of a segment. It is called where requests end, so it must never wait.
pub type LogPrinter = Box<dyn Fn(&Segment) + Send + Sync>;

/// What prints telemetry where the settings name the exporter `console`.
pub struct Printers {
    /// Where finished traces go, each as a tree.
    pub traces: Box<dyn Write + Send>,
    /// How much of each span is shown there.
    pub detail: TreeDetail,
    /// What takes log records; nothing prints them where there is none.
    pub logs: Option<LogPrinter>,
}

impl Default for Printers {
    /// Traces on standard output, and no log records.
    fn default() -> Printers {
        Printers { traces: Box::new(std::io::stdout()), detail: TreeDetail::Line, logs: None }
    }
}
