//! The `spandrel` command: parses arguments, prints text and returns an exit status. Only this file prints or exits.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use spandrel::cli::{self, Arguments, Command, CommandError, RunArguments, SignalAction, Signals};
use spandrel::config::Environment;
use spandrel::{Config, Host};
use tokio::sync::oneshot;

/// Spans are allocated on one thread and freed on another. With the allocator of the system, this costs a third of the
/// throughput.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit status of a failed command, such as for an invalid manifest or component.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let environment = Environment::from_process();
    let runtime = match cli::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(CommandError::from(error)),
    };
    let code = runtime.block_on(async {
        match arguments.command {
            Command::Run(arguments) => run(arguments, environment).await.map_or_else(fail, |()| ExitCode::SUCCESS),
            Command::OneShot(command) => {
                cli::execute(command, &environment).await.map_or_else(fail, |text| print(&text))
            }
        }
    });
    // A DNS lookup cannot be cancelled; the exit does not wait for a resolver that hangs.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

/// Serves until SIGTERM, SIGQUIT or Ctrl-C, then drains. SIGHUP reloads the manifest. A second signal exits at once.
async fn run(arguments: RunArguments, environment: Environment) -> Result<(), CommandError> {
    let mut signals = Signals::listen()?;
    let log = cli::start_log(arguments.log_format, &environment)?;
    let config = Config::load(&arguments.manifest, &environment)?;
    let telemetry = cli::running_telemetry_line(&config, &arguments);
    // The start runs in a task of its own: compilation and file access block a thread, and a signal must end the host
    // meanwhile.
    let (serves, is_serving) = oneshot::channel();
    let printers = cli::printers(&log, &arguments);
    let starting = tokio::spawn(Host::start_with(config, environment, printers, log.export(), serves));
    let Some(started) = signals.run_until_stopped(starting, is_serving).await else {
        tracing::info!("stopped before the start was complete");
        return Ok(());
    };
    let host = started.map_err(std::io::Error::other)??;
    log.print(&cli::banner(&host, &telemetry, arguments.log_format));
    cli::link_first_trace(&host, &log, arguments.log_format);
    while signals.next().await == SignalAction::Reload {
        tracing::info!("reloading the manifest");
        host.reload();
    }
    tracing::info!("stopping: draining the requests in flight");
    tokio::select! {
        () = host.shutdown() => Ok(()),
        () = signals.stop() => std::process::exit(130),
    }
}

/// Prints to standard output. A closed pipe is not an error of the command.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
    ExitCode::SUCCESS
}

fn fail(error: CommandError) -> ExitCode {
    eprint!("{}", cli::error_text(&error));
    ExitCode::from(FAILED)
}
