//! Messages with descriptors over Unix sockets that keep messages apart (unix(7), SCM_RIGHTS).
//!
//! Received descriptors are owned from the first moment, close-on-exec, and closed when the message they came
//! with is not accepted.

use std::{
    io::{self, IoSlice},
    mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, getsockopt, sendmsg, socketpair, sockopt,
    },
};

/// The most descriptors one message can carry (SCM_MAX_FD of the kernel).
pub const DESCRIPTORS_MAX: usize = 253;

/// A connected pair of non-blocking sockets.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// Sends one message. Does not wait.
///
/// # Errors
/// WouldBlock when the peer has not read enough yet; ETOOMANYREFS when too many descriptors are under way
/// (unix(7)), which passes like that; EMSGSIZE; EPIPE and ECONNRESET when the peer is gone.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None)?;
    Ok(())
}

/// A received message.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer it filled. 0 with no descriptors is the end: the peer is gone.
    pub length: usize,
    /// What came with it.
    pub descriptors: Vec<OwnedFd>,
    /// Whether this process had no room for all descriptors. Those that did arrive are closed.
    pub lost_descriptors: bool,
    /// The process that sent it, where the socket asks for it (SO_PASSCRED): 0 when it is in no PID namespace of ours.
    pub sender: Option<u32>,
}

/// Receives one message. Does not wait.
///
/// # Errors
/// WouldBlock when there is none. InvalidData when it was cut, because `buffer` is too small: then it is lost, and
/// its descriptors are closed.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let (mut received, is_whole) = receive_part(socket, buffer)?;
    if !is_whole {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if received.lost_descriptors {
        received.descriptors.clear();
    }
    Ok(received)
}

