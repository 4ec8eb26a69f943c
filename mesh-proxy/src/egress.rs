//! The way out for private services: a redirected connection goes on to where the service wanted, from the host's
//! network.
//!
//! To the service every connection seems accepted at once, since the redirect ends here. What cannot be reached
//! is therefore answered with a reset, and told to the daemon with the reason.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    rc::Rc,
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, time::timeout};

use crate::{context::Context, destination::destination, tunnel};

/// How long the other end may take to accept. Clients of their own have no such limit shorter than this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After this much silence the kernel asks whether a peer outside is still there (tcp(7)). One inside is on this
/// machine, whose kernel ends its connections with it.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Serves one accepted connection to its end.
pub(crate) async fn serve(context: &Context, caller: &Rc<str>, client: TcpStream) {
    let (target, connected) = match destination(&client) {
        Ok(SocketAddr::V4(target)) => (target.to_string(), connect(target).await),
        Ok(target @ SocketAddr::V6(_)) => (target.to_string(), Err(Refused::Rule("IPv6 has no way out"))),
        Err(_) => return tunnel::reset(client),
    };
    match connected {
        Ok(server) => tunnel::run(client, server).await,
        Err(refused) => {
            context.refuse(Some(caller), &target, &refused.to_string());
            tunnel::reset(client);
        }
    }
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0}")]
    Rule(&'static str),
    #[error("{0}")]
    Network(io::Error),
    #[error("it did not accept within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
}

async fn connect(target: SocketAddrV4) -> Result<TcpStream, Refused> {
    if let Some(rule) = nonsense(*target.ip(), target.port()) {
        return Err(Refused::Rule(rule));
    }
    let server = match timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await {
        Ok(connected) => connected.map_err(Refused::Network)?,
        Err(_) => return Err(Refused::Timeout),
    };
    // Without it a peer that vanished is noticed only by the next write.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    if let Err(error) = SockRef::from(&server).set_tcp_keepalive(&keepalive) {
        tracing::debug!(%target, %error, "no keepalive on a connection to the outside");
    }
    Ok(server)
}

/// Addresses to which no connection can be meant. The host's own localhost is among them: what a service may
/// reach there is listed as `host_ports`, and has listeners of its own.
fn nonsense(ip: Ipv4Addr, port: u16) -> Option<&'static str> {
    match ip.octets() {
        [0, ..] => Some("0.0.0.0/8 is no destination (RFC 1122 §3.2.1.3)"),
        [127, ..] => {
            Some("127.0.0.0/8 does not leave the service's own network; list the port in `host_ports`")
        }
        [224..=239, ..] => Some("TCP has no multicast"),
        [240..=255, ..] => Some("240.0.0.0/4 is reserved or broadcast (RFC 1112 §4)"),
        _ if port == 0 => Some("port 0 is no destination"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_meant_is_connected_to() {
        for ip in
            ["127.0.0.1", "127.77.1.0", "0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255"]
        {
            assert!(nonsense(ip.parse().unwrap(), 80).is_some(), "{ip}");
        }
        for ip in ["93.184.216.34", "10.0.0.1", "169.254.169.254", "126.255.255.255", "223.255.255.255"] {
            assert_eq!(nonsense(ip.parse().unwrap(), 80), None, "{ip}");
        }
        assert!(nonsense(Ipv4Addr::new(10, 0, 0, 1), 0).is_some());
    }

    #[tokio::test]
    async fn a_closed_port_is_known_at_once() {
        let refused = connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1)).await.unwrap_err();
        assert!(matches!(refused, Refused::Rule(_)), "the loopback network is refused before it is tried");
    }
}
