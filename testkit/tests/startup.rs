//! Starts of the host's binary with an invalid manifest or component: one clear message, exit status 2, no open port.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use testkit::artifacts;
use testkit::process::{Ended, Spandrel, free_address, run};

/// A folder with a manifest and the component that it names.
struct Site {
    folder: TempDir,
    address: std::net::SocketAddr,
}

impl Site {
    fn new() -> Site {
        Site { folder: tempfile::tempdir().expect("a temporary folder"), address: free_address() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a manifest with a valid service, followed by one with this component file.
    fn manifest(&self, component: &Path) -> PathBuf {
        let (first, good) = (free_address(), artifacts::component("oddities"));
        self.write(&format!(
            "[console]\nlisten = \"off\"\n[state]\nbackend = \"memory\"\n\n\
             [[service]]\nname = \"good\"\nversion = \"1.0.0\"\ncomponent = \"{}\"\nlisten = \"{first}\"\n\n\
             [[service]]\nname = \"bad\"\nversion = \"1.0.0\"\ncomponent = \"{}\"\nlisten = \"{}\"\n",
            good.display(),
            component.display(),
            self.address
        ))
    }

    fn write(&self, manifest: &str) -> PathBuf {
        let path = self.path("services.toml");
        std::fs::write(&path, manifest).expect("a file can be written");
        path
    }

    /// Writes a component from WebAssembly text.
    fn wat(&self, text: &str) -> PathBuf {
        let path = self.path("bad.wasm");
        std::fs::write(&path, wat::parse_str(text).expect("good WebAssembly text")).expect("a file can be written");
        path
    }
}

fn spandrel(command: &str, manifest: &Path) -> Ended {
    run(&[command, "--manifest", &manifest.display().to_string()], &[])
}

/// Asserts that `run` and `check` reject the manifest with status 2 and one message that contains these words.
#[track_caller]
fn assert_refused(site: &Site, manifest: &Path, words: &[&str]) {
    for command in ["check", "run"] {
        let ended = spandrel(command, manifest);
        assert_eq!(ended.code, Some(2), "{command}: {ended:#?}");
        for word in words {
            assert!(ended.stderr.contains(word), "{command} does not say `{word}`: {ended:#?}");
        }
        let messages = ended.stderr.lines().filter(|line| line.to_lowercase().starts_with("error")).count();
        assert_eq!(messages, 1, "{command}: {ended:#?}");
        assert!(!ended.stderr.contains("panicked") && !ended.stderr.contains("backtrace"), "{command}: {ended:#?}");
    }
    assert!(std::net::TcpStream::connect(site.address).is_err(), "something listens");
}

#[test]
fn a_file_that_is_not_webassembly_is_named() {
    let site = Site::new();
    let path = site.path("bad.wasm");
    std::fs::write(&path, "#!/bin/sh\necho hello\n").expect("a file can be written");
    assert_refused(&site, &site.manifest(&path), &["bad.wasm", "not a WebAssembly file", "componentize-py"]);
}

#[test]
fn a_folder_as_a_component_is_refused_with_the_remedy() {
    let site = Site::new();
    let path = site.path("build");
    std::fs::create_dir(&path).expect("a folder can be created");
    assert_refused(&site, &site.manifest(&path), &["Is a directory", "Add the name of the .wasm file in it"]);
}

#[test]
fn a_core_module_is_distinguished_from_a_component() {
    let site = Site::new();
    let path = site.wat("(module (func (export \"handle\")))");
    assert_refused(&site, &site.manifest(&path), &["bad.wasm", "core WebAssembly module"]);
}

#[test]
fn a_truncated_component_is_refused() {
    let site = Site::new();
    let path = site.path("bad.wasm");
    let bytes = std::fs::read(artifacts::component("oddities")).expect("the component can be read");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("a file can be written");
    assert_refused(&site, &site.manifest(&path), &["bad.wasm"]);
}

#[test]
fn an_empty_file_is_refused() {
    let site = Site::new();
    let path = site.path("bad.wasm");
    std::fs::write(&path, "").expect("a file can be written");
    assert_refused(&site, &site.manifest(&path), &["bad.wasm", "it is empty"]);
}

#[test]
fn the_error_for_a_missing_handler_lists_the_possible_exports() {
    let site = Site::new();
    let path = site.wat("(component)");
    assert_refused(
        &site,
        &site.manifest(&path),
        &["bad.wasm", "spandrel:service/handler", "`guest::serve!`", "`wasi:http/proxy`"],
    );
}

#[test]
fn an_unsupported_import_is_named() {
    let site = Site::new();
    let path = site.wat(
        "(component
            (import \"acme:rockets/launch@1.0.0\" (instance (export \"launch\" (func))))
            (instance $handler)
            (export \"spandrel:service/handler@0.1.0\" (instance $handler)))",
    );
    assert_refused(&site, &site.manifest(&path), &["bad.wasm", "acme:rockets/launch@1.0.0"]);
}

#[test]
fn a_handler_with_a_wrong_signature_is_rejected() {
    let site = Site::new();
    let path = site.wat(
        "(component
            (instance $handler)
            (export \"spandrel:service/handler@0.1.0\" (instance $handler)))",
    );
    assert_refused(&site, &site.manifest(&path), &["bad.wasm"]);
}

#[test]
fn the_error_for_a_missing_component_has_a_remedy() {
    let site = Site::new();
    let manifest = site.manifest(&site.path("missing.wasm"));
    assert_refused(&site, &manifest, &["missing.wasm", "correct `component` in the manifest"]);
    assert!(!spandrel("check", &manifest).stderr.contains("cargo"), "there is nothing to build");
}

#[test]
fn a_panic_while_reporting_routes_has_its_message_and_location() {
    let site = Site::new();
    let component = artifacts::component("oddities");
    let manifest = site.write(&format!(
        "[console]\nlisten = \"off\"\n[state]\nbackend = \"memory\"\n\n\
         [[service]]\nname = \"bad\"\nversion = \"1.0.0\"\ncomponent = \"{}\"\nlisten = \"{}\"\n\
         [service.config]\npanic_in_routes = \"the signpost fell\"\n",
        component.display(),
        site.address
    ));
    assert_refused(&site, &manifest, &["asked for its routes: the signpost fell (", "oddities/src/lib.rs:"]);
}

#[test]
fn a_missing_manifest_is_named() {
    let site = Site::new();
    assert_refused(&site, &site.path("nowhere.toml"), &["nowhere.toml"]);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    let site = Site::new();
    let good = artifacts::component("oddities");
    let manifest = site.write(&format!(
        "[[service]]\nname = \"a\"\nversion = \"1\"\ncomponent = \"{}\"\nlistn = \"127.0.0.1:8123\"\n",
        good.display()
    ));
    assert_refused(&site, &manifest, &["listn", "listen", "5", "services.toml"]);
}

#[test]
fn invalid_values_are_named_with_line_and_column() {
    let good = artifacts::component("oddities");
    let service = |rest: &str| {
        format!(
            "[[service]]\nname = \"a\"\nversion = \"1\"\ncomponent = \"{}\"\nlisten = \"127.0.0.1:8123\"\n{rest}",
            good.display()
        )
    };
    let cases = [
        (service("isolation = \"none\"\n"), "isolation"),
        (service("[service.limits]\nmemory = \"much\"\n"), "`much`, which is not a valid size"),
        (service("[service.limits]\nrequest_timeout = \"10 parsecs\"\n"), "10 parsecs"),
        (service("[service.limits]\nconcurrency = 0\n"), "concurrency"),
        (service("[service.outbound]\nallow = [\"not a url\"]\n"), "`not a url`, which is not a valid origin"),
        (service("[service.config]\nx = \"${NOBODY_SET_THIS}\"\n"), "NOBODY_SET_THIS"),
        (format!("[state]\nbackend = \"paper\"\n{}", service("")), "backend"),
        (format!("{}{}", service(""), service("")), "`a`"),
        (service("").replace("127.0.0.1:8123", "8123"), "listen"),
        ("this is no toml".to_owned(), "services.toml"),
    ];
    for (text, word) in cases {
        let site = Site::new();
        let manifest = site.write(&text);
        let ended = spandrel("check", &manifest);
        assert_eq!(ended.code, Some(2), "{text}\n{ended:#?}");
        assert!(ended.stderr.contains(word), "`{word}` is not in {ended:#?} for\n{text}");
    }
}

#[test]
fn all_errors_of_a_manifest_are_reported_together() {
    let site = Site::new();
    let good = artifacts::component("oddities");
    let text = format!(
        "[console]\nlisten = \"off\"\ntrace = 1\n[[service]]\nname = \"A\"\ncomponent = \"{}\"\nlisten = \"{}\"\n\
         [service.limits]\nmemory = \"much\"\nconcurrency = 0\n",
        good.display(),
        site.address
    );
    let words =
        ["toml:3:1: unknown key `trace`", "toml:5:8: `A` is", "toml:9:10: `memory`", "toml:10:15: `concurrency`"];
    assert_refused(&site, &site.write(&text), &words);
}

#[test]
fn every_component_that_cannot_serve_is_named_before_any_is_compiled() {
    let site = Site::new();
    let module = site.wat("(module)");
    let candidate = site.path("candidate.wasm");
    let text = "(component (import \"wasi:http/types@0.3.0-rc-2026-01-06\" (instance)))";
    std::fs::write(&candidate, wat::parse_str(text).expect("good WebAssembly text")).expect("a file can be written");
    let service = |name: &str, file: &Path| {
        let (file, address) = (file.display(), free_address());
        format!("[[service]]\nname = \"{name}\"\ncomponent = \"{file}\"\nlisten = \"{address}\"\n")
    };
    let good = artifacts::component("oddities");
    let text = [service("good", &good), service("module", &module), service("candidate", &candidate)].concat();
    let ended = spandrel("check", &site.write(&text));
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    for words in ["service `module`", "not a component", "service `candidate`", "release candidate of WASI 0.3"] {
        assert!(ended.stderr.contains(words), "{words}: {ended:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_without_a_console_opens_none_and_reports_it() {
    let site = Site::new();
    let good = artifacts::component("oddities");
    let text =
        format!("[[service]]\nname = \"a\"\ncomponent = \"{}\"\nlisten = \"{}\"\n", good.display(), site.address);
    let mut host = Spandrel::serve(&site.write(&text), &[("OTEL_SDK_DISABLED", "true")]);
    host.wait_until_listening(site.address);
    host.wait_for_line(&["console: none", "`[console]`"]).await;
}

#[test]
fn a_port_in_use_ends_the_start() {
    let site = Site::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let good = artifacts::component("oddities");
    let service = |name: &str, listen| {
        format!(
            "[[service]]\nname = \"{name}\"\nversion = \"1\"\ncomponent = \"{}\"\nlisten = \"{listen}\"\n",
            good.display()
        )
    };
    let text = format!("[console]\nlisten = \"off\"\n{}{}", service("first", site.address), service("second", address));
    let ended = spandrel("run", &site.write(&text));
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains(&address.to_string()), "{ended:#?}");
    assert!(std::net::TcpStream::connect(site.address).is_err(), "the first service was started");
}

#[test]
fn an_invalid_otel_variable_is_ignored_and_named_and_refused_by_a_strict_check() {
    let site = Site::new();
    let manifest = site.manifest(&artifacts::component("oddities")).display().to_string();
    let cases = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_PROPAGATORS", "rumour"),
        ("OTEL_TRACES_EXPORTER", "paper"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_SDK_DISABLED", "maybe"),
        ("OTEL_RESOURCE_ATTRIBUTES", "oops"),
    ];
    for (name, value) in cases {
        let ended = run(&["check", "--manifest", &manifest], &[(name, value)]);
        assert_eq!(ended.code, Some(0), "{name}: {ended:#?}");
        assert!(ended.stdout.contains(&format!("ignored: {name}=")), "{name}: {ended:#?}");
    }
    let ended = run(&["check", "--strict", "--manifest", &manifest], &cases);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    for (name, _) in cases {
        assert!(ended.stderr.contains(&format!("ignored: {name}=")), "{name}: {ended:#?}");
    }
}

#[test]
fn an_endpoint_that_cannot_be_used_ends_the_start() {
    let site = Site::new();
    let manifest = site.manifest(&artifacts::component("oddities")).display().to_string();
    let ended = run(&["check", "--manifest", &manifest], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url")]);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{ended:#?}");
}

#[test]
fn check_accepts_a_valid_manifest_without_serving() {
    let site = Site::new();
    let manifest = site.manifest(&artifacts::component("oddities"));
    let ended = spandrel("check", &manifest);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("good") && ended.stdout.contains("bad"), "{ended:#?}");
    let ended = run(&["check", "--json", "--manifest", &manifest.display().to_string()], &[]);
    let json: Value = serde_json::from_str(&ended.stdout).expect("JSON on standard output");
    assert_eq!(json["services"].as_array().map(Vec::len), Some(2));
}

#[test]
fn inspect_describes_a_component() {
    let path = artifacts::component("oddities").display().to_string();
    let ended = run(&["inspect", &path], &[]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    for word in ["lean", "GET", "/panic/{message}", "spandrel:service/handler", "wasi:keyvalue/store", "sha256"] {
        assert!(ended.stdout.contains(word), "`{word}` is not in {}", ended.stdout);
    }
    let ended = run(&["inspect", "--json", &path], &[]);
    let json: Value = serde_json::from_str(&ended.stdout).expect("JSON on standard output");
    assert_eq!(json["kind"], "lean");
    let size = std::fs::metadata(&path).expect("the component is there").len();
    assert_eq!(json["size"], size);
    let imports = json["imports"].as_array().cloned().unwrap_or_default();
    assert!(!imports.is_empty() && imports.iter().all(|import| import["offered"] == true), "{imports:#?}");
}

#[test]
fn inspect_lists_missing_imports() {
    let site = Site::new();
    let text = "(component (import \"acme:rockets/launch@1.0.0\" (instance (export \"launch\" (func)))))";
    let ended = run(&["inspect", &site.wat(text).display().to_string()], &[]);
    assert!(ended.stdout.contains("MISSING acme:rockets/launch@1.0.0"), "{ended:#?}");
}

#[test]
fn inspect_of_a_file_that_is_not_a_component_exits_with_2() {
    let site = Site::new();
    let path = site.wat("(module)").display().to_string();
    let ended = run(&["inspect", &path], &[]);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains("core WebAssembly module"), "{ended:#?}");
}

#[test]
fn every_command_has_help_and_an_unknown_one_exits_with_2() {
    for command in ["run", "check", "inspect", "status", "swap", "rollback"] {
        let ended = run(&[command, "--help"], &[]);
        assert_eq!(ended.code, Some(0), "{command}: {ended:#?}");
        assert!(ended.stdout.contains("Usage"), "{command}: {ended:#?}");
    }
    assert_eq!(run(&["dance"], &[]).code, Some(2));
}

#[test]
fn a_console_on_a_public_address_needs_a_token() {
    let site = Site::new();
    let port = free_address().port();
    let good = artifacts::component("oddities");
    let manifest = site.write(&format!(
        "[console]\nlisten = \"0.0.0.0:{port}\"\n[[service]]\nname = \"a\"\nversion = \"1\"\ncomponent = \"{}\"\nlisten = \"{}\"\n",
        good.display(),
        site.address
    ));
    assert_refused(&site, &manifest, &["SPANDREL_ADMIN_TOKEN"]);
    let ended = run(
        &["check", "--manifest", &manifest.display().to_string()],
        &[("SPANDREL_ADMIN_TOKEN", "0123456789abcdef0123456789abcdef")],
    );
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_starts_without_a_writable_cache_folder() {
    let site = Site::new();
    let manifest = site.manifest(&artifacts::component("oddities"));
    let file = site.path("file");
    std::fs::write(&file, "in the way").expect("a file can be written");
    for folder in [file.clone(), file.join("below"), "/proc/nothing".into()] {
        let folder = folder.display().to_string();
        let environment = [("SPANDREL_CACHE_DIR", folder.as_str()), ("OTEL_SDK_DISABLED", "true")];
        let mut host = testkit::Spandrel::serve(&manifest, &environment);
        host.wait_until_listening(site.address);
        let line = host.wait_for_line(&["WARN", "compiled components are not kept"]).await;
        assert!(line.contains(&folder), "{line}");
    }
}
