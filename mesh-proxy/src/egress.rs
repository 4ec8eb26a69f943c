//! The way out for private services: a redirected connection goes on to where the service wanted, from the
//! host's network.
//!
//! A service may have a list of destinations. What it does not have is refused before anything is sent, with
//! the line that would allow it: [`rules`] says what a list allows, [`answers`] which names lead to an
//! address, and [`reach`] which addresses names may lead to, with [`own`] for the host's. [`outside`] counts.
//!
//! To the service every connection seems accepted at once, since the redirect ends here. What cannot be reached
//! is therefore answered with a reset, and told to the daemon with the reason.

mod answers;
mod outside;
mod own;
mod reach;
mod rules;
mod tally;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpStream,
    task,
    time::{Instant, timeout},
};

use self::reach::not_public;
use crate::{
    context::Context,
    destination::destination,
    dns::{self, Name},
    tunnel,
    view::View,
};

pub(crate) use self::{
    outside::{EgressRefusal, Outside},
    rules::Rules,
};

#[cfg(test)]
pub(crate) use self::rules::tests::rules;

/// How long the other end may take to accept. Clients of their own have no such limit shorter than this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After this much silence the kernel asks whether a peer outside is still there (tcp(7)). One inside is on
/// this machine, whose kernel ends its connections with it.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How many names of a list are looked up at a time.
const LOOK_UP_MAX: usize = 16;

