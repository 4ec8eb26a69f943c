//! The mesh's loopback addresses and the files that give them names (ARCHITECTURE.md, "The mesh's addresses").

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::Ipv4Addr,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use watt_core::{AppName, ServiceId, plan::Plan};
use watt_exec::plan::MESH_ADDRESS;

/// Ends every name of the mesh: `api.plt.local`.
pub const DOMAIN: &str = "plt.local";

/// The first service's address; 127.77.0.x is left for addresses that do not belong to one service.
const FIRST: u32 = u32::from_be_bytes([127, 77, 1, 0]);
/// The end of 127.77.0.0/16.
const END: u32 = u32::from_be_bytes([127, 78, 0, 0]);

/// Where each service's name leads in private networks: to the address of its own where packets are redirected, else to
/// the one at which the mesh's listener is bound.
pub fn of_names(own: &BTreeMap<ServiceId, Ipv4Addr>, redirect: bool) -> BTreeMap<ServiceId, Ipv4Addr> {
    let address = |own: &Ipv4Addr| if redirect { *own } else { MESH_ADDRESS };
    own.iter().map(|(id, own)| (id.clone(), address(own))).collect()
}

/// Each service's own address, in the order of names. Those that have one keep it: programs remember what a name led to. New ones
/// get those after the last one first, because somebody may remember one that is free again. A plan with more services than
/// the range has addresses (65 280) leaves the last ones without.
pub fn of_services(plan: &Plan, before: &BTreeMap<ServiceId, Ipv4Addr>) -> BTreeMap<ServiceId, Ipv4Addr> {
    let mut addresses = before.clone();
    addresses.retain(|id, _| plan.services.contains_key(id));
    let used: BTreeSet<Ipv4Addr> = addresses.values().copied().collect();
    let next = before.values().max().map_or(FIRST, |last| last.to_bits().saturating_add(1)).clamp(FIRST, END);
    let free =
        (next..END).chain(FIRST..next).map(Ipv4Addr::from_bits).filter(|address| !used.contains(address));
    let new: Vec<ServiceId> =
        plan.services.keys().filter(|id| !addresses.contains_key(*id)).cloned().collect();
    addresses.extend(new.into_iter().zip(free));
    addresses
}

/// The addresses that may become the one of all names on the host's network, 127.78.x.y: the first comes from the
/// application's name and runtime folder, so that it stays the same and applications rarely meet, and the others
/// follow it for when they do.
pub fn of_app(app: &AppName, runtime: &Path) -> impl Iterator<Item = Ipv4Addr> {
    let hash = fnv1a(cgroup_name(app, runtime).as_bytes());
    // x.0 and x.255 would be allowed on loopback, but look like mistakes.
    (0..8).map(move |nth| Ipv4Addr::new(127, 78, (hash >> 8) as u8, ((hash % 254 + nth) % 254) as u8 + 1))
}

/// User and group id of an application's unprivileged processes when root runs it: from systemd's range of
/// dynamic users (61184–65519, systemd's UIDS-GIDS.md), of which the first 4096 are used.
pub fn unprivileged_id(app: &AppName) -> u32 {
    61184 + (fnv1a(app.as_str().as_bytes()) % 4096) as u32
}

/// User and group ids for a service that is to have one of its own, from the same range: the first that is free is taken, so
/// that it stays the same from start to start.
pub fn dynamic_ids(app: &AppName, service: &ServiceId) -> impl Iterator<Item = u32> {
    const FIRST: u32 = 61184;
    const COUNT: u64 = 65520 - FIRST as u64;
    let hash = fnv1a(format!("{app}/{service}").as_bytes());
    (0..COUNT).map(move |nth| FIRST + ((hash % COUNT + nth) % COUNT) as u32)
}

/// The name of an application's cgroup. The runtime folder tells instances apart, not the name alone: two folders
/// (`WATT_RUNTIME_DIR`) may hold applications of one name, and each ends what it finds in its own cgroup.
pub fn cgroup_name(app: &AppName, runtime: &Path) -> String {
    match runtime == Path::new("/run/watt").join(app.as_str()) {
        true => app.to_string(),
        false => format!("{app}-{:08x}", fnv1a(runtime.as_os_str().as_bytes()) as u32),
    }
}

