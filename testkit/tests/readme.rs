//! The terminal output in the README is what the host's binary prints.

use std::net::SocketAddr;

use testkit::process::free_address;
use testkit::{Client, ODDITIES_PORT, PATIENCE, SERVICES, Site, TraceId, artifacts, diff};

const README: &str = include_str!("../../README.md");

/// The requests whose traces the README shows, in order.
const REQUESTS: [(&str, &str, &str); 4] = [
    ("GET", "user-service", "/users/1/recommendations"),
    ("GET", "inventory-service", "/inventory"),
    ("POST", "inventory-service", "/inventory/1/reserve?quantity=3"),
    ("GET", "oddities", "/panic/the%20shelf%20fell"),
];

/// The lines of all blocks with traces, without the comments that contain the requests.
fn shown() -> String {
    let blocks = README.split("\n```").skip(1).step_by(2).filter_map(|block| block.strip_prefix('\n'));
    let traces = blocks.filter(|block| block.lines().any(|line| line.starts_with("trace ")));
    let lines = traces.flat_map(str::lines).filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| format!("{line}\n")).collect()
}

/// The log lines of a trace in the output, followed by its tree.
fn of_trace(printed: &str, id: &TraceId) -> String {
    let logged = printed.lines().filter(|line| line.contains(&format!(" {}: ", id.as_str())));
    let head = format!("trace {} ", id.as_str());
    let mut tree = printed.lines().skip_while(|line| !line.starts_with(&head));
    let spans = tree.next().into_iter().chain(tree.take_while(|line| line.starts_with("  ")));
    logged.chain(spans).map(|line| format!("{line}\n")).collect()
}

/// A text without the parts that differ between runs: times, ids and line numbers in sources.
fn normalized(text: &str) -> String {
    text.lines().map(|line| normalized_line(line) + "\n").collect()
}

fn normalized_line(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        let number = words.last().is_some_and(|word| word.parse::<f64>().is_ok());
        if number && ["us", "ms", "s"].contains(&word) {
            words.pop();
            // Spaces before a duration align it.
            words.truncate(words.iter().rposition(|word| !word.is_empty()).map_or(0, |last| last + 1));
            words.push("DURATION".to_owned());
            continue;
        }
        words.push(normalized_word(word));
    }
    words.join(" ")
}

fn normalized_word(word: &str) -> String {
    let id = word.trim_end_matches(':');
    if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return word.replace(id, "TRACE");
    }
    if word.len() == 27 && word.ends_with('Z') && word.contains('T') {
        return "TIME".to_owned();
    }
    match word.split_once(".rs:") {
        Some((file, rest)) => format!("{file}.rs:{}", rest.replace(|digit: char| digit.is_ascii_digit(), "")),
        None => word.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_shows_the_output_of_the_host() {
    let oddities: SocketAddr = free_address();
    let (site, builder) = Site::shop();
    let builder = builder.service("oddities", &artifacts::component("oddities"), oddities.port());
    site.write(&builder);
    let site = site.env("OTEL_SDK_DISABLED", "false").env("OTEL_TRACES_EXPORTER", "console");
    let spandrel = site.serve();
    let address = |service: &str| if service == "oddities" { oddities } else { site.address(service) };
    let mut traces = Vec::new();
    for (method, service, path) in REQUESTS {
        traces.push(Client::default().request(method, address(service), path).send().await.trace);
    }
    spandrel.signal("TERM");
    let ended = spandrel.wait(PATIENCE);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let mut printed: String = traces.iter().map(|trace| of_trace(&ended.stdout, trace)).collect();
    for (service, port) in SERVICES.into_iter().chain([("oddities", ODDITIES_PORT)]) {
        printed = printed.replace(&format!("localhost:{}/", address(service).port()), &format!("localhost:{port}/"));
    }
    let difference = diff::lines(&normalized(&shown()), &normalized(&printed));
    assert!(
        difference.is_empty(),
        "README.md (-) shows other lines than the host (+) prints:\n{difference}\n{printed}"
    );
}

#[test]
fn variable_parts_are_not_compared() {
    let id = "d0535d242781cca68aa0fc32e5fa3509";
    for (one, other) in [
        (format!("trace {id} (1 span)"), "trace TRACE (1 span)"),
        (format!("2026-11-25T21:25:08.366532Z ERROR a {id}: b (src/a.rs:1:22)"), "TIME ERROR a TRACE: b (src/a.rs::)"),
        ("  a  GET /  SERVER   3.85 ms  200".to_owned(), "  a  GET /  SERVER DURATION  200"),
        ("  a  GET /  SERVER    851 us  200".to_owned(), "  a  GET /  SERVER DURATION  200"),
    ] {
        assert_eq!(normalized_line(&one), other);
    }
}