/// Serves one accepted connection to its end.
pub(crate) async fn serve(context: &Context, caller: &Rc<str>, client: TcpStream) {
    let Ok(target) = destination(&client) else { return tunnel::reset(client) };
    let view = context.view();
    let way = match way(&view, caller, target) {
        Ok(way) => way,
        Err(Refused::List(refusal)) => {
            tunnel::reset(client);
            view.outside.refuse(&refusal.allow.clone().unwrap_or_else(|| refusal.target.clone()), refusal);
            // Beside this connection, which is over.
            let caller = Rc::clone(caller);
            task::spawn_local(async move { learn_again(&view, &caller, target.port()).await });
            return;
        }
        Err(refused) => {
            tunnel::reset(client);
            view.outside.tally(caller, &target.to_string()).refused();
            return context.refuse(Some(caller), &target.to_string(), &refused.to_string());
        }
    };
    let tally = view.outside.tally(caller, &way.label);
    // Connections outlive snapshots.
    drop(view);
    let start = Instant::now();
    match connect(way.target).await {
        Ok(server) => {
            let open = tally.connected(start.elapsed());
            tunnel::run_counted(client, server, open.traffic()).await;
        }
        Err(refused) => {
            tunnel::reset(client);
            tally.failed();
            context.refuse(Some(caller), &way.label, &refused.to_string());
        }
    }
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
enum Refused {
    /// Such a connection makes no sense.
    #[error("{0}")]
    Rule(&'static str),
    /// The service's list does not have it.
    #[error("{}", .0.reason)]
    List(EgressRefusal),
    #[error("{0}")]
    Network(io::Error),
    #[error("it did not accept within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
}

/// A connection that may be made.
#[derive(Debug)]
struct Way {
    target: SocketAddrV4,
    /// How it is counted: by name where the service asked for one.
    label: String,
}

/// Decides about a connection.
fn way(view: &View, caller: &str, target: SocketAddr) -> Result<Way, Refused> {
    let SocketAddr::V4(target) = target else { return Err(Refused::Rule("IPv6 has no way out")) };
    let (address, port) = (*target.ip(), target.port());
    if let Some(rule) = nonsense(address, port) {
        return Err(Refused::Rule(rule));
    }
    let (rules, names) = (view.rules(caller), view.outside.names_of(caller, address));
    let by_name = |name: &Arc<Name>| format!("{name}:{port}");
    if rules.allow_address(address.into(), port) {
        let label = names.first().map_or_else(|| target.to_string(), by_name);
        return Ok(Way { target, label });
    }
    let refuse = |reason: String, allow: String| {
        let (caller, target) = (caller.to_owned(), target.to_string());
        Err(Refused::List(EgressRefusal { caller, target, reason, allow: Some(allow) }))
    };
    let allowed = names.iter().find(|name| rules.allow_name(name, port));
    match (allowed, not_public(address)) {
        (Some(name), None) => Ok(Way { target, label: by_name(name) }),
        (Some(name), Some(what)) => refuse(
            format!("{name} leads to {what}, which only a rule with an address allows"),
            target.to_string(),
        ),
        (None, what) => {
            // The name would help only where names do.
            let name = names.first().filter(|_| what.is_none());
            let reason = match name {
                Some(name) => format!("no rule allows port {port} of {name}"),
                None => "no rule allows this address".to_owned(),
            };
            refuse(reason, name.map_or_else(|| target.to_string(), by_name))
        }
    }
}

/// A question for a name that no rule has.
pub(crate) fn refuse_name(view: &View, caller: &str, name: &Name) {
    let target = name.to_string();
    let refusal = EgressRefusal {
        caller: caller.to_owned(),
        target: target.clone(),
        reason: "no rule has this name".to_owned(),
        allow: Some(target.clone()),
    };
    view.outside.refuse(&target, refusal);
}

/// After a refusal, finds out where the names of the list lead that are written out. A program that keeps an
/// address for longer than its answer counts, or since before this process was started, gets through when it
/// tries again.
async fn learn_again(view: &View, caller: &str, port: u16) {
    let rules = view.rules(caller);
    if rules.whole_names(port).next().is_none() || !view.outside.may_look_up(caller) {
        return;
    }
    for name in rules.whole_names(port).take(LOOK_UP_MAX) {
        let addresses = dns::look_up(name, &view.zone.resolvers).await;
        view.outside.learn(caller, name, &addresses);
    }
}

async fn connect(target: SocketAddrV4) -> Result<TcpStream, Refused> {
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
    use tokio::net::UdpSocket;
    use watt_api::mesh::{Service, Snapshot};

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

    const API: &str = "api";

    /// A view in which `api` has this list.
    fn view(rules: Option<&[&str]>) -> View {
        let egress = rules.map(|rules| rules.iter().map(|text| rules::tests::rule(text)).collect());
        let services = [(API.to_owned(), Service { egress, ..Service::default() })].into();
        View::new(Snapshot { services, ..Snapshot::default() }, None, Arc::default())
    }

    /// How the connection is counted, or what would allow it.
    fn ask(view: &View, target: &str) -> Result<String, String> {
        match way(view, API, target.parse().unwrap()) {
            Ok(way) => Ok(way.label),
            Err(Refused::List(refusal)) => {
                assert_eq!((&*refusal.caller, &*refusal.target), (API, target));
                Err(refusal.allow.unwrap())
            }
            Err(refused) => Err(refused.to_string()),
        }
    }

    fn learn(view: &View, name: &str, address: [u8; 4]) {
        view.outside.learn(API, &Name::new(name).unwrap(), &[(address.into(), 60)]);
    }

    fn allowed(label: &str) -> Result<String, String> {
        Ok(label.to_owned())
    }

    fn refused(allow: &str) -> Result<String, String> {
        Err(allow.to_owned())
    }

    #[test]
    fn without_a_list_only_nonsense_is_refused() {
        for view in [view(None), view(Some(&["*"]))] {
            assert_eq!(ask(&view, "93.184.216.34:443"), allowed("93.184.216.34:443"));
            assert_eq!(ask(&view, "10.0.0.1:1"), allowed("10.0.0.1:1"));
            assert_eq!(ask(&view, "169.254.169.254:80"), allowed("169.254.169.254:80"));
            assert!(ask(&view, "127.0.0.1:80").unwrap_err().contains("host_ports"));
            assert!(ask(&view, "[2001:db8::1]:80").unwrap_err().contains("IPv6"));
        }
        let error = ask(&view(Some(&["0.0.0.0/0"])), "127.77.1.0:80").unwrap_err();
        assert!(error.contains("host_ports"), "a list changes nothing about nonsense: {error}");
    }

    #[test]
    fn a_bare_address_needs_a_rule_with_an_address() {
        let view = view(Some(&["10.0.0.0/8:5432", "db.example.org"]));
        assert_eq!(ask(&view, "10.1.2.3:5432"), allowed("10.1.2.3:5432"));
        assert_eq!(ask(&view, "10.1.2.3:5433"), refused("10.1.2.3:5433"));
        assert_eq!(ask(&view, "93.184.216.34:5432"), refused("93.184.216.34:5432"));
        assert_eq!(ask(&self::view(Some(&[])), "93.184.216.34:443"), refused("93.184.216.34:443"));
    }

    #[test]
    fn an_address_that_the_service_was_told_for_a_name_is_that_name() {
        let view = view(Some(&["db.example.org:5432", "*.cdn.net:443"]));
        assert_eq!(ask(&view, "93.184.216.34:5432"), refused("93.184.216.34:5432"));
        learn(&view, "db.example.org", [93, 184, 216, 34]);
        assert_eq!(ask(&view, "93.184.216.34:5432"), allowed("db.example.org:5432"));
        assert_eq!(ask(&view, "93.184.216.34:443"), refused("db.example.org:443"));
        assert_eq!(ask(&view, "93.184.216.35:5432"), refused("93.184.216.35:5432"));
        learn(&view, "a.cdn.net", [93, 184, 216, 34]);
        assert_eq!(ask(&view, "93.184.216.34:443"), allowed("a.cdn.net:443"), "one of several names");
        view.outside.learn("web", &Name::new("db.example.org").unwrap(), &[([93, 184, 216, 36].into(), 60)]);
        assert_eq!(
            ask(&view, "93.184.216.36:5432"),
            refused("93.184.216.36:5432"),
            "told to another service"
        );
    }

    #[test]
    fn a_name_that_leads_inside_is_refused_unless_a_rule_has_the_address() {
        for address in [[10, 1, 2, 3], [169, 254, 169, 254], [192, 168, 0, 1], [100, 64, 0, 1]] {
            let target = format!("{}:80", Ipv4Addr::from(address));
            let view = view(Some(&["rebind.evil.net"]));
            learn(&view, "rebind.evil.net", address);
            assert_eq!(ask(&view, &target), refused(&target));
            let network = format!("{}/32", Ipv4Addr::from(address));
            let view = self::view(Some(&["rebind.evil.net", &network]));
            learn(&view, "rebind.evil.net", address);
            assert_eq!(ask(&view, &target), allowed("rebind.evil.net:80"));
        }
        let view = view(Some(&["rebind.evil.net"]));
        learn(&view, "rebind.evil.net", [127, 0, 0, 1]);
        assert!(ask(&view, "127.0.0.1:80").is_err());
    }

    #[test]
    fn a_service_that_is_gone_goes_nowhere() {
        assert!(way(&view(None), "gone", "93.184.216.34:443".parse().unwrap()).is_err());
    }

    #[test]
    fn a_name_that_is_refused_comes_with_what_would_allow_it() {
        let view = view(Some(&[]));
        refuse_name(&view, API, &Name::new("evil.net").unwrap());
        let refusals = view.outside.refusals();
        assert_eq!((&*refusals[0].target, refusals[0].allow.as_deref()), ("evil.net", Some("evil.net")));
        assert_eq!(view.outside.counts()[0].1[0].counts.refused, 1);
    }

    #[tokio::test]
    async fn the_names_of_a_list_are_looked_up_after_a_refusal() {
        let resolver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolvers = vec![resolver.local_addr().unwrap()];
        tokio::spawn(async move {
            let mut bytes = [0; 512];
            while let Ok((size, client)) = resolver.recv_from(&mut bytes).await {
                let reply = dns::reply(&bytes[..size], &[[93, 184, 216, 34]], 60);
                resolver.send_to(&reply, client).await.unwrap();
            }
        });
        let egress = Some(vec![rules::tests::rule("db.example.org:5432")]);
        let services = [(API.to_owned(), Service { egress, ..Service::default() })].into();
        let view = View::new(Snapshot { services, resolvers, ..Snapshot::default() }, None, Arc::default());
        learn_again(&view, API, 443).await;
        assert!(ask(&view, "93.184.216.34:5432").is_err(), "not for another port");
        learn_again(&view, API, 5432).await;
        assert_eq!(ask(&view, "93.184.216.34:5432"), allowed("db.example.org:5432"));
    }

    #[tokio::test]
    async fn a_closed_port_is_known_at_once() {
        let refused = connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1)).await.unwrap_err();
        assert!(matches!(refused, Refused::Network(_)), "{refused}");
    }
}
