//! What workers are given on this host, from the exec stage's probe. What is missing is told by [`crate::doctor`].

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use watt_core::AppName;
use watt_exec::plan::{Failure, Probe};

use crate::{
    launch::{Abilities, Host},
    proxy,
};

/// The files that names come from.
const NAME_FILES: [&str; 3] = ["/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf"];

/// Set to `off` by tests and for diagnosis: private networks are made as on a host without nftables.
const REDIRECT: &str = "WATT_REDIRECT";

/// Takes away from a probe what the environment switches off.
pub(crate) fn switch_off(probe: &mut Probe, env: &BTreeMap<String, String>) {
    if env.get(REDIRECT).is_some_and(|value| value == "off") {
        probe.redirect = Err(Failure { step: format!("{REDIRECT}=off"), object: String::new(), errno: 0 });
    }
}

/// Draws the conclusions. Without a probe (it could not be made) everything is taken to be missing.
pub(crate) fn host(probe: Option<&Probe>, app: &AppName, uid: u32) -> Host {
    let is_root = uid == 0;
    let works = |tried: fn(&Probe) -> &Result<(), Failure>| probe.is_some_and(|probe| tried(probe).is_ok());
    let namespaces = is_root || works(|probe| &probe.user_namespace);
    let bind_files = namespaces && works(|probe| &probe.mount_namespace);
    // A private network without its own names could not even look up what is outside.
    let private_network = bind_files && works(|probe| &probe.network_namespace);
    let namespaced = |tried: fn(&Probe) -> &Result<(), Failure>| namespaces && works(tried);
    Host {
        is_root,
        user_namespace: !is_root && namespaces,
        private_network,
        redirect: private_network && works(|probe| &probe.redirect),
        bind_files,
        name_files: NAME_FILES.map(PathBuf::from).into_iter().filter(|file| exists(file)).collect(),
        oom_score_adj: oom_score_adj(),
        proxy_group: (is_root && works(|probe| &probe.change_user)).then(|| proxy::group(app, uid)).flatten(),
        pids_by_rlimit: false,
        walls: Abilities {
            read_only: bind_files && works(|probe| &probe.read_only),
            devices: bind_files && works(|probe| &probe.devices),
            pid_namespace: bind_files && works(|probe| &probe.pid_namespace) && works(|probe| &probe.proc),
            proc_shared: bind_files && works(|probe| &probe.proc_shared),
            sys: private_network && works(|probe| &probe.sys),
            ipc_namespace: namespaced(|probe| &probe.ipc_namespace),
            mqueue: Path::new("/dev/mqueue").is_dir(),
            uts_namespace: namespaced(|probe| &probe.uts_namespace),
            cgroup_namespace: namespaced(|probe| &probe.cgroup_namespace),
            keyring: works(|probe| &probe.keyring),
            landlock: probe.and_then(|probe| probe.landlock.clone().ok()).unwrap_or(0),
            seccomp: works(|probe| &probe.seccomp),
            change_user: is_root && works(|probe| &probe.change_user),
            user_namespace: bind_files && works(|probe| &probe.user_namespace),
            capabilities: namespaced(|probe| &probe.capabilities),
        },
    }
}

/// The first Linux that counts processes for RLIMIT_NPROC by user namespace. Before that all of a user's were counted
/// together, those outside of the application as well.
const COUNTS_BY_NAMESPACE: (u32, u32) = (5, 14);

/// Whether processes of an ordinary user's workers can be bounded without cgroups. All workers have a user namespace that can
/// have a mount namespace.
pub(crate) fn counts_processes(user_namespace: bool, mount_namespace: bool, release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    user_namespace && mount_namespace && version >= COUNTS_BY_NAMESPACE
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

    use crate::testing::probe;

    fn check(probe: Option<&Probe>, uid: u32, private_network: bool) -> Host {
        let host = host(probe, &testing::plan(&["api"]).name, uid);
        assert_eq!(host.private_network, private_network, "{probe:?}");
        host
    }

    #[test]
    fn a_complete_host_gives_everything() {
        let host = check(Some(&probe()), 0, true);
        assert!(host.redirect && host.bind_files && !host.user_namespace && host.proxy_group.is_some());
        let host = check(Some(&probe()), 1000, true);
        assert!(host.redirect && host.bind_files && host.user_namespace && host.proxy_group.is_none());
    }

    #[test]
    fn what_is_missing_is_not_given() {
        let failure = || Err(Failure { step: "unshare".into(), object: "net".into(), errno: 1 });
        let without_network = Probe { network_namespace: failure(), redirect: failure(), ..probe() };
        assert!(check(Some(&without_network), 0, false).bind_files);
        let without_user_namespace = Probe { user_namespace: failure(), ..probe() };
        check(Some(&without_user_namespace), 0, true);
        assert!(!check(Some(&without_user_namespace), 9, false).bind_files);
        check(None, 9, false);
        check(None, 0, false);
    }

    #[test]
    fn processes_are_counted_by_namespace_since_linux_5_14() {
        for (release, expected) in
            [("5.13.9-x", false), ("5.14.0", true), ("6.1.0-18-amd64", true), ("4.18", false), ("", false)]
        {
            assert_eq!(counts_processes(true, true, release), expected, "{release}");
        }
        assert!(!counts_processes(true, false, "6.1") && !counts_processes(false, true, "6.1"));
    }

    #[test]
    fn redirection_can_be_switched_off() {
        let mut probe = probe();
        switch_off(&mut probe, &[(REDIRECT.to_owned(), "off".to_owned())].into());
        assert!(!check(Some(&probe), 0, true).redirect);
    }
}
