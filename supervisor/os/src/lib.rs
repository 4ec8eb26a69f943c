//! A thin safe layer over the kernel. All `unsafe` of the workspace is here.

pub mod cgroup;
pub mod credentials;
pub mod descendants;
pub mod fdpass;
pub mod heap;
pub mod inherited;
pub mod kernel_log;
pub mod keyring;
pub mod landlock;
pub mod memfd;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod peer;
pub mod pidfd;
pub mod prctl;
pub mod process;
pub mod process_info;
pub mod rlimit;
pub mod scheduling;
pub mod seccomp;
pub mod signalfd;
pub mod signals;
pub mod sock_diag;
pub mod systemd;
pub mod xattr;
