//! The command line of the binary, as cargo built it.
//!
//! Cargo builds a package's binary for tests only where the package has an integration test. The test kit starts that
//! binary too, so this file must stay even if others say the same.

use std::process::{Command, Output};

fn spandrel(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_spandrel")).args(arguments).output()
}

#[test]
fn help_names_every_command_and_each_has_help_of_its_own() {
    let output = spandrel(&["--help"]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    for command in ["run", "check", "inspect", "status", "swap", "rollback", "promote", "abort"] {
        assert!(text.lines().any(|line| line.trim_start().starts_with(command)), "{command} is not in\n{text}");
        let own = spandrel(&[command, "--help"]).unwrap();
        assert!(own.status.success() && String::from_utf8_lossy(&own.stdout).contains("Usage: spandrel"), "{command}");
    }
}

#[test]
fn a_command_that_does_not_exist_is_refused_with_the_nearest_one() {
    let output = spandrel(&["statsu"]).unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("'statsu'") && text.contains("'status'"), "{text}");
}

#[test]
fn the_version_is_that_of_the_package() {
    let output = spandrel(&["--version"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), concat!("spandrel ", env!("CARGO_PKG_VERSION")));
}
