//! Checks the configuration files with the programs that read them.

use std::process::Command;

use anyhow::{Context, Result};

use super::programs::{self, Programs};
use crate::{process, workspace};

/// Fails with the output of the first program that rejects its configuration.
pub(super) fn run(programs: &Programs) -> Result<()> {
    let root = workspace::root();
    let mut compose = Command::new(programs::compose()?);
    compose.args(["--profile", "*", "--file"]).arg(root.join("docker-compose.yml")).args(["config", "--quiet"]);
    check("docker-compose.yml", &mut compose)?;
    for (program, file) in
        [(&programs.collector, "otel-collector-config.yaml"), (&programs.jaeger, "jaeger-config.yaml")]
    {
        check(file, Command::new(program).arg("validate").arg("--config").arg(root.join(file)))?;
    }
    if let Some(bin) = &programs.prometheus {
        let promtool = |arguments: [&str; 3]| {
            let mut command = Command::new(bin.join("promtool"));
            command.args(arguments).current_dir(root.join("deploy/prometheus"));
            command
        };
        check("prometheus.yml", &mut promtool(["check", "config", "prometheus.yml"]))?;
        check("alerts.yml", &mut promtool(["test", "rules", "alerts.test.yml"]))?;
    }
    Ok(())
}

fn check(what: &str, command: &mut Command) -> Result<()> {
    process::output(command).with_context(|| format!("{what} is not valid"))?;
    println!("{what} is valid");
    Ok(())
}
