//! The parameters of Jaeger's v1 API, parsed and rejected as in Jaeger.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::duration;
use super::trace::Adjusted;
use crate::trace::{TimeScope, TraceId, TraceQuery};

/// The default number of traces.
const LIMIT: usize = 100;
/// The default lookback of a search.
const LOOKBACK: Duration = Duration::from_secs(2 * 86_400);
/// The default lookback of dependencies.
const DEPENDENCY_LOOKBACK: Duration = Duration::from_secs(86_400);

/// The parameters of a request, each with all its values.
pub(super) struct Parameters(Vec<(String, String)>);

/// The requested traces.
#[derive(Debug, PartialEq)]
pub(super) struct Search {
    pub query: TraceQuery,
    /// If not empty, only these.
    pub ids: Vec<u128>,
    pub adjusted: Adjusted,
}

impl Parameters {
    /// Parses a query string. Invalid UTF-8 is decoded lossily.
    pub fn read(query: &str) -> Parameters {
        Parameters(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The first value of a parameter; empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// The first value of the first of these parameters that has one, and its name.
    pub fn any<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &str)> {
        names.iter().map(|name| (*name, self.get(name))).find(|(_, value)| !value.is_empty())
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Parses the parameters of `/api/traces`.
    pub fn search(&self, now: SystemTime) -> Result<Search, String> {
        let before = self.micros("end")?.unwrap_or(now);
        let after = match self.micros("start")? {
            Some(start) => start,
            None => {
                self.lookback().map_or(now - LOOKBACK, |lookback| before.checked_sub(lookback).unwrap_or(UNIX_EPOCH))
            }
        };
        let tags = self.tags()?;
        let limit = match self.get("limit") {
            "" => LIMIT,
            text => go_int(text, i32::MIN.into(), i32::MAX.into()).map(|limit| limit.max(0) as usize)?,
        };
        let (min_duration, max_duration) = (self.duration("minDuration")?, self.duration("maxDuration")?);
        let ids =
            self.all("traceID").map(|id| parse_id(id).map_err(|error| format!("cannot parse traceID param: {error}")));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let adjusted = self.adjusted()?;
        let (service, operation) = (self.get("service"), self.get("operation"));
        if ids.is_empty() && service.is_empty() {
            return Err("parameter 'service' is required".to_owned());
        }
        if let (Some(least), Some(most)) = (min_duration, max_duration)
            && most < least
        {
            return Err("'maxDuration' should be greater than 'minDuration'".to_owned());
        }
        if limit == 0 {
            return Err("search depth must be greater than 0 and less than max traces".to_owned());
        }
        let query = TraceQuery {
            service: Some(service.to_owned()),
            operation: (!operation.is_empty()).then(|| operation.to_owned()),
            tags,
            after: Some(after),
            before: Some(before),
            min_duration,
            max_duration,
            time_scope: TimeScope::Span,
            limit,
            ..TraceQuery::default()
        };
        Ok(Search { query, ids, adjusted })
    }

    /// The time range of `/api/dependencies`.
    pub fn dependencies(&self, now: SystemTime) -> Result<(SystemTime, SystemTime), String> {
        let end = self.time("endTs", 1_000_000)?.unwrap_or(now);
        let lookback = match self.get("lookback") {
            "" => DEPENDENCY_LOOKBACK,
            text => {
                let millis = go_int(text, i64::MIN, i64::MAX).map_err(|error| parameter_error("lookback", &error))?;
                Duration::from_millis(millis.max(0).unsigned_abs())
            }
        };
        Ok((end.checked_sub(lookback).unwrap_or(UNIX_EPOCH), end))
    }

    /// Whether traces are requested as adjusted or as stored.
    pub fn adjusted(&self) -> Result<Adjusted, String> {
        match self.get("raw") {
            "" => Ok(Adjusted::Yes),
            text => match go_bool(text).map_err(|error| parameter_error("raw", &error))? {
                true => Ok(Adjusted::Raw),
                false => Ok(Adjusted::Yes),
            },
        }
    }

    /// A time in microseconds since 1970.
    pub fn micros(&self, name: &str) -> Result<Option<SystemTime>, String> {
        self.time(name, 1_000)
    }

    fn time(&self, name: &str, nanos: u64) -> Result<Option<SystemTime>, String> {
        match self.get(name) {
            "" => Ok(None),
            text => {
                let number = go_int(text, i64::MIN, i64::MAX).map_err(|error| parameter_error(name, &error))?;
                let since = Duration::from_nanos(number.max(0).unsigned_abs().saturating_mul(nanos));
                Ok(Some(UNIX_EPOCH + since))
            }
        }
    }

    /// Jaeger's UI sends it together with `start`, and then it is redundant.
    fn lookback(&self) -> Option<Duration> {
        let text = self.get("lookback");
        let (text, days) = text.strip_suffix('d').map_or((text.to_owned(), 1), |days| (format!("{days}h"), 24));
        let nanos = duration::parse(&text).ok().filter(|nanos| *nanos > 0)?;
        Some(Duration::from_nanos(nanos.unsigned_abs()).saturating_mul(days))
    }

    fn duration(&self, name: &str) -> Result<Option<Duration>, String> {
        match self.get(name) {
            "" => Ok(None),
            text => {
                let nanos = duration::parse(text).map_err(|error| parameter_error(name, &error))?;
                // A missing value is no bound.
                Ok((nanos > 0).then(|| Duration::from_nanos(nanos.unsigned_abs())))
            }
        }
    }

    /// `tag=key:value` and `tags={"key":"value"}`.
    fn tags(&self) -> Result<Vec<(String, String)>, String> {
        let mut tags = BTreeMap::new();
        for tag in self.all("tag") {
            let (key, value) = tag
                .split_once(':')
                .ok_or_else(|| format!("malformed 'tag' parameter, expecting key:value, received: {tag}"))?;
            tags.insert(key.to_owned(), value.to_owned());
        }
        for json in self.all("tags") {
            tags.extend(
                serde_json::from_str::<BTreeMap<String, String>>(json)
                    .map_err(|error| format!("malformed 'tags' parameter, cannot unmarshal JSON: {error}"))?,
            );
        }
        Ok(tags.into_iter().collect())
    }
}

/// A trace id: up to 32 hexadecimal digits.
pub(super) fn parse_id(text: &str) -> Result<u128, String> {
    if text.len() > 32 {
        return Err(format!("TraceID cannot be longer than 32 hex characters: {text}"));
    }
    let is_hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u128::from_str_radix(text, 16).ok().filter(|_| is_hex);
    id.ok_or_else(|| format!("strconv.ParseUint: parsing {:?}: invalid syntax", invalid_half(text)))
}

/// Jaeger parses an id in two halves and reports the first invalid one.
fn invalid_half(text: &str) -> &str {
    let Some((high, low)) = text.len().checked_sub(16).and_then(|at| text.split_at_checked(at)) else { return text };
    let is_bad = !high.is_empty() && !high.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_bad { high } else { low }
}

/// The id in the store's form.
pub(super) fn stored_id(id: u128) -> TraceId {
    TraceId::from(id)
}

/// The error message of Go's `strconv.ParseInt`.
fn go_int(text: &str, least: i64, most: i64) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
    }
    let number = text.parse::<i64>().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("strconv.ParseInt: parsing {text:?}: value out of range"))
}

