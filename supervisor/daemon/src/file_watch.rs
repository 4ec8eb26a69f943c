//! `reload: on-change`: the configuration file and its `.env` are watched, and read again when what they say is another text. So are the
//! files of certificates and keys that the configuration in force names, and those of one that was refused because of them.
//!
//! Watched is not a file but all that leads to it: each folder that a part of its path is looked up in, through symbolic links too. So it does
//! not matter whether an editor writes into the file, puts another one in its place, or a link on the way leads elsewhere from now on. What
//! happened is not asked either: the files are read, and their text is compared with the one that was seen last.
//!
//! A text that is half written may be right, and be an application without its last services. So a file is left alone while somebody has
//! it open and writes, and looked at when he closes it. What comes in quick succession is one change.
//!
//! The task looks and tells; whether to reload is the loop's to decide. What was seen last is kept by the spawner, so that a successor finds
//! what changed while nobody looked, and does not try again what was refused.

mod trail;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    task::JoinHandle,
    time::Instant,
};
use watt_config::Sources;
use watt_core::plan::Plan;

use self::trail::Trail;
use crate::{
    addresses,
    app::{App, Ending},
    beside,
    reload::{Asked, News},
};

/// The key of what was seen last.
pub(crate) const SEEN: &str = "file_seen";

/// So long nothing may have happened before the files are looked at …
const QUIET: Duration = Duration::from_millis(100);
/// … unless it has gone on for so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often one looks where the kernel does not tell.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The watch, and what was seen by it.
#[derive(Debug, Default)]
pub(crate) struct FileWatch {
    task: Option<JoinHandle<()>>,
    /// What is watched.
    files: Vec<PathBuf>,
    /// Files of certificates and keys that a configuration names which was refused for what is in them.
    refused: BTreeSet<PathBuf>,
    seen: Option<u64>,
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl App {
    /// Begins to watch, or ends it, as the plan has it. `kept` is what a predecessor saw last.
    pub(crate) fn begin_file_watch(&mut self, kept: Option<&[u8]>) {
        let kept = kept.and_then(|value| str::from_utf8(value).ok()?.parse().ok());
        self.file_watch.seen = Some(kept.unwrap_or_else(|| seen(&self.in_force.sources)));
        self.fit_file_watch();
    }

    /// Begins to watch, or ends it, as the plan has it.
    pub(crate) fn fit_file_watch(&mut self) {
        let files = files(&self.plan, &self.file_watch.refused);
        if self.plan.reload_on_change && self.file_watch.task.is_some() && self.file_watch.files == files {
            return;
        }
        if let Some(task) = self.file_watch.task.take() {
            task.abort();
        }
        if self.plan.reload_on_change {
            self.file_watch.files.clone_from(&files);
            self.file_watch.task = Some(tokio::spawn(watch(files, self.senders.reload.clone())));
        }
    }

    /// What the file says is in force now.
    pub(crate) fn note_file_in_force(&mut self, sources: &Sources) {
        self.file_watch.refused.clear();
        self.keep_file_seen(seen(sources));
    }

    /// What the file says was refused for what is in these files, or what is not. When that is mended it is read again.
    pub(crate) fn note_file_refused(&mut self, unusable: Unusable) {
        if self.file_watch.task.is_some() {
            self.file_watch.refused = unusable.files;
            self.keep_file_seen(unusable.digest);
            self.fit_file_watch();
        }
    }

    fn keep_file_seen(&mut self, digest: u64) {
        if self.file_watch.seen.replace(digest) != Some(digest) {
            self.put(SEEN, digest.to_string().into_bytes());
        }
    }

    /// The files were looked at. What was seen before is in force, or was refused.
    pub(crate) fn file_looked_at(&mut self, digest: u64) {
        if self.ending != Ending::No || self.file_watch.task.is_none() || self.file_watch.seen == Some(digest)
        {
            return;
        }
        tracing::info!("the configuration file, its .env, a certificate or a file of credentials has changed and is read again");
        // First, so that a successor of a daemon that dies of it does not.
        self.keep_file_seen(digest);
        self.reload(Asked::by_watch());
    }
}

/// Files of certificates and keys because of which a configuration is refused.
#[derive(Debug)]
pub(crate) struct Unusable {
    files: BTreeSet<PathBuf>,
    /// What tells their text from others.
    digest: u64,
}

impl Unusable {
    /// Those of a configuration, as they are now, beside those of the plan in force. Waits for disks.
    pub(crate) fn look(refused: &Plan, in_force: &Plan) -> Unusable {
        let of_refused = refused.text_files().into_iter().cloned().collect();
        Unusable { digest: read(&files(in_force, &of_refused)), files: of_refused }
    }
}

/// What is watched: the file, its `.env`, and then the files of certificates and keys.
fn files(plan: &Plan, refused: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let own = [plan.file.clone(), plan.file.with_file_name(".env")];
    let others: BTreeSet<&PathBuf> = plan.text_files().into_iter().chain(refused).collect();
    own.into_iter().chain(others.into_iter().cloned()).collect()
}

/// Tells texts apart.
fn seen(sources: &Sources) -> u64 {
    let dotenv = sources.dotenv.as_ref().map(|(_, text)| text);
    let certificates: Vec<(&PathBuf, Result<&str, ()>)> =
        sources.certificates.iter().map(|(path, pem)| (path, Ok(pem.text()))).collect();
    of_texts(&sources.text, dotenv, &certificates)
}

/// Without certificates as versions had it that knew none, so that an upgrade does not look like a change.
fn of_texts(text: &str, dotenv: Option<&String>, certificates: &[(&PathBuf, Result<&str, ()>)]) -> u64 {
    match certificates {
        [] => digest(&(text, dotenv)),
        certificates => digest(&(text, dotenv, certificates)),
    }
}

fn digest(of: &impl std::fmt::Debug) -> u64 {
    // Quoted, so that the end of one text is not the beginning of the next.
    addresses::fnv1a(format!("{of:?}").as_bytes())
}

/// What tokio can wait for.
#[derive(Clone)]
struct Descriptor(Arc<Inotify>);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// How far somebody is who may be writing a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Writer {
    /// There is none that one knows of.
    #[default]
    None,
    /// The file has just come to be: it is written next, unless it is a link.
    Creates,
    /// He writes, and has not closed it.
    Writes,
}

