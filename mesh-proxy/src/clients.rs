//! Clients that came by a listener, from there to the HTTP engine.

use std::rc::Rc;

use tokio::net::{TcpStream, UnixStream};

use crate::{
    caller::{Caller, UNKNOWN_CALLER},
    context::Context,
    entrances::{Door, Entrance, Terms},
    http::{self, Client, Side},
    proxy_protocol::{self, Ends},
    room::{Place, Pool, Rooms},
    tls,
};

pub(crate) async fn gateway(context: &Context, listener: &str, mut stream: TcpStream) {
    let mut client = tcp_client(Side::Gateway, &stream);
    // Not the whole view, which this connection may outlive.
    let Entrance { door, proxies, terms } = context.view().entrance(listener);
    client.terms = terms;
    if let Some(proxies) = proxies
        && let Some(peer) = client.peer.map(|peer| peer.ip())
        && proxies.iter().any(|network| network.has(peer))
    {
        match proxy_protocol::read(&context.thread, &mut stream).await {
            Ok(Some(Ends { peer, local })) => {
                (client.peer, client.local) = (Some(peer), Some(local));
                client.terms = client.terms.by_proxy();
            }
            Ok(None) => {}
            Err(failure) => {
                let reason = format!("no header of the PROXY protocol from {peer}: {failure}");
                return context.refuse(None, "the gateway", &reason);
            }
        }
    }
    match door {
        Door::Plain => http::serve(&context.thread, stream, client).await,
        Door::Tls(acceptor) => {
            let begun = tls::accept(&context.thread, &acceptor, stream).await;
            drop(acceptor);
            if let Some((stream, secure)) = begun {
                http::serve(&context.thread, stream, Client { tls: Some(Rc::new(secure)), ..client }).await;
            }
        }
        Door::Closed => {}
    }
}

/// The same at a Unix socket, where clients have no addresses.
pub(crate) async fn gateway_unix(context: &Context, listener: &str, stream: UnixStream) {
    let Entrance { door, proxies: _, terms } = context.view().entrance(listener);
    match door {
        Door::Plain => {
            let client = Client { side: Side::Gateway, peer: None, local: None, tls: None, terms };
            http::serve(&context.thread, stream, client).await;
        }
        // The configuration does not have it.
        Door::Tls(_) | Door::Closed => {}
    }
}

pub(crate) async fn mesh_host_tcp(context: &Context, rooms: &Rooms, door: Place, stream: TcpStream) {
    let ends = (stream.peer_addr(), stream.local_addr());
    let caller = match ends {
        (Ok(peer), Ok(local)) => context.view().callers.over_tcp(peer, local),
        // It ended before it was accepted.
        _ => return,
    };
    let Some(_place) = admit(context, rooms, door, &caller) else { return };
    let client = tcp_client(Side::Mesh { caller: caller.name() }, &stream);
    http::serve(&context.thread, stream, client).await;
}

pub(crate) async fn mesh_host_unix(context: &Context, rooms: &Rooms, door: Place, stream: UnixStream) {
    let caller = context.view().callers.over_unix(&stream);
    let Some(_place) = admit(context, rooms, door, &caller) else { return };
    mesh_unix(context, caller.name(), stream).await;
}

/// The place of a caller who came in by a listener of many callers.
fn admit(context: &Context, rooms: &Rooms, door: Place, caller: &Caller) -> Option<Place> {
    let (pool, service) = match caller {
        Caller::Service(service) => (Pool::Services, Some(service)),
        Caller::Operator => (Pool::Operators, None),
        Caller::Unknown => (Pool::Strangers, None),
    };
    let place = rooms.exchange(door, pool, service);
    if place.is_none() {
        let caller = service.map_or(UNKNOWN_CALLER, |service| service);
        context.refuse(Some(caller), "the mesh", "there are as many connections as may be");
    }
    place
}

pub(crate) async fn mesh_unix(context: &Context, caller: Option<Rc<str>>, stream: UnixStream) {
    let client =
        Client { side: Side::Mesh { caller }, peer: None, local: None, tls: None, terms: Terms::default() };
    http::serve(&context.thread, stream, client).await;
}

/// What is known of a client over TCP. Its addresses are missing when it is gone already, which its first read
/// will show.
pub(crate) fn tcp_client(side: Side, stream: &TcpStream) -> Client {
    let (peer, local) = (stream.peer_addr().ok(), stream.local_addr().ok());
    Client { side, peer, local, tls: None, terms: Terms::default() }
}
