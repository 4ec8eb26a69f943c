//! Control groups: who is in a worker, what it may use, what it has used, and how all of it is ended.
//!
//! Three kinds of host exist. With cgroup v2 alone one directory per worker does everything. On a *hybrid* host
//! the v2 hierarchy has no controllers: it still gives membership, `cgroup.kill`, `cgroup.events` and entry by
//! clone3(2), while limits and figures live in one v1 hierarchy for each controller. With v1 alone the freezer
//! helps to kill. A process may sit at a different place in every hierarchy, so a [`Group`] is a set of directories.
//!
//! ```text
//! <base>/supervisor            spawner and daemon
//! <base>/app/<service>/<worker>  one worker
//! ```
//!
//! On pure v2 the base is the own cgroup if it was delegated (systemd's `Delegate=yes`) or, for an ordinary user, has
//! nothing but watt in it; for root outside of one it is `/sys/fs/cgroup/watt/<app>`. On hybrid and v1 hosts it is
//! `watt-<app>` below the own cgroup. The rules are those of the kernel's
//! Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/, and of systemd's CGROUP_DELEGATION.

mod file;
mod freeze;
mod group;
mod host;
mod kill;
mod limits;
mod oom;
mod pressure;
mod tree;
mod usage;

pub use group::Group;
pub use host::{Controller, Host, Mode};
pub use limits::{IoLimits, LimitName, Limits, Reason, Unenforced};
pub use oom::LimitSignal;
pub use pressure::{Pressure, PressureOf, PressureTrigger};
pub use tree::{Refusal, Tree, WayOut};
pub use usage::{Events, Usage};
