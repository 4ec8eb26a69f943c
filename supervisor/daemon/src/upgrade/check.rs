//! A look at a program before anything is changed: what the file is, and what the program says of itself when it rehearses.
//!
//! The file is opened once and goes on as a descriptor, so that what was looked at is what is executed, whatever becomes of the path.
//! A script would not be pinned by that, and a file that somebody else may write to is that one's to say.

use std::{
    fs::{self, File},
    io::Read,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::PathBuf,
};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use watt_spawner::format;

use crate::control::Refusal;

/// A program that may take over.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) file: OwnedFd,
    pub(crate) path: PathBuf,
}

/// What a program says of itself: the versions of state and messages that it reads, of which it writes the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// `wattctl`.
    pub(crate) program: String,
    pub(crate) version: String,
    pub(crate) state: Forms,
    pub(crate) mesh: Forms,
}

/// Forms that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forms {
    pub(crate) oldest: u32,
    pub(crate) newest: u32,
}

/// How many bytes of an ELF file say for what machine it is (elf(5)): class, order of bytes, and from 18 on the machine.
const ELF_HEADER: usize = 20;

impl Offer {
    /// What this program says.
    pub(crate) fn own() -> Offer {
        let mesh = watt_api::mesh::FORMAT;
        let oldest = if watt_api::mesh::is_readable(mesh.saturating_sub(1)) { mesh - 1 } else { mesh };
        Offer {
            program: "wattctl".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: Forms { oldest: *format::readable().start(), newest: format::FORMAT },
            mesh: Forms { oldest, newest: mesh },
        }
    }

    /// Reads what another one said. `None` when it is something else.
    pub(crate) fn parse(output: &[u8]) -> Option<Offer> {
        serde_json::from_slice(output).ok().filter(|offer: &Offer| offer.program == "wattctl")
    }

    /// Whether it reads what we write, and so may take over. That we read what it writes until it is settled is its promise.
    pub(crate) fn fits(&self, own: &Offer) -> Result<(), String> {
        for (what, theirs, own) in [("state", self.state, own.state), ("messages", self.mesh, own.mesh)] {
            let Forms { oldest, newest } = theirs;
            if oldest > own.newest {
                return Err(format!(
                    "version {} reads {what} from form {oldest} on, and what runs has form {}: upgrade to a version in between first",
                    self.version, own.newest
                ));
            }
            if newest < own.newest {
                return Err(format!(
                    "version {} is older: it reads {what} up to form {newest}, and what runs has form {}",
                    self.version, own.newest
                ));
            }
        }
        Ok(())
    }
}

/// Opens the program and looks whether it may be executed at all. Waits for disks.
pub(crate) fn find(wanted: Option<PathBuf>, own_path: &str, uid: u32) -> Result<Found, Refusal> {
    let is_replaced = wanted.is_none();
    let path = wanted.unwrap_or_else(|| own_path.into());
    let shown = path.display();
    let not = |message: String| refused("program", message, None);
    if !path.is_absolute() {
        return Err(not(format!("{shown} is no absolute path")));
    }
    // Not to wait for somebody who writes to a pipe of that name.
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path);
    let mut file = file.map_err(|error| not(format!("cannot open {shown}: {error}")))?;
    let found = file.metadata().map_err(|error| not(format!("cannot look at {shown}: {error}")))?;
    if !found.is_file() {
        return Err(not(format!("{shown} is no file")));
    }
    let own = fs::metadata("/proc/self/exe").ok();
    if own.is_some_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino())) {
        let hint = "install another version there, or name one with --to".to_owned();
        let hint = is_replaced.then_some(hint);
        return Err(refused("same_program", format!("{shown} is the program that runs already"), hint));
    }
    let mode = found.permissions().mode();
    if mode & 0o111 == 0 {
        return Err(not(format!("{shown} is not executable (mode {:03o})", mode & 0o777)));
    }
    if (found.uid() != 0 && found.uid() != uid) || mode & 0o002 != 0 {
        let why = format!("{shown} belongs to user {} and has mode {:03o}", found.uid(), mode & 0o777);
        let hint = "it has to be root's or the supervisor's user's own, and not everybody's to write to";
        return Err(refused("program", why, Some(hint.to_owned())));
    }
    let open = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if mode & 0o6000 != 0 || watt_os::xattr::get(&open, "security.capability").is_ok() {
        let why = format!(
            "{shown} would run with other rights than the supervisor has (set-user-ID or file capabilities)"
        );
        return Err(not(why));
    }
    let mut header = [0; ELF_HEADER];
    let is_read = file.read_exact(&mut header).is_ok();
    machine(is_read.then_some(header), own_header()).map_err(|why| not(format!("{shown} {why}")))?;
    Ok(Found { file: file.into(), path })
}

