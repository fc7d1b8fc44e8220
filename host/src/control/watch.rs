//! Watches the manifest and the component files, and turns each change into one swap, once the file is whole.
//!
//! Files are looked at a few times a second, through symbolic links: this notices an atomic replacement, an editor that
//! writes in pieces, and a link (or a folder on the way) that was moved to another version alike, on every file system. A
//! file is taken when it has stopped changing; one that looks cut off is given longer.
//!
//! Manifest and components often change together, in any order. The manifest comes first: while it is being written no
//! component is taken, and it is not taken while a component that may be meant for it is being written. One that was
//! refused for want of something else than a component, such as a folder or a free port, is tried again every few seconds.

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

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// How long a file that looks cut off, or another that is written at the same time, is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// One file that is watched.
#[derive(Default)]
struct Watched {
    /// What was last acted upon.
    settled: Option<Stamp>,
    /// What was last seen, where that is something else, and since when.
    moving: Option<Moving>,
    /// Components that were read of this file before it was first looked at.
    known: Vec<Digest>,
}

#[derive(Clone, Copy)]
struct Moving {
    stamp: Stamp,
    since: Instant,
}

/// How a file looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// As it was acted upon, or not there.
    Same,
    /// Somebody is writing it.
    Changing,
    /// Another one than before, and whole.
    Changed,
}

/// The manifest and the component files.
pub(crate) struct Files {
    manifest: (PathBuf, Watched),
    components: BTreeMap<PathBuf, Watched>,
}

impl Files {
    /// The files of a host that has just started. Each may have been replaced since it was read, so each is looked at
    /// once.
    pub(crate) fn of(control: &Control) -> Files {
        let manifest = (control.config.load().manifest.clone(), Watched::default());
        let mut files = Files { manifest, components: BTreeMap::new() };
        files.follow(control);
        files
    }

    /// Watches the components that the manifest names, and those that a manifest waits for.
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

    /// One look at everything, and what follows from it.
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
    /// A file has changed when it is another than before and has been the same for a whole period.
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

    /// Whether it has been waited for for long enough.
    fn has_waited(&self) -> bool {
        self.moving.is_some_and(|moving| moving.since.elapsed() > PATIENCE)
    }

    /// Takes the file as it was seen last.
    fn settle(&mut self) {
        self.settled = self.moving.take().map(|moving| moving.stamp).or(self.settled);
    }
}

async fn looks_whole(path: &Path) -> bool {
    tokio::fs::read(path).await.is_ok_and(|bytes| is_whole(&bytes))
}

/// The components that a manifest could not be applied without.
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
        // Not waited for: a newer file must be able to cancel this swap, and other files have theirs.
        tokio::spawn(async move { control.swap_file(&service).await });
    }
}

/// That a file was seen to have changed, as a trace.
fn noticed(control: &Control, path: &Path) -> Operation {
    let noticed = control.telemetry.operation("watch", "watch_failed");
    noticed.set("file.path", path.display().to_string());
    noticed
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
