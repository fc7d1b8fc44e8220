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

use super::completeness::is_complete;
use super::file_stamp::FileStamp;
use super::handle::Control;
use super::manifest::Reload;
use super::readiness::Readiness;
use crate::component::Digest;
use crate::config::ServiceName;
use crate::services::Service;
use crate::telemetry::Operation;

/// The polling interval.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The longest time to wait for a file that looks incomplete, or for another file that is being written.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// A watched file.
#[derive(Default)]
struct WatchedFile {
    /// The stamp that was last handled.
    handled: Option<FileStamp>,
    /// The stamp that was last seen, if it differs from the handled one, and since when.
    pending: Option<PendingChange>,
    /// The components that services read from this file before it was first polled.
    known: Vec<(ServiceName, Digest)>,
}

#[derive(Clone, Copy)]
struct PendingChange {
    stamp: FileStamp,
    since: Instant,
}

/// The result of polling a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileState {
    /// The file is the handled one, or does not exist.
    Unchanged,
    /// The file is being written.
    Changing,
    /// The file has changed and is complete.
    Changed,
}

/// Watches the manifest and the component files.
pub(crate) struct FileWatcher {
    manifest: (PathBuf, WatchedFile),
    components: BTreeMap<PathBuf, WatchedFile>,
}

impl FileWatcher {
    /// The files of a host that has just begun to serve. Each may have been replaced since it was read, so each is checked
    /// once.
    pub(crate) fn new(control: &Control) -> FileWatcher {
        let manifest = (control.config.load().manifest.clone(), WatchedFile::default());
        let mut watcher = FileWatcher { manifest, components: BTreeMap::new() };
        watcher.update_files(control);
        watcher
    }

    /// Watches the components of the services, and those that a rejected manifest is missing.
    fn update_files(&mut self, control: &Control) {
        let services = control.catalog.services();
        let mut wanted: Vec<_> = services.iter().map(|service| service.declared().component.clone()).collect();
        wanted.extend(missing_components(control));
        self.components.retain(|path, _| wanted.contains(path));
        for path in wanted {
            let known = || {
                let running = services.iter().filter(|service| service.declared().component == path);
                let known = running.map(|service| (service.name.clone(), service.first_digest.clone())).collect();
                WatchedFile { known, ..WatchedFile::default() }
            };
            self.components.entry(path.clone()).or_insert_with(known);
        }
    }

    /// Runs until the host stops. Changes during the start are handled after it.
    pub(crate) async fn watch(mut self, control: Arc<Control>) {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.update_files(&control);
            if control.readiness() == Readiness::Ready {
                self.poll(&control).await;
            }
        }
    }

    /// Polls all files once and handles the changes.
    async fn poll(&mut self, control: &Arc<Control>) {
        let (path, manifest) = &mut self.manifest;
        let manifest_state = manifest.poll(FileStamp::of(path).await);
        let mut changed = Vec::new();
        let mut is_component_changing = false;
        for (path, watched) in &mut self.components {
            match watched.poll_component(path).await {
                FileState::Unchanged => {}
                FileState::Changing => is_component_changing |= !watched.wait_expired(),
                FileState::Changed => changed.push(path.clone()),
            }
        }
        match manifest_state {
            FileState::Changed if is_component_changing && !manifest.wait_expired() => return,
            FileState::Changing if !manifest.wait_expired() => return,
            FileState::Changed => manifest_changed(control, path, manifest).await,
            FileState::Unchanged if control.retry_is_due() => control.reload(Reload::Retry, None).await,
            FileState::Unchanged | FileState::Changing => {}
        }
        for path in changed {
            let Some(watched) = self.components.get_mut(&path) else { continue };
            watched.mark_handled();
            component_changed(control, &path, std::mem::take(&mut watched.known)).await;
        }
    }
}

impl WatchedFile {
    /// A file has changed when its stamp differs from the handled one and has been stable for a whole period.
    fn poll(&mut self, now: Option<FileStamp>) -> FileState {
        let Some(stamp) = now.filter(|_| now != self.handled) else {
            self.pending = None;
            return FileState::Unchanged;
        };
        let before = self.pending.replace(PendingChange { stamp, since: Instant::now() });
        let Some(before) = before else { return FileState::Changing };
        self.pending = Some(PendingChange { stamp, since: before.since });
        if before.stamp == stamp { FileState::Changed } else { FileState::Changing }
    }

