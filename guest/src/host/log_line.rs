//! Formats a log record as one line of text: severity, body, attributes.

use std::fmt::Write;

use super::{Attribute, Severity, Value};

/// Formats a record, without a newline. Control characters are escaped, so that each record is one line.
pub fn format_record(severity: Severity, body: &str, attributes: &[Attribute<'_>]) -> String {
    let mut line = String::from(severity_text(severity));
    line.push(' ');
    body.chars().for_each(|character| push(&mut line, character));
    for Attribute { key, value } in attributes {
        let _ = match value {
            Value::Text(text) => write!(line, " {key}={text:?}"),
            Value::Int(number) => write!(line, " {key}={number}"),
            Value::Double(number) => write!(line, " {key}={number}"),
            Value::Boolean(boolean) => write!(line, " {key}={boolean}"),
            Value::Texts(texts) => write!(line, " {key}={texts:?}"),
        };
    }
    line
}

fn push(line: &mut String, character: char) {
    if character.is_control() {
        line.extend(character.escape_default());
    } else {
        line.push(character);
    }
}

fn severity_text(severity: Severity) -> &'static str {
    match severity {
        Severity::Trace => "TRACE",
        Severity::Debug => "DEBUG",
        Severity::Info => "INFO",
        Severity::Warn => "WARN",
        Severity::Error => "ERROR",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_for_any_content() {
        let attributes = [
            Attribute { key: "product.id", value: Value::Int(7) },
            Attribute { key: "reason", value: Value::Text("two\nlines") },
            Attribute { key: "found", value: Value::Boolean(false) },
        ];
        let line = format_record(Severity::Warn, "no\nanswer", &attributes);
        assert_eq!(line, r#"WARN no\nanswer product.id=7 reason="two\nlines" found=false"#);
    }
}
