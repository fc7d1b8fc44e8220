//! Metrics of requests that a service answers: `http.server.*`, and `http_requests` for existing dashboards.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, BoundHistogram, BoundUpDownCounter, Counter, Histogram, Meter, UpDownCounter},
    trace::{SpanId, TraceId},
};

use super::{
    exemplar::Reservoir,
    labels::{self, Method, OTHER, SchemeLabel},
    reader::HTTP_BUCKETS,
    table::{SeriesKey, SeriesMap, Table},
};
use crate::trace::MetricExemplar;

pub(super) const DURATION: &str = "http.server.request.duration";
const SERIES_LIMIT: usize = 1000;

/// The outcome of a request to a service.
#[derive(Clone, Debug)]
pub struct ServerRequest<'a> {
    /// The method as received; unknown ones are counted as `_OTHER`.
    pub method: &'a http::Method,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The template of the matched route, never the path.
    pub route: Option<&'a Arc<str>>,
    /// The status that was sent; 0 if none was (the client disconnected).
    pub status: u16,
    /// A value of `error.type` that the host defines. If `None`, a status of 500 or above is the value.
    pub error_type: Option<&'static str>,
    /// The protocol version of the request; `None` for a call within the host.
    pub version: Option<http::Version>,
    /// From the request's head until the whole response is ready to be sent.
    pub duration: Duration,
    /// The server span, if its trace is sampled.
    pub trace: Option<(TraceId, SpanId)>,
}

/// A request in flight: counted as active until dropped.
#[must_use = "the request counts as active only while this lives"]
pub struct ActiveRequestGuard {
    active: BoundUpDownCounter<i64>,
}

impl Drop for ActiveRequestGuard {
    fn drop(&mut self) {
        self.active.add(-1);
    }
}

pub(super) struct ServerMetrics {
    duration: Histogram<f64>,
    requests: Counter<u64>,
    series: Table<Labels<'static>, Series>,
    active: UpDownCounter<i64>,
    active_series: [[OnceLock<BoundUpDownCounter<i64>>; SchemeLabel::COUNT]; Method::COUNT],
}

struct Series {
    attributes: Vec<KeyValue>,
    duration: BoundHistogram<f64>,
    requests: BoundCounter<u64>,
    exemplars: Reservoir,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels<'a> {
    method: Method,
    scheme: SchemeLabel,
    version: Option<http::Version>,
    status: Option<u16>,
    error_type: Option<&'static str>,
    route: Option<Cow<'a, str>>,
}

impl SeriesKey for Labels<'_> {
    type Stored = Labels<'static>;

    fn find<'m, V>(&'m self, series: &'m SeriesMap<Labels<'static>, V>) -> Option<&'m V> {
        series.get(self)
    }

    fn to_stored(&self) -> Labels<'static> {
        Labels {
            route: self.route.as_deref().map(|route| Cow::Owned(route.to_owned())),
            ..self.overflow_from(self.method, self.status, self.error_type, self.version)
        }
    }

    fn overflow(&self) -> Labels<'static> {
        self.overflow_from(Method::OTHER, None, None, None)
    }
}

impl ServerMetrics {
    pub(super) fn new(meter: &Meter) -> ServerMetrics {
        ServerMetrics {
            duration: meter
                .f64_histogram(DURATION)
                .with_unit("s")
                .with_description("Duration of HTTP server requests.")
                .with_boundaries(HTTP_BUCKETS.to_vec())
                .build(),
            requests: meter
                .u64_counter("http_requests")
                .with_unit("{request}")
                .with_description("HTTP requests served, by endpoint and status.")
                .build(),
            series: Table::new(SERIES_LIMIT),
            active: meter
                .i64_up_down_counter("http.server.active_requests")
                .with_unit("{request}")
                .with_description("Number of active HTTP server requests.")
                .build(),
            active_series: Default::default(),
        }
    }

    pub(super) fn start(&self, method: &http::Method, scheme: &str) -> ActiveRequestGuard {
        let (method, scheme) = (Method::of(method), SchemeLabel::of(scheme));
        let bind = || {
            self.active.bind(&[
                KeyValue::new("http.request.method", method.name()),
                KeyValue::new("url.scheme", scheme.name()),
            ])
        };
        let slot = self.active_series.get(method.index()).and_then(|schemes| schemes.get(scheme as usize));
        let active = match slot {
            Some(slot) => slot.get_or_init(bind).clone(),
            None => bind(),
        };
        active.add(1);
        ActiveRequestGuard { active }
    }

    pub(super) fn record(&self, period: u64, request: &ServerRequest<'_>) {
        let labels = Labels {
            method: Method::of(request.method),
            scheme: SchemeLabel::of(request.scheme),
            version: request.version,
            status: (request.status != 0).then_some(request.status),
            error_type: request.error_type,
            route: request.route.map(|route| Cow::Borrowed(route.as_ref())),
        };
        let seconds = request.duration.as_secs_f64();
        self.series.with(
            &labels,
            |labels| self.series_of(labels),
            |series| {
                series.duration.record(seconds);
                series.requests.add(1);
                if let Some(span) = request.trace {
                    series.exemplars.offer(period, seconds, span);
                }
            },
        );
    }

    /// The attributes of each series, with the exemplars that `read` returns for it.
    pub(super) fn exemplars(
        &self,
        read: impl Fn(&Reservoir) -> Vec<MetricExemplar>,
    ) -> Vec<(Vec<KeyValue>, Vec<MetricExemplar>)> {
        self.series
            .all()
            .into_iter()
            .map(|(_, series)| (series.attributes.clone(), read(&series.exemplars)))
            .filter(|(_, exemplars)| !exemplars.is_empty())
            .collect()
    }

    fn series_of(&self, labels: &Labels<'_>) -> Series {
        let attributes = labels.semconv();
        Series {
            duration: self.duration.bind(&attributes),
            requests: self.requests.bind(&labels.legacy()),
            exemplars: Reservoir::default(),
            attributes,
        }
    }
}

impl Labels<'_> {
    fn overflow_from(
        &self,
        method: Method,
        status: Option<u16>,
        error_type: Option<&'static str>,
        version: Option<http::Version>,
    ) -> Labels<'static> {
        Labels { method, scheme: self.scheme, version, status, error_type, route: None }
    }

    fn semconv(&self) -> Vec<KeyValue> {
        let mut attributes = vec![
            KeyValue::new("http.request.method", self.method.name()),
            KeyValue::new("url.scheme", self.scheme.name()),
        ];
        let route = self.route.as_deref().map(str::to_owned);
        attributes.extend(route.map(|route| KeyValue::new("http.route", route)));
        let status = self.status.map(i64::from);
        attributes.extend(status.map(|status| KeyValue::new("http.response.status_code", status)));
        attributes.extend(labels::error_type(self.error_type, self.status, 500));
        let version = self.version.and_then(labels::protocol_version);
        attributes.extend(version.map(|version| KeyValue::new("network.protocol.version", version)));
        labels::sorted(attributes)
    }

    fn legacy(&self) -> [KeyValue; 3] {
        let status = self.status.map_or(OTHER.to_owned(), |status| status.to_string());
        let endpoint = self.route.as_deref().unwrap_or(OTHER).to_owned();
        [
            KeyValue::new("endpoint", endpoint),
            KeyValue::new("method", self.method.name()),
            KeyValue::new("status", status),
        ]
    }
}
