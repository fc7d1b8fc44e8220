//! Watches the manifest and the component files, and turns each change into one swap, once the file is whole.
//!
//! Files are looked at a few times a second, through symbolic links, and judged by device, inode, length and time of
//! change: this notices an atomic replacement, an editor that writes in pieces, and a link (or a folder on the way)
//! that was moved to another version alike, on every file system. A file is taken when it has stopped changing; one
//! that looks cut off is given longer.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::handle::Control;
use crate::component::Digest;
use crate::config::Config;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// How long a component that looks cut off may stay so before it is taken for broken.
const PATIENCE: Duration = Duration::from_secs(3);

/// Which file a path leads to, and in which state. Equal stamps mean that nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

/// One file that is watched.
#[derive(Default)]
struct Watched {
    /// What was last acted upon.
    settled: Option<Stamp>,
    /// What was last seen, where that is something else, and since when.
    moving: Option<(Option<Stamp>, Instant)>,
    /// Components that were read of this file before it was first looked at.
    known: Vec<Digest>,
}

/// The manifest and the component files.
pub(crate) struct Files(BTreeMap<PathBuf, Watched>);

impl Files {
    /// The files of a host that has just started. Each may have been replaced since it was read, so each is looked at
    /// once.
    pub(crate) fn of(control: &Control) -> Files {
        let mut files = Files(BTreeMap::new());
        files.follow(control);
        files
    }

    /// Watches what the manifest names, and nothing else.
    fn follow(&mut self, control: &Control) {
        let config = control.config.load();
        let wanted = paths(&config);
        self.0.retain(|path, _| wanted.contains(path));
        for path in wanted {
            let known = || {
                let services = config.services.iter().filter(|service| service.component == path);
                let running = services.filter_map(|service| control.catalog.find(service.name.as_str()));
                Watched {
                    known: running.map(|service| service.serving().stable.digest().clone()).collect(),
                    ..Watched::default()
                }
            };
            self.0.entry(path.clone()).or_insert_with(known);
        }
    }

    /// Runs until the host stops.
    pub(crate) async fn watch(mut self, control: Arc<Control>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let manifest = control.config.load().manifest.clone();
        loop {
            ticks.tick().await;
            self.follow(&control);
            for (path, watched) in &mut self.0 {
                let now = stamp(path).await;
                if watched.has_settled(now) && (*path == manifest || is_ready(path, watched).await) {
                    let first_look = watched.settled.is_none();
                    watched.settle(now);
                    match *path == manifest {
                        true => manifest_changed(&control, path, first_look).await,
                        false => component_changed(&control, path, std::mem::take(&mut watched.known)).await,
                    }
                }
            }
        }
    }
}

fn paths(config: &Config) -> Vec<PathBuf> {
    let components = config.services.iter().map(|service| service.component.clone());
    let mut paths: Vec<_> = std::iter::once(config.manifest.clone()).chain(components).collect();
    paths.dedup();
    paths
}

impl Watched {
    /// Whether the file is another than before and has been the same for a whole period.
    fn has_settled(&mut self, now: Option<Stamp>) -> bool {
        if now == self.settled || now.is_none() {
            self.moving = None;
            return false;
        }
        match self.moving {
            Some((before, _)) if before == now => true,
            Some((_, since)) => {
                self.moving = Some((now, since));
                false
            }
            None => {
                self.moving = Some((now, Instant::now()));
                false
            }
        }
    }

    fn settle(&mut self, now: Option<Stamp>) {
        self.settled = now;
        self.moving = None;
    }
}

/// Whether a component is whole, or has had long enough to become so.
async fn is_ready(path: &Path, watched: &Watched) -> bool {
    let waited = watched.moving.is_some_and(|(_, since)| since.elapsed() > PATIENCE);
    waited || tokio::fs::read(path).await.is_ok_and(|bytes| is_whole(&bytes))
}

/// Whether the sections of a WebAssembly file end where the file ends. Anything else than WebAssembly is as whole as
/// it will ever be.
fn is_whole(bytes: &[u8]) -> bool {
    if bytes.is_empty() {
        return false;
    }
    let magic = b"\0asm";
    let Some(after_magic) = bytes.strip_prefix(magic) else {
        return !magic.starts_with(bytes);
    };
    let Some(mut rest) = after_magic.get(4..) else { return false };
    while let Some(after_id) = rest.get(1..) {
        let Some(next) = skip_section(after_id) else { return false };
        rest = next;
    }
    true
}

/// Skips a section's length, which is a LEB128 number, and its contents.
fn skip_section(bytes: &[u8]) -> Option<&[u8]> {
    let mut length = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        length |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes.get(index + 1..)?.get(usize::try_from(length).ok()?..);
        }
    }
    None
}

async fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        length: metadata.len(),
        changed: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

async fn component_changed(control: &Arc<Control>, path: &Path, known: Vec<Digest>) {
    if is_known(path, &known).await {
        return;
    }
    for service in control.config.load().services.iter().filter(|service| service.component == path) {
        let (control, service) = (control.clone(), service.clone());
        // Not waited for: a newer file must be able to cancel this swap, and other files have theirs.
        tokio::spawn(async move { control.component_changed(&service).await });
    }
}

/// Whether a file holds what was read of it before.
async fn is_known(path: &Path, known: &[Digest]) -> bool {
    if known.is_empty() {
        return false;
    }
    match tokio::fs::read(path).await {
        Ok(bytes) => known.contains(&Digest::compute(&bytes.into()).await),
        Err(_) => false,
    }
}

async fn manifest_changed(control: &Arc<Control>, path: &Path, first_look: bool) {
    let applied = match Config::load(path, &control.environment) {
        Ok(new) if first_look && control.config.load().says_the_same_as(&new) => return,
        Ok(new) => control.apply(new).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match applied {
        Ok(()) => tracing::info!(manifest = %path.display(), "manifest applied"),
        Err(reason) => tracing::warn!(reason, "the changed manifest was not applied; everything stays as it was"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_whole_when_its_sections_end_with_the_file() {
        let whole = [0, b'a', b's', b'm', 13, 0, 1, 0, 0, 3, 1, 2, 3, 7, 0];
        assert!(is_whole(&whole));
        assert!(is_whole(&whole[..8]));
        for cut in [1, 3, 6, 9, 11, 12, 14] {
            assert!(!is_whole(&whole[..cut]), "cut at {cut}");
        }
        assert!(is_whole(b"not wasm"));
        assert!(!is_whole(b""));
    }

    #[test]
    fn a_file_settles_after_it_was_the_same_twice() {
        let stamp = |length| Some(Stamp { device: 1, inode: 1, length, changed: (0, 0) });
        let mut file = Watched { settled: stamp(1), ..Watched::default() };
        assert!(!file.has_settled(stamp(1)));
        assert!(!file.has_settled(stamp(2)));
        assert!(!file.has_settled(stamp(3)));
        assert!(file.has_settled(stamp(3)));
        file.settle(stamp(3));
        assert!(!file.has_settled(stamp(3)));
        assert!(!file.has_settled(None), "a file that is gone for a moment is no new version");
    }
}
