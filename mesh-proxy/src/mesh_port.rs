//! Calls of private services over TCP, at the address of the service they call.
//!
//! Port 80 is HTTP, and the Host field names the service. Any other port is the port of that number in the network
//! of one of the service's workers, and bytes are passed on: databases, caches and whatever else has a protocol of
//! its own. Both are subject to the same policies.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use tokio::net::TcpStream;

use crate::{
    clients::tcp_client,
    context::Context,
    destination::destination,
    http::{self, Side, Stream},
    respond::Reason,
    tunnel,
};

/// The port of HTTP by the service's plain name.
const HTTP_PORT: u16 = 80;

/// Serves one accepted connection to its end.
pub(crate) async fn serve(context: &Rc<Context>, caller: Rc<str>, client: TcpStream) {
    let Ok(target) = destination(&client) else { return tunnel::reset(client) };
    if target.port() == HTTP_PORT {
        let mut from = tcp_client(Side::Mesh { caller: Some(caller) }, &client);
        from.local = Some(target);
        http::serve(&context.thread, client, from).await;
    } else {
        let _tunnel = context.tunnel();
        pass_on(context, &caller, target, client).await;
    }
}

async fn pass_on(context: &Context, caller: &str, target: SocketAddr, client: TcpStream) {
    let service = match target.ip() {
        IpAddr::V4(address) => context.view().service_at(address).map(str::to_owned),
        IpAddr::V6(_) => None,
    };
    let Some(service) = service else {
        context.refuse(Some(caller), &target.to_string(), "no service has this address");
        return tunnel::reset(client);
    };
    match context.thread.open(&service, Some(target.port()), Some(caller)).await {
        Ok(passage) => match passage.stream {
            Stream::Tcp(server) => tunnel::run(client, server).await,
            Stream::Unix(_) | Stream::Tls(_) | Stream::Pipe(_) => {
                let reason = "its workers accept on a Unix socket, which HTTP at port 80 leads to";
                context.refuse(Some(caller), &format!("{service}:{}", target.port()), reason);
                tunnel::reset(client);
            }
        },
        Err(failure) => {
            // Whom a policy refuses was told by the policy.
            if failure.reason != Reason::PolicyDenied {
                context.refuse(Some(caller), &format!("{service}:{}", target.port()), &failure.message);
            }
            tunnel::reset(client);
        }
    }
}
