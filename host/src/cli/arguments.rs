//! The command line of `spandrel`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Serves WebAssembly components as HTTP services and traces every request through them.
#[derive(Debug, Parser)]
#[command(name = "spandrel", version)]
pub struct Arguments {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the services of a manifest until SIGTERM or Ctrl-C
    Run(RunArguments),
    /// A subcommand that ends by itself.
    #[command(flatten)]
    OneShot(OneShotCommand),
}

/// The subcommands that perform one action and print its result.
#[derive(Debug, Subcommand)]
pub enum OneShotCommand {
    /// Compile, link and validate all components of a manifest, without serving
    Check(CheckArguments),
    /// Show the kind, routes, imports, exports, size and digest of a component
    Inspect(InspectArguments),
    /// Show the services of a running host, and their canaries
    Status(StatusArguments),
    /// Show the services and the latest traces of a running host, updated live
    Top(TopArguments),
    /// List the latest traces of a running host
    Traces(TracesArguments),
    /// Show one trace as a tree with a timeline
    Trace(TraceArguments),
    /// Replace the component of a running service
    Swap(SwapArguments),
    /// Roll a service back to the previous generation
    Rollback(ServiceActionArguments),
    /// Promote the canary: it serves all requests
    Promote(ServiceActionArguments),
    /// Abort the canary: the previous version serves all requests
    Abort(ServiceActionArguments),
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable lines.
    Text,
    /// One JSON object per line.
    Json,
}

/// `spandrel run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The manifest
    #[arg(long, default_value = "services.toml", value_name = "FILE")]
    pub manifest: PathBuf,
    /// The format of standard output; with json, traces for the terminal go to standard error
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// With OTEL_TRACES_EXPORTER=console, print all attributes and events of each span
    #[arg(long)]
    pub attributes: bool,
    /// Do not print the log records and the output of services
    #[arg(long)]
    pub quiet: bool,
}

/// `spandrel check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The manifest
    #[arg(long, default_value = "services.toml", value_name = "FILE")]
    pub manifest: PathBuf,
    /// Reject invalid values of OTEL_* variables, which `run` ignores with a warning
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

/// The host to connect to.
#[derive(Debug, Args)]
pub struct HostTarget {
    /// The URL of the host's console, such as http://127.0.0.1:8010; by default the console of the manifest. The token
    /// is read from SPANDREL_ADMIN_TOKEN
    #[arg(long, value_name = "URL")]
    pub console: Option<String>,
    /// The manifest with the address of the console
    #[arg(long, default_value = "services.toml", value_name = "FILE")]
    pub manifest: PathBuf,
}

/// `spandrel status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// The host.
    #[command(flatten)]
    pub target: HostTarget,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `spandrel top`.
#[derive(Debug, Args)]
pub struct TopArguments {
    /// The host.
    #[command(flatten)]
    pub target: HostTarget,
    /// Print the content once, as JSON
    #[arg(long)]
    pub json: bool,
}

/// `spandrel traces`.
#[derive(Debug, Args)]
pub struct TracesArguments {
    /// Only traces with spans of this service
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only traces with errors
    #[arg(long)]
    pub errors: bool,
    /// Only traces with at least this duration, such as 250ms
    #[arg(long, value_name = "DURATION")]
    pub slower_than: Option<String>,
    /// The largest number of traces; the latest are listed first
    #[arg(long, default_value = "20", value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=500))]
    pub limit: u16,
    /// The host.
    #[command(flatten)]
    pub target: HostTarget,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `spandrel trace`.
#[derive(Debug, Args)]
pub struct TraceArguments {
    /// The trace id
    #[arg(value_name = "ID")]
    pub id: String,
    /// Print all attributes and events of each span
    #[arg(long)]
    pub attributes: bool,
    /// The host.
    #[command(flatten)]
    pub target: HostTarget,
    /// Print the JSON of Jaeger's query API
    #[arg(long)]
    pub json: bool,
}

/// `spandrel swap`.
#[derive(Debug, Args)]
pub struct SwapArguments {
    /// The service
    pub service: String,
    /// The component of the new version
    #[arg(value_name = "FILE.wasm")]
    pub file: PathBuf,
    /// Publish the new version even if it lacks routes of the old one
    #[arg(long)]
    pub allow_dropped_routes: bool,
    /// Start the new version as a canary that serves this share of the requests, until `promote` or `abort`
    #[arg(long, value_name = "PERCENT")]
    pub canary: Option<String>,
    /// The host.
    #[command(flatten)]
    pub target: HostTarget,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `spandrel rollback`, `promote` and `abort`.
#[derive(Debug, Args)]
pub struct ServiceActionArguments {
    /// The service
    pub service: String,
    /// The host.
    #[command(flatten)]
    pub target: HostTarget,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
