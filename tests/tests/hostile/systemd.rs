//! `standard` contains all that systemd's own recommended hardening does, but for what docs/sandbox.md says: every attack once more in a
//! sandbox of systemd's switches, with the network that `standard` has.

use std::{collections::BTreeSet, fs};

use watt_tests::{User, is_root, repository};

use super::{Setting, attacks, battle::Battle, page, page_path};

/// How its setting is called, which is in no page.
pub(super) const PROFILE: &str = "systemd";

/// What systemd calls "a number of useful restrictions": the profile `default` of its portable services (systemd 257,
/// src/portable/profile/default/service.conf), with what `DynamicUser=` brings.
pub(super) const SANDBOX: &str = "
  profile: off
  dynamic_user: true
  no_new_privileges: true
  private_tmp: true
  restrict_suid_sgid: true
  private_devices: true
  private_users: true
  protect_system: strict
  protect_home: hidden
  protect_kernel_tunables: true
  protect_kernel_modules: true
  protect_control_groups: true
  address_families: [AF_UNIX, AF_NETLINK, AF_INET, AF_INET6]
  lock_personality: true
  memory_deny_write_execute: true
  restrict_realtime: true
  restrict_namespaces: true
  system_calls: ['@system-service']
  capabilities:
    [chown, dac_override, dac_read_search, fowner, fsetid, ipc_lock, ipc_owner, kill, mknod, net_admin, net_bind_service, net_broadcast,
     setgid, setpcap, setuid, sys_admin, sys_chroot, sys_nice, sys_resource]";

#[test]
fn standard_contains_what_systemds_recommended_hardening_does() {
    // Only root has users to give, and one host is enough.
    if !is_root() || std::env::var_os("WATT_TEST_MACHINE").is_some() {
        return;
    }
    // What takes from all is a matter of limits, of which the profile has none.
    let attacks: Vec<_> = attacks().into_iter().filter(|attack| attack.group != "resources").collect();
    let setting = Setting { profile: PROFILE, user: User::Root };
    let outcome = Battle::new(setting, &attacks).fight(&attacks);
    let ours = page::read(&fs::read_to_string(page_path()).expect("the page is there"));
    let standard = Setting { profile: "standard", user: User::Root };
    let only_systemds = attacks.iter().map(|attack| &attack.name).filter(|name| {
        outcome.verdicts[*name].is_contained && ours.get(&((*name).clone(), standard)) == Some(&false)
    });
    let only_systemds: BTreeSet<&str> = only_systemds.map(String::as_str).collect();
    let only_ours = attacks.iter().map(|attack| &attack.name).filter(|name| {
        !outcome.verdicts[*name].is_contained && ours.get(&((*name).clone(), standard)) == Some(&true)
    });
    eprintln!("only `standard` contains {:?}", only_ours.collect::<Vec<_>>());
    let text = fs::read_to_string(repository().join("docs/sandbox.md")).expect("the page is there");
    let said = text.split("## Beside systemd's own hardening").nth(1).expect("a part of the page");
    // `- `one`, `another`: why`, up to the next part.
    let said = said.split("\n## ").next().unwrap_or_default();
    let names = said.lines().filter_map(|line| line.strip_prefix("- ")?.split(':').next());
    let said: BTreeSet<&str> = names.flat_map(|names| names.split('`').skip(1).step_by(2)).collect();
    assert_eq!(only_systemds, said, "docs/sandbox.md says which, and why");
}
