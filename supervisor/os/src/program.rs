//! The memory that our own program's code takes.

use std::{fs, io, os::unix::fs::MetadataExt, ptr};

/// Unmaps the program's code and constants. What is used again is mapped again at that moment, mostly from the kernel's cache of
/// the file. For a process that has done what it does once: with each page that it used the kernel mapped those around it, and
/// of ten megabytes eight were there after a start, of which two are used later.
///
/// # Errors
/// When /proc cannot be read, or madvise(2) refuses. Nothing has changed for the program then.
pub fn let_go_of_code() -> io::Result<()> {
    let own = fs::metadata("/proc/self/exe")?.ino();
    for (start, length) in parts(&fs::read_to_string("/proc/self/maps")?, own) {
        let start = ptr::with_exposed_provenance_mut(start);
        // SAFETY: the kernel just listed this as a mapping of our program's file that is not writable, and that holds code, or the
        // file's beginning: neither has ever been written to, for what the loader relocates is in other mappings. So all
        // pages are the file's, and the next access finds in them what is there now. An executed file cannot be written to
        // (ETXTBSY of open(2)).
        let result = unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
        if result == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Address and length of what is code of this file, or its beginning, which a linker begins with its tables and constants:
/// `7f00-8f00 r-xp 0025e000 00:01 1234 /usr/bin/wattctl` (proc_pid_maps(5)).
fn parts(maps: &str, file: u64) -> Vec<(usize, usize)> {
    let part = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (addresses, rights, offset) = (words.next()?, words.next()?, words.next()?);
        let is_ours = words.nth(1)?.parse() == Ok(file);
        let is_beginning = rights == "r--p" && offset.bytes().all(|digit| digit == b'0');
        if !is_ours || !(is_beginning || rights == "r-xp") {
            return None;
        }
        let (start, end) = addresses.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        Some((start, end.checked_sub(start)?))
    };
    maps.lines().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_beginning_of_the_own_file_are_found() {
        let maps = "\
            1000-3000 r--p 00000000 fe:00 77     /usr/bin/my wattctl\n\
            3000-9000 r-xp 00002000 fe:00 77     /usr/bin/my wattctl\n\
            9000-a000 r--p 00008000 fe:00 77     /usr/bin/my wattctl\n\
            a000-b000 rw-p 00009000 fe:00 77     /usr/bin/my wattctl\n\
            b000-c000 rw-p 00000000 00:00 0      [heap]\n\
            c000-d000 r-xp 00001000 fe:00 78     /usr/lib/libc.so.6\n\
            short\n";
        assert_eq!(parts(maps, 77), [(0x1000, 0x2000), (0x3000, 0x6000)]);
    }

    #[test]
    fn a_program_goes_on_without_its_code_mapped() {
        let own = fs::metadata("/proc/self/exe").unwrap().ino();
        let mapped = || parts(&fs::read_to_string("/proc/self/maps").unwrap(), own);
        let before = mapped();
        assert!(before.len() >= 2, "{before:?}");
        let resident = || {
            let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
            let mut rss = 0;
            let mut is_code = false;
            for line in smaps.lines() {
                if line.contains('-') && line.contains(" r") {
                    is_code = !parts(line, own).is_empty();
                } else if let (true, Some(size)) = (is_code, line.strip_prefix("Rss:")) {
                    rss += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
                }
            }
            rss
        };
        // Everything is there first, whatever the kernel maps around a page.
        for (start, length) in &before {
            let (start, length) = (ptr::with_exposed_provenance_mut(*start), *length);
            // SAFETY: reads ahead in a mapping of our own, and changes nothing.
            unsafe { libc::madvise(start, length, libc::MADV_POPULATE_READ) };
        }
        let full = resident();
        let_go_of_code().unwrap();
        assert!(resident() < full, "of {full} kB nothing was let go");
        assert_eq!(mapped(), before);
    }
}
