//! The host retries a manifest that could not be applied when the missing part becomes available.

use testkit::{ShopBuilder, Site, artifacts, variant};

fn manifest(site: &Site, services: &[&str]) -> ShopBuilder {
    let component = artifacts::component("oddities");
    let empty = ShopBuilder::empty().console_port(site.console().port());
    services.iter().fold(empty, |builder, name| builder.service(name, &component, site.address(name).port()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_with_a_missing_folder_is_applied_when_the_folder_exists() {
    let site = Site::new(&["one", "two"]);
    site.write(&manifest(&site, &["one"]));
    let host = site.serve();
    let folder = site.path("pages");
    let files = format!("[[service.files]]\nhost = \"{}\"\nguest = \"/pages\"", folder.display());
    let text = manifest(&site, &["one", "two"]).manifest().replacen("[[telemetry", &format!("{files}\n[[telemetry"), 1);
    site.replace("services.toml", text.as_bytes());
    host.wait_for_line(&["not applied", "pages is not a folder"]).await;
    std::fs::create_dir(&folder).expect("a folder can be made");
    host.wait_for_line(&["manifest applied"]).await;
    assert_eq!(site.admin().status("two").await["state"], "serving");
    assert_eq!(
        host.log().matches("not applied").count(),
        1,
        "a retry with the same result is not logged: {}",
        host.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_with_a_port_in_use_is_applied_when_the_port_is_free() {
    let site = Site::new(&["one", "two"]);
    site.write(&manifest(&site, &["one"]));
    let host = site.serve();
    let taken = std::net::TcpListener::bind(site.address("two")).expect("the port is free");
    site.write(&manifest(&site, &["one", "two"]));
    host.wait_for_line(&["not applied", "two cannot listen"]).await;
    drop(taken);
    host.wait_for_line(&["manifest applied"]).await;
    assert_eq!(site.admin().status("two").await["state"], "serving");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_manifest_during_a_canary_is_applied_to_the_chosen_version_afterwards() {
    for (action, chosen) in [("promote", 2), ("abort", 1)] {
        let site = Site::new(&["one"]);
        std::fs::write(site.path("one.wasm"), variant("oddities", 0)).expect("written");
        let empty = || ShopBuilder::empty().console_port(site.console().port());
        let builder = || empty().service("one", &site.path("one.wasm"), site.address("one").port());
        site.write(&builder());
        let host = site.serve();
        let trial = site.admin().send("PUT", "/one/component?canary=50%25", variant("oddities", 1)).await;
        assert_eq!(trial.status, 200, "{}", trial.text());
        site.write(&builder().limits("one", "concurrency = 7"));
        host.wait_for_line(&["swap refused", "runs as a canary"]).await;
        let ended = site.admin().act("one", action).await.json();
        assert_eq!(ended["generation"], chosen, "{ended}");
        let status = site.admin().wait_until("one", |status| status["generation"] == 3).await;
        assert_eq!(status["digest"], ended["digest"], "{action}: the component is the one that was chosen");
    }
}
