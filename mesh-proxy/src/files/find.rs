//! Looks for the file of a request, beneath the root and nowhere else, and reads its beginning.
//!
//! A disk may take long. So a first look takes what the kernel has in memory and no more (RESOLVE_CACHED of openat2(2), RWF_NOWAIT of
//! preadv2(2)), on the thread that serves; where that is not enough, the same is done beside it, and may wait.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2},
    io::{Errno, ReadWriteFlags, preadv2},
};

use super::{
    Folder, Wanted,
    conditional::{Facts, Part},
    kinds::{self, Coding, Kind},
    path::{Place, is_page, place},
};

/// How much of a file is read with its head: a whole one, mostly.
const FIRST_MAX: u64 = 64 << 10;

/// How often a look is made again because something was renamed meanwhile (openat2(2)).
const TRIES_MAX: u32 = 16;

/// How a look may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// With what is in memory.
    None,
    /// However long it takes.
    Any,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unfound {
    /// It is not in memory: somebody with [`Patience::Any`] has to look.
    NotNow,
    /// There is no such file, or it is not for everybody.
    Nothing,
    /// The system failed: at what, and how.
    Failed(&'static str, io::Error),
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Found {
    File(Box<File>),
    /// A folder, of which the request's path lacks the slash.
    Folder,
}

/// A file, and what of it is sent.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) file: OwnedFd,
    pub(crate) len: u64,
    pub(crate) modified: SystemTime,
    pub(crate) etag: String,
    pub(crate) kind: Kind,
    pub(crate) coding: Option<Coding>,
    /// It stands for all pages of an application.
    pub(crate) is_fallback: bool,
    pub(crate) part: Part,
    /// The first bytes of the part.
    pub(crate) first: Vec<u8>,
}

/// Looks for it.
pub(crate) fn find(folder: &Folder, wanted: &Wanted, patience: Patience) -> Result<Found, Unfound> {
    let root = root(folder, patience)?;
    let look = Look { root: root.as_fd(), folder, wanted, patience };
    let (path, asked) = match place(&wanted.rest, folder.rules.hidden) {
        Place::Nowhere => return Err(Unfound::Nothing),
        // Without its slash, the links of its page would lead beside the folder.
        Place::Name(path) if path.is_empty() => return Ok(Found::Folder),
        Place::Name(path) => (path.clone(), path),
        Place::Folder(path) => {
            let index = folder.rules.index.as_bytes();
            (if path.is_empty() { index.to_vec() } else { [&path[..], index].join(&b'/') }, path)
        }
    };
    match look.open(&path) {
        Ok(Opened::File(file, stat)) => look.file(&path, file, &stat, false),
        Ok(Opened::Folder) if path == asked => Ok(Found::Folder),
        // An index that is a folder is none.
        Ok(Opened::Folder) => Err(Unfound::Nothing),
        Err(Unfound::Nothing) => look.fallback(&asked),
        Err(unfound) => Err(unfound),
    }
}

/// Links are followed as long as they stay inside (openat2(2)).
const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// The root. It is looked for each time, by its name in the folder that has it: a build that makes it anew, or a link that is turned to
/// another release beside it, is seen at once. Nothing leads out of that folder: a service that may write there would have the proxy
/// publish what it may not even read itself.
fn root(folder: &Folder, patience: Patience) -> Result<OwnedFd, Unfound> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let name = if folder.rules.name.is_empty() { "." } else { &folder.rules.name };
    open(folder.parent.as_fd(), name.as_bytes(), flags, INSIDE, patience).map_err(|error| {
        if error == Errno::AGAIN { Unfound::NotNow } else { Unfound::Failed("open the folder", error.into()) }
    })
}

/// As openat2(2) does it, with what is in memory or again until nobody comes in between.
fn open(
    at: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
    patience: Patience,
) -> Result<OwnedFd, Errno> {
    match patience {
        Patience::None => openat2(at, path, flags, Mode::empty(), resolve | ResolveFlags::CACHED)
            // Linux before 5.12 does not know it.
            .map_err(|error| if error == Errno::INVAL { Errno::AGAIN } else { error }),
        Patience::Any => {
            let tries = (0..TRIES_MAX).map(|_| openat2(at, path, flags, Mode::empty(), resolve));
            let mut last = Err(Errno::AGAIN);
            for result in tries {
                last = result;
                if !matches!(last, Err(Errno::AGAIN | Errno::INTR)) {
                    break;
                }
            }
            last
        }
    }
}

/// A look beneath a root.
struct Look<'l> {
    root: BorrowedFd<'l>,
    folder: &'l Folder,
    wanted: &'l Wanted,
    patience: Patience,
}

enum Opened {
    File(OwnedFd, Stat),
    Folder,
}

