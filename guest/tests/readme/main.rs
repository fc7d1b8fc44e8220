//! The service in README.md compiles and responds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod service;

use guest::testing::Host;

#[test]
fn the_readme_shows_the_service_that_is_tested_here() {
    let readme = include_str!("../../../README.md");
    let code = readme.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    let (_, tested) = include_str!("service.rs").split_once("\n\n").unwrap();
    assert_eq!(code, tested);
}

#[test]
fn the_service_of_the_readme_answers_and_has_a_span() {
    let host = Host::new(service::service());
    assert_eq!(host.get("/hello/World").json::<String>().unwrap(), "Hello, World");
    assert_eq!(host.tree(), ["SERVER > hello"]);
    assert_eq!(host.get("/health").status(), 200);
}
