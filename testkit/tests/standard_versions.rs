//! Versions of WASI: components with any release, or several, of the interfaces; rejected versions and imports.

use std::path::Path;

use testkit::{Shop, ShopBuilder, reversioned};

/// Releases of 0.2 in existing components, and one that does not exist yet.
const P2: [&str; 9] = ["0.2.0", "0.2.2", "0.2.3", "0.2.4", "0.2.6", "0.2.9", "0.2.10", "0.2.12", "0.2.99"];
const P3: [&str; 4] = ["0.3.0", "0.3.1", "0.3.2", "0.3.99"];
/// The versions that the fixtures are built with.
const BUILT: [(&str, &str); 2] = [("standard-p2", "0.2.12"), ("standard-p3", "0.3.2")];

fn write(folder: &Path, name: &str, component: &[u8]) -> std::path::PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, component).expect("written");
    file
}

/// Starts services with these components. Each must respond, read a body, use the file system and call the first one.
async fn assert_all_serve(components: Vec<(String, Vec<u8>)>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut shop = ShopBuilder::empty();
    for (number, (name, component)) in components.iter().enumerate() {
        let file = write(folder.path(), name, component);
        shop = shop.service(name, &file, 8_100 + number as u16).outbound(name, "allow = [\"http://localhost:8100\"]");
    }
    let shop = shop.start().await;
    for (name, _) in &components {
        assert_eq!(shop.get(name, "/hello").await.text(), "hello\n", "{name}");
        assert_eq!(shop.request("POST", name, "/echo").body("a body").send().await.text(), "a body", "{name}");
        let asked = shop.get(name, "/fetch?url=http://localhost:8100/hello").await;
        assert_eq!((asked.status.as_u16(), asked.text().as_str()), (200, "hello\n"), "{name}");
        assert_eq!(shop.get(name, "/file?path=/none").await.status, 403, "{name}");
        shop.trace(&asked.trace, 3).await;
    }
}

fn service_name(package: &str, what: &str, version: &str) -> String {
    format!("{package}-{what}-{}", version.replace('.', "-"))
}

#[tokio::test(flavor = "multi_thread")]
async fn components_of_all_releases_of_wasi_http_0_2_serve() {
    let of = |version: &&str| {
        let component = reversioned("standard-p2", "wasi:http/", ("0.2.12", version));
        (service_name("p2", "http", version), component)
    };
    // All other imports have version 0.2.12, so most of these components use two versions.
    assert_all_serve(P2.iter().map(of).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn components_of_all_releases_of_the_rest_of_wasi_0_2_serve() {
    let of =
        |version: &&str| (service_name("p2", "all", version), reversioned("standard-p2", "wasi:", ("0.2.12", version)));
    assert_all_serve(P2.iter().map(of).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn components_of_all_releases_of_0_3_serve_with_interfaces_of_0_2_beside() {
    let of =
        |version: &&str| (service_name("p3", "all", version), reversioned("standard-p3", "wasi:", ("0.3.2", version)));
    let beside =
        |version: &&str| (service_name("p3", "with", version), reversioned("standard-p3", "wasi:", ("0.2.6", version)));
    assert_all_serve(P3.iter().map(of).chain(P2.iter().map(beside)).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_candidate_is_refused_with_its_name_and_the_cure() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (package, built) in BUILT {
        for candidate in ["0.3.0-rc-2025-09-16", "0.3.0-rc-2026-01-06"] {
            let component = reversioned(package, "wasi:http/", (built, candidate));
            let file = write(folder.path(), "candidate.wasm", &component);
            let shop = Shop::standard().component(package, &file).try_start().await;
            let refused = shop.err().unwrap_or_else(|| panic!("{package} of {candidate} serves"));
            assert!(refused.contains(&format!("@{candidate}")), "{refused}");
            assert!(refused.contains("release candidate of WASI 0.3"), "{refused}");
            assert!(refused.contains("0.3.0"), "the cure is missing: {refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_of_a_later_version_is_rejected_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (package, prefix, built, to_come, named) in [
        ("standard-p2", "wasi:http/types", "0.2.12", "0.4.0", "wasi:http/types@0.4.0"),
        ("standard-p2", "wasi:io/", "0.2.12", "1.0.0", "wasi:io/streams@1.0.0"),
        ("standard-p3", "wasi:http/client", "0.3.2", "0.4.0", "wasi:http/client@0.4.0"),
        ("standard-p3", "wasi:cli/exit", "0.2.6", "0.4.0", "wasi:cli/exit@0.4.0"),
    ] {
        let file = write(folder.path(), "new.wasm", &reversioned(package, prefix, (built, to_come)));
        let refused = Shop::standard().component(package, &file).try_start().await.err();
        assert!(refused.as_ref().is_some_and(|refused| refused.contains(named)), "{package} {named}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_may_import_all_of_wasi_and_export_more_than_the_handler() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = P2.iter().map(|version| {
        let name = service_name("whole", "wasi", version);
        (write(folder.path(), &name, &whole_wasi(&[("VERSION", version)])), name)
    });
    let files: Vec<_> = files.collect();
    let shop = files.iter().fold(ShopBuilder::empty(), |shop, (file, name)| shop.service(name, file, 8_100));
    let ports = (8_100..).zip(&files);
    let shop = ports.fold(shop, |shop, (port, (_, name))| shop.port(name, port)).start().await;
    for (_, name) in &files {
        let answer = shop.get(name, "/").await;
        answer.assert_problem(500, "The service ended without a response");
    }
}

/// The component that imports the whole of WASI, with some of its text replaced.
fn whole_wasi(replaced: &[(&str, &str)]) -> Vec<u8> {
    let text = include_str!("whole_wasi.wat").to_owned();
    let text = replaced.iter().fold(text, |text, (old, new)| {
        assert!(text.contains(old), "`{old}` is not there");
        text.replace(old, new)
    });
    wat::parse_str(text).expect("good WebAssembly text")
}

async fn refusal(component: &[u8]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = write(folder.path(), "refused.wasm", component);
    let started = ShopBuilder::empty().service("refused", &file, 8_100).try_start().await;
    started.err().expect("it is refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_the_host_does_not_have_is_rejected_by_name() {
    for lacking in [
        "fermyon:spin/key-value@2.0.0",
        "fermyon:spin/mysql",
        "spin:postgres/postgres@3.0.0",
        "wasi:blobstore/blobstore@0.2.0-draft",
        "wasi:messaging/producer@0.2.0-draft",
        "wasmcloud:bus/lattice@1.0.0",
    ] {
        let import = format!("(import \"{lacking}\" (instance (export \"open\" (func)))) (core module $guest");
        let refused = refusal(&whole_wasi(&[("VERSION", "0.2.6"), ("(core module $guest", &import)])).await;
        assert!(refused.contains(&format!("`{lacking}`")), "{refused}");
        assert!(!refused.contains("wasi:io"), "only what is missing is named: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_without_a_handler_is_rejected_with_its_exports_and_the_missing_one() {
    for exported in ["wasi:cli/run@0.2.6", "wasi:http/incoming-handler@0.1.0", "my:own/api@1.0.0"] {
        let handler = "wasi:http/incoming-handler@VERSION";
        let refused = refusal(&whole_wasi(&[(handler, exported), ("VERSION", "0.2.6")])).await;
        assert!(refused.contains(&format!("`{exported}`")), "what it is: {refused}");
        assert!(refused.contains("`wasi:http/incoming-handler@0.2"), "what is missing: {refused}");
    }
}
