//! The way from a fresh clone to the service's program: the list of steps.

use std::os::fd::OwnedFd;

use crate::{
    error::{Failed, StepError},
    plan::LaunchPlan,
    report::ReportSocket,
    steps::{
        cgroups, credentials, cwd, exec, listeners, mounts, network, no_new_privs, oom_score, parent_death,
        rlimits, session, user_namespace,
    },
};

/// What the steps work with.
pub(crate) struct Stage<'a> {
    /// What is to be done.
    pub(crate) plan: LaunchPlan,
    /// The listeners to pass on, until their step takes them.
    pub(crate) listeners: Vec<OwnedFd>,
    /// The socket to the spawner.
    pub(crate) report: &'a ReportSocket,
}

type Step = fn(&mut Stage<'_>) -> Result<(), StepError>;

/// The steps, in the order in which they are taken, by the names in which their failures are reported. A step for which the
/// plan has nothing does nothing.
const STEPS: &[(&str, Step)] = &[
    // First of all: what the steps use is the worker's already, and nothing can be started outside.
    ("cgroups", cgroups::join),
    ("session", session::start),
    // Needs the rights this process came with; a user namespace does not give it.
    ("oom_score_adj", oom_score::set),
    // Gives an ordinary user what the next two need. It has to come before them, because a namespace belongs to the
    // user namespace it was made in.
    ("user_namespace", user_namespace::enter),
    ("network", network::enter),
    // After the network: what is bound over /etc/resolv.conf names a server that listens by then.
    ("mounts", mounts::arrange),
    // While there is no limit of open files yet that could be in the way of moving them.
    ("listeners", listeners::hand_on),
    // After all steps that open something; before the credentials, because raising a hard limit takes a capability.
    ("rlimits", rlimits::set),
    // After everything that takes a right.
    ("credentials", credentials::give_up),
    ("no_new_privs", no_new_privs::set),
    // The kernel forgets this at each change of credentials.
    ("parent_death_signal", parent_death::ask),
    // As the user the program runs as: a folder it cannot enter is found here, and named.
    ("cwd", cwd::enter),
    // Marks every other descriptor to be closed, and becomes the program.
    ("exec", exec::exec),
];

/// Takes all steps. Returns only when one of them failed.
pub(crate) fn launch(plan: LaunchPlan, listeners: Vec<OwnedFd>, report: &ReportSocket) -> Result<(), Failed> {
    let mut stage = Stage { plan, listeners, report };
    for (name, step) in STEPS {
        step(&mut stage).map_err(|error| Failed::new(name, &error))?;
    }
    Ok(())
}
