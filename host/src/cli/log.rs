//! The host's own log: one line per noteworthy event.

use std::io::{IsTerminal, Write};

use super::arguments::LogFormat;
use crate::config::Environment;

/// Where finished traces are printed: beside the log, but never between lines of JSON.
pub fn terminal(format: LogFormat) -> Box<dyn Write + Send> {
    match format {
        LogFormat::Json => Box::new(std::io::stderr()),
        LogFormat::Text => Box::new(std::io::stdout()),
    }
}

/// Starts the log on standard output, in the form that was asked for.
pub fn start_log(format: LogFormat, environment: &Environment) {
    let filter = tracing_subscriber::EnvFilter::new(environment.log_filter());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stdout).with_target(false);
    match format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.with_ansi(std::io::stdout().is_terminal() && !environment.no_color()).init(),
    }
}
