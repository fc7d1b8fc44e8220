//! hyper, with or without one span of the stock SDK for each request: the lower limit of the cost of a response.

use std::convert::Infallible;

use anyhow::Result;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use opentelemetry_sdk::trace::SdkTracer;
use serde::Serialize;

use super::shutdown::terminated;
use super::telemetry::{answered, server};

/// The response of inventory-service for product 1.
#[derive(Serialize)]
struct Availability {
    product_id: u32,
    available_quantity: u32,
    total_quantity: u32,
    warehouse_location: &'static str,
    warehouse_capacity_percent: u32,
    estimated_shipping_days: u32,
}

pub(super) async fn serve(listener: tokio::net::TcpListener, tracer: Option<SdkTracer>) -> Result<()> {
    let mut stop = std::pin::pin!(terminated());
    loop {
        let (stream, _) = tokio::select! {
            () = &mut stop => return Ok(()),
            accepted = listener.accept() => accepted?,
        };
        stream.set_nodelay(true)?;
        let tracer = tracer.clone();
        let answer = hyper::service::service_fn(move |request| {
            let response = answer(&request, tracer.as_ref());
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

fn answer(request: &Request<Incoming>, tracer: Option<&SdkTracer>) -> Response<Full<Bytes>> {
    let span = tracer.map(|tracer| server(tracer, request.headers(), "/inventory/{product_id}", request.uri(), None));
    let availability = Availability {
        product_id: 1,
        available_quantity: 45,
        total_quantity: 50,
        warehouse_location: "A-1",
        warehouse_capacity_percent: 86,
        estimated_shipping_days: 1,
    };
    let body = serde_json::to_vec(&availability).expect("numbers and a string");
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(span) = span {
        answered(&span, 200);
    }
    response
}
