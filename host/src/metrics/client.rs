//! Metrics of requests that a service makes: `http.client.request.duration`.
//!
//! Callers pass only origins that the manifest allows; otherwise guests could create any number of series.

use std::{borrow::Cow, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{BoundHistogram, Histogram, Meter},
};

use super::{
    labels::{self, Method, OTHER},
    reader::HTTP_BUCKETS,
    table::{SeriesKey, SeriesMap, Table},
};

const SERIES_LIMIT: usize = 500;

/// The outcome of a request that a service made.
#[derive(Clone, Debug)]
pub struct ClientRequest<'a> {
    /// The method as sent; unknown ones are counted as `_OTHER`.
    pub method: &'a http::Method,
    /// Host of the origin that was called, as the manifest's allow list names it.
    pub address: &'a str,
    /// Port of that origin.
    pub port: u16,
    /// The response's status, if there was a response.
    pub status: Option<u16>,
    /// A value of `error.type` that the host defines. If `None`, a status of 400 or above is the value.
    pub error_type: Option<&'static str>,
    /// From the call to the end of the response body, or to the failure.
    pub duration: Duration,
}

pub(super) struct ClientMetrics {
    duration: Histogram<f64>,
    series: Table<Labels<'static>, BoundHistogram<f64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels<'a> {
    method: Method,
    status: Option<u16>,
    error_type: Option<&'static str>,
    origin: Option<(Cow<'a, str>, u16)>,
}

impl SeriesKey for Labels<'_> {
    type Stored = Labels<'static>;

    fn find<'m, V>(&'m self, series: &'m SeriesMap<Labels<'static>, V>) -> Option<&'m V> {
        series.get(self)
    }

    fn to_stored(&self) -> Labels<'static> {
        let origin = self.origin.as_ref();
        Labels {
            method: self.method,
            status: self.status,
            error_type: self.error_type,
            origin: origin.map(|(address, port)| (Cow::Owned(address.to_string()), *port)),
        }
    }

    fn overflow(&self) -> Labels<'static> {
        Labels { method: Method::OTHER, status: None, error_type: None, origin: None }
    }
}

impl ClientMetrics {
    pub(super) fn new(meter: &Meter) -> ClientMetrics {
        ClientMetrics {
            duration: meter
                .f64_histogram("http.client.request.duration")
                .with_unit("s")
                .with_description("Duration of HTTP client requests.")
                .with_boundaries(HTTP_BUCKETS.to_vec())
                .build(),
            series: Table::new(SERIES_LIMIT),
        }
    }

    pub(super) fn record(&self, request: &ClientRequest<'_>) {
        let labels = Labels {
            method: Method::of(request.method),
            status: request.status,
            error_type: request.error_type,
            origin: Some((Cow::Borrowed(request.address), request.port)),
        };
        let seconds = request.duration.as_secs_f64();
        self.series.with(&labels, |labels| self.duration.bind(&labels.semconv()), |duration| duration.record(seconds));
    }
}

impl Labels<'_> {
    fn semconv(&self) -> Vec<KeyValue> {
        let mut attributes = vec![KeyValue::new("http.request.method", self.method.name())];
        match &self.origin {
            Some((address, port)) => attributes.extend([
                KeyValue::new("server.address", address.to_string()),
                KeyValue::new("server.port", i64::from(*port)),
            ]),
            None => attributes.push(KeyValue::new("server.address", OTHER)),
        }
        let status = self.status.map(i64::from);
        attributes.extend(status.map(|status| KeyValue::new("http.response.status_code", status)));
        attributes.extend(labels::error_type(self.error_type, self.status, 400));
        labels::sorted(attributes)
    }
}
