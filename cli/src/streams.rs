//! Our standard streams and those of a command: copied between by threads of their own, which wait where nobody reads. None
//! of the bytes is looked at.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread::{self, JoinHandle},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    pipe::{PipeFlags, pipe_with},
    termios::{self, OptionalActions, Termios},
};

/// How much is copied at a time.
const PIECE_SIZE: usize = 64 << 10;

/// The size of our terminal: rows and columns.
pub fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(io::stdin()).ok()?;
    Some((size.ws_row, size.ws_col))
}

/// Copying that is under way.
#[derive(Debug)]
pub struct Copies {
    /// Those from the command. What is typed is copied until we end.
    from: Vec<JoinHandle<()>>,
    /// When it is dropped, what stands in the command's streams is the last of it.
    going_on: OwnedFd,
    terminal: Option<(Arc<File>, Raw)>,
}

impl Copies {
    /// Copies between our streams and three pipes of a command.
    ///
    /// # Errors
    /// When there are not three, or no thread can be started.
    pub fn of_pipes(descriptors: Vec<OwnedFd>) -> io::Result<Copies> {
        let Ok([input, output, error]) = <[OwnedFd; 3]>::try_from(descriptors) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let (over, going_on) = pipe_with(PipeFlags::CLOEXEC)?;
        let over = Arc::new(over);
        let mut input = File::from(input);
        // It ends with us. That it has ended before closes the command's input.
        thread::Builder::new().spawn(move || copy_all(&mut io::stdin(), &mut input))?;
        let from = vec![
            copying(Arc::new(output.into()), Arc::clone(&over), io::stdout())?,
            copying(Arc::new(error.into()), over, io::stderr())?,
        ];
        Ok(Copies { from, going_on, terminal: None })
    }

    /// Copies between our terminal and a command's, and has ours give us every key as it is.
    ///
    /// # Errors
    /// When there is none, or ours cannot be changed.
    pub fn of_terminal(descriptors: Vec<OwnedFd>) -> io::Result<Copies> {
        let Ok([terminal]) = <[OwnedFd; 1]>::try_from(descriptors) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let terminal = Arc::new(File::from(terminal));
        let (over, going_on) = pipe_with(PipeFlags::CLOEXEC)?;
        let raw = Raw::begin()?;
        let mut keys = Arc::clone(&terminal);
        thread::Builder::new().spawn(move || copy_all(&mut io::stdin(), &mut keys))?;
        let from = vec![copying(Arc::clone(&terminal), Arc::new(over), io::stdout())?];
        let copies = Copies { from, going_on, terminal: Some((terminal, raw)) };
        // It may have changed since the command was asked for.
        copies.resize();
        Ok(copies)
    }

    /// Gives the command's terminal the size of ours.
    pub fn resize(&self) {
        if let Some((terminal, _)) = &self.terminal
            && let Ok(size) = termios::tcgetwinsize(io::stdin())
        {
            // Fails when the command has ended, and with it its terminal.
            let _ = termios::tcsetwinsize(terminal, size);
        }
    }

    /// The command has ended: copies what it has left, which waits for whoever reads us.
    pub async fn finish(self) {
        let Copies { from, going_on, terminal } = self;
        drop(going_on);
        #[expect(clippy::disallowed_methods, reason = "nothing here has to be killed")]
        let copied = tokio::task::spawn_blocking(move || from.into_iter().map(JoinHandle::join).count());
        // A panic there has been printed.
        let _ = copied.await;
        drop(terminal);
    }
}

/// Starts to copy what a command writes, until nobody can write there any more, or it is over and nothing stands there.
fn copying(
    from: Arc<File>,
    over: Arc<OwnedFd>,
    to: impl Write + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().spawn(move || copy_until_over(&from, &over, to))
}

fn copy_until_over(from: &File, over: &OwnedFd, mut to: impl Write) {
    let mut piece = vec![0; PIECE_SIZE];
    let mut from_it = from;
    while waited(from, over) {
        let count = match from_it.read(&mut piece) {
            // EIO: nobody has the command's terminal any more (pty(7)).
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        // Who reads us has gone. The command's next write says so to it.
        if piece.get(..count).is_none_or(|part| to.write_all(part).and_then(|()| to.flush()).is_err()) {
            return;
        }
    }
}

/// Waits for something to read; `false` when there is nothing and it is over.
fn waited(from: &File, over: &OwnedFd) -> bool {
    loop {
        let mut both = [
            PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(over.as_fd(), PollFlags::IN),
        ];
        match poll(&mut both, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
            Ok(_) => return !both[0].revents().is_empty(),
        }
    }
}

fn copy_all(from: &mut impl Read, to: &mut impl Write) {
    let mut piece = vec![0; PIECE_SIZE];
    loop {
        match from.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if piece.get(..count).is_none_or(|part| to.write_all(part).is_err()) {
                    return;
                }
            }
        }
    }
}

/// Our terminal without line editing, echo and keys that are signals: all of that is the other one's. As it was before when this
/// is dropped.
#[derive(Debug)]
struct Raw(Termios);

impl Raw {
    fn begin() -> io::Result<Raw> {
        let input = io::stdin();
        if !input.is_terminal() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let before = termios::tcgetattr(&input)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&input, OptionalActions::Drain, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}
