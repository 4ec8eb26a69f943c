//! Standard output. A reader that goes away (`wattctl logs | head`) ends the command quietly, as with every Unix tool; all
//! but `up`, which has an application to stop.

use std::{
    fs::{File, FileType},
    io::{ErrorKind, IsTerminal, Write},
    os::{fd::AsFd, unix::fs::FileTypeExt},
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::io::{Interest, Ready, unix::AsyncFd};

/// The error of a terminal that was closed: EIO of errno(3). SIGHUP says the same, and ends each command in its own way: `up`
/// stops the application.
const HUNG_UP: i32 = 5;

/// 128 + SIGPIPE: what a shell shows for a program that SIGPIPE ended.
const SIGPIPE: i32 = 141;

/// Whether the command goes on when nobody reads what it writes.
static OUTLIVES_READER: AtomicBool = AtomicBool::new(false);

/// From now on a reader that goes away does not end the process: the application is still to be stopped ([`reader_gone`]). In
/// `wattctl up | tee log` Ctrl-C ends `tee` as well, perhaps first.
pub fn outlive_reader() {
    OUTLIVES_READER.store(true, Ordering::Relaxed);
}

/// Writes text to standard output; ends the process when nobody reads any more.
pub fn print(text: &str) {
    bytes(text.as_bytes());
}

/// The same for bytes that may be anything.
pub fn bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush())
        && !(error.raw_os_error() == Some(HUNG_UP) && is_of(FileTypeExt::is_char_device))
        && !OUTLIVES_READER.load(Ordering::Relaxed)
    {
        gone(&error);
    }
}

/// Writes a value as pretty JSON.
pub fn json<T: serde::Serialize>(value: &T) {
    print(
        &(serde_json::to_string_pretty(value).expect("our types have string keys and no failing parts")
            + "\n"),
    );
}

/// Writes a value as one line of JSON.
pub fn json_line<T: serde::Serialize>(value: &T) {
    print(&(serde_json::to_string(value).expect("our types have string keys and no failing parts") + "\n"));
}

/// Ends the process when nobody reads standard output any more, be it that there is nothing to write for hours. Never
/// returns; it is something to wait for beside what there is to write.
pub async fn while_read() -> std::convert::Infallible {
    // Only pipes and sockets have a reader that can go: a terminal that goes away sends SIGHUP, and a file cannot be waited
    // for (epoll_ctl(2), EPERM).
    if std::io::stdout().is_terminal() || OUTLIVES_READER.load(Ordering::Relaxed) {
        return std::future::pending().await;
    }
    closed().await;
    gone(&ErrorKind::BrokenPipe.into())
}

/// Returns when standard output is a pipe and nobody reads it any more: what ends a command that outlives its reader in its own way. A
/// socket, as systemd's journal is, may have another reader again.
pub async fn reader_gone() {
    if !is_of(FileTypeExt::is_fifo) {
        return std::future::pending().await;
    }
    closed().await;
}

/// Nobody reads standard output any more.
async fn closed() {
    #[expect(deprecated, reason = "its successor is unsafe; standard output is open as long as the process")]
    let stdout = AsyncFd::with_interest(std::io::stdout(), Interest::WRITABLE);
    let Ok(stdout) = stdout else { return std::future::pending().await };
    // A pipe without a reader is an error, and a socket is hung up; both are told as closed.
    while let Ok(mut state) = stdout.ready(Interest::WRITABLE).await
        && !state.ready().is_write_closed()
    {
        state.clear_ready_matching(Ready::WRITABLE);
    }
}

/// Whether standard output is of a kind: a device, as a terminal is that does not say so any more when it was closed; a pipe.
fn is_of(kind: fn(&FileType) -> bool) -> bool {
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().map(File::from);
    stdout.and_then(|stdout| stdout.metadata()).is_ok_and(|metadata| kind(&metadata.file_type()))
}

/// Writes a line for people to standard error. That nobody can read it is no reason for anything.
pub fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Writes what was wrong to standard error: the last that a command says. A reader that has gone is as one of standard output.
pub fn fail(text: &str) {
    let written = std::io::stderr().lock().write_all(text.as_bytes());
    if written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        std::process::exit(SIGPIPE);
    }
}

fn gone(error: &std::io::Error) -> ! {
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(SIGPIPE);
    }
    say(&format!("error: cannot write to standard output: {error}"));
    std::process::exit(crate::exit::Exit::Host as i32)
}
