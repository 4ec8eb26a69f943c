//! The journal's native protocol: entries with fields, one datagram each, and a sealed memfd for one that is too large
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use std::{
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

use nix::{
    errno::Errno,
    sys::{
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, setsockopt, socket, sockopt},
        time::{TimeVal, TimeValLike},
    },
};

use super::notify::Notifier;
use crate::memfd;

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// How long a patient sender waits at most, in microseconds.
const PATIENCE_US: i64 = 20_000;

/// One entry, in the form in which it is sent.
#[derive(Debug, Clone, Default)]
pub struct Entry(Vec<u8>);

impl Entry {
    /// Adds a field. Its name is of capital letters, digits and `_`; the journal leaves out one that is not.
    pub fn field(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Entry {
        let value = value.as_ref();
        self.0.extend_from_slice(name.as_bytes());
        if value.contains(&b'\n') {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
        self
    }

    /// Takes back everything after the first `length` bytes: what entries have in common need not be written again.
    pub fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The way to the journal.
#[derive(Debug)]
pub struct Journal {
    socket: OwnedFd,
    /// The same address, for descriptors.
    large: Notifier,
    path: std::ffi::OsString,
}

impl Journal {
    /// To the journal at this socket: [`SOCKET`], except in tests. It need not be there yet.
    ///
    /// # Errors
    /// InvalidInput for an address that is none; EMFILE.
    pub fn open(path: &OsStr) -> io::Result<Journal> {
        let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::microseconds(PATIENCE_US))?;
        super::address(path)?;
        Ok(Journal { socket, large: Notifier::new(path)?, path: path.to_owned() })
    }

    /// Sends an entry. Does not wait.
    ///
    /// # Errors
    /// WouldBlock when the journal has not read what came before; those of connect(2) while there is none.
    pub fn send(&self, entry: &Entry) -> io::Result<()> {
        self.send_with(entry, MsgFlags::MSG_DONTWAIT)
    }

    /// As [`send`](Self::send), but waits for a moment, 20 ms at most, when the journal is behind.
    ///
    /// # Errors
    /// As there.
    pub fn send_patiently(&self, entry: &Entry) -> io::Result<()> {
        // A signal ends the patience, as its time would.
        self.send_with(entry, MsgFlags::empty()).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => io::ErrorKind::WouldBlock.into(),
            _ => error,
        })
    }

    fn send_with(&self, entry: &Entry, flags: MsgFlags) -> io::Result<()> {
        let flags = flags | MsgFlags::MSG_NOSIGNAL;
        match sendto(self.socket.as_raw_fd(), &entry.0, &super::address(&self.path)?, flags) {
            Ok(_) => Ok(()),
            // Larger than the socket's buffer, or than the kernel has memory for in one piece.
            Err(Errno::EMSGSIZE | Errno::ENOBUFS) => {
                let whole = memfd::sealed(c"watt-journal", &entry.0)?;
                self.large.send("", Some(whole.as_fd()))
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Whether standard error leads to the journal: `$JOURNAL_STREAM` of systemd.exec(5) names its device and inode, so that a
/// program which inherited the variable and not the stream is not taken in.
pub fn is_on_stderr(journal_stream: Option<&OsStr>) -> bool {
    let named = journal_stream.and_then(OsStr::to_str).and_then(|text| {
        let (device, inode) = text.split_once(':')?;
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    });
    let stderr =
        io::stderr().as_fd().try_clone_to_owned().map(fs::File::from).and_then(|file| file.metadata());
    named.is_some_and(|named| stderr.is_ok_and(|stderr| (stderr.dev(), stderr.ino()) == named))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::fdpass;

    #[test]
    fn fields_are_lines_and_those_with_newlines_have_a_length() {
        let mut entry = Entry::default();
        entry.field("MESSAGE", "two\nlines").field("WATT_SERVICE", "api");
        assert_eq!(entry.0, b"MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\nWATT_SERVICE=api\n");
        entry.truncate(0);
        assert!(entry.is_empty());
    }

    #[test]
    fn a_large_entry_arrives_as_a_sealed_memfd() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journald = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::open(path.as_os_str()).unwrap();
        let mut buffer = vec![0; 1 << 16];
        let mut entry = Entry::default();
        journal.send(entry.field("MESSAGE", "small")).unwrap();
        let received = fdpass::receive(journald.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..received.length], b"MESSAGE=small\n");

        let mut entry = Entry::default();
        journal.send(entry.field("MESSAGE", "x".repeat(8 << 20))).unwrap();
        let received = fdpass::receive(journald.as_fd(), &mut buffer).unwrap();
        assert_eq!((received.length, received.descriptors.len()), (0, 1));
        let whole = memfd::read_sealed(received.descriptors[0].as_fd(), 16 << 20).unwrap();
        assert_eq!(whole.len(), "MESSAGE=\n".len() + (8 << 20));
    }

    #[test]
    fn a_journal_that_does_not_read_holds_nobody_up_and_one_that_returns_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = Journal::open(path.as_os_str()).unwrap();
        let mut entry = Entry::default();
        entry.field("MESSAGE", "hello");
        assert_eq!(journal.send(&entry).unwrap_err().kind(), io::ErrorKind::NotFound);
        let journald = UnixDatagram::bind(&path).unwrap();
        let full = (0..100_000).find_map(|_| journal.send(&entry).err());
        assert_eq!(full.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
        assert_eq!(journal.send_patiently(&entry).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(journald);
        fs::remove_file(&path).unwrap();
        assert!(journal.send(&entry).is_err());
        let _again = UnixDatagram::bind(&path).unwrap();
        journal.send(&entry).unwrap();
    }

    #[test]
    fn a_variable_that_was_inherited_without_the_stream_counts_for_nothing() {
        assert!(!is_on_stderr(None));
        assert!(!is_on_stderr(Some(OsStr::new("1:1"))));
        assert!(!is_on_stderr(Some(OsStr::new("nonsense"))));
        let stderr = fs::File::from(io::stderr().as_fd().try_clone_to_owned().unwrap()).metadata().unwrap();
        let named = format!("{}:{}", stderr.dev(), stderr.ino());
        assert!(is_on_stderr(Some(OsStr::new(&named))));
    }
}
