//! Prints the log records and the output of services, one line each, between the lines of the host's own log.
//!
//! The lines of a request are printed when the request has ended at the service. Requests never wait for the terminal:
//! if it is too slow, lines are dropped and counted, and lines of services are dropped before those of the host.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::{Map, Value as Json, json};
use time::OffsetDateTime;

use super::arguments::{LogFormat, RunArguments};
use super::log::{Log, terminal};
use crate::printable::{self, printable};
use crate::telemetry;
use crate::trace::{Attribute, LogRecord, Printers, Segment, Severity, TreeDetail, Value};

/// The largest size of a printed message or attribute, in bytes.
const MAX_TEXT: usize = 4 << 10;
/// Attributes that are omitted in text lines: the message contains them, or they are too long.
const OMITTED_ATTRIBUTES: [&str; 3] = ["log.iostream", "exception.message", "exception.stacktrace"];

/// The printers for traces and for log records of services. `--quiet` turns log records off.
pub fn printers(log: &Log, arguments: &RunArguments) -> Printers {
    let (format, detail) = (arguments.log_format, tree_detail(arguments.attributes));
    let (sender, color) = (log.service_sender(), log.has_color());
    let print = move |segment: &Segment| {
        let service = segment.resource.name();
        if service == telemetry::SERVICE {
            return;
        }
        for record in &segment.logs {
            sender.send(|| match format {
                LogFormat::Text => text_line(segment, record, color),
                LogFormat::Json => json_line(segment, record),
            });
        }
    };
    Printers { traces: terminal(format), detail, logs: if arguments.quiet { None } else { Some(Box::new(print)) } }
}

fn tree_detail(attributes: bool) -> TreeDetail {
    if attributes { TreeDetail::Attributes } else { TreeDetail::Line }
}

fn text_line(segment: &Segment, record: &LogRecord, color: bool) -> String {
    let paint = |code: &str, text: String| if color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text };
    let time = paint("2", timestamp(record.time));
    let level = paint(level_color(record.severity), format!("{:>5}", record.severity.text()));
    let trace = paint("2", segment.trace_id.to_string());
    let (service, body) = (printable(segment.resource.name()), printable(cut(&record.body)));
    let mut line = format!("{time} {level} {service} {trace}: {body}");
    let shown = record.attributes.iter().filter(|attribute| !OMITTED_ATTRIBUTES.contains(&attribute.key));
    for Attribute { key, value } in shown.take_while(within(MAX_TEXT)) {
        let written = write!(line, " {}={}", printable(key), printable(&plain(&value)));
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
    line.push('\n');
    line
}

fn json_line(segment: &Segment, record: &LogRecord) -> String {
    let attributes = record.attributes.iter().take_while(within(2 * MAX_TEXT));
    let attributes: Map<_, _> =
        attributes.map(|Attribute { key, value }| (key.to_owned(), json_value(&value))).collect();
    let line = json!({
        "timestamp": timestamp(record.time),
        "level": record.severity.text(),
        "message": cut(&record.body),
        "service": segment.resource.name(),
        "trace_id": segment.trace_id.to_string(),
        "span_id": record.span_id.to_string(),
        "attributes": attributes,
    });
    printable::json_line(&line.to_string())
}

/// A predicate that accepts attributes until the printed keys and values exceed `limit` bytes.
fn within(limit: usize) -> impl FnMut(&Attribute<'_>) -> bool {
    let mut left = limit;
    move |Attribute { key, value }| {
        let size = match value {
            Value::Text(text) => cut(text).len(),
            // Quotes and comma count too: a list can contain very many empty texts.
            Value::Texts(texts) => texts.iter().map(|text| text.len() + 4).sum(),
            _ => size_of::<i64>(),
        };
        let fits = key.len() + size <= left;
        left = left.saturating_sub(key.len() + size);
        fits
    }
}

fn json_value(value: &Value<'_>) -> Json {
    match value {
        Value::Text(text) => cut(text).into(),
        Value::Int(number) => (*number).into(),
        Value::Double(number) => (*number).into(),
        Value::Boolean(truth) => (*truth).into(),
        Value::Texts(texts) => texts.as_slice().into(),
    }
}

/// A value in the format of the host's own log: texts are quoted if they are ambiguous otherwise.
fn plain(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) if text.is_empty() || text.contains([' ', '"', '=']) => format!("{:?}", cut(text)),
        Value::Text(text) => cut(text).to_owned(),
        other => other.to_string(),
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or(text)
}

