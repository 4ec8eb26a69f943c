//! Files of Unix sockets, in folders that may be somebody else's: what was looked at is what is changed, and no link leads elsewhere.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::Path,
};

use nix::{
    fcntl::{AtFlags, OFlag},
    sys::stat::{SFlag, fstat},
    unistd::{Gid, Uid, fchownat},
};

/// What tells a file from all others that there are at the same time: its device and inode.
pub type FileId = (u64, u64);

/// The file of a socket.
#[derive(Debug)]
pub struct SocketFile {
    file: OwnedFd,
    id: FileId,
}

impl SocketFile {
    /// The one that is there now.
    ///
    /// # Errors
    /// What open(2) and fstat(2) say; and that it is no socket.
    pub fn open(path: &Path) -> io::Result<SocketFile> {
        let flags = (OFlag::O_PATH | OFlag::O_NOFOLLOW).bits();
        let file: OwnedFd = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?.into();
        let stat = fstat(&file)?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
            return Err(io::Error::other("it is not a socket"));
        }
        Ok(SocketFile { file, id: (stat.st_dev, stat.st_ino) })
    }

    /// What tells it from others.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Its permissions.
    ///
    /// # Errors
    /// What stat(2) says.
    pub fn mode(&self) -> io::Result<u32> {
        Ok(fs::metadata(self.path())?.mode() & 0o7777)
    }

    /// Gives it these permissions.
    ///
    /// # Errors
    /// What chmod(2) says.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(self.path(), fs::Permissions::from_mode(mode))
    }

    /// Gives it to this user and group.
    ///
    /// # Errors
    /// What fchownat(2) says.
    pub fn set_owner(&self, (uid, gid): (u32, u32)) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(fchownat(&self.file, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)?)
    }

    /// A way to the very file, wherever it is by now: a descriptor of O_PATH takes no fchmod(2).
    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    #[test]
    fn only_a_socket_itself_is_changed() {
        let folder = std::env::temp_dir().join(format!("watt-socket-file-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let [socket, link, other] = ["x.sock", "link", "other"].map(|name| folder.join(name));
        let _listener = UnixListener::bind(&socket).unwrap();
        symlink(&socket, &link).unwrap();
        fs::write(&other, "").unwrap();
        let found = SocketFile::open(&socket).unwrap();
        found.set_mode(0o640).unwrap();
        let own = fs::metadata(&socket).unwrap();
        found.set_owner((own.uid(), own.gid())).unwrap();
        assert_eq!((own.mode() & 0o7777, found.mode().unwrap()), (0o640, 0o640));
        assert_eq!(found.id(), (own.dev(), own.ino()));
        for (path, what) in [(&link, "a link to a socket"), (&other, "another file")] {
            assert_eq!(SocketFile::open(path).unwrap_err().to_string(), "it is not a socket", "{what}");
        }
        // What was opened stays the one that is changed.
        fs::remove_file(&socket).unwrap();
        symlink(&other, &socket).unwrap();
        let before = fs::metadata(&other).unwrap().mode();
        found.set_mode(0o777).unwrap();
        assert_eq!(fs::metadata(&other).unwrap().mode(), before);
        fs::remove_dir_all(&folder).unwrap();
    }
}
