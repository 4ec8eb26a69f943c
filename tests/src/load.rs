//! GETs that go on while something is broken. [`crate::traffic`] is the whole of what clients do.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use crate::{PATIENCE, get};

/// Requests that go on while something is broken: each over a connection of its own or over one kept alive, from
/// several threads.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

/// What came of a load.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests answered with 200.
    pub answered: u64,
    /// What went wrong, in words.
    pub failures: Vec<String>,
}

impl Load {
    /// GETs of `path` until [`Load::stop`].
    pub fn start(address: &str, path: &str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..4)
            .map(|nth| {
                let (stop, address, path) = (stop.clone(), address.to_owned(), path.to_owned());
                std::thread::spawn(move || requests(&stop, &address, &path, nth % 2 == 0))
            })
            .collect();
        Load { stop, threads }
    }

    /// Ends it.
    pub fn stop(self) -> Tally {
        self.stop.store(true, Relaxed);
        let mut sum = Tally::default();
        for thread in self.threads {
            let tally = thread.join().expect("a load thread does not panic");
            sum.answered += tally.answered;
            sum.failures.extend(tally.failures);
        }
        sum
    }
}

fn requests(stop: &AtomicBool, address: &str, path: &str, keep: bool) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    while !stop.load(Relaxed) {
        match one_request(&mut connection, address, path, keep) {
            Ok((200, _)) => tally.answered += 1,
            Ok((status, body)) => tally.failures.push(format!("status {status}: {body}")),
            Err(error) => {
                connection = None;
                tally.failures.push(error.to_string());
            }
        }
    }
    tally
}

fn one_request(
    connection: &mut Option<TcpStream>,
    address: &str,
    path: &str,
    keep: bool,
) -> io::Result<(u16, String)> {
    if !keep {
        return get(address, path);
    }
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => TcpStream::connect(address)?,
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let (end, length, closes) = loop {
        let mut part = [0; 16384];
        let count = match stream.read(&mut part) {
            // Who is stopped and goes on reads again (signal(7), of sockets with a timeout).
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if count == 0 {
            return Err(io::Error::other("the connection was closed before the answer"));
        }
        answer.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text[..end]
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            break (end + 4, length.unwrap_or(0usize), text[..end].contains("connection: close"));
        }
    };
    let mut rest = vec![0; (end + length).saturating_sub(answer.len())];
    stream.read_exact(&mut rest)?;
    let status = String::from_utf8_lossy(&answer)
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    answer.extend_from_slice(&rest);
    *connection = Some(stream).filter(|_| !closes);
    Ok((status, String::from_utf8_lossy(&answer[end..]).into_owned()))
}