/// `/etc/hosts` for workers: the host's own with the mesh's names added, which win because they come first.
pub fn hosts<'a>(host: &str, names: impl IntoIterator<Item = (&'a ServiceId, Ipv4Addr)>) -> String {
    let mut text =
        String::from("# Made by watt: the services of this application, then the host's own names.\n");
    for (service, address) in names {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{address} {service}.{DOMAIN}");
    }
    text.push_str(host);
    text
}

/// `/etc/resolv.conf` for private workers: the proxy answers on their own loopback. The host's search list and
/// options stay.
pub fn resolv_conf(host: &str) -> String {
    let keep = |line: &&str| line.starts_with("search ") || line.starts_with("options ");
    let kept: String = host.lines().filter(keep).flat_map(|line| [line, "\n"]).collect();
    format!("# Made by watt.\nnameserver 127.0.0.1\n{kept}")
}

/// `/etc/nsswitch.conf` for private workers: names come from the hosts file, then from DNS. Modules that ask a
/// daemon of the host (mDNS, systemd-resolved) would look past the mesh.
pub fn nsswitch_conf(host: &str) -> String {
    let ours = "hosts: files dns\n";
    let others = host.lines().filter(|line| !line.trim_start().starts_with("hosts:"));
    let others: String = others.flat_map(|line| [line, "\n"]).collect();
    format!("# Made by watt.\n{ours}{others}")
}

/// FNV-1a in 64 bits: small, and the same on every machine and in every version (RFC draft eastlake-fnv §2).
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_applications_ids_stay_in_their_range_and_do_not_change() {
        let shop = AppName::new("shop").unwrap();
        // Another version must find the sockets of this one: these values may not change.
        let usual = |app: &AppName| Path::new("/run/watt").join(app.as_str());
        assert_eq!(of_app(&shop, &usual(&shop)).next(), Some(Ipv4Addr::new(127, 78, 36, 188)));
        assert_eq!(unprivileged_id(&shop), 62217);
        assert_eq!(cgroup_name(&shop, Path::new("/run/watt/shop")), "shop");
        assert_ne!(cgroup_name(&shop, Path::new("/a/shop")), cgroup_name(&shop, Path::new("/b/shop")));
        for name in ["a", "b", "hello", "x-1", "0"] {
            let app = AppName::new(name).unwrap();
            for address in of_app(&app, &usual(&app)) {
                assert_eq!(address.octets()[..2], [127, 78]);
                assert!((1..=254).contains(&address.octets()[3]), "{address}");
            }
            assert!((61184..65280).contains(&unprivileged_id(&app)));
        }
    }

    #[test]
    fn a_service_keeps_its_address_when_others_come_and_go() {
        let of = |names: &[&str], before: &BTreeMap<ServiceId, Ipv4Addr>| {
            of_services(&crate::testing::plan(names), before)
        };
        let last = |addresses: &BTreeMap<ServiceId, Ipv4Addr>| -> Vec<(String, u8)> {
            addresses.iter().map(|(id, address)| (id.to_string(), address.octets()[3])).collect()
        };
        let first = of(&["b", "c"], &BTreeMap::new());
        assert_eq!(last(&first), [("b".into(), 0), ("c".into(), 1)]);
        let second = of(&["a", "c"], &first);
        assert_eq!(last(&second), [("a".into(), 2), ("c".into(), 1)]);
        assert_eq!(last(&of(&["a", "b", "c"], &second)), [("a".into(), 2), ("b".into(), 3), ("c".into(), 1)]);
    }

    #[test]
    fn files_for_workers_keep_what_the_host_says() {
        let api = ServiceId::new("api").unwrap();
        let text = hosts("127.0.0.1 localhost\n", [(&api, Ipv4Addr::new(127, 77, 1, 0))]);
        assert!(text.ends_with("127.77.1.0 api.plt.local\n127.0.0.1 localhost\n"), "{text}");

        let text = resolv_conf("nameserver 10.0.0.2\nsearch corp.example\noptions ndots:2\n");
        assert_eq!(text, "# Made by watt.\nnameserver 127.0.0.1\nsearch corp.example\noptions ndots:2\n");

        let text = nsswitch_conf("passwd: files\nhosts: files mdns4_minimal [NOTFOUND=return] resolve dns\n");
        assert_eq!(text, "# Made by watt.\nhosts: files dns\npasswd: files\n");
    }
}
