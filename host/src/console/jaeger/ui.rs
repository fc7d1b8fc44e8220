//! `/jaeger/`: serves a build of Jaeger's own UI from a folder, with the traces of the store.
//!
//! The UI is a single page that requests the API below its own base path, which is written into `index.html`, as in
//! Jaeger.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::response::{Redirect, Response};
use axum::routing::get;
use http::StatusCode;
use tower_http::services::ServeDir;

use super::api;
use crate::console::responses;
use crate::console::state::Console;

/// The path of the UI.
const BASE: &str = "/jaeger";
/// The largest `index.html` that is read, in bytes.
const MAX_PAGE: u64 = 1 << 20;

/// Serves the files in `folder`. Every other path returns the page itself, which does its own routing.
pub(in crate::console) fn routes(folder: &Path) -> Router<Arc<Console>> {
    let page = folder.join("index.html");
    let index = move || index(page.clone());
    let files = ServeDir::new(folder).append_index_html_on_directories(false).fallback(get(index.clone()));
    let below = Router::new().route("/", get(index.clone())).route("/index.html", get(index)).nest("/api", api());
    let to_slash = get(|| async { Redirect::permanent("/jaeger/") });
    Router::new().route(BASE, to_slash).nest("/jaeger/", below.fallback_service(files))
}

async fn index(page: PathBuf) -> Response {
    match read(&page).await {
        Ok(text) => responses::with_type(with_base_path(&text).into(), "text/html; charset=utf-8"),
        Err(error) => responses::problem(
            StatusCode::NOT_FOUND,
            &format!("The folder of the Jaeger UI has no index.html: {error}"),
        ),
    }
}

async fn read(page: &Path) -> std::io::Result<String> {
    if tokio::fs::metadata(page).await?.len() > MAX_PAGE {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    tokio::fs::read_to_string(page).await
}

/// The page with its base path inserted.
fn with_base_path(page: &str) -> String {
    page.replace("<base href=\"/\"", &format!("<base href=\"{BASE}/\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_path_is_inserted_into_the_page() {
        let page = "<base href=\"/\" data-inject-target=\"BASE_URL\" /><script src=\"./static/a.js\">";
        assert!(with_base_path(page).starts_with("<base href=\"/jaeger/\" data-inject-target=\"BASE_URL\" />"));
    }
}
