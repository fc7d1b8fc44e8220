//! Finds the JDK with which OpenSearch is built and run.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::workspace;

/// The version that OpenSearch's class files require.
const OLDEST: u32 = 21;

/// The newest JDK among `JAVA_HOME`, the usual folders and the `javac` on the PATH.
pub(super) fn find() -> Result<PathBuf> {
    let found = candidates().into_iter().filter_map(|home| Some((version(&home)?, home)));
    match found.max() {
        Some((version, home)) if version >= OLDEST => Ok(home),
        Some((version, home)) => bail!(
            "OpenSearch needs a JDK of version {OLDEST} or newer, and the newest here is {version} ({}); \
             install one, or let JAVA_HOME point to it",
            home.display()
        ),
        None => bail!(
            "there is no JDK: OpenSearch needs one of version {OLDEST} or newer, \
             in /usr/lib/jvm, on the PATH, or where JAVA_HOME points to"
        ),
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut homes: Vec<PathBuf> = env::var_os("JAVA_HOME").map(PathBuf::from).into_iter().collect();
    for folder in ["/usr/lib/jvm", "/opt", "/Library/Java/JavaVirtualMachines"] {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        homes.extend(entries.flat_map(|entry| [entry.path(), entry.path().join("Contents/Home")]));
    }
    let on_path = workspace::on_path("javac").and_then(|javac| javac.canonicalize().ok());
    homes.extend(on_path.and_then(|javac| Some(javac.parent()?.parent()?.to_owned())));
    homes
}

/// The major version if this is the home of a JDK; a JRE has no compiler.
fn version(home: &Path) -> Option<u32> {
    home.join("bin/javac").is_file().then_some(())?;
    major(&fs::read_to_string(home.join("release")).ok()?)
}

fn major(release: &str) -> Option<u32> {
    let line = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION="))?;
    line.trim_matches('"').split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_release_file() {
        assert_eq!(major("IMPLEMENTOR=\"X\"\nJAVA_VERSION=\"25.0.1\"\n"), Some(25));
        assert_eq!(major("JAVA_VERSION=\"21\""), Some(21));
        assert_eq!(major("JAVA_RUNTIME_VERSION=\"17\""), None);
    }
}