/// RFC 3339 in UTC, as in the host's own log. A time outside the calendar becomes 1970-01-01: guests may set any time.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, (hour, minute, second)) = (time.date(), time.to_hms());
    format!("{date}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since.subsec_micros())
}

/// The colors of the host's own log.
fn level_color(severity: Severity) -> &'static str {
    match severity {
        Severity::Trace => "35",
        Severity::Debug => "34",
        Severity::Info => "32",
        Severity::Warn => "33",
        Severity::Error | Severity::Fatal => "31",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::log::tests::Pipe;
    use super::*;
    use crate::trace::{Resource, SpanId, TraceId};

    fn segment(body: &str, attributes: &[Attribute<'_>]) -> Segment {
        let record = LogRecord {
            time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_007),
            severity: Severity::Warn,
            body: body.to_owned(),
            attributes: attributes.iter().cloned().collect(),
            dropped_attributes: 0,
            span_id: SpanId::from(9_u64),
        };
        Segment {
            resource: Resource::new("shop", "1.0.0", &[]),
            trace_id: TraceId::from(7_u128),
            sampled: true,
            state: None,
            spans: Vec::new(),
            shared: Default::default(),
            logs: vec![record],
        }
    }

    fn text(body: &str, attributes: &[Attribute<'_>]) -> String {
        let segment = segment(body, attributes);
        text_line(&segment, &segment.logs[0], false)
    }

    #[test]
    fn a_line_has_time_level_service_trace_message_and_attributes() {
        let attributes = [
            Attribute::new("log.iostream", "stderr"),
            Attribute::new("shelf", 7),
            Attribute::new("name", "a b"),
            Attribute::new("exception.stacktrace", "at x\nat y"),
        ];
        let start = "2023-11-14T22:13:20.000007Z  WARN shop 00000000000000000000000000000007: ";
        assert_eq!(text("hello", &attributes), format!("{start}hello shelf=7 name=\"a b\"\n"));
        let segment = segment("hello", &attributes);
        let colored = text_line(&segment, &segment.logs[0], true);
        assert!(colored.contains("\u{1b}[33m WARN\u{1b}[0m shop"), "{colored:?}");
    }

    #[test]
    fn a_text_line_has_no_control_characters() {
        let line = text("a\u{1b}[2J\nb", &[Attribute::new("k\r", "v\u{9b}\n")]);
        assert!(line.ends_with(": a␛[2J␊b k␍=v\u{fffd}␊\n"), "{line:?}");
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn the_length_of_a_line_is_bounded() {
        let long = "é".repeat(100_000);
        let keys: Vec<_> = (0..100).map(|number| format!("k{number}")).collect();
        let attributes: Vec<_> = keys.iter().map(|key| Attribute::new(key, &long)).collect();
        assert!(text(&long, &attributes).len() < 3 * MAX_TEXT);
        let segment = segment(&long, &attributes);
        assert!(json_line(&segment, &segment.logs[0]).len() < 4 * MAX_TEXT);
    }

    #[test]
    fn a_json_line_is_one_object_without_control_characters() {
        let segment = segment("a\nb\u{1b}\u{9b}\u{7f}", &[Attribute::new("shelf", 7), Attribute::new("texts", true)]);
        let line = json_line(&segment, &segment.logs[0]);
        assert!(line.matches('\n').count() == 1 && line.matches(char::is_control).count() == 1, "{line:?}");
        let json: Json = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&json["message"], &json["level"], &json["service"]),
            (&json!("a\nb\u{1b}\u{9b}\u{7f}"), &json!("WARN"), &json!("shop"))
        );
        assert_eq!(json["attributes"], json!({ "shelf": 7, "texts": true }));
        assert_eq!(json["trace_id"], "00000000000000000000000000000007");
    }

    #[test]
    fn a_time_outside_the_calendar_is_1970() {
        let late = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(1 << 62)).unwrap();
        assert_eq!(timestamp(late), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn log_records_of_the_host_itself_are_not_printed_twice() {
        let pipe = Pipe::default();
        let log = Log::start(Box::new(pipe.clone()), false).unwrap();
        let arguments = RunArguments {
            manifest: "services.toml".into(),
            log_format: LogFormat::Text,
            attributes: false,
            quiet: false,
        };
        let print = printers(&log, &arguments).logs.unwrap();
        print(&Segment { resource: Resource::new(telemetry::SERVICE, "1.0.0", &[]), ..segment("swapped", &[]) });
        print(&segment("hello", &[]));
        drop(log);
        let text = pipe.text();
        assert!(text.contains("hello") && !text.contains("swapped"), "{text}");
    }
}