fn own_header() -> Option<[u8; ELF_HEADER]> {
    let mut header = [0; ELF_HEADER];
    File::open("/proc/self/exe").ok()?.read_exact(&mut header).ok()?;
    Some(header)
}

/// Whether a file with this beginning is a program for the machine that ours is for.
fn machine(header: Option<[u8; ELF_HEADER]>, own: Option<[u8; ELF_HEADER]>) -> Result<(), &'static str> {
    match header {
        Some([b'#', b'!', ..]) => Err("is a script; the program itself is needed"),
        Some(header @ [0x7f, b'E', b'L', b'F', class, order, ..]) => match own {
            Some(own) if (class, order, &header[18..]) != (own[4], own[5], &own[18..]) => {
                Err("is for another kind of machine")
            }
            Some(_) | None => Ok(()),
        },
        Some(_) | None => Err("is no program"),
    }
}

pub(crate) fn refused(code: &'static str, message: String, hint: Option<String>) -> Refusal {
    Refusal::NotUpgraded { code, message, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: Result<Found, Refusal>) -> String {
        match result {
            Err(Refusal::NotUpgraded { code, message, .. }) => format!("{code}: {message}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_program_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let uid = crate::start::own_uid();
        let check = |name: &str, content: &[u8], mode: u32, expected: &str| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let found = message(find(Some(path.clone()), "/x", uid));
            assert_eq!(found.replace(&path.display().to_string(), "P"), expected, "{name}");
        };
        check("plain", b"text", 0o644, "program: P is not executable (mode 644)");
        check("text", b"text that is long enough to be looked at", 0o755, "program: P is no program");
        check("short", b"\x7fELF", 0o755, "program: P is no program");
        check(
            "script",
            b"#!/bin/sh\nexec wattctl \"$@\"\n",
            0o755,
            "program: P is a script; the program itself is needed",
        );
        let mut foreign = fs::read("/proc/self/exe").unwrap();
        foreign.truncate(64);
        foreign[18] ^= 0xff;
        check("foreign", &foreign, 0o755, "program: P is for another kind of machine");
        let why = format!("program: P belongs to user {uid} and has mode 777");
        check("open", &foreign, 0o777, &why);
        let rights = "program: P would run with other rights than the supervisor has (set-user-ID or file capabilities)";
        check("setuid", &foreign, 0o4755, rights);
        let gone = message(find(Some("/nowhere/wattctl".into()), "/x", uid));
        assert_eq!(gone, "program: cannot open /nowhere/wattctl: No such file or directory (os error 2)");
        assert_eq!(message(find(Some("/tmp".into()), "/x", uid)), "program: /tmp is no file");
        assert_eq!(message(find(Some("x".into()), "/x", uid)), "program: x is no absolute path");
        let own = fs::read_link("/proc/self/exe").unwrap().display().to_string();
        let same = message(find(None, &own, uid));
        assert_eq!(same, format!("same_program: {own} is the program that runs already"));
        assert!(find(Some("/bin/true".into()), "/x", uid).is_ok(), "what it is it has to say itself");
    }

    #[test]
    fn a_version_reads_its_own_form_and_the_one_before() {
        let offer = |oldest, newest| {
            let forms = Forms { oldest, newest };
            Offer { program: "wattctl".to_owned(), version: "9".to_owned(), state: forms, mesh: forms }
        };
        let own = offer(2, 3);
        assert_eq!(offer(2, 3).fits(&own), Ok(()));
        assert_eq!(offer(3, 4).fits(&own), Ok(()));
        let newer = "version 9 reads state from form 4 on, and what runs has form 3: upgrade to a version in between first";
        assert_eq!(offer(4, 5).fits(&own).unwrap_err(), newer);
        let older = "version 9 is older: it reads state up to form 2, and what runs has form 3";
        assert_eq!(offer(1, 2).fits(&own).unwrap_err(), older);
        assert_eq!(Offer::own().fits(&Offer::own()), Ok(()));
        let said = serde_json::to_vec(&Offer::own()).unwrap();
        assert_eq!(Offer::parse(&said), Some(Offer::own()));
        assert_eq!(Offer::parse(b""), None);
        assert_eq!(Offer::parse(br#"{"program":"true"}"#), None);
    }
}
