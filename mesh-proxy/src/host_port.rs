//! A port of the host's own localhost, for a service that has it in `host_ports`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
};

use tokio::net::TcpStream;

use crate::{context::Context, tunnel};

/// Serves one accepted connection to its end. A connection to localhost is made or refused at once.
pub(crate) async fn serve(context: &Context, caller: &Rc<str>, port: u16, client: TcpStream) {
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpStream::connect(target).await {
        Ok(server) => tunnel::run(client, server).await,
        Err(error) => {
            context.refuse(Some(caller), &format!("the host's {target}"), &error.to_string());
            tunnel::reset(client);
        }
    }
}
