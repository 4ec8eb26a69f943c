//! An origin that costs next to nothing, so that what is measured is the proxy before it.
//!
//! `origin unix PATH` or `origin tcp ADDRESS`; a GET of `/N` is answered with N bytes, anything else with 13.

use std::{io, sync::Arc};

use memchr::memmem;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener},
    task::LocalSet,
};

/// The largest body that can be asked for, in bytes.
const BODY_MAX: usize = 4 << 20;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, address] = arguments.as_slice() else {
        return Err(io::Error::other("usage: origin unix PATH | origin tcp ADDRESS"));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, serve(kind, address))
}

async fn serve(kind: &str, address: &str) -> io::Result<()> {
    let filler: Arc<[u8]> = vec![b'x'; BODY_MAX].into();
    if kind == "unix" {
        let _ = std::fs::remove_file(address);
        let listener = UnixListener::bind(address)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(connection(stream, filler.clone()));
        }
    }
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::task::spawn_local(connection(stream, filler.clone()));
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, filler: Arc<[u8]>) -> io::Result<()> {
    let (mut input, mut output) = (Vec::with_capacity(8192), Vec::with_capacity(8192));
    loop {
        while let Some(end) = memmem::find(&input, b"\r\n\r\n") {
            let size = asked_size(&input).unwrap_or(13);
            output.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ");
            output.extend_from_slice(size.to_string().as_bytes());
            output.extend_from_slice(b"\r\n\r\n");
            output.extend_from_slice(&filler[..size]);
            input.drain(..end + 4);
        }
        stream.write_all(&output).await?;
        output.clear();
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

fn asked_size(request: &[u8]) -> Option<usize> {
    let path = request.strip_prefix(b"GET /")?;
    let digits = path.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let size: usize = std::str::from_utf8(&path[..digits]).ok()?.parse().ok()?;
    Some(size.min(BODY_MAX))
}
