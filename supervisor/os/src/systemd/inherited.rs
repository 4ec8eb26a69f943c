//! Descriptors that a service is started with: sd_listen_fds(3).

use std::os::fd::{OwnedFd, RawFd};

use crate::inherited;

/// The first of them (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;
/// More than this is nonsense: a manager keeps some thousands at most.
const COUNT_MAX: RawFd = 1 << 16;

/// Takes those that are meant for this process, with their names. To be called before anything is opened, with the variables
/// `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES`, by way of `env`. Numbers at which nothing is open are passed over.
pub fn take(env: impl Fn(&str) -> Option<String>) -> Vec<(String, OwnedFd)> {
    let number = |name: &str| env(name).and_then(|text| text.parse::<RawFd>().ok());
    let is_ours = number("LISTEN_PID").and_then(|pid| u32::try_from(pid).ok()) == Some(std::process::id());
    let count = number("LISTEN_FDS").filter(|count| is_ours && (0..=COUNT_MAX).contains(count)).unwrap_or(0);
    let names = env("LISTEN_FDNAMES").unwrap_or_default();
    // Fewer names than descriptors is allowed; those without are told apart by nobody.
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat_with(String::new));
    let taken = (FIRST..FIRST + count).zip(names);
    taken.filter_map(|(number, name)| Some((name, inherited::take(number).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_another_process_and_nonsense_are_left_alone() {
        let check = |pid: &str, count: &str| {
            let env = |name: &str| match name {
                "LISTEN_PID" => Some(pid.to_owned()),
                "LISTEN_FDS" => Some(count.to_owned()),
                _ => None,
            };
            assert!(take(env).is_empty(), "{pid} {count}");
        };
        check("1", "1");
        check("", "1");
        check("-1", "1");
        check(&std::process::id().to_string(), "-1");
        check(&std::process::id().to_string(), "9999999999");
        check(&std::process::id().to_string(), "0");
    }
}
