//! The text of files with certificates and keys.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

/// The largest file: more than the certificates of every authority that a browser knows.
pub const SIZE_MAX: u64 = 1 << 20;

/// The text of a file in which a key may be. It is in no message and no log.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pem(String);

impl Pem {
    /// The text, for those who read certificates or keys.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl From<String> for Pem {
    fn from(text: String) -> Self {
        Pem(text)
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes that are not shown)", self.0.len())
    }
}

/// Files by their paths.
pub type Certificates = BTreeMap<PathBuf, Pem>;

/// Reads a file. What is no text at all has no certificate in it either, so that it is not told apart.
///
/// # Errors
/// One that is not there, that is no regular file (a pipe would keep us waiting), or that is larger than [`SIZE_MAX`].
pub fn read(path: &Path) -> io::Result<Pem> {
    // Looked at before opening, because some devices do something by that. And again afterwards, because it may be another one by now:
    // a named pipe, whose writer nobody is to wait for.
    is_regular(&std::fs::metadata(path)?)?;
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    is_regular(&file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(SIZE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(io::Error::other(format!("it is larger than {} MiB", SIZE_MAX >> 20)));
    }
    Ok(Pem(String::from_utf8_lossy(&bytes).into_owned()))
}

fn is_regular(found: &Metadata) -> io::Result<()> {
    if found.is_file() { Ok(()) } else { Err(io::Error::other("it is not a regular file")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_no_debug_output() {
        let pem = Pem::from("-----BEGIN PRIVATE KEY-----".to_owned());
        assert_eq!(format!("{pem:?}"), "(27 bytes that are not shown)");
    }

    #[test]
    fn only_files_are_read() {
        for (path, expected) in
            [("/dev/zero", "it is not a regular file"), ("/dev", "it is not a regular file")]
        {
            assert_eq!(read(Path::new(path)).unwrap_err().to_string(), expected, "{path}");
        }
        assert_eq!(read(Path::new("/nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
