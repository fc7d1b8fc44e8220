//! State: reservations are atomic, and as durable as the manifest configures.

use std::time::Duration;

use testkit::{Collector, Shop};

/// How long a client waits for its reservation.
const PATIENT: Duration = Duration::from_secs(150);

async fn available(shop: &Shop, product: u32) -> i64 {
    let answer = shop.get("inventory-service", &format!("/inventory/{product}")).await;
    answer.json()["available_quantity"].as_i64().unwrap_or_default()
}

/// Makes 200 concurrent reservations of one piece of product 1. Returns how many succeeded, how many were rejected, and
/// the available quantity afterwards.
async fn reserve_concurrently(shop: Shop) -> (usize, usize, i64) {
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let request = shop.request("POST", "inventory-service", "/inventory/1/reserve?quantity=1");
        running.spawn(request.patience(PATIENT).send());
    }
    let answers = running.join_all().await;
    for answer in &answers {
        match answer.status.as_u16() {
            200 => assert_eq!(answer.json()["success"], true),
            _ => answer.assert_problem(400, "Insufficient inventory. Available: 0"),
        }
    }
    let reserved = answers.iter().filter(|answer| answer.status == 200).count();
    (reserved, answers.len() - reserved, available(&shop, 1).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_concurrent_reservations_never_oversell() {
    assert_eq!(reserve_concurrently(Shop::start().await).await, (45, 155, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_concurrent_reservations_never_oversell_on_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(reserve_concurrently(on_disk(folder.path()).start().await).await, (45, 155, 0));
}

fn on_disk(folder: &std::path::Path) -> testkit::ShopBuilder {
    let path = folder.join("state.redb");
    // A slow disk takes long for 45 reservations, one after the other.
    let shop = Shop::builder().limits("inventory-service", "request_timeout = \"120s\"");
    shop.state(&format!("backend = \"redb\"\npath = \"{}\"", path.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_on_disk_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let shop = on_disk(folder.path()).start().await;
    assert_eq!(shop.post("inventory-service", "/inventory/2/reserve?quantity=10").await.status, 200);
    let collector: Collector = shop.shut_down().await;
    let shop = on_disk(folder.path()).collector(collector).start().await;
    assert_eq!(available(&shop, 2).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_in_memory_end_with_the_host() {
    let shop = Shop::start().await;
    assert_eq!(shop.post("inventory-service", "/inventory/2/reserve?quantity=10").await.status, 200);
    assert_eq!(available(&shop, 2).await, 100);
    drop(shop.shut_down().await);
    assert_eq!(available(&Shop::start().await, 2).await, 110);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_survives_the_instances_that_wrote_it() {
    let shop = Shop::oddities().start().await;
    assert_eq!(shop.post("oddities", "/add/apples/2").await.text(), "2");
    shop.get("oddities", "/trap").await.assert_problem(500, "");
    assert_eq!(shop.post("oddities", "/add/apples/3").await.text(), "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_kept_with_an_instance_for_each_request() {
    let shop = Shop::builder().keys("inventory-service", "isolation = \"request\"").start().await;
    for left in [44, 43, 42] {
        let answer = shop.post("inventory-service", "/inventory/1/reserve?quantity=1").await;
        assert_eq!(answer.json()["remaining_available"], left, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_do_not_see_each_others_state() {
    let component = testkit::artifacts::component("oddities");
    let shop = Shop::oddities().service("other", &component, 8007).start().await;
    assert_eq!(shop.post("oddities", "/add/pears/2").await.text(), "2");
    let other = shop.post("other", "/add/pears/3").await.text();
    assert_eq!(other, "3");
}
