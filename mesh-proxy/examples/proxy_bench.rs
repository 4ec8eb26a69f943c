//! One thread of the proxy without the processes around it, to measure what a request costs beside other proxies.
//!
//! ```sh
//! proxy_bench origin /tmp/o.sock            # a server that costs next to nothing; GET /N answers N bytes
//! proxy_bench proxy 127.0.0.1:18000 /tmp/o.sock   # with `h2c` behind it, to an origin that speaks HTTP/2
//! ```
//! Pin each to a core with `taskset`, load with `wrk`, and read the CPU time from `/proc/<pid>/schedstat`.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener, UnixStream},
    task::{LocalSet, spawn_local},
};
use watt_api::mesh::{Endpoint, Outlook, Protocol, Route, Service, Snapshot, Worker, WorkerState};
use watt_mesh_proxy::{
    http::{self, Client, Side},
    thread::Thread,
};

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    match arguments[..] {
        ["origin", socket] => local.block_on(&runtime, origin(socket)),
        ["proxy", listen, socket] => local.block_on(&runtime, proxy(listen, socket, Protocol::Http1)),
        ["proxy", listen, socket, "h2c"] => local.block_on(&runtime, proxy(listen, socket, Protocol::H2c)),
        _ => Err(std::io::Error::other("usage: proxy_bench origin SOCKET | proxy LISTEN SOCKET [h2c]")),
    }
}

async fn proxy(listen: &str, socket: &str, protocol: Protocol) -> std::io::Result<()> {
    let thread = Thread::new(NonZeroUsize::MIN, |report| println!("{report:?}"));
    thread.apply(&snapshot(socket.into(), protocol));
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, peer) = listener.accept().await?;
        let client = Client {
            side: Side::Gateway,
            peer: Some(peer),
            local: stream.local_addr().ok(),
            tls: None,
            terms: Default::default(),
        };
        let thread = thread.clone();
        spawn_local(async move { http::serve(&thread, stream, client).await });
    }
}

fn snapshot(path: PathBuf, protocol: Protocol) -> Snapshot {
    let worker = Worker {
        run: 1,
        index: 0,
        endpoint: Some(Endpoint::Unix { path }),
        state: WorkerState::Ready,
        drain_ms: None,
        cgroup: None,
        pid: None,
    };
    let service = Service {
        workers: vec![worker],
        protocol,
        outlook: Outlook::Coming,
        connect_timeout_ms: 5_000,
        first_byte_timeout_ms: 60_000,
        idle_timeout_ms: 60_000,
        hold_timeout_ms: 10_000,
        hold_requests_max: 1_000,
        ..Service::default()
    };
    Snapshot {
        version: 1,
        app: "bench".into(),
        services: BTreeMap::from([("origin".into(), service)]),
        routes: vec![Route { path: "/".into(), service: "origin".into(), ..Route::default() }],
        ..Snapshot::default()
    }
}

async fn origin(socket: &str) -> std::io::Result<()> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket)?;
    loop {
        let (stream, _) = listener.accept().await?;
        spawn_local(answer(stream));
    }
}

/// Reads heads without bodies, and answers each.
async fn answer(mut stream: UnixStream) -> std::io::Result<()> {
    let mut input = Vec::with_capacity(16 << 10);
    let mut output = Vec::new();
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        if !input.ends_with(b"\r\n\r\n") {
            continue;
        }
        let size = input.split(|byte| *byte == b' ').nth(1).and_then(|path| std::str::from_utf8(path).ok());
        let size = size.and_then(|path| path[1..].parse().ok()).unwrap_or(13);
        output.clear();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {size}\r\n\r\n");
        output.extend_from_slice(head.as_bytes());
        output.resize(output.len() + size, b'x');
        stream.write_all(&output).await?;
        input.clear();
    }
}
