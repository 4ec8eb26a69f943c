//! The way from a fresh clone to the service's program: the list of steps.

use std::os::fd::OwnedFd;

use watt_os::landlock::Domain;

use crate::{
    error::{Failed, StepError},
    plan::{LaunchPlan, Streams},
    report::ReportSocket,
    steps::{
        cgroups, credentials, cwd,
        exec::{self, Execution},
        init::{self, Relay},
        join::{self, Joined},
        keyring, landlock, listeners,
        mounts::{self, cgroups::OwnGroup},
        namespaces, network, no_new_privs, notification, parent_death, personality, rlimits, scheduling,
        seccomp, session, streams, user_namespace,
    },
};

/// What the steps work with.
pub(crate) struct Stage<'a> {
    /// What is to be done.
    pub(crate) plan: LaunchPlan,
    /// The listeners to pass on, until their step takes them.
    pub(crate) listeners: Vec<OwnedFd>,
    /// The memfd with the credentials, until they are in their place.
    pub(crate) credentials: Option<OwnedFd>,
    /// The descriptors of its standard streams, until they are in their place.
    pub(crate) streams: Option<[OwnedFd; 3]>,
    /// The process whose namespaces are joined.
    pub(crate) joined: Option<Joined>,
    /// The socket to the spawner; behind the init, to that.
    pub(crate) report: &'a mut ReportSocket,
    /// Where it is among the cgroups, when it has a cgroup namespace.
    pub(crate) cgroups: Vec<OwnGroup>,
    /// The Landlock domain, from when it was made until it is entered.
    pub(crate) domain: Option<Domain>,
    /// The way to the init, from when it was made until there is one.
    pub(crate) relay: Option<Relay>,
    /// What is executed, once that is known.
    pub(crate) execution: Option<Execution>,
}

type Step = fn(&mut Stage<'_>) -> Result<(), StepError>;

/// The steps, in the order in which they are taken, by the names in which their failures are reported. A step for which the
/// plan has nothing does nothing.
const STEPS: &[(&str, Step)] = &[
    // Before anything is the worker's: who is in there may not look at a process that comes from outside.
    ("join", join::hide),
    // First of all that does something: what the steps use is the worker's already, and nothing can be started outside.
    ("cgroups", cgroups::join),
    ("session", session::start),
    // Before anything else is opened, which might get the number that the program wants.
    ("notification", notification::make),
    // Needs the rights this process came with; a user namespace does not give them.
    ("scheduling", scheduling::set),
    // While /proc is still the host's, and with the rights this process came with.
    ("join", join::prepare),
    // Gives an ordinary user what the next three need. It has to come before them, because a namespace belongs to the
    // user namespace it was made in.
    ("user_namespace", user_namespace::enter),
    ("network", network::enter),
    // After the cgroups were joined, because the namespace's root is where its maker is.
    ("namespaces", namespaces::enter),
    // After all namespaces: the kernel's file systems show those they are mounted in. After the network, too: what is
    // bound over /etc/resolv.conf names a server that listens by then.
    ("mounts", mounts::arrange),
    // While there is no limit of open files yet that could be in the way of moving them.
    ("listeners", listeners::hand_on),
    // Opens files, as the program sees them, that only the user we came as may be able to reach.
    ("landlock", landlock::prepare),
    ("init", init::prepare),
    // After all steps that open something; before the credentials, because raising a hard limit takes a capability.
    ("rlimits", rlimits::set),
    // After everything that takes a right.
    ("credentials", credentials::give_up),
    // The keyring belongs to the user it was made by.
    ("keyring", keyring::join),
    ("no_new_privs", no_new_privs::set),
    ("personality", personality::set),
    // The kernel forgets this at each change of credentials.
    ("parent_death_signal", parent_death::ask),
    // As the user the program runs as: a folder it cannot enter is found here, and named.
    ("cwd", cwd::enter),
    // The init has given up all that the program has. What follows is for the program alone: its filters may refuse what
    // an init does.
    ("init", init::stay_behind),
    // With the program's own rights, and not for the init, which needs a standard input that is nothing.
    ("stdin", streams::open),
    // Marks every other descriptor to be closed.
    ("exec", exec::prepare),
    ("landlock", landlock::enter),
    ("seccomp", seccomp::install),
    // Becomes the program.
    ("exec", exec::exec),
];

/// Takes all steps. `passed` are the listeners and what is handed to the stage. Returns only when one of them failed.
pub(crate) fn launch(
    plan: LaunchPlan,
    mut passed: Vec<OwnedFd>,
    report: &mut ReportSocket,
) -> Result<(), Failed> {
    let mut handed = passed.split_off(usize::from(plan.listeners)).into_iter();
    let credentials = if plan.has_credentials() { handed.next() } else { None };
    let streams = match plan.streams {
        Streams::Passed => <[OwnedFd; 3]>::try_from(handed.by_ref().take(3).collect::<Vec<_>>()).ok(),
        Streams::Spawner | Streams::Terminal { .. } => None,
    };
    let mut stage = Stage {
        joined: plan.join.and_then(|pid| Some(Joined::new(pid, handed.next()?))),
        plan,
        listeners: passed,
        credentials,
        streams,
        report,
        cgroups: Vec::new(),
        domain: None,
        relay: None,
        execution: None,
    };
    for (name, step) in STEPS {
        step(&mut stage).map_err(|error| Failed::new(name, &error))?;
    }
    Ok(())
}
