//! What this host allows, from the exec stage's probe: what workers are given, and what the user is told is missing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use watt_core::plan::{Network, Plan};
use watt_exec::plan::{Failure, Probe};

use crate::{launch::Host, proxy};

/// The files that names come from.
const NAME_FILES: [&str; 3] = ["/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf"];

/// What was found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// What workers are given.
    pub(crate) host: Host,
    /// What is missing, in words. Only what this plan asks for.
    pub(crate) warnings: Vec<String>,
}

/// Draws the conclusions. Without a probe (it could not be made) everything is taken to be missing.
pub(crate) fn findings(probe: Option<&Probe>, plan: &Plan, uid: u32) -> Findings {
    let mut warnings = Vec::new();
    let is_root = uid == 0;
    let private = plan.services.values().any(|service| service.network == Network::Private);
    let mut check = |tried: &Result<(), Failure>, matters: bool, missing: &str| {
        if let (Err(failure), true) = (tried, matters) {
            warnings.push(format!("{missing} ({})", words(failure)));
        }
        tried.is_ok()
    };
    let unknown = unknown();
    let probe = probe.unwrap_or(&unknown);

    let namespaces = is_root || check(&probe.user_namespace, true, NO_USER_NAMESPACE);
    let bind_files = namespaces && check(&probe.mount_namespace, true, NO_NAMES);
    let network = namespaces && check(&probe.network_namespace, private, NO_PRIVATE_NETWORK);
    // A private network without its own names could not even look up what is outside.
    let private_network = network && bind_files;
    let redirect = private_network && check(&probe.redirect, private, NO_REDIRECT);
    let change_user = is_root && check(&probe.change_user, true, NO_OTHER_USER);

    let host = Host {
        user_namespace: !is_root && namespaces,
        private_network,
        redirect,
        bind_files,
        name_files: NAME_FILES.map(PathBuf::from).into_iter().filter(|file| exists(file)).collect(),
        oom_score_adj: oom_score_adj(),
        proxy_group: change_user.then(|| proxy::group(&plan.name, uid)).flatten(),
    };
    Findings { host, warnings }
}

const NO_USER_NAMESPACE: &str = "an ordinary user cannot have namespaces here, so that services share the host's \
                                 network and call the mesh by $WATT_MESH_SOCKET";
const NO_NAMES: &str = "the mesh's names cannot be put into /etc/hosts of services, which share the host's network \
                        and call the mesh by $WATT_MESH_SOCKET";
const NO_PRIVATE_NETWORK: &str = "private networks cannot be made here, so that services share the host's network \
                                  and need a port each";
const NO_REDIRECT: &str = "packets cannot be redirected with nftables here, so that private services reach each \
                           other by name over HTTP on port 80 alone";
const NO_OTHER_USER: &str = "the mesh proxy cannot have a user of its own and runs as root";

/// What is taken for true when the host could not be asked.
fn unknown() -> Probe {
    let failed = || Err(Failure { step: "probe".into(), object: String::new(), errno: 0 });
    Probe {
        user_namespace: failed(),
        network_namespace: failed(),
        redirect: failed(),
        any_ip: failed(),
        mount_namespace: failed(),
        change_user: failed(),
    }
}

fn words(failure: &Failure) -> String {
    let Failure { step, object, errno } = failure;
    match (object.is_empty(), *errno) {
        (_, 0) => format!("{step} failed"),
        (true, errno) => format!("{step}: {}", io::Error::from_raw_os_error(errno)),
        (false, errno) => format!("{step} {object}: {}", io::Error::from_raw_os_error(errno)),
    }
}

/// Only a file that is there (behind its symbolic links) can be bound over.
fn exists(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.is_file())
}

/// A supervisor that the OOM killer spares (a negative value) would pass this on to every worker.
fn oom_score_adj() -> Option<i32> {
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()?;
    (own < 0).then_some(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn probe() -> Probe {
        Probe {
            user_namespace: Ok(()),
            network_namespace: Ok(()),
            redirect: Ok(()),
            any_ip: Ok(()),
            mount_namespace: Ok(()),
            change_user: Ok(()),
        }
    }

    fn check(probe: Option<&Probe>, uid: u32, private_network: bool, warnings: &[&str]) -> Host {
        let found = findings(probe, &testing::plan(&["api"]), uid);
        assert_eq!(found.host.private_network, private_network, "{:?}", found.warnings);
        assert_eq!(found.warnings, warnings);
        found.host
    }

    #[test]
    fn a_complete_host_gets_no_warning() {
        let host = check(Some(&probe()), 0, true, &[]);
        assert!(host.redirect && host.bind_files && !host.user_namespace && host.proxy_group.is_some());
        let host = check(Some(&probe()), 1000, true, &[]);
        assert!(host.redirect && host.bind_files && host.user_namespace && host.proxy_group.is_none());
    }

    #[test]
    fn what_is_missing_is_named_with_its_reason() {
        let failure = || Err(Failure { step: "unshare".into(), object: "net".into(), errno: 1 });
        let without_network = Probe { network_namespace: failure(), redirect: failure(), ..probe() };
        let reason = "unshare net: Operation not permitted (os error 1)";
        check(Some(&without_network), 0, false, &[&format!("{NO_PRIVATE_NETWORK} ({reason})")]);
        let without_user_namespace = Probe { user_namespace: failure(), ..probe() };
        check(Some(&without_user_namespace), 0, true, &[]);
        check(Some(&without_user_namespace), 9, false, &[&format!("{NO_USER_NAMESPACE} ({reason})")]);
        check(None, 9, false, &[&format!("{NO_USER_NAMESPACE} (probe failed)")]);
    }
}
