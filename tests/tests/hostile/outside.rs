//! What is outside of all services: listeners of the host.

use std::{
    fs::{self, Permissions},
    io::Write as _,
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixListener},
        },
    },
    path::{Path, PathBuf},
    thread,
};

/// Listeners that say so. They stay until the test ends.
pub(super) struct Outside {
    pub(super) address: String,
    pub(super) port: u16,
}

impl Outside {
    pub(super) fn new(tag: &str) -> Outside {
        // The host's own address, found as that from which it would send to another one (RFC 5737); nothing is sent.
        let route = UdpSocket::bind("0.0.0.0:0").expect("there is UDP");
        let address = route.connect("198.51.100.1:9").and_then(|()| route.local_addr());
        let address = address.map_or_else(|_| "127.0.0.1".to_owned(), |address| address.ip().to_string());
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("0.0.0.0:0").expect("there is a free port");
            let port = tcp.local_addr().expect("it is bound").port();
            if let Ok(udp) = UdpSocket::bind(("0.0.0.0", port)) {
                break (tcp, udp);
            }
        };
        let port = tcp.local_addr().expect("it is bound").port();
        let name = SocketAddr::from_abstract_name(format!("watt-outside-{tag}")).expect("it is short");
        let local = UnixListener::bind_addr(&name).expect("nobody has the name");
        thread::spawn(move || tcp.incoming().flatten().for_each(|mut stream| drop(stream.write(b"outside"))));
        thread::spawn(move || {
            local.incoming().flatten().for_each(|mut stream| drop(stream.write(b"outside")))
        });
        thread::spawn(move || {
            let mut word = [0; 16];
            while let Ok((_, from)) = udp.recv_from(&mut word) {
                let _ = udp.send_to(b"outside", from);
            }
        });
        Outside { address, port }
    }
}

/// Where programs listen that start processes for others: root's, and those of the users that tests have.
const MANAGERS: [&str; 4] =
    ["/run/docker.sock", "/run/podman/podman.sock", "/run/user/0/bus", "/run/user/65534/bus"];

/// Sockets in such places, where the host has none: real ones to which everybody may connect.
pub(super) struct Managers {
    made: Vec<PathBuf>,
    _listeners: Vec<UnixListener>,
}

impl Managers {
    /// Only root can make any.
    pub(super) fn new() -> Managers {
        let (mut made, mut listeners) = (Vec::new(), Vec::new());
        for path in MANAGERS.map(Path::new) {
            let folder = path.parent().expect("it is in a folder");
            if fs::create_dir(folder).is_ok() {
                made.push(folder.to_owned());
            }
            let Ok(listener) = UnixListener::bind(path) else { continue };
            made.push(path.to_owned());
            let _ = fs::set_permissions(path, Permissions::from_mode(0o666));
            listeners.push(listener);
        }
        Managers { made, _listeners: listeners }
    }
}

impl Drop for Managers {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            let _ = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        }
    }
}
