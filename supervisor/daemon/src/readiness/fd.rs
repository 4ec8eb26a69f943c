//! The notification descriptor of s6: a pipe to which a program writes a line break when it is ready, and perhaps something else before.
//!
//! The line break is looked at with tee(2), and stays where it is: the spawner holds the pipe as well, so that a successor of this daemon
//! finds it there.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, tee},
    unistd::pipe2,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time,
};

use super::POLL;

/// How much is looked at in a turn.
const WINDOW_SIZE: usize = 4096;

/// What stands in the pipe.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    LineBreak,
    /// So many bytes without one.
    Others(usize),
    Nothing,
}

/// Waits for a line break.
///
/// # Errors
/// UnexpectedEof when nobody is left who could write one.
pub(super) async fn line_break(pipe: OwnedFd) -> io::Result<()> {
    // The spawner has a descriptor of the same open file and never reads it, so the flag is ours to set.
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the file owns its descriptor until it is dropped"
    )]
    let mut pipe = AsyncFd::with_interest(File::from(pipe), Interest::READABLE)?;
    loop {
        let mut ready = pipe.readable_mut().await?;
        match look(ready.get_inner())? {
            Found::LineBreak => return Ok(()),
            Found::Nothing => ready.clear_ready(),
            Found::Others(count) => {
                // They say nothing, and would be in the way of what comes.
                let taken = ready.get_inner_mut().take(count as u64).read_to_end(&mut Vec::new());
                taken?;
                // One that writes without end gets only itself to wait.
                time::sleep(POLL.1).await;
            }
        }
    }
}

/// Looks, and takes nothing.
fn look(pipe: &File) -> io::Result<Found> {
    let (mut reader, writer) =
        pipe2(OFlag::O_CLOEXEC).map(|(reader, writer)| (File::from(reader), writer))?;
    let count = loop {
        match tee(pipe, &writer, WINDOW_SIZE, SpliceFFlags::SPLICE_F_NONBLOCK) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => break count,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(Found::Nothing),
            Err(error) => return Err(error.into()),
        }
    };
    let mut bytes = vec![0; count];
    reader.read_exact(&mut bytes)?;
    Ok(if bytes.contains(&b'\n') { Found::LineBreak } else { Found::Others(count) })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pipe() -> (OwnedFd, File) {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        (reader, writer.into())
    }

    /// A daemon that is killed has taken nothing.
    #[tokio::test]
    async fn a_line_break_is_seen_by_whoever_looks() {
        let (reader, mut writer) = pipe();
        writer.write_all(b"\n").unwrap();
        drop(writer);
        line_break(reader.try_clone().unwrap()).await.unwrap();
        line_break(reader).await.unwrap();
    }

    #[tokio::test]
    async fn other_bytes_are_no_line_break_however_many() {
        let (reader, mut writer) = pipe();
        let waiting = line_break(reader);
        tokio::pin!(waiting);
        let writing = async {
            for _ in 0..3 {
                // More than is looked at in a turn.
                writer.write_all(&[b'x'; WINDOW_SIZE + 1]).unwrap();
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = writing => {}
            result = &mut waiting => panic!("{result:?}"),
        }
        writer.write_all(b"ready\n").unwrap();
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn who_has_closed_it_will_not_be_ready() {
        let (reader, mut writer) = pipe();
        writer.write_all(b"no").unwrap();
        drop(writer);
        assert_eq!(line_break(reader).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
