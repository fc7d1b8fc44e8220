//! The console's paths, methods and authentication.

use std::net::SocketAddr;

use testkit::{Answer, Client, Site, Spandrel};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
const READ: &[&str] = &["GET", "HEAD"];

/// All paths of the console except pages, and their methods.
const PATHS: [(&str, &[&str]); 21] = [
    ("/healthz", READ),
    ("/readyz", READ),
    ("/metrics", READ),
    ("/login", &["GET", "HEAD", "POST"]),
    ("/logout", &["POST"]),
    ("/admin/v1/services", READ),
    ("/admin/v1/services/none/component", &["PUT"]),
    ("/admin/v1/services/none/rollback", &["POST"]),
    ("/admin/v1/services/none/promote", &["POST"]),
    ("/admin/v1/services/none/abort", &["POST"]),
    ("/admin/v1/traces", READ),
    ("/admin/v1/store", READ),
    ("/api/services", READ),
    ("/api/services/none/operations", READ),
    ("/api/operations", READ),
    ("/api/traces", READ),
    ("/api/traces/1", READ),
    ("/api/dependencies", READ),
    ("/api/v3/services", READ),
    ("/api/v3/operations", READ),
    ("/api/v3/traces", READ),
];

/// A host without services.
fn serve(more: &str, token: Option<&str>) -> (Site, Spandrel) {
    let mut site = Site::new(&[]);
    if let Some(token) = token {
        site = site.env("SPANDREL_ADMIN_TOKEN", token);
    }
    let manifest = format!("[console]\nlisten = \"{}\"\n{more}", site.console());
    site.replace("services.toml", manifest.as_bytes());
    let host = site.serve();
    (site, host)
}

async fn send(console: SocketAddr, method: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
    let request = Client::default().request(method, console, path).untraced();
    fields.iter().fold(request, |request, (name, value)| request.header(name, value)).send().await
}

fn allowed(answer: &Answer) -> Vec<String> {
    let mut methods: Vec<_> = answer.header("allow").split(',').map(|method| method.trim().to_owned()).collect();
    methods.sort();
    methods
}

