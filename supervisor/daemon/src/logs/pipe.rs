//! A pipe that is looked into before it is read.
//!
//! Bytes taken out of a pipe and not yet in the file are lost when the daemon is killed. So tee(2) copies references
//! to what stands in the pipe into a pipe of our own, the lines in it are written to the file, and only then the same
//! bytes are read from the first pipe. Whatever a killed daemon had not finished is still there for the next one.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, tee},
    unistd::pipe2,
};

use super::frame::LINE_SIZE_MAX;

/// How many bytes are looked at in a turn: what a pipe holds unless somebody made it larger (pipe(7)).
pub(super) const WINDOW_SIZE: usize = 64 << 10;

/// What stands in a pipe.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// These bytes, and perhaps more behind them.
    Bytes(&'a [u8]),
    /// Nothing now.
    Nothing,
    /// Nothing, and nobody is left who could write.
    End,
}

/// The pipe that lines are copied through, and the buffer they are framed in: one for all pipes.
#[derive(Debug)]
pub(super) struct Scratch {
    reader: File,
    writer: OwnedFd,
    buffer: Box<[u8]>,
}

impl Scratch {
    pub(super) fn new() -> io::Result<Scratch> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // A default pipe is as large as the window. Users over their quota get a smaller one, which only means
        // smaller turns.
        Ok(Scratch { reader: reader.into(), writer, buffer: vec![0; WINDOW_SIZE].into_boxed_slice() })
    }

    /// Looks into a pipe. The bytes stay where they are.
    pub(super) fn look(&mut self, pipe: &Pipe) -> io::Result<Content<'_>> {
        let count = loop {
            match tee(&pipe.reader, &self.writer, WINDOW_SIZE, SpliceFFlags::SPLICE_F_NONBLOCK) {
                Ok(count) => break count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Content::Nothing),
                Err(error) => return Err(error.into()),
            }
        };
        if count == 0 {
            return Ok(Content::End);
        }
        let bytes = &mut self.buffer[..count];
        self.reader.read_exact(bytes)?;
        Ok(Content::Bytes(bytes))
    }

    /// Takes `count` bytes out of a pipe. Nobody else reads it, so those that were looked at are there.
    pub(super) fn consume(&mut self, pipe: &mut Pipe, count: usize) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            match pipe.reader.read(&mut self.buffer[..left.min(WINDOW_SIZE)]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(taken) => left -= taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The read end of a worker's output.
#[derive(Debug)]
pub(super) struct Pipe {
    reader: File,
    /// Longer lines are cut.
    line_size_max: usize,
}

impl Pipe {
    pub(super) fn new(reader: OwnedFd) -> Pipe {
        // The spawner has a descriptor of the same open file and never reads it, so the flag is ours to set. Should it
        // fail, reads of what we have looked at cannot block either.
        let _ = fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        let capacity =
            fcntl(&reader, FcntlArg::F_GETPIPE_SZ).ok().and_then(|size| usize::try_from(size).ok());
        // A user over /proc/sys/fs/pipe-user-pages-soft gets pipes of two pages. A line may not fill one: its
        // writer would wait for us while we wait for the rest of the line.
        let line_size_max = capacity.map_or(LINE_SIZE_MAX, |size| (size / 2).clamp(1, LINE_SIZE_MAX));
        Pipe { reader: reader.into(), line_size_max }
    }

    pub(super) fn line_size_max(&self) -> usize {
        self.line_size_max
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_looked_at_stays_until_it_is_consumed() {
        let (reader, writer) = io::pipe().unwrap();
        let (mut pipe, mut scratch) = (Pipe::new(reader.into()), Scratch::new().unwrap());
        assert_eq!(scratch.look(&pipe).unwrap(), Content::Nothing);
        (&writer).write_all(b"one\ntwo").unwrap();
        assert_eq!(scratch.look(&pipe).unwrap(), Content::Bytes(b"one\ntwo"));
        scratch.consume(&mut pipe, 4).unwrap();
        (&writer).write_all(b"!").unwrap();
        assert_eq!(scratch.look(&pipe).unwrap(), Content::Bytes(b"two!"));
        drop(writer);
        assert_eq!(scratch.look(&pipe).unwrap(), Content::Bytes(b"two!"));
        scratch.consume(&mut pipe, 4).unwrap();
        assert_eq!(scratch.look(&pipe).unwrap(), Content::End);
        assert!(scratch.consume(&mut pipe, 1).is_err());
    }

    #[test]
    fn a_full_pipe_is_seen_whole() {
        let (reader, writer) = io::pipe().unwrap();
        let pipe = Pipe::new(reader.into());
        assert_eq!(pipe.line_size_max(), LINE_SIZE_MAX);
        let bytes: Vec<u8> = (0..WINDOW_SIZE).map(|at| u8::try_from(at % 251).unwrap()).collect();
        (&writer).write_all(&bytes).unwrap();
        let mut scratch = Scratch::new().unwrap();
        assert_eq!(scratch.look(&pipe).unwrap(), Content::Bytes(&bytes));
        assert_eq!(scratch.look(&pipe).unwrap(), Content::Bytes(&bytes));
    }

    #[test]
    fn lines_of_a_small_pipe_are_cut_before_they_fill_it() {
        let (reader, _writer) = io::pipe().unwrap();
        fcntl(&reader, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        assert_eq!(Pipe::new(reader.into()).line_size_max(), 2048);
    }
}
