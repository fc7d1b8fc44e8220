//! The console in a real browser. Without a browser, the tests print a message and pass.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testkit::browser::Browser;
use testkit::{Shop, ShopBuilder, artifacts, reworded, variant};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const RECOMMENDATIONS: &str = "/users/1/recommendations";

/// The shop with its console, and a browser.
async fn start(builder: ShopBuilder) -> Option<(Shop, Browser)> {
    let browser = Browser::start().await?;
    Some((builder.with_console().start().await, browser))
}

fn page(shop: &Shop, path: &str) -> String {
    format!("http://localhost:{}{path}", shop.console().port())
}

/// Marks a page, to detect later whether it was reloaded.
const MARK: &str = "window.marked = true";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_appears_on_the_page_with_its_spans() {
    let Some((shop, browser)) = start(Shop::builder()).await else { return };
    browser.open(&page(&shop, "/")).await;
    assert!(browser.text("#recent").await.contains("curl http://localhost:"), "an empty page shows what to send");
    browser.script(MARK).await;
    let answer = shop.get("user-service", RECOMMENDATIONS).await;
    assert_eq!(answer.status, 200);

    let link = format!("a[href='/traces/{}']", answer.trace.as_str());
    // The parts of the other services may appear first.
    browser.text_with(&link, "GET /users/{user_id}/recommendations").await;
    assert_eq!(browser.script("return window.marked").await, true, "the page was updated without a reload");
    browser.click(&link).await;

    browser.wait_for("return document.querySelectorAll('.spans > li').length === 24").await;
    let open = "const rows = [...document.querySelectorAll('.span > summary')];
        rows.find((row) => row.innerText.includes('recommend_products')).click();
        return document.querySelectorAll('details.span[open]').length";
    assert_eq!(browser.script(open).await, 1);
    let attributes = browser.text("details.span[open] .attributes").await;
    for (key, value) in [("business.user_id", "1"), ("custom.operation_type", "product_recommendation")] {
        let row = attributes.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        assert!(row.contains(value), "`{key}` is not `{value}` in {attributes}");
    }
    let facts = browser.text("details.span[open] .facts").await;
    assert!(facts.contains("generation 1"), "{facts}");
    let services = browser.text(".shares").await;
    assert!(["user-service", "product-service", "inventory-service"].iter().all(|name| services.contains(name)));
    let curl = browser.script("return document.querySelector('.actions [data-copy]').dataset.copy").await;
    assert!(curl.as_str().is_some_and(|curl| curl.starts_with("curl http://") && curl.ends_with(RECOMMENDATIONS)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_and_a_rollback_appear_on_the_page() {
    let Some((shop, browser)) = start(Shop::builder()).await else { return };
    let generation = "#service-inventory-service [data-generation]";
    browser.open(&page(&shop, "/")).await;
    assert_eq!(browser.text(generation).await, "1");
    let swapped = shop.admin().swap("inventory-service", variant("inventory-service", 1)).await;
    assert_eq!(swapped.status, 200, "{}", swapped.text());
    browser.wait_for(&format!("return document.querySelector('{generation}')?.innerText === '2'")).await;

    browser.click("#do-rollback-inventory-service > summary").await;
    browser.click("#do-rollback-inventory-service button").await;
    browser.wait_for(&format!("return document.querySelector('{generation}')?.innerText === '1'")).await;
    let swaps = browser.text("#swaps-inventory-service ol").await;
    assert!(swaps.contains("rolled back") && swaps.contains("swapped"), "{swaps}");

    let refused = shop.admin().swap("inventory-service", b"no component".to_vec()).await;
    assert_eq!(refused.status, 422);
    let failed = browser.text("#swaps-inventory-service li.failed").await;
    assert!(failed.contains("refused"), "{failed}");
    assert_eq!(browser.text(generation).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_appears_beside_the_serving_version_and_can_be_promoted_on_the_page() {
    let Some((shop, browser)) = start(Shop::builder()).await else { return };
    let path = "/inventory-service/component?canary=50%25";
    let started = shop.admin().send("PUT", path, variant("inventory-service", 1)).await;
    assert_eq!(started.status, 200, "{}", started.text());
    browser.open(&page(&shop, "/")).await;
    let versions = browser.text("#service-inventory-service .versions").await;
    assert!(versions.contains("serving") && versions.contains("canary 50 %"), "{versions}");
    browser.click("#do-promote-inventory-service > summary").await;
    browser.click("#do-promote-inventory-service button").await;
    browser.text_with("#service-inventory-service [data-generation]", "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_name_with_markup_is_shown_as_text() {
    const NAME: &str = "<img src=x onerror=x()>.";
    let Some(browser) = Browser::start().await else { return };
    let component = reworded("inventory-service", &[("check_warehouse_capacity", NAME)]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("hostile.wasm");
    std::fs::write(&file, component).expect("a file can be written");
    let shop = Shop::builder().component("inventory-service", &file).with_console().start().await;
    let answer = shop.get("inventory-service", "/inventory/1").await;
    assert_eq!(answer.status, 200);
    browser.open(&page(&shop, &format!("/traces/{}", answer.trace.as_str()))).await;
    assert!(browser.text(".spans").await.contains(NAME));
    assert_eq!(browser.script("return document.images.length").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_token_can_log_in() {
    let Some((shop, browser)) = start(Shop::builder().env("SPANDREL_ADMIN_TOKEN", TOKEN)).await else { return };
    browser.open(&page(&shop, "/traces")).await;
    browser.fill("#token", "wrong").await;
    browser.click(".login button").await;
    assert!(browser.text(".login [role=alert]").await.contains("token is wrong"));
    browser.fill("#token", TOKEN).await;
    browser.click(".login button").await;
    browser.text(".search").await;
    assert!(browser.url().await.ends_with("/traces"), "the page that was asked for comes next");
    assert_eq!(browser.script("return document.cookie").await, "", "no script can read the cookie");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_can_be_used_with_the_keyboard() {
    let Some((shop, browser)) = start(Shop::builder()).await else { return };
    let answer = shop.get("user-service", RECOMMENDATIONS).await;
    browser.open(&page(&shop, "/traces")).await;
    browser.text(&format!("a[data-row][href='/traces/{}']", answer.trace.as_str())).await;
    browser.press("/").await;
    assert_eq!(browser.script("return document.activeElement.id").await, "tags");
    browser.press("\u{e00c}j\u{e007}").await;
    browser.wait_for("return document.querySelectorAll('.spans > li').length === 24").await;
    browser.press("jj\u{e007}").await;
    assert!(browser.text("details.span[open] > summary").await.contains("get_user_recommendations"));
    let visible = "return [...document.querySelectorAll('.spans > li')].filter((row) => !row.hidden).length";
    browser.press("\u{e012}").await;
    assert_eq!(browser.script(visible).await, 2, "what is below the span is folded away");
    browser.press("\u{e014}").await;
    assert_eq!(browser.script(visible).await, 24);
    browser.press("?").await;
    assert_eq!(browser.script("return document.getElementById('help').open").await, true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_can_be_read_without_javascript_and_on_a_narrow_screen() {
    let Some((shop, browser)) = start(Shop::builder()).await else { return };
    let answer = shop.get("user-service", RECOMMENDATIONS).await;
    browser.block("*/console.js").await;
    browser.resize(360, 740).await;
    for path in ["/", "/traces", &format!("/traces/{}", answer.trace.as_str())] {
        browser.open(&page(&shop, path)).await;
        let wide = browser.script("return document.documentElement.scrollWidth > innerWidth").await;
        assert_eq!(wide, false, "{path} is wider than the screen");
    }
    browser.click(".spans > li:nth-child(2) summary").await;
    let row = browser.script("return document.querySelector('details.span[open] .attributes')?.innerText").await;
    assert!(row.as_str().is_some_and(|row| row.contains("business.user_id")), "{row}");
}

/// Checks the rules of WCAG 2.2 AA with axe-core.
#[tokio::test(flavor = "multi_thread")]
async fn the_pages_have_no_serious_accessibility_violations() {
    let Some(axe) = axe() else { return println!("skipped: axe-core cannot be had") };
    let axe = std::fs::read_to_string(axe).expect("axe-core can be read");
    let Some((shop, browser)) = start(Shop::builder()).await else { return };
    let path = "/inventory-service/component?canary=50%25";
    shop.admin().send("PUT", path, variant("inventory-service", 1)).await;
    let first = shop.get("user-service", RECOMMENDATIONS).await;
    let second = shop.get("user-service", "/users/2").await;
    let (first, second) = (first.trace.as_str(), second.trace.as_str());
    let pages = [
        "/".to_owned(),
        "/traces".to_owned(),
        "/traces?min_duration=x".to_owned(),
        format!("/traces/{first}"),
        format!("/compare?a={first}&b={second}"),
        "/traces/abc".to_owned(),
    ];
    for dark in [false, true] {
        browser.prefer_dark(dark).await;
        for path in &pages {
            browser.open(&page(&shop, path)).await;
            browser.script("document.querySelectorAll('details').forEach((one, at) => (one.open = at < 12))").await;
            browser.script(&axe).await;
            let found = browser.script_async("axe.run().then(arguments[0])").await;
            let serious = found["violations"].as_array().into_iter().flatten().filter(is_serious);
            let serious: Vec<_> = serious.map(summary).collect();
            assert!(serious.is_empty(), "{path}, dark {dark}: {serious:#?}");
        }
    }
}

fn is_serious(violation: &&Value) -> bool {
    violation["impact"] == "serious" || violation["impact"] == "critical"
}

fn summary(violation: &Value) -> Value {
    let nodes: Vec<_> = violation["nodes"].as_array().into_iter().flatten().take(3).collect();
    let nodes: Vec<_> = nodes.iter().map(|node| json!([node["html"], node["failureSummary"]])).collect();
    json!({"rule": violation["id"], "help": violation["help"], "nodes": nodes})
}

/// The script of axe-core, which npm installs once into the target folder.
fn axe() -> Option<PathBuf> {
    let folder = artifacts::cache().with_file_name("axe");
    let script = folder.join("node_modules/axe-core/axe.min.js");
    if !script.is_file() {
        std::fs::create_dir_all(&folder).ok()?;
        let npm = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
        let installed = Command::new("npm").args(npm).arg(&folder).arg("axe-core@4").output().ok()?;
        installed.status.success().then_some(())?;
    }
    script.is_file().then_some(script)
}

/// Creates the pictures of the README on request: `SPANDREL_PICTURES=1 cargo test -p testkit --test browser`.
#[tokio::test(flavor = "multi_thread")]
async fn pictures_for_the_readme() {
    if std::env::var_os("SPANDREL_PICTURES").is_none() {
        return println!("skipped: SPANDREL_PICTURES is not set");
    }
    let Some((shop, browser)) = start(Shop::builder()).await else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let mut rounds = tokio::time::interval(std::time::Duration::from_secs(2));
    for round in 0..12 {
        for path in [RECOMMENDATIONS, "/users/2/recommendations", "/users/1/shopping-analysis", "/users/2", "/users/99"]
        {
            shop.get("user-service", path).await;
        }
        if round == 6 {
            shop.admin().swap("inventory-service", variant("inventory-service", 1)).await;
        }
        shop.get("inventory-service", &format!("/inventory/{}", round % 4)).await;
        rounds.tick().await;
    }
    let answer = shop.get("user-service", RECOMMENDATIONS).await;
    let pages = [("services", "/".to_owned(), 860), ("trace", format!("/traces/{}", answer.trace.as_str()), 900)];
    for dark in [false, true] {
        browser.prefer_dark(dark).await;
        for (name, path, height) in &pages {
            browser.resize(1280, *height).await;
            browser.open(&page(&shop, path)).await;
            browser.text("main").await;
            let shade = if dark { "dark" } else { "light" };
            browser.screenshot(&folder.join(format!("console-{name}-{shade}.png"))).await;
        }
    }
}
