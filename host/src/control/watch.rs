//! Watches the manifest and the component files, and causes one swap per change, once the file is complete.
//!
//! Files are polled a few times a second, through symbolic links. This detects atomic replacements, editors that write
//! in pieces, and links (or folders on the path) that now lead to another version, on every file system. A file is read
//! when it has stopped changing; a file that looks incomplete gets more time.
//!
//! Manifest and components often change together, in any order. The manifest is handled first: while it is being
//! written no component is read, and it is not read while a component that may belong to it is being written. A
//! manifest that was rejected because something else than a component is missing, such as a folder or a free port, is
//! retried every few seconds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::handle::Control;
use super::manifest::Reload;
use super::stamp::Stamp;
use super::whole::is_whole;
use crate::component::Digest;
use crate::telemetry::Operation;

/// The polling interval.
const PERIOD: Duration = Duration::from_millis(200);
/// The longest wait for a file that looks incomplete, or for another file that is being written.
const PATIENCE: Duration = Duration::from_secs(3);

/// A watched file.
#[derive(Default)]
struct Watched {
    /// The stamp that was last handled.
    settled: Option<Stamp>,
    /// The stamp that was last seen, if it differs from the handled one, and since when.
    moving: Option<Moving>,
    /// Digests of the components that were read from this file before it was first polled.
    known: Vec<Digest>,
}

#[derive(Clone, Copy)]
struct Moving {
    stamp: Stamp,
    since: Instant,
}

/// The result of polling a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// The file is the handled one, or does not exist.
    Same,
    /// The file is being written.
    Changing,
    /// The file has changed and is complete.
    Changed,
}

/// Watches the manifest and the component files.
pub(crate) struct Files {
    manifest: (PathBuf, Watched),
    components: BTreeMap<PathBuf, Watched>,
}

impl Files {
    /// The files of a host that has just started. Each may have been replaced since it was read, so each is checked
    /// once.
    pub(crate) fn of(control: &Control) -> Files {
        let manifest = (control.config.load().manifest.clone(), Watched::default());
        let mut files = Files { manifest, components: BTreeMap::new() };
        files.follow(control);
        files
    }

    /// Watches the components that the manifest names, and those that a rejected manifest waits for.
    fn follow(&mut self, control: &Control) {
        let (config, services) = (control.config.load(), control.catalog.services());
        let mut wanted: Vec<_> = config.services.iter().map(|service| service.component.clone()).collect();
        wanted.extend(awaited(control));
        self.components.retain(|path, _| wanted.contains(path));
        for path in wanted {
            let known = || {
                let running = services.iter().filter(|service| service.declared().component == path);
                let known = running.map(|service| service.serving().stable.digest().clone()).collect();
                Watched { known, ..Watched::default() }
            };
            self.components.entry(path.clone()).or_insert_with(known);
        }
    }

    /// Runs until the host stops.
    pub(crate) async fn watch(mut self, control: Arc<Control>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.follow(&control);
            self.look(&control).await;
        }
    }

    /// Polls all files once and handles the changes.
    async fn look(&mut self, control: &Arc<Control>) {
        let (path, manifest) = &mut self.manifest;
        let of_manifest = manifest.look(Stamp::of(path).await);
        let mut changed = Vec::new();
        let mut waits = false;
        for (path, watched) in &mut self.components {
            match watched.look_at_component(path).await {
                Look::Same => {}
                Look::Changing => waits |= !watched.has_waited(),
                Look::Changed => changed.push(path.clone()),
            }
        }
        match of_manifest {
            Look::Changed if waits && !manifest.has_waited() => return,
            Look::Changing if !manifest.has_waited() => return,
            Look::Changed => manifest_changed(control, path, manifest).await,
            Look::Same if control.retry_is_due() => control.reload(Reload::Retry, None).await,
            Look::Same | Look::Changing => {}
        }
        for path in changed {
            let Some(watched) = self.components.get_mut(&path) else { continue };
            watched.settle();
            component_changed(control, &path, std::mem::take(&mut watched.known)).await;
        }
    }
}