/// The error message of Go's `strconv.ParseBool`.
pub(super) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

fn parameter_error(name: &str, error: &str) -> String {
    format!("unable to parse param '{name}': {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(query: &str) -> Result<Search, String> {
        Parameters::read(query).search(UNIX_EPOCH + Duration::from_secs(1_000_000))
    }

    #[test]
    fn a_search_is_parsed_as_in_jaeger() {
        let found = search(
            "service=a%20b&operation=GET+%2F&tag=k:v:w&tags=%7B%22error%22%3A%22true%22%7D&start=1000000&end=2000000\
             &minDuration=1.5ms&maxDuration=2s&limit=7&lookback=1h",
        )
        .unwrap();
        let expected = TraceQuery {
            service: Some("a b".to_owned()),
            operation: Some("GET /".to_owned()),
            tags: vec![("error".to_owned(), "true".to_owned()), ("k".to_owned(), "v:w".to_owned())],
            after: Some(UNIX_EPOCH + Duration::from_secs(1)),
            before: Some(UNIX_EPOCH + Duration::from_secs(2)),
            min_duration: Some(Duration::from_micros(1500)),
            max_duration: Some(Duration::from_secs(2)),
            time_scope: TimeScope::Span,
            limit: 7,
            ..TraceQuery::default()
        };
        assert_eq!(found, Search { query: expected, ids: Vec::new(), adjusted: Adjusted::Yes });
    }

    #[test]
    fn missing_parameters_have_jaegers_defaults() {
        let query = search("service=a").unwrap().query;
        assert_eq!((query.limit, query.min_duration), (100, None));
        assert_eq!(query.before.unwrap().duration_since(query.after.unwrap()).unwrap(), LOOKBACK);
        let query = search("service=a&lookback=2d&end=900000000000").unwrap().query;
        assert_eq!(query.before.unwrap().duration_since(query.after.unwrap()).unwrap(), Duration::from_secs(172_800));
    }

    #[test]
    fn trace_ids_can_replace_the_service() {
        assert_eq!(search("traceID=0a&traceID=b").unwrap().ids, [10, 11]);
    }

    #[test]
    fn error_messages_are_jaegers() {
        for (query, message) in [
            ("", "parameter 'service' is required"),
            ("service=a&start=x", "unable to parse param 'start': strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("service=a&limit=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("service=a&limit=3000000000", "strconv.ParseInt: parsing \"3000000000\": value out of range"),
            ("service=a&minDuration=5", "unable to parse param 'minDuration': time: missing unit in duration \"5\""),
            ("service=a&minDuration=2s&maxDuration=1s", "'maxDuration' should be greater than 'minDuration'"),
            ("service=a&tag=k", "malformed 'tag' parameter, expecting key:value, received: k"),
            ("traceID=xy", "cannot parse traceID param: strconv.ParseUint: parsing \"xy\": invalid syntax"),
            (
                "service=a&raw=maybe",
                "unable to parse param 'raw': strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
        ] {
            assert_eq!(search(query), Err(message.to_owned()), "{query}");
        }
        assert!(
            search("service=a&tags=x").unwrap_err().starts_with("malformed 'tags' parameter, cannot unmarshal JSON")
        );
        let long = "1".repeat(33);
        assert_eq!(parse_id(&long), Err(format!("TraceID cannot be longer than 32 hex characters: {long}")));
        let half = "zz".to_owned() + &"1".repeat(16);
        assert_eq!(parse_id(&half), Err("strconv.ParseUint: parsing \"zz\": invalid syntax".to_owned()));
    }
}
