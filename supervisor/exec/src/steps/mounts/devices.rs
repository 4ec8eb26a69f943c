//! A `/dev` of the program's own: the devices that are no hardware, and none that is.
//!
//! The nodes are the host's, bound one by one, as a user namespace cannot make any that work.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use watt_os::mount::{self, Forbid, Tree};

use super::{empty, view::View};
use crate::{
    error::{About, StepError, is_missing},
    plan::Mount,
};

const DEV: &str = "/dev";
/// The devices that every program may expect (and that systemd.exec(5) names for PrivateDevices=).
const NODES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
/// What the host keeps there besides, where later mounts may put something of the program's own.
const SHARED: [&str; 2] = ["/dev/shm", "/dev/mqueue"];
/// The way to the host's log (syslog(3)): a socket, or a link to one.
const LOG: &str = "/dev/log";
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// What goes into it.
#[derive(Debug)]
pub(super) struct Sources {
    shown: Vec<(&'static str, Tree)>,
    log: Option<PathBuf>,
}

/// Takes hold of the devices, and of what no later mount covers.
pub(super) fn take(later: &[Mount]) -> Result<Sources, StepError> {
    let is_covered = |path: &str| {
        later.iter().any(|mount| match mount {
            Mount::Tmpfs { target, .. } | Mount::Bind { target, .. } => target == Path::new(path),
            Mount::Mqueue => path == "/dev/mqueue",
            _ => false,
        })
    };
    let log = fs::read_link(LOG).ok();
    let socket = log.is_none().then_some(LOG);
    let shared = SHARED.into_iter().filter(|path| !is_covered(path)).chain(socket);
    let mut shown = Vec::with_capacity(NODES.len() + SHARED.len() + 1);
    for path in NODES.into_iter().chain(shared) {
        match Tree::of(Path::new(path)) {
            Ok(tree) => shown.push((path, tree)),
            // A container may be without some.
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(StepError::new(path, &error)),
        }
    }
    Ok(Sources { shown, log })
}

/// Makes it. The folders that later mounts expect are there even where the host has none.
pub(super) fn make(view: &mut View, Sources { shown, log }: Sources) -> Result<(), StepError> {
    let dev = Path::new(DEV);
    empty(view, dev, "mode=0755,size=64k,nr_inodes=64", true)?;
    for (path, tree) in shown {
        put(&tree, Path::new(path)).about(path)?;
    }
    for (target, link) in LINKS {
        symlink(target, link).about(link)?;
    }
    if let Some(target) = log {
        symlink(target, LOG).about(LOG)?;
    }
    terminals()?;
    view.read_only_at_last(dev.to_owned());
    Ok(())
}

/// Shows a device or a folder. The way there is known: the folder is ours, and was empty.
fn put(tree: &Tree, path: &Path) -> io::Result<()> {
    if tree.is_folder()? {
        fs::create_dir(path)?;
    } else {
        File::create(path)?;
    }
    tree.attach(path)
}

/// An instance of pseudo terminals of its own: those of others cannot be opened (pts(4)).
fn terminals() -> Result<(), StepError> {
    const PTS: &str = "/dev/pts";
    let forbid = Forbid { executing: true, ..Forbid::default() };
    fs::create_dir(PTS).about(PTS)?;
    mount::filesystem("devpts", Path::new(PTS), "newinstance,ptmxmode=0666,mode=0620", forbid).about(PTS)
}