/// What is watched, by what the kernel calls it.
type Places = BTreeMap<WatchDescriptor, trail::Place>;

/// The files with those who write them.
#[derive(Debug, Default)]
struct Watched {
    places: Places,
    writers: Vec<Writer>,
}

/// What a look found.
struct Looked {
    places: Places,
    /// Not all can be watched, so that one has to look now and then.
    is_partial: bool,
    /// `None` when one of the files is only coming to be.
    digest: Option<u64>,
}

/// Looks whenever something has happened, and tells what is there.
async fn watch(files: Vec<PathBuf>, news: mpsc::Sender<News>) {
    let descriptor = match instance() {
        Ok(descriptor) => Some(descriptor),
        Err(error) => {
            tracing::warn!(
                "the configuration file is looked at every two seconds, it cannot be watched: {error}"
            );
            None
        }
    };
    let mut watched = Watched { places: Places::new(), writers: vec![Writer::None; files.len()] };
    let mut has_warned = descriptor.is_none();
    loop {
        let (inotify, paths) = (descriptor.as_ref().map(|one| one.get_ref().clone()), files.clone());
        let (places, writers) = (std::mem::take(&mut watched.places), watched.writers.clone());
        let looked = beside::FILES.run(move || look(inotify.as_ref(), &paths, places, &writers)).await;
        // A panic there ends the watch and nothing else.
        let Some(Looked { places, is_partial, digest }) = looked else { return };
        watched.places = places;
        if is_partial && !std::mem::replace(&mut has_warned, true) {
            tracing::warn!(
                "the configuration file is looked at every two seconds, not all that leads to it can be watched"
            );
        }
        if let Some(digest) = digest {
            watched.writers.fill(Writer::None);
            if news.send(News::Looked(digest)).await.is_err() {
                // The loop has ended.
                return;
            }
        }
        match &descriptor {
            None => tokio::time::sleep(LOOK_EVERY).await,
            Some(descriptor) if is_partial => {
                let _ = tokio::time::timeout(LOOK_EVERY, settled(descriptor, &mut watched)).await;
            }
            Some(descriptor) => settled(descriptor, &mut watched).await,
        }
    }
}

/// What tells of changes.
fn instance() -> io::Result<AsyncFd<Descriptor>> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the instance owns its descriptor until it is dropped"
    )]
    AsyncFd::with_interest(Descriptor(Arc::new(inotify)), Interest::READABLE)
}

/// Watches all that leads to the files from now on, and then reads them: what changes later is told.
fn look(inotify: Option<&Descriptor>, files: &[PathBuf], old: Places, writers: &[Writer]) -> Looked {
    let trail = Trail::of(files);
    let (places, is_partial) = match inotify {
        Some(Descriptor(inotify)) => watch_all(inotify, &trail, &old),
        None => (Places::new(), true),
    };
    let is_made = |(writer, file): (&Writer, &PathBuf)| match writer {
        Writer::None => true,
        Writer::Writes => false,
        Writer::Creates => is_whole(file),
    };
    let digest = writers.iter().zip(files).all(is_made).then(|| read(files));
    Looked { places, is_partial, digest }
}

