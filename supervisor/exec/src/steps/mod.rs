//! The steps of a launch, one file each. `launch.rs` has their order and the reasons for it.

pub(crate) mod cgroups;
pub(crate) mod credentials;
pub(crate) mod cwd;
pub(crate) mod exec;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod keyring;
pub(crate) mod landlock;
pub(crate) mod listeners;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod network;
pub(crate) mod no_new_privs;
pub(crate) mod notification;
pub(crate) mod parent_death;
pub(crate) mod personality;
pub(crate) mod rlimits;
pub(crate) mod scheduling;
pub(crate) mod seccomp;
pub(crate) mod session;
pub(crate) mod streams;
pub(crate) mod user_namespace;