impl Look<'_> {
    fn open(&self, path: &[u8]) -> Result<Opened, Unfound> {
        // What is no file, a pipe for example, is not to be waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file =
            open(self.root, path, flags, INSIDE, self.patience).map_err(|error| self.unfound(error))?;
        let stat = fstat(&file).map_err(|error| self.unfound(error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Opened::File(file, stat)),
            FileType::Directory => Ok(Opened::Folder),
            _ => Err(Unfound::Nothing),
        }
    }

    fn unfound(&self, error: Errno) -> Unfound {
        match error {
            Errno::AGAIN if self.patience == Patience::None => Unfound::NotNow,
            // XDEV: it leads out of the root. LOOP: a link of /proc, or too many of them. ACCESS: the proxy is nobody in particular.
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::XDEV
            | Errno::LOOP
            | Errno::ACCESS
            | Errno::PERM
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::INVAL => Unfound::Nothing,
            error => Unfound::Failed("open a file", error.into()),
        }
    }

    /// What stands for all pages, where this path is one's.
    fn fallback(&self, asked: &[u8]) -> Result<Found, Unfound> {
        let Some(spa) = self.folder.rules.spa.as_deref().filter(|_| is_page(asked)) else {
            return Err(Unfound::Nothing);
        };
        match self.open(spa.as_bytes())? {
            Opened::File(file, stat) => self.file(spa.as_bytes(), file, &stat, true),
            Opened::Folder => Err(Unfound::Nothing),
        }
    }

    fn file(&self, path: &[u8], file: OwnedFd, stat: &Stat, is_fallback: bool) -> Result<Found, Unfound> {
        let kind = kinds::kind(path);
        let (file, stat, coding) = match self.coded(path, kind, stat)? {
            Some((coding, file, stat)) => (file, stat, Some(coding)),
            None => (file, *stat, None),
        };
        let (len, modified) = (size(&stat), modified(&stat));
        let etag = etag(&stat, coding);
        let part = self.wanted.conditions.part(Facts { etag: &etag, modified, len });
        let first = match part.bytes(len).filter(|_| !self.wanted.is_head) {
            Some((first, last)) => {
                let count = (last - first + 1).min(FIRST_MAX);
                read(file.as_fd(), first, count, self.patience)?
            }
            None => Vec::new(),
        };
        Ok(Found::File(Box::new(File { file, len, modified, etag, kind, coding, is_fallback, part, first })))
    }

    /// The file beside it in a coding that the client takes, unless it is older than the one that it is of.
    fn coded(&self, path: &[u8], kind: Kind, of: &Stat) -> Result<Option<(Coding, OwnedFd, Stat)>, Unfound> {
        if !self.folder.rules.precompressed || !kind.is_compressible {
            return Ok(None);
        }
        for coding in &self.wanted.codings {
            match self.open(&[path, coding.ending().as_bytes()].concat()) {
                Ok(Opened::File(file, stat)) if modified(&stat) >= modified(of) => {
                    return Ok(Some((*coding, file, stat)));
                }
                Ok(Opened::File(..) | Opened::Folder) | Err(Unfound::Nothing) => {}
                Err(unfound) => return Err(unfound),
            }
        }
        Ok(None)
    }
}

/// Bytes of a file from a place on: at least one, and not more than so many.
pub(crate) fn read(
    file: BorrowedFd<'_>,
    from: u64,
    count: u64,
    patience: Patience,
) -> Result<Vec<u8>, Unfound> {
    let flags = match patience {
        Patience::None => ReadWriteFlags::NOWAIT,
        Patience::Any => ReadWriteFlags::empty(),
    };
    let mut bytes = vec![0; usize::try_from(count).unwrap_or(usize::MAX)];
    let read = loop {
        match preadv2(file, &mut [IoSliceMut::new(&mut bytes)], from, flags) {
            Err(Errno::INTR) => {}
            // Some file systems cannot say whether they would have to wait.
            Err(Errno::AGAIN | Errno::OPNOTSUPP) if patience == Patience::None => {
                return Err(Unfound::NotNow);
            }
            Err(error) => return Err(Unfound::Failed("read a file", error.into())),
            Ok(0) => return Err(Unfound::Failed("read a file", io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => break read,
        }
    };
    bytes.truncate(read);
    Ok(bytes)
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn modified(stat: &Stat) -> SystemTime {
    let part = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    // Nothing was changed before there were computers.
    let since = Duration::new(u64::try_from(stat.st_mtime).unwrap_or(0), part);
    SystemTime::UNIX_EPOCH + since
}

/// A tag that changes with every change of the file: its number, its size, and its times. Builds that are the same each time set the time of
/// the last change, and nobody sets the other one (inode(7), ctime).
fn etag(stat: &Stat, coding: Option<Coding>) -> String {
    let Stat { st_ino, st_size, st_mtime, st_mtime_nsec, st_ctime, st_ctime_nsec, .. } = stat;
    let coding = coding.map(Coding::ending).unwrap_or_default();
    format!(
        "\"{st_mtime:x}.{st_mtime_nsec:x}-{st_ctime:x}.{st_ctime_nsec:x}-{st_ino:x}-{st_size:x}{coding}\""
    )
}

impl Part {
    /// Its first and last byte, where it has any.
    pub(crate) fn bytes(self, len: u64) -> Option<(u64, u64)> {
        match self {
            Part::Whole => Some((0, len.checked_sub(1)?)),
            Part::Range(first, last) => Some((first, last)),
            Part::NotModified | Part::Failed | Part::Unsatisfiable => None,
        }
    }
}
