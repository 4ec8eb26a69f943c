//! The answer to a request that a file is for.
//!
//! What the kernel has in memory is sent from the thread that serves; for what it has to read, threads beside it are waited for, of which there
//! are a few: a disk that hangs has those and no more.

use std::{
    future::Future,
    io::Write,
    os::fd::AsFd,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::connection::{After, Connection};
use crate::{
    access::CutOff,
    files::{self, File, Folder, Found, Part, Patience, Unfound, Wanted},
    respond::{Failure, Manner, Reason, phrase},
    route::HeaderChange,
    timer::Ticks,
};

/// How long a look, or a piece of a file, may take.
const DISK_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of a file is read at a time behind its first bytes.
const PIECE: u64 = 128 << 10;

/// How long a client may take for such a piece.
const PIECE_TIMEOUT: Ticks = Ticks::from_ms(60_000);

/// A request for a file.
#[derive(Debug, Clone)]
pub(crate) struct FileAsked {
    pub(crate) folder: Arc<Folder>,
    pub(crate) wanted: Arc<Wanted>,
    /// Path and query, for a folder's slash.
    pub(crate) target: Box<[u8]>,
    pub(crate) headers: Option<Rc<HeaderChange>>,
    /// More fields, each with its end.
    pub(crate) lines: Vec<u8>,
}

impl Connection {
    /// Answers it.
    pub(super) async fn send_file(&mut self, asked: &FileAsked, manner: Manner) -> After {
        let FileAsked { folder, wanted, target, headers: _, lines: _ } = asked;
        let found = match files::find(folder, wanted, Patience::None) {
            Err(Unfound::NotNow) => {
                let (folder, wanted) = (folder.clone(), wanted.clone());
                self.beside(move || files::find(&folder, &wanted, Patience::Any)).await
            }
            found => found,
        };
        match found {
            Ok(Found::File(file)) => self.pass_file(*file, asked, manner).await,
            Ok(Found::Folder) => {
                let mut lines = [b"Location: ", &with_slash(target)[..], b"\r\n"].concat();
                asked.finish(&mut lines);
                self.response_out.clear();
                write_head(301, &lines, 0, manner, &mut self.response_out);
                self.note(|outcome| outcome.status = 301);
                self.send_response_out(manner).await
            }
            Err(Unfound::Nothing) => {
                let path =
                    String::from_utf8_lossy(target.split(|byte| *byte == b'?').next().unwrap_or_default());
                let message = format!("There is no file for `{path}`, or none that everybody may read.");
                self.respond(&Failure::new(Reason::NoFile, None, message), manner).await
            }
            Err(unfound) => {
                let message = match unfound {
                    Unfound::Failed(what, error) => format!("The proxy could not {what}: {error}."),
                    Unfound::NotNow | Unfound::Nothing => "The disk did not answer in time.".to_owned(),
                };
                tracing::warn!(root = folder.rules.root, message, "a file cannot be served");
                let failure = Failure::new(Reason::FilesUnavailable, None, message);
                self.respond(&failure.retry_after(Some(1)), manner).await
            }
        }
    }

    /// Does something that may block. When there is no thread for it in time, or it is not done, the disk hangs.
    async fn beside<T: Send + 'static>(
        &self,
        doing: impl FnOnce() -> Result<T, Unfound> + Send + 'static,
    ) -> Result<T, Unfound> {
        let disk = self.thread.disk.clone();
        let done = async move {
            // Nobody closes it.
            let turn = disk.acquire_owned().await.ok();
            let doing = move || {
                let done = doing();
                // Kept for as long as the thread is taken, whoever still waits for it.
                drop(turn);
                done
            };
            #[expect(clippy::disallowed_methods, reason = "there is a turn for each thread")]
            let doing = tokio::task::spawn_blocking(doing);
            doing.await.unwrap_or(Err(Unfound::NotNow))
        };
        timeout(done).await.unwrap_or(Err(Unfound::NotNow))
    }

    async fn pass_file(&mut self, file: File, asked: &FileAsked, manner: Manner) -> After {
        let mut lines = lines(&file, &asked.folder);
        asked.finish(&mut lines);
        let (status, range) = match file.part {
            Part::Whole => (200, file.part.bytes(file.len)),
            Part::Range(..) => (206, file.part.bytes(file.len)),
            Part::NotModified => (304, None),
            Part::Failed => (412, None),
            Part::Unsatisfiable => (416, None),
        };
        let length = range.map_or(0, |(first, last)| last - first + 1);
        self.response_out.clear();
        write_head(status, &lines, length, manner, &mut self.response_out);
        self.response_out.extend_from_slice(&file.first);
        self.note(|outcome| outcome.status = status);
        let after = self.send_response_out(manner).await;
        let (Some((first, last)), false, false) = (range, manner.without_body, after == After::Close) else {
            return after;
        };
        let sent = first + file.first.len() as u64;
        if self.pass_rest(file, sent, last).await {
            return after;
        }
        self.note(|outcome| outcome.cut_off(CutOff::InResponse));
        self.peer.stream.breaks_off();
        After::Close
    }

    /// Sends what is left from one byte to another one. Whether all of it was.
    async fn pass_rest(&mut self, file: File, mut from: u64, last: u64) -> bool {
        let file = Arc::new(file.file);
        while from <= last {
            let count = (last - from + 1).min(PIECE);
            let piece = match files::read(file.as_fd(), from, count, Patience::None) {
                Err(Unfound::NotNow) => {
                    let file = file.clone();
                    self.beside(move || files::read(file.as_fd(), from, count, Patience::Any)).await
                }
                piece => piece,
            };
            // It was cut off, or cannot be read: the client learns of that by the length.
            let Ok(piece) = piece else { return false };
            self.alarm.set(PIECE_TIMEOUT);
            if self.write_to_client(&piece).await.is_err() {
                return false;
            }
            from += piece.len() as u64;
            self.note(|outcome| outcome.sent += piece.len() as u64);
        }
        true
    }
}

