//! Pseudo terminals (pty(7)).

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
};

/// How many rows and columns of letters a terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// From top to bottom.
    pub rows: u16,
    /// From left to right.
    pub columns: u16,
}

/// A new terminal: the end that is looked at, and the end that a program has as its streams. They are of the instance of
/// devpts that `/dev/ptmx` of this process is of.
///
/// # Errors
/// ENOENT and EACCES where there is none that this process may use, ENOSPC when there are too many.
pub fn open(size: Size) -> io::Result<(OwnedFd, OwnedFd)> {
    let master = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/ptmx")?;
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which lives.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) })?;
    // By the descriptor and not by a path, which somebody else may have made to lead elsewhere.
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags of open(2) as an integer.
    let slave = check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the call above made this descriptor and nobody else knows its number.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    set_size(&master, size)?;
    Ok((master.into(), slave))
}

/// Makes this the terminal of the session that this process leads: signals of its keys and its end are for that.
///
/// # Errors
/// EPERM when this process leads no session, or that one has a terminal, or the terminal has another session.
pub fn make_controlling(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer; 0 takes the terminal from nobody.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Changes its size. Who runs in it gets a SIGWINCH.
///
/// # Errors
/// ENOTTY when it is none.
pub fn set_size(terminal: impl AsFd, Size { rows, columns }: Size) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which lives.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
    };

    use super::*;

    #[test]
    fn what_is_typed_arrives_and_what_is_written_is_seen() {
        let (master, slave) = open(Size { rows: 11, columns: 42 }).unwrap();
        let (mut master, mut slave) = (File::from(master), File::from(slave));
        master.write_all(b"typed\n").unwrap();
        let mut line = [0; 6];
        slave.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"typed\n");
        slave.write_all(b"seen").unwrap();
        let mut screen = vec![0; 64];
        let mut shown = String::new();
        while !shown.ends_with("seen") {
            let count = master.read(&mut screen).unwrap();
            shown += std::str::from_utf8(&screen[..count]).unwrap();
        }
        // Its echo, and a line break as a terminal has it.
        assert_eq!(shown, "typed\r\nseen");
    }
}
