//! The subcommands: each takes its arguments and gives back the text to print or one clear error.

mod arguments;
mod error;
mod first_trace;
mod guest_log;
mod jaeger;
mod local;
mod log;
mod remote;
mod runtime;
mod signals;
mod table;
mod top;
mod traces;
mod waterfall;

pub use self::arguments::{
    ActArguments, Arguments, CheckArguments, Command, InspectArguments, LogFormat, OnceCommand, RunArguments,
    StatusArguments, SwapArguments, TopArguments, TraceArguments, TracesArguments,
};
pub use self::error::{CommandError, error_text};
pub use self::first_trace::link_first_trace;
pub use self::guest_log::printers;
pub use self::local::{banner, running_telemetry_line};
use self::local::{check, inspect};
pub use self::log::{Log, start_log};
use self::remote::{act, status, swap};
pub use self::runtime::runtime;
pub use self::signals::{Asked, Signals};
use self::top::top;
use self::traces::{trace, traces};
use crate::config::Environment;

/// Does what was asked for, and gives back the text to print.
///
/// # Errors
///
/// Where the command fails: one error that says what, where and what to do.
pub async fn execute(command: OnceCommand, environment: &Environment) -> Result<String, CommandError> {
    match command {
        OnceCommand::Check(arguments) => check(arguments, environment).await,
        OnceCommand::Inspect(arguments) => inspect(arguments).await,
        OnceCommand::Status(arguments) => status(arguments, environment).await,
        OnceCommand::Top(arguments) => top(arguments, environment).await,
        OnceCommand::Traces(arguments) => traces(arguments, environment).await,
        OnceCommand::Trace(arguments) => trace(arguments, environment).await,
        OnceCommand::Swap(arguments) => swap(arguments, environment).await,
        OnceCommand::Rollback(arguments) => act("rollback", arguments, environment).await,
        OnceCommand::Promote(arguments) => act("promote", arguments, environment).await,
        OnceCommand::Abort(arguments) => act("abort", arguments, environment).await,
    }
}
