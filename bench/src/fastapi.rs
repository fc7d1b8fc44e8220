//! The shop in Python, as a typical demo: FastAPI under uvicorn, one process for each service, the stock OpenTelemetry
//! SDK and instrumentation. Its packages are installed into a virtual environment in the target folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::contender::{Contender, Plan, Process, free_addresses};
use crate::folders::{sources, target};
use crate::load::Target;

/// The three services. They are started once to check that they run on this machine.
pub(crate) fn plan() -> Result<Plan> {
    let python = environment()?;
    start(&python)?.stop()?;
    Ok(Plan::new("FastAPI, uvicorn, stock SDK: three processes", move || start(&python)))
}

fn start(python: &Path) -> Result<Contender> {
    let [inventory, product, user] = free_addresses()?;
    let chain = [("inventory", inventory, None), ("product", product, Some(inventory)), ("user", user, Some(product))];
    let processes = chain.map(|(service, address, downstream)| {
        let mut command = Command::new(python);
        command.args(["-m", "uvicorn", "--host", "127.0.0.1", "--port", &address.port().to_string()]);
        command.args(["--log-level", "warning", "--no-access-log", &format!("{service}:app")]);
        command.current_dir(services());
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.envs(downstream.map(|downstream| ("DOWNSTREAM_URL", format!("http://{downstream}"))));
        Process { command, address }
    });
    Contender::start(Target::chain(user), processes.into())
}

fn services() -> PathBuf {
    sources().join("fastapi")
}

/// The interpreter of a virtual environment with the packages of the services. The first call creates it.
fn environment() -> Result<PathBuf> {
    let folder = target()?.join("bench-python");
    let python = folder.join("bin/python");
    let requirements = services().join("requirements.txt");
    let installed = folder.join("installed.txt");
    let wanted = std::fs::read(&requirements).context("read the requirements")?;
    if std::fs::read(&installed).is_ok_and(|current| current == wanted) {
        return Ok(python);
    }
    eprintln!("installing FastAPI and OpenTelemetry for Python into {}; this happens once", folder.display());
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&requirements))?;
    std::fs::write(&installed, wanted).context("write the list of installed packages")?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {program}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed: {}", stderr.lines().last().unwrap_or_default());
    Ok(())
}
