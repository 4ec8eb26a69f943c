//! Where a connection was meant to go before it was redirected to us.

use std::{io, net::SocketAddr};

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// The original destination when nftables redirected the connection (SO_ORIGINAL_DST, answered by the connection
/// tracking of the network it was made in), else the address it was accepted at.
pub(crate) fn destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    match sockopt::ip_original_dst(stream) {
        Ok(destination) => Ok(destination.into()),
        // Not redirected, or no connection tracking there at all.
        Err(_) => stream.local_addr(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn without_a_redirect_it_is_the_listeners_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        assert_eq!(destination(&server).unwrap(), address);
    }
}
