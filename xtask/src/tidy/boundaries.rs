//! Which modules of `host/src` may use which names.

use super::finding::Finding;
use super::source::{Source, names};

const WASMTIME: [&str; 4] = ["wasmtime", "wasmtime_wasi", "wasmtime_wasi_http", "wasmtime_environ"];
const WASMTIME_ALLOWED: [&str; 2] = ["host/src/component/", "host/src/hostfn/"];

const OTLP: [&str; 2] = ["opentelemetry_proto", "opentelemetry_otlp"];
const OTLP_ALLOWED: [&str; 2] = ["host/src/trace/otlp/", "host/src/trace/receive/"];

const TRACE: [&str; 2] = ["host/src/trace/", "host/src/trace.rs"];

const ENVIRONMENT: [&str; 8] = [
    "env::var",
    "env::vars",
    "env::var_os",
    "env::vars_os",
    "env::set_var",
    "env::remove_var",
    "env::args",
    "env::current_dir",
];
const ENVIRONMENT_ALLOWED: [&str; 2] = ["host/src/config/", "host/src/config.rs"];

const PRINTS: [&str; 6] = ["println!", "eprintln!", "print!", "eprint!", "dbg!", "process::exit"];
const PRINTS_ALLOWED: [&str; 1] = ["host/src/main.rs"];

const AMBIENT: [&str; 2] = ["Span::current", "Context::current"];
const AMBIENT_FORBIDDEN: [&str; 3] = ["host/src/hostfn/", "host/src/trace/", "host/src/serve/"];

/// Wasmtime is used in a few places only, so that the engine can be replaced and its types stay local.
pub(crate) fn wasmtime_is_used_only_where_allowed(source: &Source) -> Vec<Finding> {
    confine(source, &WASMTIME, &WASMTIME_ALLOWED)
}

/// Only the exporter and the receiver use OTLP; everything else uses spans.
pub(crate) fn otlp_is_used_only_where_allowed(source: &Source) -> Vec<Finding> {
    confine(source, &OTLP, &OTLP_ALLOWED)
}

/// The environment is read once, at start, and passed on as values.
pub(crate) fn only_config_reads_the_environment(source: &Source) -> Vec<Finding> {
    confine(source, &ENVIRONMENT, &ENVIRONMENT_ALLOWED)
}

/// A library that prints or exits cannot be tested or embedded.
pub(crate) fn only_main_prints_or_exits(source: &Source) -> Vec<Finding> {
    confine(source, &PRINTS, &PRINTS_ALLOWED)
}

/// The parent of a span is always passed explicitly, never looked up.
pub(crate) fn nothing_reads_an_ambient_span(source: &Source) -> Vec<Finding> {
    if !is_in(source, &AMBIENT_FORBIDDEN) {
        return Vec::new();
    }
    let message = |word: &str| format!("`{word}` reads an ambient span; take the parent as an argument");
    lines_with(source, &AMBIENT).map(|(line, word)| source.finding(line, message(word))).collect()
}

/// `trace/` can be read, tested and replaced independently.
pub(crate) fn trace_imports_no_other_module(source: &Source) -> Vec<Finding> {
    if !is_in(source, &TRACE) {
        return Vec::new();
    }
    let depth = depth_below_trace(&source.path);
    let is_import = |line: &str| names_other_module(line) || super_chain(line) > depth;
    let found = source.code().filter(|(_, line)| is_import(line));
    found.map(|(line, _)| source.finding(line, "trace/ imports no other module of the host")).collect()
}

/// `crate::` followed by anything but `trace`.
fn names_other_module(line: &str) -> bool {
    let is_trace = |rest: &str| names(rest.get(..6).unwrap_or(rest), "trace");
    names(line, "crate::") && line.split("crate::").skip(1).any(|rest| !is_trace(rest))
}

/// The length of the longest chain of `super::`.
fn super_chain(line: &str) -> usize {
    (0..8).take_while(|length| line.contains(&"super::".repeat(length + 1))).count()
}

/// How many `super::` lead from this file to `trace`.
fn depth_below_trace(path: &str) -> usize {
    match path.strip_prefix("host/src/trace/") {
        None => 0,
        Some(rest) => rest.split('/').count() - usize::from(rest.ends_with("mod.rs")),
    }
}