async fn timeout<T>(doing: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(DISK_TIMEOUT, doing).await.ok()
}

impl FileAsked {
    /// What its route makes of the fields of an answer.
    fn finish(&self, lines: &mut Vec<u8>) {
        if let Some(headers) = &self.headers {
            headers.apply(lines);
        }
        lines.extend_from_slice(&self.lines);
    }
}

/// What an answer says of a file, as far as it is of this kind.
fn lines(file: &File, folder: &Folder) -> Vec<u8> {
    let mut out = Vec::with_capacity(384);
    // Writing to memory does not fail.
    let mut line = |text: std::fmt::Arguments<'_>| drop(out.write_fmt(text));
    let now = SystemTime::now();
    if file.part == Part::Unsatisfiable {
        line(format_args!("Content-Range: bytes */{}\r\n", file.len));
    }
    if let Part::Range(first, last) = file.part {
        line(format_args!("Content-Range: bytes {first}-{last}/{}\r\n", file.len));
    }
    if let Part::Whole | Part::Range(..) = file.part {
        line(format_args!("Content-Type: {}\r\nX-Content-Type-Options: nosniff\r\n", file.kind.name));
        if let Some(coding) = file.coding {
            line(format_args!("Content-Encoding: {}\r\n", coding.name()));
        }
        line(format_args!("Accept-Ranges: bytes\r\n"));
    }
    if let Part::Whole | Part::Range(..) | Part::NotModified = file.part {
        let is_page = folder.rules.spa.is_some() && file.kind.name.starts_with("text/html");
        // The page of an application names its parts, which are others with each release.
        let cache = if is_page || file.is_fallback { "no-cache" } else { &folder.rules.cache_control };
        line(format_args!("ETag: {}\r\nLast-Modified: {}\r\n", file.etag, date(file.modified.min(now))));
        line(format_args!("Cache-Control: {cache}\r\n"));
        if folder.rules.precompressed && file.kind.is_compressible {
            line(format_args!("Vary: Accept-Encoding\r\n"));
        }
    }
    out
}

fn date(time: SystemTime) -> httpdate::HttpDate {
    time.into()
}

/// A head. 304 says nothing of a length, since it would be that of the file.
fn write_head(status: u16, lines: &[u8], length: u64, manner: Manner, out: &mut Vec<u8>) {
    let mut line = |text: std::fmt::Arguments<'_>| drop(out.write_fmt(text));
    line(format_args!("HTTP/1.1 {status} {}\r\nDate: {}\r\n", phrase(status), date(SystemTime::now())));
    if status != 304 {
        line(format_args!("Content-Length: {length}\r\n"));
    }
    if manner.close {
        line(format_args!("Connection: close\r\n"));
    } else if manner.keep_alive {
        line(format_args!("Connection: keep-alive\r\n"));
    }
    out.extend_from_slice(lines);
    out.extend_from_slice(b"\r\n");
}

/// A folder's path with its slash, in front of the query.
fn with_slash(target: &[u8]) -> Vec<u8> {
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    [&target[..end], b"/", &target[end..]].concat()
}
