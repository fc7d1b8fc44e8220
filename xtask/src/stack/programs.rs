//! Installs the programs: each is built once, by its recipe in `deploy/stack`, and again when its recipe changes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::jdk;
use crate::{process, workspace};

const BUILDER: &str = "go.opentelemetry.io/collector/cmd/builder@v0.159.0";
const JAEGER: &str = "github.com/jaegertracing/jaeger/cmd/jaeger";
const COMPOSE: &str = "github.com/docker/compose/v2/cmd";

/// Prefix of the error if the machine lacks a build tool. The end-to-end test looks for it.
const CANNOT_RUN: &str = "the stack cannot run here";

/// The paths of the programs.
pub(super) struct Programs {
    pub(super) collector: PathBuf,
    pub(super) jaeger: PathBuf,
    /// The class path of an OpenSearch node.
    pub(super) opensearch: String,
    pub(super) java: PathBuf,
    /// The folder of prometheus and promtool. The rest of the stack works without them.
    pub(super) prometheus: Option<PathBuf>,
}

impl Programs {
    /// Installs the missing programs. Waits for another process that does the same.
    pub(super) fn fetch() -> Result<Programs> {
        let (go, jdk) = (go()?, jdk::find().context(CANNOT_RUN)?);
        let (cache, _lock) = cache()?;
        Ok(Programs {
            collector: collector(&go, &cache.join("collector"))?,
            jaeger: go_tool(&go, JAEGER, "jaeger", &cache.join("jaeger"))?,
            opensearch: opensearch(&jdk, &cache.join("opensearch"))?,
            java: jdk.join("bin/java"),
            prometheus: prometheus(&cache.join("prometheus"))?,
        })
    }

    /// Prints the paths.
    pub(super) fn show(&self) {
        println!("collector   {}", self.collector.display());
        println!("jaeger      {}", self.jaeger.display());
        println!("opensearch  {} -cp {}", self.java.display(), self.opensearch);
        match &self.prometheus {
            Some(folder) => println!("prometheus  {}", folder.join("prometheus").display()),
            None => println!("prometheus  (none: not on the PATH, and this is not Debian)"),
        }
    }
}

/// Installs `docker compose`, which is only used to check docker-compose.yml.
pub(super) fn compose() -> Result<PathBuf> {
    let (cache, _lock) = cache()?;
    go_tool(&go()?, COMPOSE, "compose", &cache.join("compose"))
}

fn go() -> Result<PathBuf> {
    workspace::on_path("go")
        .context("there is no `go` on the PATH: the Collector and Jaeger are built with it (1.26 or newer)")
        .context(CANNOT_RUN)
}

/// The folder of all programs, and a lock on it. The lock is held while the file is open, at most until the process
/// ends.
fn cache() -> Result<(PathBuf, File)> {
    let cache = workspace::cache()?.join("stack");
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    Ok((cache, lock))
}

/// The folder of a program's recipe.
fn recipe(name: &str) -> PathBuf {
    workspace::root().join("deploy/stack").join(name)
}

fn collector(go: &Path, folder: &Path) -> Result<PathBuf> {
    let manifest = recipe("collector").join("builder.yaml");
    build_once("the Collector (some minutes)", folder, std::slice::from_ref(&manifest), || {
        let config = format!("--config={}", manifest.display());
        process::run(Command::new(go).args(["run", BUILDER, &config]).current_dir(folder))
    })?;
    Ok(folder.join("out/otelcol-spandrel"))
}

/// Builds a program from a local Go module, whose go.sum pins all dependencies.
fn go_tool(go: &Path, package: &str, name: &str, folder: &Path) -> Result<PathBuf> {
    let module = recipe(name);
    let program = folder.join(name);
    build_once(&format!("{name} (some minutes)"), folder, &[module.join("go.mod"), module.join("go.sum")], || {
        let mut build = Command::new(go);
        build.args(["build", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&program).arg(package);
        process::run(build.current_dir(&module))
    })?;
    Ok(program)
}

fn opensearch(jdk: &Path, folder: &Path) -> Result<String> {
    let project = recipe("opensearch");
    let sources = ["pom.xml", "src/main/java/spandrel/OpenSearchNode.java", "src/main/resources/log4j2.properties"];
    build_once("OpenSearch", folder, &sources.map(|file| project.join(file)), || {
        let maven = workspace::on_path("mvn").context("there is no `mvn` on the PATH: Maven installs OpenSearch")?;
        let mut build = Command::new(maven);
        build.args(["-q", "-B", "package"]).arg(format!("-Doutput={}", folder.display()));
        process::run(build.env("JAVA_HOME", jdk).current_dir(&project))
    })?;
    Ok(format!("{0}/opensearch-node-1.jar:{0}/lib/*", folder.display()))
}

/// The program on the PATH, or else from Debian's package, unpacked without installing, which would start a service.
fn prometheus(folder: &Path) -> Result<Option<PathBuf>> {
    if let Some(program) = workspace::on_path("prometheus") {
        return Ok(program.parent().map(Path::to_owned));
    }
    let (Some(apt), Some(dpkg)) = (workspace::on_path("apt-get"), workspace::on_path("dpkg-deb")) else {
        return Ok(None);
    };
    build_once("Prometheus", folder, &[], || {
        process::run(Command::new(apt).args(["-q", "download", "prometheus"]).current_dir(folder))?;
        let mut entries = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
        let Some(package) = entries.find(|path| path.extension().is_some_and(|end| end == "deb")) else {
            bail!("apt-get left no package in {}", folder.display());
        };
        process::run(Command::new(dpkg).arg("-x").arg(package).arg(folder))
    })?;
    Ok(Some(folder.join("usr/bin")))
}

/// Runs `build` in an empty folder, unless the folder was already built by the same recipe.
fn build_once(what: &str, folder: &Path, recipe: &[PathBuf], build: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut wanted = Vec::new();
    for file in recipe {
        wanted.extend(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    let stamp = folder.join("made-by");
    if fs::read(&stamp).is_ok_and(|recipe| recipe == wanted) {
        return Ok(());
    }
    eprintln!("installing {what}; this happens once");
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder)?;
    build().with_context(|| format!("cannot install {what}"))?;
    // Written last, so that an interrupted build starts over.
    fs::write(stamp, wanted)?;
    Ok(())
}
