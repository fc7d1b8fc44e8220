//! The fields of a span or event, collected so that they are sent to the host in one call.

use std::cell::Cell;
use std::error::Error;
use std::fmt::{Debug, Write};
use std::ops::Range;

use tracing_core::Field;
use tracing_core::field::Visit;

use super::directives::{Directives, is_directive, is_hidden};
use crate::host::{Attribute, Value};

thread_local! {
    /// The buffers of an earlier call, reused to avoid allocations.
    static BUFFER: Cell<Fields> = Cell::default();
}

/// `tracing` passes values by reference only, so texts are copied into one buffer.
#[derive(Default)]
pub struct Fields {
    texts: String,
    entries: Vec<(&'static str, CollectedValue)>,
    message: Option<Range<usize>>,
    /// Whether any of the entries is one of [`Directives`].
    directives: bool,
}

enum CollectedValue {
    Text(Range<usize>),
    Int(i64),
    Double(f64),
    Boolean(bool),
}

impl Fields {
    /// Collects fields and passes them to `then`. Calls may be nested, because the `Debug` of a value may use
    /// `tracing`.
    pub fn collect<T>(record: impl FnOnce(&mut Fields), then: impl FnOnce(&Fields) -> T) -> T {
        let mut fields = BUFFER.take();
        record(&mut fields);
        let result = then(&fields);
        fields.texts.clear();
        fields.entries.clear();
        fields.message = None;
        fields.directives = false;
        BUFFER.set(fields);
        result
    }

    /// The text of an event, which `tracing` passes as the field `message`.
    pub fn message(&self) -> Option<&str> {
        Some(&self.texts[self.message.clone()?])
    }

    /// All fields except the message.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'_>> {
        self.entries.iter().map(|(key, value)| Attribute { key, value: self.value(value) })
    }

    /// The attributes of a span: all fields except the message and pure directives.
    pub fn span_attributes(&self) -> impl Iterator<Item = Attribute<'_>> {
        self.attributes().filter(|attribute| !self.directives || !is_hidden(attribute.key))
    }

    /// The directives among the fields, if there are any.
    pub fn directives(&self) -> Option<Directives<'_>> {
        if !self.directives {
            return None;
        }
        let mut directives = Directives::default();
        for (key, value) in &self.entries {
            if let Value::Text(text) = self.value(value) {
                directives.read(key, text);
            }
        }
        Some(directives)
    }

    /// The text of the field `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.entries.iter().find(|(key, _)| *key == name)?;
        match self.value(value) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn value(&self, collected: &CollectedValue) -> Value<'_> {
        match collected {
            CollectedValue::Text(range) => Value::Text(&self.texts[range.clone()]),
            CollectedValue::Int(number) => Value::Int(*number),
            CollectedValue::Double(number) => Value::Double(*number),
            CollectedValue::Boolean(truth) => Value::Boolean(*truth),
        }
    }

    fn add(&mut self, field: &Field, value: CollectedValue) {
        self.directives |= is_directive(field.name());
        self.entries.push((field.name(), value));
    }

    fn add_text(&mut self, field: &Field, write: impl FnOnce(&mut String)) {
        let start = self.texts.len();
        write(&mut self.texts);
        let range = start..self.texts.len();
        if field.name() == "message" {
            self.message = Some(range);
        } else {
            self.add(field, CollectedValue::Text(range));
        }
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, CollectedValue::Int(value));
    }

    /// OpenTelemetry has only signed integers; larger values become text.
    fn record_u64(&mut self, field: &Field, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.record_i64(field, value),
            Err(_) => self.record_debug(field, &value),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, CollectedValue::Double(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, CollectedValue::Boolean(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, |texts| texts.push_str(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add_text(field, |texts| {
            // A `Debug` that fails leaves the text that it wrote before.
            let _ = write!(texts, "{value:?}");
        });
    }
}
