//! Proposals of WebAssembly that compilers of some languages use: exceptions, garbage collection, reference types and
//! atomic instructions.

use testkit::ShopBuilder;

#[tokio::test(flavor = "multi_thread")]
async fn a_component_with_exceptions_and_garbage_collection_serves_within_its_memory_limit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("features.wasm");
    let text = include_str!("webassembly_features.wat");
    std::fs::write(&file, wat::parse_str(text).expect("good WebAssembly text")).expect("written");
    let shop = ShopBuilder::empty();
    let shop = ["request", "instance"].into_iter().zip(8_100..).fold(shop, |shop, (isolation, port)| {
        let shop = shop.service(isolation, &file, port).keys(isolation, &format!("isolation = \"{isolation}\""));
        shop.limits(isolation, "memory = \"20MiB\"")
    });
    let shop = shop.start().await;
    for isolation in ["request", "instance"] {
        for (path, status, error_type) in [
            ("/", 204, None),
            ("/t", 500, Some("wasm_trap")),
            ("/fills-the-heap", 500, Some("out_of_memory")),
            ("/", 204, None),
        ] {
            let answer = shop.get(isolation, path).await;
            assert_eq!(answer.status, status, "{isolation} {path}: {}", answer.text());
            let tree = shop.trace(&answer.trace, 1).await;
            let server = tree.line(&format!("{isolation} GET SERVER"));
            match error_type {
                Some(error_type) => {
                    server.assert_attribute("error.type", error_type);
                    assert!(server.event("exception").is_some(), "{isolation} {path}");
                }
                None => assert!(!server.is_error(), "{isolation} {path}"),
            }
        }
    }
}