/// Receives one message, or as much of it as `buffer` has room for, and says whether that was all. All descriptors that did arrive
/// are given: to close one of a stranger's may take long. Does not wait.
///
/// # Errors
/// WouldBlock when there is none.
pub fn receive_part(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(Received, bool)> {
    receive_by(socket, buffer, CONTROL_SIZE, 0)
}

/// Looks at the next message, which stays where it is, or at as much of it as `buffer` has room for, and says whether that was all. Its
/// descriptors are not given. Does not wait.
///
/// # Errors
/// WouldBlock when there is none.
pub fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(Received, bool)> {
    // Credentials come first, and for descriptors there is no room.
    receive_by(socket, buffer, CREDENTIALS_SIZE, libc::MSG_PEEK)
}

fn receive_by(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    room: usize,
    more_flags: i32,
) -> io::Result<(Received, bool)> {
    // Not nix's recvmsg: it gives nothing when the control message was cut, and the descriptors in it leak.
    let mut control = Control([0; CONTROL_SIZE]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a msghdr is pointers and integers (and padding with musl), for which zero is a value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = room.min(CONTROL_SIZE) as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC | more_flags;
    // SAFETY: the header names live memory with its lengths or less, borrowed mutably by this function.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(Errno::result(length)?).map_err(io::Error::other)?;
    let filled = control.0.get(..message.msg_controllen as usize).unwrap_or(&control.0);
    let descriptors = rights(filled).map(own).collect();
    let sender = sender(filled);
    let is_whole = message.msg_flags & libc::MSG_TRUNC == 0;
    let lost_descriptors = message.msg_flags & libc::MSG_CTRUNC != 0;
    Ok((Received { length, descriptors, lost_descriptors, sender }, is_whole))
}

/// Bytes for the control messages: CMSG_SPACE(253 * 4) is 1032 on 64-bit kernels, and CMSG_SPACE of a ucred 32.
const CONTROL_SIZE: usize = 1064;
/// Bytes for the ucred alone.
const CREDENTIALS_SIZE: usize = 32;

/// Memory for control messages, aligned as cmsg(3) wants it.
#[repr(C, align(8))]
struct Control([u8; CONTROL_SIZE]);

/// The numbers in all SCM_RIGHTS messages.
fn rights(control: &[u8]) -> impl Iterator<Item = RawFd> {
    let rights = messages(control).filter(|(kind, _)| *kind == libc::SCM_RIGHTS);
    rights.flat_map(|(_, data)| data.chunks_exact(size_of::<RawFd>()).filter_map(|number| int_at(number, 0)))
}

/// The process in an SCM_CREDENTIALS message: the first field of a ucred.
fn sender(control: &[u8]) -> Option<u32> {
    let (_, data) = messages(control).find(|(kind, _)| *kind == libc::SCM_CREDENTIALS)?;
    int_at(data, 0)?.try_into().ok()
}

/// The kinds and data of all messages of a socket's level. The kernel's layout: a size_t with the length of all, level and
/// type as ints, the data, and padding to the size of a size_t.
fn messages(mut control: &[u8]) -> impl Iterator<Item = (i32, &[u8])> {
    const WORD: usize = size_of::<usize>();
    std::iter::from_fn(move || {
        loop {
            let (length, _) = control.split_first_chunk::<WORD>()?;
            let length = usize::from_ne_bytes(*length);
            let (level, kind) = (int_at(control, WORD)?, int_at(control, WORD + 4)?);
            let data = control.get(WORD + 8..length)?;
            control = control.get(length.max(WORD).next_multiple_of(WORD)..).unwrap_or_default();
            if level == libc::SOL_SOCKET {
                return Some((kind, data));
            }
        }
    })
}

fn int_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us by SCM_RIGHTS, and its number occurs once.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Takes over the seqpacket socket that the parent process left at this number, and makes it close-on-exec
/// and non-blocking. Once in the life of a process.
///
/// # Errors
/// EBADF and ENOTSOCK when there is none, InvalidInput when it is of another type, AlreadyExists the second
/// time.
pub fn inherited(raw: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    if raw <= libc::STDERR_FILENO {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: only a number above the standard streams, which nobody in this process was told of; taken once.
    let socket = unsafe { BorrowedFd::borrow_raw(raw) };
    if getsockopt(&socket, sockopt::SockType)? != SockType::SeqPacket {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    fcntl(socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    fcntl(socket, FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    // SAFETY: it is open (the calls above worked), and nobody else owns it, as said.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, os::fd::AsFd};

    use nix::unistd::pipe;

    use super::*;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors_close_on_exec() {
        let (a, b) = seqpacket_pair().unwrap();
        let (read, write) = pipe().unwrap();
        send(a.as_fd(), b"hello", &[write.as_fd(), read.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let received = receive(b.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..received.length], b"hello");
        for fd in &received.descriptors {
            let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
        }
        nix::unistd::write(&received.descriptors[0], b"x").unwrap();
        let mut byte = [0];
        File::from(read).read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn the_largest_set_of_descriptors_passes_and_a_larger_one_is_refused() {
        let (a, b) = seqpacket_pair().unwrap();
        let fds = vec![a.as_fd(); DESCRIPTORS_MAX];
        send(a.as_fd(), b"", &fds).unwrap();
        assert_eq!(receive(b.as_fd(), &mut []).unwrap().descriptors.len(), DESCRIPTORS_MAX);
        let fds = vec![a.as_fd(); DESCRIPTORS_MAX + 1];
        assert_eq!(send(a.as_fd(), b"", &fds).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_cut_message_is_an_error_and_its_descriptors_are_closed() {
        let (a, b) = seqpacket_pair().unwrap();
        let (read, write) = pipe().unwrap();
        send(a.as_fd(), b"too long", &[write.as_fd()]).unwrap();
        drop(write);
        assert_eq!(receive(b.as_fd(), &mut [0; 3]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        // All write ends are closed, or this would wait for ever.
        assert_eq!(File::from(read).read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_message_that_is_looked_at_stays_there_with_its_descriptors() {
        use nix::sys::socket::{setsockopt, sockopt::PassCred};
        let (a, b) = seqpacket_pair().unwrap();
        setsockopt(&b, PassCred, &true).unwrap();
        let (read, write) = pipe().unwrap();
        send(a.as_fd(), b"first", &[write.as_fd(), write.as_fd()]).unwrap();
        send(a.as_fd(), b"second", &[]).unwrap();
        drop(write);
        for _ in 0..3 {
            let mut buffer = [0; 16];
            let (seen, is_whole) = peek(b.as_fd(), &mut buffer).unwrap();
            assert_eq!((&buffer[..seen.length], is_whole), (&b"first"[..], true));
            assert_eq!((seen.descriptors.len(), seen.sender), (0, Some(std::process::id())));
        }
        assert!(!peek(b.as_fd(), &mut [0; 2]).unwrap().1);
        assert_eq!(receive(b.as_fd(), &mut [0; 16]).unwrap().descriptors.len(), 2);
        // No copy of them was made by the looks.
        assert_eq!(File::from(read).read(&mut [0]).unwrap(), 0);
        assert_eq!(receive(b.as_fd(), &mut [0; 16]).unwrap().length, 6);
        assert_eq!(peek(b.as_fd(), &mut [0; 16]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn nothing_to_read_and_the_end_are_told_apart() {
        let (a, b) = seqpacket_pair().unwrap();
        assert_eq!(receive(b.as_fd(), &mut [0; 3]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(a);
        let received = receive(b.as_fd(), &mut [0; 3]).unwrap();
        assert_eq!((received.length, received.descriptors.len()), (0, 0));
        assert_eq!(send(b.as_fd(), b"x", &[]).unwrap_err().raw_os_error(), Some(libc::EPIPE));
    }

    #[test]
    fn control_bytes_that_make_no_sense_yield_nothing() {
        for length in [0usize, 1, 15, 17, 4096, usize::MAX] {
            let mut control = Control([0; CONTROL_SIZE]);
            control.0[..8].copy_from_slice(&length.to_ne_bytes());
            control.0[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
            control.0[12..16].copy_from_slice(&libc::SCM_RIGHTS.to_ne_bytes());
            assert_eq!(rights(&control.0).count(), 0, "{length}");
        }
    }

    #[test]
    fn only_an_inherited_seqpacket_socket_is_taken_and_only_once() {
        use std::os::fd::IntoRawFd;
        let (a, _b) = seqpacket_pair().unwrap();
        let raw = a.into_raw_fd();
        let taken = inherited(raw).unwrap();
        assert_eq!(taken.as_raw_fd(), raw);
        assert_eq!(inherited(raw).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
