//! A Landlock domain (landlock(7)): what the program may do with files, and whom outside it may reach.
//!
//! In two steps. The rules name files, some of which only the user we came as can reach, so they are opened before that
//! user is given up. The domain is entered after the last step that opens or mounts anything.
//!
//! What the kernel's ABI does not know is left out: the probe has told how far it goes, and whoever made the plan knows.

use std::path::Path;

use watt_os::landlock::{self, Domain, file, scope};

use crate::{
    error::{About, StepError, is_missing},
    launch::Stage,
    plan::{FileAccess, Landlock, LandlockRule},
};

pub(crate) fn prepare(stage: &mut Stage<'_>) -> Result<(), StepError> {
    if let Some(plan) = &stage.plan.landlock {
        stage.domain = domain(plan)?;
    }
    Ok(())
}

pub(crate) fn enter(stage: &mut Stage<'_>) -> Result<(), StepError> {
    stage.domain.take().map_or(Ok(()), |domain| domain.enter().about("domain"))
}

/// Makes it, if there is anything that the kernel can refuse.
fn domain(plan: &Landlock) -> Result<Option<Domain>, StepError> {
    let abi = landlock::abi().unwrap_or(0);
    let handled = handled(plan.handled, abi);
    let scopes = [(plan.abstract_sockets, scope::ABSTRACT_UNIX_SOCKET), (plan.signals, scope::SIGNAL)];
    let scopes = chosen(&scopes) & landlock::known_scopes(abi);
    if handled == 0 && scopes == 0 {
        return Ok(None);
    }
    let domain = Domain::new(handled, scopes).about("domain")?;
    if !plan.handled.make && handled & file::REFER != 0 {
        domain.allow(Path::new("/"), file::REFER).about("/")?;
    }
    for LandlockRule { path, access, optional } in &plan.rules {
        match domain.allow(path, rights(*access)) {
            Err(error) if *optional && is_missing(&error) => {}
            result => result.about(path.display())?,
        }
    }
    Ok(Some(domain))
}

/// What the kernel is to refuse of files. A domain that has a say in files refuses to move and link them from one folder to
/// another, asked or not (landlock(7), LANDLOCK_ACCESS_FS_REFER): where making files is left alone that is handled,
/// to be allowed everywhere. The first ABI cannot allow it, so that there files are left alone altogether.
fn handled(wanted: FileAccess, abi: u32) -> u64 {
    let known = landlock::known_files(abi);
    let handled = rights(wanted) & known;
    match known & file::REFER {
        _ if wanted.make || handled == 0 => handled,
        0 => 0,
        refer => handled | refer,
    }
}

/// The kernel's rights for ours.
fn rights(FileAccess { read, execute, write, make, devices }: FileAccess) -> u64 {
    const MAKE: u64 = file::MAKE_REG
        | file::MAKE_DIR
        | file::MAKE_SYM
        | file::MAKE_SOCK
        | file::MAKE_FIFO
        | file::REMOVE_FILE
        | file::REMOVE_DIR
        | file::REFER;
    chosen(&[
        (read, file::READ_FILE | file::READ_DIR),
        (execute, file::EXECUTE),
        (write, file::WRITE_FILE | file::TRUNCATE),
        (make, MAKE),
        (devices, file::MAKE_CHAR | file::MAKE_BLOCK | file::IOCTL_DEV),
    ])
}

fn chosen(sets: &[(bool, u64)]) -> u64 {
    sets.iter().filter(|(wanted, _)| *wanted).fold(0, |all, (_, set)| all | set)
}
