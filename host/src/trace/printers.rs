//! The outputs for finished traces and log records on the terminal, supplied by the owner of the terminal.

use std::io::Write;

use super::segment::Segment;
use super::tree::TreeDetail;

/// Prints the log records of a segment. It is called when a request ends, so it must never block.
pub type LogPrinter = Box<dyn Fn(&Segment) + Send + Sync>;

/// The outputs of the exporter `console`.
pub struct Printers {
    /// The output for finished traces, each as a tree.
    pub traces: Box<dyn Write + Send>,
    /// How much of each span is shown.
    pub detail: TreeDetail,
    /// The output for log records. If `None`, they are not printed.
    pub logs: Option<LogPrinter>,
}

impl Default for Printers {
    /// Traces on standard output, and no log records.
    fn default() -> Printers {
        Printers { traces: Box::new(std::io::stdout()), detail: TreeDetail::Line, logs: None }
    }
}
