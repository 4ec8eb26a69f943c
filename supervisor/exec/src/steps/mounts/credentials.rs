//! The folder of files that only the program gets (`$CREDENTIALS_DIRECTORY` of systemd.exec(5)).
//!
//! A ramfs, because the kernel never writes one to swap space; tmpfs has that only since Linux 6.4, and not for ordinary
//! users. It has no bound of its own: what goes into it is bounded before, and it is read-only afterwards.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{OpenOptionsExt, PermissionsExt, chown, fchown},
    },
    path::{Component, Path},
};

use watt_os::{
    memfd,
    mount::{self, Forbid},
};

use super::{
    Given,
    view::{Point, View},
};
use crate::{
    error::{About, StepError},
    plan::{CREDENTIALS_SIZE_MAX, Credentials},
};

/// The program's user enters it and reads the files; that is all anybody can do.
const FOLDER_MODE: u32 = 0o500;
const FILE_MODE: u32 = 0o400;

/// Reads them, and lets go of what they came in.
pub(super) fn take(memfd: Option<OwnedFd>) -> Result<Credentials, StepError> {
    let Some(memfd) = memfd else { return Ok(Credentials::default()) };
    let bytes = memfd::read_sealed(memfd.as_fd(), CREDENTIALS_SIZE_MAX).about("credentials")?;
    postcard::from_bytes(&bytes)
        .map_err(|_| StepError::new("credentials", &io::ErrorKind::InvalidData.into()))
}

pub(super) fn make(view: &mut View, target: &Path, given: &Given<'_>) -> Result<(), StepError> {
    let about = target.display();
    view.point(target, Point::Folder, false)?;
    let forbid = Forbid { devices: true, executing: true, writing: false };
    mount::filesystem("ramfs", target, "mode=0700", forbid).about(&about)?;
    for (name, content) in &given.files.files {
        if !is_file_name(name) {
            return Err(StepError::invalid(format!("{about}: {name}")));
        }
        let path = target.join(name);
        write(&path, content, given.owner).about(path.display())?;
    }
    hand_over(target, given.owner).about(&about)?;
    view.read_only_at_last(target.to_owned());
    Ok(())
}

fn is_file_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name)
}

fn write(path: &Path, content: &[u8], owner: Option<(u32, u32)>) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.write_all(content)?;
    let (uid, gid) = owner.unzip();
    fchown(&file, uid, gid)
}

fn hand_over(folder: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(FOLDER_MODE))?;
    let (uid, gid) = owner.unzip();
    chown(folder, uid, gid)
}