/// Whether a file that has just come to be has all its text: a link, or a second name of one that was there.
fn is_whole(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::symlink_metadata(file) {
        Ok(found) => !found.is_file() || found.nlink() > 1,
        Err(_) => true,
    }
}

/// What the files say, or why they cannot be read.
fn read(files: &[PathBuf]) -> u64 {
    let [file, _dotenv, certificates @ ..] = files else { return 0 };
    let certificates: Vec<_> =
        certificates.iter().map(|path| (path, watt_certificates::read(path))).collect();
    let texts: Vec<(&PathBuf, Result<&str, ()>)> = certificates
        .iter()
        .map(|(path, read)| (*path, read.as_ref().map(|pem| pem.text()).map_err(|_| ())))
        .collect();
    match Sources::read(file, BTreeMap::new()) {
        Ok(sources) => of_texts(&sources.text, sources.dotenv.as_ref().map(|(_, text)| text), &texts),
        Err(report) => digest(&report.to_string()),
    }
}

fn watch_all(inotify: &Inotify, trail: &Trail, old: &Places) -> (Places, bool) {
    let in_folder = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_ONLYDIR;
    let at_file = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_ATTRIB;
    let mut places = Places::new();
    let mut is_partial = false;
    for (path, place) in trail.places() {
        let mask = match &place {
            trail::Place::Folder(names) if names.values().any(Option::is_some) => in_folder | at_file,
            trail::Place::Folder(_) => in_folder,
            trail::Place::File(_) => AddWatchFlags::IN_MODIFY,
        };
        match inotify.add_watch(path, mask) {
            Ok(descriptor) => drop(places.insert(descriptor, place)),
            // It has gone since, which is told by the folder that it was in.
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(_) => is_partial = true,
        }
    }
    for descriptor in old.keys().filter(|descriptor| !places.contains_key(descriptor)) {
        // Refused for one that the kernel has ended already.
        let _ = inotify.rm_watch(*descriptor);
    }
    (places, is_partial)
}

/// Waits until something has happened, nothing has since for a moment, and nobody writes.
async fn settled(descriptor: &AsyncFd<Descriptor>, watched: &mut Watched) {
    let mut pending: Option<(Instant, Instant)> = None;
    loop {
        let is_written = watched.writers.contains(&Writer::Writes);
        let due = pending.filter(|_| !is_written).map(|(quiet, patience)| quiet.min(patience));
        tokio::select! {
            ready = descriptor.readable() => {
                let Ok(mut ready) = ready else { return tokio::time::sleep(LOOK_EVERY).await };
                let events = match descriptor.get_ref().0.read_events() {
                    Ok(events) => events,
                    Err(_) => {
                        ready.clear_ready();
                        continue;
                    }
                };
                let mut is_of_interest = false;
                for event in &events {
                    is_of_interest |= watched.take(event);
                }
                if is_of_interest {
                    let now = Instant::now();
                    let patience = pending.map_or(now + PATIENCE, |(_, patience)| patience);
                    pending = Some((now + QUIET, patience));
                }
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => return,
        }
    }
}

impl Watched {
    /// Takes what happened. Says whether it may have changed what the files say.
    fn take(&mut self, event: &InotifyEvent) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            // Who had written may have closed it.
            self.writers.fill(Writer::None);
            return true;
        }
        let Some(place) = self.places.get(&event.wd) else { return false };
        let (file, is_own) = match (place, &event.name) {
            (trail::Place::File(file), _) => (Some(*file), true),
            (trail::Place::Folder(names), Some(name)) => match names.get(name) {
                Some(file) => (*file, false),
                None => return false,
            },
            // Of the folder itself, which the one that it is in tells as well.
            (trail::Place::Folder(_), None) => return event.mask.contains(AddWatchFlags::IN_IGNORED),
        };
        if let Some(file) = file
            && let Some(writer) = self.writers.get_mut(file)
        {
            *writer = match event.mask {
                mask if is_own && mask.contains(AddWatchFlags::IN_MODIFY) => Writer::Writes,
                // Of the inode, which may have another name or none by now.
                _ if is_own => *writer,
                mask if mask.contains(AddWatchFlags::IN_CREATE) => Writer::Creates,
                mask if mask.contains(AddWatchFlags::IN_ATTRIB) => *writer,
                _ => Writer::None,
            };
        }
        true
    }
}

#[cfg(test)]
mod tests;
