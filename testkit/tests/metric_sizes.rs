//! Very large metrics of a guest, and a collector that rejects requests of more than 4 MiB.

use std::collections::BTreeSet;

use testkit::collector::{Metric, Protocol, Signal};
use testkit::{Shop, artifacts};

#[tokio::test(flavor = "multi_thread")]
async fn large_metrics_of_a_guest_do_not_affect_metrics_of_other_services() {
    for http in [false, true] {
        let inventory = artifacts::component("inventory-service");
        let builder = Shop::oddities().service("inventory-service", &inventory, 8002);
        // Megabytes of labels take a while on a busy machine.
        let builder = builder.limits("oddities", "request_timeout = \"60s\"");
        let shop = if http { builder.over_http().start().await } else { builder.start().await };
        // Megabytes in one label and in the name of an operation, and thousands of series with kilobytes each.
        for path in ["/label/3000000", "/series/3000/2000"] {
            assert_eq!(shop.get("oddities", path).await.status, 200, "{path}");
        }
        shop.collector().clear();
        assert_eq!(shop.get("inventory-service", "/inventory/1").await.status, 200);
        for service in ["inventory-service", "oddities", "spandrel"] {
            let name = if service == "spandrel" { "process.memory.usage" } else { "http.server.request.duration" };
            shop.collector().wait_for_metric(name, |metric| metric.service == service).await;
        }
        let parcels = |metric: &Metric| metric.name == "oddities.parcels" && !metric.points.is_empty();
        shop.collector().wait_for_metric("oddities.parcels", parcels).await;
        let collector = shop.shut_down().await;
        let arrivals = collector.arrivals().into_iter().filter(|arrival| arrival.signal == Signal::Metrics);
        let protocols: BTreeSet<_> = arrivals.map(|arrival| arrival.protocol == Protocol::Http).collect();
        assert_eq!(protocols, BTreeSet::from([http]));
    }
}
