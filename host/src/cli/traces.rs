//! `spandrel traces` and `spandrel trace`: the stored traces of a running host.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::arguments::{TraceArguments, TracesArguments};
use super::error::CommandError;
use super::remote::Remote;
use super::table::{row, table};
use super::{jaeger, waterfall};
use crate::config::Environment;
use crate::console::units;

/// `spandrel traces`.
pub async fn traces(arguments: TracesArguments, environment: &Environment) -> Result<String, CommandError> {
    let remote = Remote::new(&arguments.target, environment)?;
    let found = remote.get(&search(&arguments)).await?;
    if arguments.json {
        return Ok(format!("{found:#}\n"));
    }
    let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
    if found.is_empty() {
        return Ok(format!("no traces found; see {}/traces\n", remote.url()));
    }
    let mut rows = vec![row(["WHEN (UTC)", "TRACE", "SERVICE", "OPERATION", "SPANS", "ERRORS", "DURATION"])];
    rows.extend(found.iter().map(cells));
    Ok(table(&rows))
}

/// `spandrel trace`.
pub async fn trace(arguments: TraceArguments, environment: &Environment) -> Result<String, CommandError> {
    let remote = Remote::new(&arguments.target, environment)?;
    let id = utf8_percent_encode(&arguments.id, NON_ALPHANUMERIC);
    let answer = remote.get(&format!("/api/traces/{id}")).await?;
    if arguments.json {
        return Ok(format!("{answer:#}\n"));
    }
    let trace = jaeger::trace(&answer).ok_or_else(|| CommandError::Rejected(format!("no trace `{}`", arguments.id)))?;
    Ok(format!("{}\n{}/traces/{}\n", waterfall::text(&trace, arguments.attributes), remote.url(), trace.id))
}

/// The path and query of the search in the admin API.
fn search(arguments: &TracesArguments) -> String {
    let limit = arguments.limit.to_string();
    let mut pairs = vec![("limit", limit.as_str()), ("lookback", "all")];
    pairs.extend(arguments.service.as_deref().map(|service| ("service", service)));
    pairs.extend(arguments.slower_than.as_deref().map(|least| ("min_duration", least)));
    pairs.extend(arguments.errors.then_some(("errors", "true")));
    let pairs = pairs.iter().map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    format!("/admin/v1/traces?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// The cells of a trace: start time, id, service and operation of the root, spans, errors, duration.
fn cells(trace: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or_default().to_string();
    let start = text(&trace["start"]);
    vec![
        units::clock_of(&start),
        text(&trace["trace_id"]),
        text(&trace["service"]),
        text(&trace["operation"]),
        number(&trace["spans"]),
        number(&trace["errors"]),
        units::milliseconds(trace["duration_ms"].as_f64()),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::cli::arguments::HostTarget;

    #[test]
    fn search_options_become_query_parameters() {
        let target = HostTarget { console: None, manifest: PathBuf::new() };
        let arguments = TracesArguments {
            service: Some("a&b".to_owned()),
            errors: true,
            slower_than: Some("1.5s".to_owned()),
            limit: 5_u16,
            target,
            json: false,
        };
        let expected = "/admin/v1/traces?limit=5&lookback=all&service=a%26b&min_duration=1%2E5s&errors=true";
        assert_eq!(search(&arguments), expected);
    }
}
