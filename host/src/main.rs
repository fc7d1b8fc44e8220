//! The `spandrel` command: arguments in, text and an exit status out. The only place that prints or exits.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use spandrel::cli::{self, Arguments, Asked, Command, CommandError, RunArguments, Signals};
use spandrel::config::Environment;
use spandrel::{Config, Host};

/// Spans are made on one thread and freed on another, all the time: the system's allocator takes a third of the
/// throughput for that.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The manifest, a component or the command line is wrong.
const WRONG_INPUT: u8 = 2;

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
            Command::Once(command) => cli::execute(command, &environment).await.map_or_else(fail, |text| print(&text)),
        }
    });
    // A look-up of the collector's name cannot be cut off; a resolver that hangs is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

/// Serves until SIGTERM, SIGQUIT or Ctrl-C, then drains. SIGHUP has the manifest read again. A second signal ends at once.
async fn run(arguments: RunArguments, environment: Environment) -> Result<(), CommandError> {
    let mut signals = Signals::listen()?;
    let log = cli::start_log(arguments.log_format, &environment)?;
    let config = Config::load(&arguments.manifest, &environment)?;
    let telemetry = cli::running_telemetry_line(&config, &arguments);
    // In a task of its own: what compiles or opens a file cannot be interrupted, and must not keep the host from ending.
    let starting = tokio::spawn(Host::start_with(config, environment, cli::printers(&log, &arguments), log.export()));
    let Some(started) = signals.stop_or(starting).await else {
        tracing::info!("stopped before anything was served");
        return Ok(());
    };
    let host = started.map_err(std::io::Error::other)??;
    log.print(&cli::banner(&host, &telemetry, arguments.log_format));
    cli::link_first_trace(&host, &log, arguments.log_format);
    while signals.next().await == Asked::Reload {
        tracing::info!("reading the manifest again");
        host.reload();
    }
    tracing::info!("stopping: finishing the requests in flight");
    tokio::select! {
        () = host.shutdown() => Ok(()),
        () = signals.stop() => std::process::exit(130),
    }
}

/// A reader that has gone away is no failure of the command.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
    ExitCode::SUCCESS
}

fn fail(error: CommandError) -> ExitCode {
    eprint!("{}", cli::error_text(&error));
    ExitCode::from(WRONG_INPUT)
}
