//! Small files in memory that nobody can change any more (memfd_create(2)): how plans and the exec stage
//! travel.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};

/// MFD_EXEC of kernel 6.3, which asks for an executable file where `vm.memfd_noexec` makes that no longer the
/// default.
const MFD_EXEC: MFdFlags = MFdFlags::from_bits_retain(0x10);

/// A sealed file with these bytes, close-on-exec. `name` shows in /proc only.
///
/// # Errors
/// EMFILE, ENOMEM.
pub fn sealed(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    fill(create(name, MFdFlags::empty())?, bytes)
}

/// As [`sealed`], and executable by execveat(2).
///
/// # Errors
/// As there; EACCES when `vm.memfd_noexec` is 2.
pub fn sealed_executable(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = match create(name, MFD_EXEC) {
        // Kernels before 6.3 do not know the flag and need none.
        Err(Errno::EINVAL) => create(name, MFdFlags::empty())?,
        result => result?,
    };
    fill(file, bytes)
}

fn create(name: &CStr, extra: MFdFlags) -> nix::Result<OwnedFd> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | extra)
}

fn fill(fd: OwnedFd, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(all_seals()))?;
    Ok(file.into())
}

fn all_seals() -> SealFlag {
    SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}

/// The content of a file made by [`sealed`], wherever its read position is.
///
/// # Errors
/// InvalidData when it is not sealed (its writer could change it meanwhile) or larger than `size_max` bytes;
/// EINVAL when it is not a memfd.
pub fn read_sealed(fd: BorrowedFd<'_>, size_max: usize) -> io::Result<Vec<u8>> {
    let seals = SealFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GET_SEALS)?);
    let file = File::from(fd.as_fd().try_clone_to_owned()?);
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if !seals.contains(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_WRITE) || size > size_max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Seek;

    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_cannot_be_changed() {
        let mut file = File::from(sealed(c"test", b"content").unwrap());
        assert_eq!(read_sealed(file.as_fd(), 7).unwrap(), b"content");
        file.rewind().unwrap();
        assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(file.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn too_large_unsealed_and_other_files_are_refused() {
        let large = sealed(c"test", b"content").unwrap();
        assert_eq!(read_sealed(large.as_fd(), 6).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let open = create(c"test", MFdFlags::empty()).unwrap();
        assert_eq!(read_sealed(open.as_fd(), 6).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let other = File::open("/dev/null").unwrap();
        assert_eq!(read_sealed(other.as_fd(), 6).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