/// Finds names in host code outside the folders that may use them.
fn confine(source: &Source, words: &[&'static str], allowed: &[&str]) -> Vec<Finding> {
    if !source.path.starts_with("host/src/") || is_in(source, allowed) {
        return Vec::new();
    }
    let message = |word: &str| format!("`{word}` is allowed only in {}", allowed.join(", "));
    lines_with(source, words).map(|(line, word)| source.finding(line, message(word))).collect()
}

fn is_in(source: &Source, folders: &[&str]) -> bool {
    folders.iter().any(|folder| source.path.starts_with(folder))
}

fn lines_with<'a>(source: &'a Source, words: &'a [&'static str]) -> impl Iterator<Item = (usize, &'static str)> + 'a {
    source.code().filter_map(|(number, line)| {
        let word = words.iter().find(|word| names(line, word))?;
        Some((number, *word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        rule(&Source::new(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn wasmtime_outside_the_allowed_folders_is_found() {
        let text = "//! On wasmtime.\nuse wasmtime::Engine;\nlet wasmtime_version = \"wasmtime\";\n";
        assert_eq!(lines(wasmtime_is_used_only_where_allowed, "host/src/services/catalog.rs", text), [2]);
        assert!(lines(wasmtime_is_used_only_where_allowed, "host/src/component/pool.rs", text).is_empty());
        assert!(lines(wasmtime_is_used_only_where_allowed, "bench/src/main.rs", text).is_empty());
    }

    #[test]
    fn otlp_outside_the_exporter_and_the_receiver_is_found() {
        let text = "use opentelemetry_proto::tonic;\n";
        assert_eq!(lines(otlp_is_used_only_where_allowed, "host/src/trace/store.rs", text), [1]);
        assert!(lines(otlp_is_used_only_where_allowed, "host/src/trace/otlp/batch.rs", text).is_empty());
        assert!(lines(otlp_is_used_only_where_allowed, "host/src/trace/receive/decode.rs", text).is_empty());
    }

    #[test]
    fn trace_may_import_only_itself() {
        let text = "use crate::trace::span::Span;\nuse crate::config::Limits;\npub(in crate::trace) struct Batch;\n";
        assert_eq!(lines(trace_imports_no_other_module, "host/src/trace/store.rs", text), [2]);
        assert!(lines(trace_imports_no_other_module, "host/src/serve/dispatch.rs", text).is_empty());
    }

    #[test]
    fn super_out_of_trace_is_found() {
        let text = "use super::super::config::Limits;\n";
        assert_eq!(lines(trace_imports_no_other_module, "host/src/trace/store.rs", text), [1]);
        assert!(lines(trace_imports_no_other_module, "host/src/trace/otlp/batch.rs", text).is_empty());
        assert_eq!(lines(trace_imports_no_other_module, "host/src/trace/mod.rs", "use super::config;\n"), [1]);
    }

    #[test]
    fn reading_the_environment_outside_config_is_found() {
        let text =
            "let a = std::env::var(\"A\");\nlet b = env!(\"B\");\n#[cfg(test)]\nmod tests {\n    env::var(\"C\");\n}\n";
        assert_eq!(lines(only_config_reads_the_environment, "host/src/serve/listener.rs", text), [1]);
        assert!(lines(only_config_reads_the_environment, "host/src/config/environment.rs", text).is_empty());
    }

    #[test]
    fn printing_and_exiting_outside_main_is_found() {
        let text = "println!(\"a\");\nstd::process::exit(1);\nwriteln!(out, \"a\");\n";
        assert_eq!(lines(only_main_prints_or_exits, "host/src/control/watch.rs", text), [1, 2]);
        assert!(lines(only_main_prints_or_exits, "host/src/main.rs", text).is_empty());
    }

    #[test]
    fn an_ambient_span_in_tracing_code_is_found() {
        let text = "let parent = Span::current();\n";
        assert_eq!(lines(nothing_reads_an_ambient_span, "host/src/hostfn/tracing.rs", text), [1]);
        assert!(lines(nothing_reads_an_ambient_span, "host/src/control/watch.rs", text).is_empty());
    }
}