    async fn poll_component(&mut self, path: &Path) -> FileState {
        match self.poll(FileStamp::of(path).await) {
            FileState::Changed if self.wait_expired() || looks_complete(path).await => FileState::Changed,
            FileState::Changed => FileState::Changing,
            unchanged_or_changing => unchanged_or_changing,
        }
    }

    /// Whether the longest wait has passed.
    fn wait_expired(&self) -> bool {
        self.pending.is_some_and(|pending| pending.since.elapsed() > MAX_WAIT)
    }

    /// Marks the stamp that was last seen as handled.
    fn mark_handled(&mut self) {
        self.handled = self.pending.take().map(|pending| pending.stamp).or(self.handled);
    }
}

async fn looks_complete(path: &Path) -> bool {
    tokio::fs::read(path).await.is_ok_and(|bytes| is_complete(&bytes))
}

/// The components that a rejected manifest is missing.
fn missing_components(control: &Control) -> Vec<PathBuf> {
    let rejected = control.rejected_manifest.lock().unwrap_or_else(PoisonError::into_inner);
    let missing = rejected.iter().flat_map(|rejected| rejected.missing_services(&control.catalog));
    missing.map(|service| service.component.clone()).collect()
}

async fn manifest_changed(control: &Arc<Control>, path: &Path, watched: &mut WatchedFile) {
    let is_first = watched.handled.is_none();
    let (why, operation) =
        if is_first { (Reload::Start, None) } else { (Reload::Changed, Some(watch_operation(control, path))) };
    watched.mark_handled();
    control.reload_file(why, operation.as_ref(), watched.handled).await;
    control.handled_manifest.send_replace(watched.handled);
}

async fn component_changed(control: &Arc<Control>, path: &Path, known: Vec<(ServiceName, Digest)>) {
    let is_awaited = missing_components(control).iter().any(|awaited| awaited == path);
    if is_awaited {
        control.reload(Reload::Retry, Some(&watch_operation(control, path))).await;
    }
    let digest = if known.is_empty() { None } else { digest_of(path).await };
    let has_read = |service: &Service| {
        known.iter().any(|(name, read)| *name == service.name && digest.as_ref().is_some_and(|digest| digest == read))
    };
    let services = control.catalog.services();
    let swapped = services.iter().filter(|service| service.declared().component == path && !has_read(service));
    let swapped: Vec<_> = swapped.collect();
    if !swapped.is_empty() {
        let names: Vec<_> = swapped.iter().map(|service| service.name.to_string()).collect();
        watch_operation(control, path).set("spandrel.service", names.join(", "));
    }
    for service in swapped {
        let (control, service) = (control.clone(), service.clone());
        // Not awaited: a newer file must be able to cancel this swap, and other files cause swaps of their own.
        tokio::spawn(async move { control.swap_file(&service).await });
    }
}

/// The operation that records that a file has changed.
fn watch_operation(control: &Control, path: &Path) -> Operation {
    let operation = control.telemetry.operation("watch", "watch_failed");
    operation.set("file.path", path.display().to_string());
    operation
}

/// The digest of the component in a file, if it can be read.
async fn digest_of(path: &Path) -> Option<Digest> {
    let bytes = tokio::fs::read(path).await.ok()?;
    Some(Digest::compute(&bytes.into()).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_changed_when_two_polls_see_the_same_new_stamp() {
        let stamp = |length| Some(FileStamp::of_length(length));
        let mut file = WatchedFile { handled: stamp(1), ..WatchedFile::default() };
        assert_eq!(file.poll(stamp(1)), FileState::Unchanged);
        assert_eq!(file.poll(stamp(2)), FileState::Changing);
        assert_eq!(file.poll(stamp(3)), FileState::Changing);
        assert_eq!(file.poll(stamp(3)), FileState::Changed);
        file.mark_handled();
        assert_eq!(file.poll(stamp(3)), FileState::Unchanged);
        assert_eq!(file.poll(None), FileState::Unchanged, "a missing file is not a change");
    }

    #[test]
    fn an_unhandled_change_is_reported_again() {
        let mut file = WatchedFile::default();
        let stamp = Some(FileStamp::of_length(1));
        file.poll(stamp);
        assert_eq!(file.poll(stamp), FileState::Changed);
        assert_eq!(file.poll(stamp), FileState::Changed);
        assert!(!file.wait_expired());
    }
}
