//! Extended attributes (xattr(7)).

use std::{ffi::CString, io, os::unix::ffi::OsStrExt, path::Path};

/// The longest value that is read.
const VALUE_LEN_MAX: usize = 256;

/// Reads a file's extended attribute.
///
/// # Errors
/// ENODATA when the file does not have it, ERANGE when it is longer than 256 bytes.
pub fn get(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let name = CString::new(name)?;
    let mut value = vec![0u8; VALUE_LEN_MAX];
    // SAFETY: both strings end with NUL and outlive the call, and at most `value.len()` bytes are written to `value`.
    let len = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    value.truncate(len);
    Ok(value)
}
