//! `spandrel run`: starts the host, and stops it on a signal.

use std::pin::pin;

use tokio::sync::oneshot;

use super::arguments::RunArguments;
use super::error::CommandError;
use super::first_trace::link_first_trace;
use super::guest_log::printers;
use super::local::{banner, running_telemetry_line};
use super::log::start_log;
use super::signals::{SignalAction, Signals};
use crate::config::{Config, Environment};
use crate::host::Host;

/// How a run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The host has drained the requests in flight, or was stopped before it served any.
    Drained,
    /// A second signal came before that: the process must exit at once.
    Interrupted,
}

/// Serves until SIGTERM, SIGQUIT or Ctrl-C, then drains. SIGHUP reloads the manifest. A second signal exits at once.
///
/// # Errors
///
/// Returns an error if the host cannot start.
pub async fn run(arguments: RunArguments, environment: Environment) -> Result<RunEnd, CommandError> {
    let mut signals = Signals::listen()?;
    let log = start_log(arguments.log_format, &environment)?;
    let config = Config::load(&arguments.manifest, &environment)?;
    let telemetry = running_telemetry_line(&config, &arguments);
    // The start runs in a task of its own: compilation and file access block a thread, and a signal must end the host
    // meanwhile.
    let (serves, is_serving) = oneshot::channel();
    let printers = printers(&log, &arguments);
    let starting = tokio::spawn(Host::start_with(config, environment, printers, log.export(), serves));
    let Some(started) = signals.run_until_stopped(starting, is_serving).await else {
        tracing::info!("stopped before the start was complete");
        return Ok(RunEnd::Drained);
    };
    let mut host = started.map_err(std::io::Error::other)??;
    link_first_trace(&host, &log, arguments.log_format);
    // Some services may serve already while components of others are being compiled.
    let result = match signals.unless_stopped(host.started()).await {
        Some(Ok(())) => {
            log.print(&banner(&host, &telemetry, arguments.log_format));
            while signals.next().await == SignalAction::Reload {
                tracing::info!("reloading the manifest");
                host.reload();
            }
            Ok(RunEnd::Drained)
        }
        Some(Err(error)) => Err(CommandError::from(error)),
        None => {
            tracing::info!("stopped before the start was complete");
            Ok(RunEnd::Drained)
        }
    };
    tracing::info!("stopping: draining the requests in flight");
    let mut shutdown = pin!(host.shutdown());
    // After a failed start, no signal to stop was received yet: the first one is no reason to exit at once.
    if result.is_err() && signals.unless_stopped(&mut shutdown).await.is_some() {
        return result;
    }
    tokio::select! {
        () = shutdown => result,
        () = signals.stop() => Ok(RunEnd::Interrupted),
    }
}
