//! The subcommands: each takes its arguments and returns the text to print, or one error.

mod arguments;
mod error;
mod first_trace;
mod guest_log;
mod jaeger;
mod local;
mod log;
mod remote;
mod run;
mod runtime;
mod signals;
mod table;
mod top;
mod traces;
mod waterfall;

pub use self::arguments::{
    Arguments, CheckArguments, Command, InspectArguments, LogFormat, OneShotCommand, RunArguments,
    ServiceActionArguments, StatusArguments, SwapArguments, TopArguments, TraceArguments, TracesArguments,
};
pub use self::error::{CommandError, error_text};
use self::local::{check, inspect};
use self::remote::{service_action, status, swap};
pub use self::run::{RunEnd, run};
pub use self::runtime::runtime;
use self::top::top;
use self::traces::{trace, traces};
use crate::config::Environment;

/// Executes a subcommand and returns the text to print.
///
/// # Errors
///
/// Returns an error with the cause, its location and a remedy if the command fails.
pub async fn execute(command: OneShotCommand, environment: &Environment) -> Result<String, CommandError> {
    match command {
        OneShotCommand::Check(arguments) => check(arguments, environment).await,
        OneShotCommand::Inspect(arguments) => inspect(arguments).await,
        OneShotCommand::Status(arguments) => status(arguments, environment).await,
        OneShotCommand::Top(arguments) => top(arguments, environment).await,
        OneShotCommand::Traces(arguments) => traces(arguments, environment).await,
        OneShotCommand::Trace(arguments) => trace(arguments, environment).await,
        OneShotCommand::Swap(arguments) => swap(arguments, environment).await,
        OneShotCommand::Rollback(arguments) => service_action("rollback", arguments, environment).await,
        OneShotCommand::Promote(arguments) => service_action("promote", arguments, environment).await,
        OneShotCommand::Abort(arguments) => service_action("abort", arguments, environment).await,
    }
}
