//! The files that are bound over a worker's own: `/etc/hosts` with the names of services, and what has programs look there.
//!
//! All running workers have the same files. So one is never empty or cut off, whatever happens while it is written: room is taken first,
//! and a disk that has none leaves the file as it was, without the names that are new.

use std::{fs, io, io::Write, net::Ipv4Addr, path::Path};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};

use crate::{addresses, app::App, in_force::InForce, places::Places, settings::StartError};

/// Writes those that differ. `shared` is where names lead on the host's network.
pub(crate) fn write(
    places: &Places,
    in_force: &InForce,
    redirect: bool,
    shared: Option<Ipv4Addr>,
) -> Result<(), StartError> {
    let host = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let own = addresses::of_names(&in_force.addresses, redirect);
    // Without a listener there, names that lead nowhere would only hide why.
    let on_host = own.keys().filter_map(|id| Some((id, shared?)));
    let files = [
        (places.hosts(), addresses::hosts(&host("/etc/hosts"), own.iter().map(|(id, at)| (id, *at)))),
        (places.hosts_shared(), addresses::hosts(&host("/etc/hosts"), on_host)),
        (places.resolv_conf(), addresses::resolv_conf(&host("/etc/resolv.conf"))),
        (places.nsswitch_conf(), addresses::nsswitch_conf(&host("/etc/nsswitch.conf"))),
    ];
    for (path, text) in files {
        if fs::read_to_string(&path).is_ok_and(|written| written == text) {
            continue;
        }
        write_over(&path, &text).map_err(|source| StartError::Write { path, source })?;
    }
    Ok(())
}

/// Writes the new text over the old one at once, with empty lines for what that had more, and then its end.
fn write_over(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let before = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(bytes.len().max(before), b'\n');
    take_room(&file, bytes.len())?;
    file.write_all(&bytes)?;
    file.set_len(text.len() as u64)
}

/// Takes the room for so many bytes, or none. What readers see is as it was.
fn take_room(file: &fs::File, size: usize) -> io::Result<()> {
    let size = i64::try_from(size).map_err(io::Error::other)?;
    if size == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, size) {
        // Some file systems cannot, and few of them are there for a runtime folder.
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

impl App {
    /// Names of the mesh for workers. Where there is no room for them they are written later ([`App::beat`]).
    pub(crate) fn write_names(&mut self) {
        let written = write(&self.places, &self.in_force, self.host.redirect, self.mesh_host);
        match (&written, self.are_names_behind) {
            (Err(error), false) => {
                let error = crate::words::chain(error);
                tracing::error!(
                    "names of new services are missing in /etc/hosts of workers for now: {error}"
                );
            }
            (Ok(()), true) => tracing::info!("names of services are in /etc/hosts of workers again"),
            (Err(_), true) | (Ok(()), false) => {}
        }
        self.are_names_behind = written.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_the_place_of_a_longer_and_of_a_shorter_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        for text in ["", "one\n", "one\ntwo\nthree\n", "four\n", ""] {
            write_over(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