impl Watched {
    /// A file has changed when its stamp differs from the handled one and has been stable for a whole period.
    fn look(&mut self, now: Option<Stamp>) -> Look {
        let Some(stamp) = now.filter(|_| now != self.settled) else {
            self.moving = None;
            return Look::Same;
        };
        let before = self.moving.replace(Moving { stamp, since: Instant::now() });
        let Some(before) = before else { return Look::Changing };
        self.moving = Some(Moving { stamp, since: before.since });
        if before.stamp == stamp { Look::Changed } else { Look::Changing }
    }

    async fn look_at_component(&mut self, path: &Path) -> Look {
        match self.look(Stamp::of(path).await) {
            Look::Changed if self.has_waited() || looks_whole(path).await => Look::Changed,
            Look::Changed => Look::Changing,
            look => look,
        }
    }

    /// Whether the longest wait has passed.
    fn has_waited(&self) -> bool {
        self.moving.is_some_and(|moving| moving.since.elapsed() > PATIENCE)
    }

    /// Marks the stamp that was last seen as handled.
    fn settle(&mut self) {
        self.settled = self.moving.take().map(|moving| moving.stamp).or(self.settled);
    }
}

async fn looks_whole(path: &Path) -> bool {
    tokio::fs::read(path).await.is_ok_and(|bytes| is_whole(&bytes))
}

/// The components that a rejected manifest is missing.
fn awaited(control: &Control) -> Vec<PathBuf> {
    let refused = control.refused.lock().unwrap_or_else(PoisonError::into_inner);
    let missing = refused.iter().flat_map(|refused| refused.missing(&control.catalog));
    missing.map(|service| service.component.clone()).collect()
}

async fn manifest_changed(control: &Arc<Control>, path: &Path, watched: &mut Watched) {
    let is_first = watched.settled.is_none();
    let (why, noticed) =
        if is_first { (Reload::FirstLook, None) } else { (Reload::Changed, Some(noticed(control, path))) };
    watched.settle();
    control.reload(why, noticed.as_ref()).await;
    control.manifest_seen.send_replace(watched.settled);
}

async fn component_changed(control: &Arc<Control>, path: &Path, known: Vec<Digest>) {
    let is_awaited = awaited(control).iter().any(|awaited| awaited == path);
    if is_awaited {
        control.reload(Reload::Retry, Some(&noticed(control, path))).await;
    }
    if is_known(path, &known).await {
        return;
    }
    let services = control.catalog.services();
    let swapped: Vec<_> = services.iter().filter(|service| service.declared().component == path).collect();
    if !swapped.is_empty() {
        let names: Vec<_> = swapped.iter().map(|service| service.name.to_string()).collect();
        noticed(control, path).set("spandrel.service", names.join(", "));
    }
    for service in swapped {
        let (control, service) = (control.clone(), service.clone());
        // Not awaited: a newer file must be able to cancel this swap, and other files cause swaps of their own.
        tokio::spawn(async move { control.swap_file(&service).await });
    }
}

/// The trace that says that a file has changed.
fn noticed(control: &Control, path: &Path) -> Operation {
    let noticed = control.telemetry.operation("watch", "watch_failed");
    noticed.set("file.path", path.display().to_string());
    noticed
}

/// Whether the file contains a component that was read from it before.
async fn is_known(path: &Path, known: &[Digest]) -> bool {
    if known.is_empty() {
        return false;
    }
    match tokio::fs::read(path).await {
        Ok(bytes) => known.contains(&Digest::compute(&bytes.into()).await),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_changed_after_it_was_the_same_twice() {
        let stamp = |length| Some(Stamp::of_length(length));
        let mut file = Watched { settled: stamp(1), ..Watched::default() };
        assert_eq!(file.look(stamp(1)), Look::Same);
        assert_eq!(file.look(stamp(2)), Look::Changing);
        assert_eq!(file.look(stamp(3)), Look::Changing);
        assert_eq!(file.look(stamp(3)), Look::Changed);
        file.settle();
        assert_eq!(file.look(stamp(3)), Look::Same);
        assert_eq!(file.look(None), Look::Same, "a file that is gone for a moment is no new version");
    }

    #[test]
    fn a_change_that_is_not_acted_upon_yet_stays_one() {
        let mut file = Watched::default();
        let stamp = Some(Stamp::of_length(1));
        file.look(stamp);
        assert_eq!(file.look(stamp), Look::Changed);
        assert_eq!(file.look(stamp), Look::Changed);
        assert!(!file.has_waited());
    }
}
