//! Who holds a TCP port: for the error message when the gateway's port is taken.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Who listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// This process.
    Process {
        /// Its pid.
        pid: u32,
        /// The name the kernel has for it (`comm`, proc(5)).
        name: String,
    },
    /// A process whose descriptors we may not see.
    AnotherUsers,
    /// Nobody any more.
    Nobody,
}

impl Holder {
    /// The process with this pid.
    pub(crate) fn of_pid(pid: u32) -> Holder {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Holder::Process { pid, name: name.trim_end().to_owned() }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder::Process { pid, name } => write!(f, "{name} (pid {pid})"),
            Holder::AnotherUsers => write!(f, "another user's process"),
            Holder::Nobody => write!(f, "a process that has gone by now"),
        }
    }
}

/// The inodes of the sockets that listen where `address` would have to be bound.
pub(crate) fn listeners(address: SocketAddr) -> Vec<u64> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().filter_map(|table| fs::read_to_string(table).ok());
    tables
        .flat_map(|table| table.lines().filter_map(|line| listener(line, address)).collect::<Vec<_>>())
        .collect()
}

/// Finds the process that listens where `address` would have to be bound.
pub(crate) fn of_port(address: SocketAddr) -> Holder {
    let inodes = listeners(address);
    if inodes.is_empty() {
        return Holder::Nobody;
    }
    let names: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    pids().find(|pid| has_descriptor(*pid, &names)).map_or(Holder::AnotherUsers, Holder::of_pid)
}

/// The inode of a listening socket that stands in the way of `wanted`; a line of `/proc/net/tcp` (proc_net(5)).
fn listener(line: &str, wanted: SocketAddr) -> Option<u64> {
    /// `TCP_LISTEN` of include/net/tcp_states.h.
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = fields.next()?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let held = parse_address(address)?;
    let overlap = held.is_unspecified() || wanted.ip().is_unspecified() || held == wanted.ip();
    (state == LISTEN && port == wanted.port() && overlap).then_some(inode)
}

/// An address as the kernel prints it: 32-bit words in the byte order of the machine.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |from: usize| u32::from_str_radix(hex.get(from..from + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => word(0).map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
        }
        _ => None,
    }
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn has_descriptor(pid: u32, names: &[String]) -> bool {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| names.iter().any(|name| target.as_os_str() == name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_holder_of_a_port_is_found_by_any_address_that_collides() {
        let us = Holder::Process {
            pid: std::process::id(),
            name: fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned(),
        };
        for bound in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let listener = TcpListener::bind(bound).unwrap();
            let address = listener.local_addr().unwrap();
            assert_eq!(of_port(address), us, "{bound}");
            assert_eq!(of_port(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port())), us, "{bound}");
        }
    }

    #[test]
    fn lines_that_are_not_listeners_are_left_out() {
        let wanted = "127.0.0.1:80".parse().unwrap();
        let line = |state| {
            format!(
                "   0: 0100007F:0050 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 4711 1"
            )
        };
        assert_eq!(listener(&line("0A"), wanted), Some(4711));
        assert_eq!(listener(&line("01"), wanted), None);
        assert_eq!(listener("  sl  local_address rem_address   st", wanted), None);
        assert_eq!(listener("", wanted), None);
    }
}
