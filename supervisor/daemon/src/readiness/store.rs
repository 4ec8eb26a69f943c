//! What a message of sd_notify(3) asks of the store of descriptors: `FDSTORE=1`, `FDSTOREREMOVE=1`, `FDNAME=`, `FDPOLL=0`.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::stat::{SFlag, fstat};
use watt_core::RunId;

/// The name of a descriptor that was given none, as of sd_pid_notify_with_fds(3).
const NAME_DEFAULT: &str = "stored";

/// The longest name. With what tells whose it is, it has room in a name at the spawner.
const NAME_LEN_MAX: usize = 128;

/// A run asks something of its store.
#[derive(Debug)]
pub struct Asked {
    /// Which run.
    pub(crate) run: RunId,
    /// What of these.
    pub(crate) name: String,
    pub(crate) what: What,
}

/// To keep, or to let go of.
#[derive(Debug)]
pub(crate) enum What {
    /// These are kept under the name; `poll` says whether one whose other side has gone is let go of.
    Keep { descriptors: Vec<OwnedFd>, poll: bool },
    /// All of the name are let go of.
    Remove,
    /// These came for nothing, and are closed where it may take long.
    Close { descriptors: Vec<OwnedFd> },
}

/// For tests: two are the same that say the same of the same numbers.
impl PartialEq for Asked {
    fn eq(&self, other: &Asked) -> bool {
        let numbers = |what: &What| match what {
            What::Keep { descriptors, poll } => {
                Some((descriptors.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(), *poll))
            }
            What::Remove => None,
            What::Close { descriptors } => {
                Some((descriptors.iter().map(AsRawFd::as_raw_fd).collect(), false))
            }
        };
        (self.run, &self.name, numbers(&self.what)) == (other.run, &other.name, numbers(&other.what))
    }
}

impl Eq for Asked {}

/// Whether closing it may wait for somebody (SO_LINGER of socket(7)): for whom it is, or for whom one in its queue is.
pub(crate) fn may_wait(descriptor: &OwnedFd) -> bool {
    let kind = |mode| SFlag::from_bits_truncate(mode) & SFlag::S_IFMT;
    fstat(descriptor).map_or(true, |stat| kind(stat.st_mode) == SFlag::S_IFSOCK)
}

/// That the descriptors nothing was asked with be closed. All but sockets are so at once: BARRIER=1 waits for that.
pub(super) fn unwanted(run: RunId, mut descriptors: Vec<OwnedFd>) -> Option<Asked> {
    descriptors.retain(may_wait);
    let is_any = !descriptors.is_empty();
    is_any.then(|| Asked { run, name: String::new(), what: What::Close { descriptors } })
}

/// What a message with these descriptors asks for, if that is something. It takes them if they are to be kept.
pub(super) fn asked(run: RunId, text: &[u8], descriptors: &mut Vec<OwnedFd>) -> Option<Asked> {
    let field = |name: &str| {
        let value = |line: &'_ [u8]| Some(line.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec());
        text.split(|byte| *byte == b'\n').filter_map(value).next_back()
    };
    let is_set = |name| field(name).is_some_and(|value| value == b"1");
    let name = match field("FDNAME") {
        None => NAME_DEFAULT.to_owned(),
        Some(name) => String::from_utf8(name).ok().filter(|name| is_name(name))?,
    };
    if is_set("FDSTOREREMOVE") {
        return Some(Asked { run, name, what: What::Remove });
    }
    if !is_set("FDSTORE") || descriptors.is_empty() {
        return None;
    }
    let poll = field("FDPOLL").is_none_or(|value| value != b"0");
    let descriptors = std::mem::take(descriptors);
    Some(Asked { run, name, what: What::Keep { descriptors, poll } })
}

/// As systemd has it (fdname_is_valid): printable, and without the colon that separates names.
fn is_name(name: &str) -> bool {
    let is_fit = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b':';
    !name.is_empty() && name.len() <= NAME_LEN_MAX && name.bytes().all(is_fit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId(3);

    fn said(text: &str, count: usize) -> Option<(String, Option<(usize, bool)>)> {
        let mut descriptors = (0..count).map(|_| std::io::pipe().unwrap().0.into()).collect();
        let Asked { name, what, .. } = asked(RUN, text.as_bytes(), &mut descriptors)?;
        match what {
            What::Keep { descriptors, poll } => Some((name, Some((descriptors.len(), poll)))),
            What::Remove => Some((name, None)),
            What::Close { .. } => None,
        }
    }

    #[test]
    fn what_is_asked_for_is_in_any_order() {
        let kept = |name: &str, count, poll| Some((name.to_owned(), Some((count, poll))));
        assert_eq!(said("FDSTORE=1", 1), kept("stored", 1, true));
        assert_eq!(said("READY=1\nFDNAME=a b\nFDSTORE=1\nFDPOLL=0\n", 2), kept("a b", 2, false));
        assert_eq!(said("FDSTOREREMOVE=1\nFDNAME=a", 0), Some(("a".to_owned(), None)));
        assert_eq!(said("FDSTOREREMOVE=1\nFDSTORE=1\nFDNAME=a", 1), Some(("a".to_owned(), None)));
    }

    #[test]
    fn what_makes_no_sense_keeps_nothing() {
        let long = format!("FDSTORE=1\nFDNAME={}", "x".repeat(NAME_LEN_MAX + 1));
        for text in ["BARRIER=1", "FDSTORE=2", "FDSTORE=1\nFDNAME=", "FDSTORE=1\nFDNAME=a:b", &long] {
            assert_eq!(said(text, 1), None, "{text}");
        }
        assert_eq!(said("FDSTORE=1\nFDNAME=\u{1b}", 1), None);
        assert_eq!(said("FDSTORE=1", 0), None, "nothing to keep");
    }

    #[test]
    fn a_socket_that_came_for_nothing_is_closed_elsewhere_and_all_else_at_once() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let number = socket.as_raw_fd();
        let asked = unwanted(RUN, vec![writer.into(), socket.into()]).unwrap();
        let What::Close { descriptors } = asked.what else { panic!("{asked:?}") };
        assert_eq!(descriptors.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(), [number]);
        assert_eq!(std::io::read_to_string(reader).unwrap(), "", "the writer is closed");
        assert_eq!(unwanted(RUN, Vec::new()), None);
    }
}
