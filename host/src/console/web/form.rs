//! The search form: from the URL to a query of the store, and validation errors.

use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::console::pages::search::{Form, LIMITS, LOOKBACKS};
use crate::trace::TraceQuery;

/// The largest number of operation names that the form offers.
pub(super) const MAX_OPERATIONS: usize = 500;
/// The default lookback of a search, and the default number of traces.
const LOOKBACK: &str = "1h";
const LIMIT: usize = 20;
/// The most tags of a search.
const MAX_TAGS: usize = 16;

/// The search parameters in the URL.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Params {
    service: String,
    operation: String,
    tags: String,
    min_duration: String,
    max_duration: String,
    errors: String,
    lookback: String,
    limit: String,
}

/// A validation error: the field and the message.
pub(super) type FieldErrors = Vec<(&'static str, String)>;

/// The form to show again, and the query for it.
pub(super) fn parse(params: Params) -> (Form, Result<TraceQuery, FieldErrors>) {
    let known = LOOKBACKS.iter().any(|(value, _)| *value == params.lookback);
    let limit = params.limit.parse().unwrap_or(LIMIT);
    let form = Form {
        errors: params.errors == "true",
        lookback: if known { params.lookback } else { LOOKBACK.to_owned() },
        limit: LIMITS.iter().copied().find(|most| limit <= *most).unwrap_or(LIMIT),
        service: params.service,
        operation: params.operation,
        tags: params.tags,
        min_duration: params.min_duration,
        max_duration: params.max_duration,
    };
    let query = query(&form);
    (form, query)
}

fn query(form: &Form) -> Result<TraceQuery, FieldErrors> {
    let mut errors = FieldErrors::new();
    let mut bound = |field: &'static str, text: &str| match text.trim() {
        "" => None,
        text => duration(text).or_else(|| {
            errors.push((field, format!("`{text}` is not a duration, such as 250ms or 1.5s")));
            None
        }),
    };
    let min_duration = bound("min_duration", &form.min_duration);
    let max_duration = bound("max_duration", &form.max_duration);
    let tags = tags(&form.tags).unwrap_or_else(|message| {
        errors.push(("tags", message));
        Vec::new()
    });
    if !errors.is_empty() {
        return Err(errors);
    }
    let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    Ok(TraceQuery {
        service: given(&form.service),
        operation: given(&form.operation),
        tags,
        after: duration(&form.lookback).and_then(|back| SystemTime::now().checked_sub(back)),
        min_duration,
        max_duration,
        errors_only: form.errors,
        limit: form.limit,
        ..TraceQuery::default()
    })
}

/// A number with one of the units us, µs, ms, s, m or h.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 6] = [("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (number, unit) = UNITS.iter().find_map(|(unit, one)| Some((text.strip_suffix(unit)?, one)))?;
    let number = number.trim_end();
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}

/// Pairs such as `status=500 user="John Doe"`. In quotes, a backslash makes the next character part of the value.
fn tags(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut tags = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let pair = rest.split_once('=').filter(|(key, _)| !key.is_empty() && !key.contains(char::is_whitespace));
        let Some((key, after)) = pair else {
            let piece: String = rest.chars().take(40).collect();
            return Err(format!("`{piece}` is not a tag: write key=value or key=\"a value\""));
        };
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted).ok_or_else(|| format!("the value of `{key}` has no closing quote"))?,
            None => {
                let (value, left) = after.split_at(after.find(char::is_whitespace).unwrap_or(after.len()));
                (value.to_owned(), left)
            }
        };
        tags.push((key.to_owned(), value));
        rest = left.trim_start();
    }
    if tags.len() > MAX_TAGS { Err(format!("there are more than {MAX_TAGS} tags")) } else { Ok(tags) }
}

/// The text up to the closing quote, and the rest.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(letters.next()?.1),
            letter => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(change: impl FnOnce(&mut Params)) -> Params {
        let mut params = Params::default();
        change(&mut params);
        params
    }

    #[test]
    fn the_form_becomes_a_query() {
        let (form, query) = parse(params(|params| {
            params.service = "user-service".to_owned();
            params.tags = "http.response.status_code=500  business.name=\"John \\\"J\\\" Doe\"".to_owned();
            params.min_duration = "1.5ms".to_owned();
            params.errors = "true".to_owned();
            params.lookback = "all".to_owned();
            params.limit = "50".to_owned();
        }));
        let query = query.unwrap();
        assert_eq!(query.service.as_deref(), Some("user-service"));
        let tags = [("http.response.status_code", "500"), ("business.name", "John \"J\" Doe")];
        assert_eq!(query.tags, tags.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(query.min_duration, Some(Duration::from_micros(1500)));
        assert!(query.errors_only && query.after.is_none() && query.operation.is_none());
        assert_eq!((query.limit, form.limit), (50, 50));
    }

    #[test]
    fn an_empty_form_searches_for_the_latest_traces() {
        let (form, query) = parse(Params::default());
        assert_eq!((form.lookback.as_str(), form.limit), (LOOKBACK, LIMIT));
        assert!(query.unwrap().after.is_some());
    }

    #[test]
    fn validation_errors_name_their_field() {
        for (field, text) in [("tags", "500"), ("tags", "=x"), ("tags", "a=\"b"), ("tags", "a b=c")] {
            let (_, query) = parse(params(|params| params.tags = text.to_owned()));
            assert_eq!(query.unwrap_err()[0].0, field, "{text}");
        }
        for text in ["ten", "5", "-1s", "1e9s", "ms", "99999999999999999999999h"] {
            let (_, query) = parse(params(|params| params.max_duration = text.to_owned()));
            assert_eq!(query.unwrap_err()[0].0, "max_duration", "{text}");
        }
    }

    #[test]
    fn limits_and_lookbacks_become_those_of_the_form() {
        let normalized = |lookback: &str, limit: &str| {
            let (form, _) = parse(params(|params| {
                params.lookback = lookback.to_owned();
                params.limit = limit.to_owned();
            }));
            (form.lookback, form.limit)
        };
        assert_eq!(normalized("century", "1000000"), (LOOKBACK.to_owned(), LIMIT));
        assert_eq!(normalized("24h", "51"), ("24h".to_owned(), 100));
    }
}