#[tokio::test]
async fn every_path_serves_its_methods_and_lists_them_for_other_methods() {
    let (site, _host) = serve("", None);
    for (path, methods) in PATHS {
        for method in METHODS {
            let answer = send(site.console(), method, path, &[]).await;
            if methods.contains(&method) {
                assert_ne!(answer.status, 405, "{method} {path}");
                continue;
            }
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
            let mut expected: Vec<_> = methods.iter().map(|method| (*method).to_owned()).collect();
            expected.sort();
            assert_eq!(allowed(&answer), expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn head_has_the_response_of_get_without_the_body() {
    let (site, _host) = serve("", None);
    for path in ["/healthz", "/metrics", "/admin/v1/services", "/api/services", "/api/v3/services"] {
        let [get, head] = [send(site.console(), "GET", path, &[]).await, send(site.console(), "HEAD", path, &[]).await];
        assert_eq!((get.status, head.status, head.body.len()), (200.try_into().unwrap(), get.status, 0), "{path}");
        assert_eq!(get.header("content-type"), head.header("content-type"), "{path}");
    }
}

#[tokio::test]
async fn unknown_paths_are_404_problems_for_all_methods() {
    let (site, _host) = serve("", None);
    for path in [
        "/nothing",
        "/admin",
        "/admin/v1",
        "/admin/v1/services/none",
        "/admin/v1/services/none/explode",
        "/api",
        "/api/v3",
        "/api/traces/1/2",
        "/healthz/x",
        "/jaeger/",
        "/jaeger/index.html",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let answer = send(site.console(), method, path, &[]).await;
            assert_eq!(answer.status, 404, "{method} {path}");
            assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {path}");
        }
    }
    for (method, path) in [("PUT", "component"), ("POST", "rollback"), ("POST", "promote"), ("POST", "abort")] {
        let answer = send(site.console(), method, &format!("/admin/v1/services/none/{path}"), &[]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["detail"].as_str()),
            (404, Some("There is no service `none`"))
        );
    }
}

#[tokio::test]
async fn without_a_token_only_local_host_names_are_accepted() {
    let (site, _host) = serve("", None);
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("localhost.", 200),
        ("[::1]:8010", 200),
        ("evil.example", 403),
        ("localhost.evil", 403),
    ] {
        assert_eq!(send(site.console(), "GET", "/admin/v1/services", &[("host", host)]).await.status, status, "{host}");
    }
    assert_eq!(
        send(site.console(), "GET", "/healthz", &[("host", "evil.example")]).await.status,
        200,
        "health is no secret"
    );
}

#[tokio::test]
async fn a_browser_can_log_in_and_submit_the_consoles_own_forms() {
    let (site, _host) = serve("", Some("s3cret"));
    let console = site.console();
    let asked = send(console, "GET", "/admin/v1/services?a=b", &[("accept", "text/html,*/*")]).await;
    assert_eq!(
        (asked.status.as_u16(), asked.header("location")),
        (303, "/login?next=%2Fadmin%2Fv1%2Fservices%3Fa%3Db")
    );
    let program = send(console, "GET", "/admin/v1/services", &[]).await;
    assert_eq!((program.status.as_u16(), program.header("www-authenticate")), (401, "Bearer"));
    assert_eq!(send(console, "GET", "/login?next=/traces", &[]).await.status, 200);

    let log_in = async |token: &str, origin: &str| {
        let request = Client::default().request("POST", console, "/login").untraced().header("origin", origin);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(format!("token={token}&next=%2Fadmin%2Fv1%2Fservices")).send().await
    };
    let own = format!("http://{console}");
    assert_eq!(log_in("wrong", &own).await.status, 401);
    assert_eq!(log_in("s3cret", "https://evil.example").await.status, 403);
    let come_in = log_in("s3cret", &own).await;
    assert_eq!((come_in.status.as_u16(), come_in.header("location")), (303, "/admin/v1/services"));
    let cookie = come_in.header("set-cookie").to_owned();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict") && !cookie.contains("s3cret"), "{cookie}");

    let pair = cookie.split(';').next().unwrap_or_default();
    assert_eq!(send(console, "GET", "/admin/v1/services", &[("cookie", pair)]).await.status, 200);
    let roll_back = async |fields: &[(&str, &str)]| {
        send(console, "POST", "/admin/v1/services/none/rollback", fields).await.status.as_u16()
    };
    assert_eq!(roll_back(&[("cookie", pair), ("origin", &own)]).await, 404);
    assert_eq!(roll_back(&[("cookie", pair)]).await, 403, "it does not say where it comes from");
    assert_eq!(roll_back(&[("cookie", pair), ("origin", "https://evil.example")]).await, 403);
    assert_eq!(roll_back(&[("authorization", "Bearer s3cret")]).await, 404, "a program does not have to");
    assert_eq!(roll_back(&[("cookie", "spandrel-console=s3cret"), ("origin", &own)]).await, 401);
}

#[tokio::test]
async fn the_jaeger_ui_is_served_from_its_folder_without_access_to_files_outside() {
    let folder = tempfile::tempdir().expect("a folder");
    let ui = folder.path().join("ui");
    std::fs::create_dir_all(ui.join("static")).expect("a folder");
    std::fs::write(ui.join("index.html"), "<head><base href=\"/\" data-inject-target=\"BASE_URL\" />").expect("a file");
    std::fs::write(ui.join("static/a.js"), "1").expect("a file");
    std::fs::write(folder.path().join("secret"), "s3cret").expect("a file");
    let (site, _host) = serve(&format!("jaeger_ui = \"{}\"\n", ui.display()), None);
    let get = async |path: &str| send(site.console(), "GET", path, &[]).await;
    for path in ["/jaeger/", "/jaeger/index.html", "/jaeger/search", "/jaeger/trace/1234"] {
        let page = get(path).await;
        assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"), "{path}");
        assert!(page.text().contains("<base href=\"/jaeger/\""), "{path}: {}", page.text());
    }
    assert_eq!(get("/jaeger").await.header("location"), "/jaeger/");
    assert_eq!(get("/jaeger/static/a.js").await.text(), "1");
    assert_eq!(get("/jaeger/api/services").await.json()["total"], 0);
    for path in [
        "/jaeger/../secret",
        "/jaeger/%2e%2e/secret",
        "/jaeger/..%2fsecret",
        "/jaeger/static/..%5c..%5csecret",
        "/jaeger//etc/passwd",
    ] {
        let answer = get(path).await;
        assert!(!answer.text().contains("s3cret") && !answer.text().contains("root:"), "{path}: {}", answer.text());
    }
}
