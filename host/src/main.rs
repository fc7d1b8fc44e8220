//! The `spandrel` command: parses arguments, prints text and returns an exit status. Only this file prints or exits.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use spandrel::cli::{self, Arguments, Command, CommandError, RunEnd};
use spandrel::config::Environment;

/// Spans are allocated on one thread and freed on another. With the allocator of the system, this costs a third of the
/// throughput.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit status of a failed command, such as for an invalid manifest or component.
const FAILED: u8 = 2;
/// The exit status after a second signal, as of a process that SIGINT has ended.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let environment = Environment::from_process();
    let runtime = match cli::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(CommandError::from(error)),
    };
    let code = runtime.block_on(async {
        match arguments.command {
            Command::Run(arguments) => match cli::run(arguments, environment).await {
                Ok(RunEnd::Drained) => ExitCode::SUCCESS,
                Ok(RunEnd::Interrupted) => std::process::exit(INTERRUPTED),
                Err(error) => fail(error),
            },
            Command::OneShot(command) => {
                cli::execute(command, &environment).await.map_or_else(fail, |text| print(&text))
            }
        }
    });
    // A DNS lookup cannot be cancelled; the exit does not wait for a resolver that hangs.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
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
