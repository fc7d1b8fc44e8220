//! What can be typed after `spandrel`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Serves WebAssembly components as HTTP services and traces every request through them.
#[derive(Debug, Parser)]
#[command(name = "spandrel", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the services of a manifest until SIGTERM or Ctrl-C
    Run(RunArguments),
    /// What is done once and told as text.
    #[command(flatten)]
    Once(OnceCommand),
}

/// The subcommands that do something once and print what came of it.
#[derive(Debug, Subcommand)]
pub enum OnceCommand {
    /// Compile, link and validate everything that a manifest names, without serving
    Check(CheckArguments),
    /// Tell what a component is: kind, routes, imports, exports, size and digest
    Inspect(InspectArguments),
    /// Show the services of a running host, with both versions where a canary runs
    Status(StatusArguments),
    /// Watch the services and the latest traces of a running host
    Top(TopArguments),
    /// List the latest traces of a running host
    Traces(TracesArguments),
    /// Show one trace as a tree with a time line
    Trace(TraceArguments),
    /// Replace a service's component while it serves
    Swap(SwapArguments),
    /// Go back to the generation that served before
    Rollback(ActArguments),
    /// Make the canary the version that serves everybody
    Promote(ActArguments),
    /// End the canary
    Abort(ActArguments),
}

/// How the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object on each line.
    Json,
}

/// `spandrel run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The manifest
    #[arg(long, default_value = "services.toml", value_name = "FILE")]
    pub manifest: PathBuf,
    /// How standard output looks; with json, traces for the terminal go to standard error
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// With OTEL_TRACES_EXPORTER=console, print all attributes of each span
    #[arg(long)]
    pub attributes: bool,
    /// Do not print what services log and print
    #[arg(long)]
    pub quiet: bool,
}

/// `spandrel check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The manifest
    #[arg(long, default_value = "services.toml", value_name = "FILE")]
    pub manifest: PathBuf,
    /// Refuse values of OTEL_* variables that `run` would warn about and ignore
    #[arg(long)]
    pub strict: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `spandrel inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The component
    #[arg(value_name = "FILE.wasm")]
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which host to talk to.
#[derive(Debug, Args)]
pub struct Target {
    /// The console of the host, as in http://127.0.0.1:8010; by default the one that the manifest names. The token is
    /// read from SPANDREL_ADMIN_TOKEN
    #[arg(long, value_name = "URL")]
    pub console: Option<String>,
    /// The manifest that names the console
    #[arg(long, default_value = "services.toml", value_name = "FILE")]
    pub manifest: PathBuf,
}

/// `spandrel status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Which host.
    #[command(flatten)]
    pub target: Target,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `spandrel top`.
#[derive(Debug, Args)]
pub struct TopArguments {
    /// Which host.
    #[command(flatten)]
    pub target: Target,
    /// Print what would be shown as JSON, once
    #[arg(long)]
    pub json: bool,
}

/// `spandrel traces`.
#[derive(Debug, Args)]
pub struct TracesArguments {
    /// Only traces that ran through this service
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only traces in which something failed
    #[arg(long)]
    pub errors: bool,
    /// Only traces that took at least this long, as in 250ms
    #[arg(long, value_name = "DURATION")]
    pub slower_than: Option<String>,
    /// At most this many, the latest first
    #[arg(long, default_value = "20", value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=500))]
    pub limit: u16,
    /// Which host.
    #[command(flatten)]
    pub target: Target,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `spandrel trace`.
#[derive(Debug, Args)]
pub struct TraceArguments {
    /// The id of the trace
    #[arg(value_name = "ID")]
    pub id: String,
    /// Print all attributes of each span
    #[arg(long)]
    pub attributes: bool,
    /// Which host.
    #[command(flatten)]
    pub target: Target,
    /// Print JSON, as Jaeger's query API has it
    #[arg(long)]
    pub json: bool,
}

/// `spandrel swap`.
#[derive(Debug, Args)]
pub struct SwapArguments {
    /// The service
    pub service: String,
    /// Its next component
    #[arg(value_name = "FILE.wasm")]
    pub file: PathBuf,
    /// Publish the new version although it no longer has routes that the old one has
    #[arg(long)]
    pub allow_dropped_routes: bool,
    /// Serve only this share of the requests with it, until `promote` or `abort`
    #[arg(long, value_name = "PERCENT")]
    pub canary: Option<String>,
    /// Which host.
    #[command(flatten)]
    pub target: Target,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `spandrel rollback`, `promote` and `abort`.
#[derive(Debug, Args)]
pub struct ActArguments {
    /// The service
    pub service: String,
    /// Which host.
    #[command(flatten)]
    pub target: Target,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
