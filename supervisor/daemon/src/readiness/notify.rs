//! What a run says by sd_notify(3): datagrams of `NAME=value` lines on a Unix socket.
//!
//! Who sent one is known from SCM_CREDENTIALS (unix(7)) as far as the sender still lives: a program like systemd-notify(1) ends before
//! anybody can look at it. Such messages are believed as far as they do no harm, because the socket is in a folder of the worker's own.
//!
//! A message stays in its socket until the loop has acted upon it, so that whoever is killed meanwhile leaves it to a successor. Only what
//! comes with descriptors can be lost then.

use std::{
    fs, io,
    num::NonZeroU64,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixDatagram as StdUnixDatagram,
    },
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::PassCred};
use tokio::{
    io::Interest,
    net::UnixDatagram,
    sync::{Notify, mpsc, oneshot, watch},
    time::{self, Instant},
};
use watt_core::{RunId, worker::Complaint};
use watt_os::{fdpass, process_info::Stat};

use super::{News, Reply, kin::Kin, store};
use crate::record::Said;

/// The longest message: as of systemd, which drops longer ones (NOTIFY_BUFFER_MAX).
const MESSAGE_SIZE_MAX: usize = 4096;

/// The most generations between a sender and the run's main process.
const LINEAGE_MAX: usize = 64;

/// How much of a `STATUS=` is kept, in characters.
const STATUS_LEN_MAX: usize = 200;

/// How long a run is not heard after something that the loop has to hear.
const PAUSE: Duration = Duration::from_millis(50);

/// How long after a silence it is looked whether it was one.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// Messages handled before a rest: a program that does nothing but send must not keep the daemon busy.
const MESSAGES_IN_A_ROW: usize = 32;
const REST: Duration = Duration::from_millis(10);

/// How many messages of one that has ended are read before its end is judged, and for how long: more than the kernel holds, and less than
/// one can send whose others go on to send.
const LAST_MAX: usize = 64;
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// The same after an error that no sender brings about.
const BROKEN_REST: Duration = Duration::from_secs(1);

/// Somebody who wants to know when everything that was said has been heard.
pub(super) type LastWords = oneshot::Sender<()>;

/// The receiving end of one run's `$NOTIFY_SOCKET`.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    /// The run's processes.
    kin: Kin,
}

/// Makes a worker's socket ready for its next run: senders' credentials on, messages of earlier runs thrown away. To be called
/// before the run is started. Returns what came with them.
///
/// # Errors
/// Those of setsockopt(2).
pub fn prepare(socket: &OwnedFd) -> io::Result<Vec<OwnedFd>> {
    ask_for_senders(socket)?;
    // The kernel holds a few messages a socket (net.unix.max_dgram_qlen); nobody can be sending any.
    let messages = std::iter::from_fn(|| fdpass::receive_part(socket.as_fd(), &mut [0; 1]).ok());
    Ok(messages.flat_map(|(message, _)| message.descriptors).collect())
}

/// Has each message come with who sent it. A socket that was just bound needs no more: its run may be there already, and may have said `READY=1`.
///
/// # Errors
/// Those of setsockopt(2).
pub fn ask_for_senders(socket: &OwnedFd) -> io::Result<()> {
    Ok(setsockopt(socket, PassCred, &true)?)
}

/// What a run has said of itself last.
#[derive(Debug, Default)]
pub struct Status(Mutex<Option<String>>);

impl Status {
    /// The text as it came, cut; what a terminal would obey may be in it.
    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, text: &[u8]) {
        let text: String = String::from_utf8_lossy(text).chars().take(STATUS_LEN_MAX).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (!text.is_empty()).then_some(text);
    }
}

/// What one run says by sd_notify(3), heard for as long as it lives.
pub(super) struct Voice {
    run: RunId,
    status: Arc<Status>,
    news: mpsc::Sender<News>,
    /// What it has said that holds for as long as it lives.
    said: Mutex<Said>,
    ready: Notify,
    /// Changed by each `WATCHDOG=1`. It has the time that the run itself has set between two of them.
    beats: watch::Sender<Option<Duration>>,
}

impl Voice {
    pub(super) fn new(run: RunId, said: Said, status: Arc<Status>, news: mpsc::Sender<News>) -> Voice {
        let ready = Notify::new();
        if said.ready {
            ready.notify_one();
        }
        let every = said.watchdog_us.map(|us| Duration::from_micros(us.get()));
        Voice { run, status, news, said: Mutex::new(said), ready, beats: watch::Sender::new(every) }
    }

    /// Whether it has said that it stops.
    pub(super) fn is_stopping(&self) -> bool {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).stopping
    }

    /// Waits for `READY=1`.
    pub(super) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Waits until no `WATCHDOG=1` has come for so long, or for what the run has asked for instead. Returns how long that was.
    pub(super) async fn until_silent(&self, every: Duration) -> Duration {
        let mut beats = self.beats.subscribe();
        loop {
            let every = beats.borrow_and_update().unwrap_or(every);
            if time::timeout(every, beats.changed()).await.is_ok() {
                continue;
            }
            // Where this process stood still itself, what has come meanwhile was not read yet.
            time::sleep(SECOND_LOOK).await;
            if !beats.has_changed().unwrap_or(false) {
                return every;
            }
        }
    }

    /// Reads whatever the run says: a sender waits for room in the socket. Those who want to know when that is all are answered then.
    pub(super) async fn listen(&self, mut socket: NotifySocket, mut asked: mpsc::Receiver<LastWords>) {
        let mut rest_until = Instant::now();
        for count in 1usize.. {
            if count.is_multiple_of(MESSAGES_IN_A_ROW) {
                rest_until = rest_until.max(Instant::now() + REST);
            }
            let next = async {
                time::sleep_until(rest_until).await;
                socket.next().await
            };
            tokio::select! {
                biased;
                Some(reply) = asked.recv() => {
                    let _ = time::timeout(LAST_PATIENCE, self.hear_out(&mut socket)).await;
                    // Whoever asked may have gone.
                    let _ = reply.send(());
                }
                message = next => match message {
                    // One that says this all the time gets only itself to wait.
                    Some(message) => rest_until = Instant::now() + PAUSE * self.take(&mut socket, message).await,
                    None => rest_until = Instant::now() + BROKEN_REST,
                },
            }
        }
    }

    /// Reads what is there, without a rest.
    async fn hear_out(&self, socket: &mut NotifySocket) {
        for _ in 0..LAST_MAX {
            // Whatever the error is, there is nothing to be had.
            let Ok(message) = peek(&socket.socket) else { return };
            self.take(socket, message).await;
        }
    }

    /// Acts upon a message, and takes it out of the socket then. Returns how much of it the loop had to hear.
    async fn take(&self, socket: &mut NotifySocket, message: Message) -> u32 {
        let trust = message.sender.map_or(Trust::Gone, |sender| socket.trust(sender));
        // Of several the last one holds. To look for a process costs something, whatever comes of it.
        let lines = || message.text.split(|byte| *byte == b'\n');
        let main = lines().rev().find_map(|line| line.strip_prefix(b"MAINPID="));
        let mut told = main.map_or(0, |_| 1);
        let mut named = main.and_then(|number| self.name_main(socket, number, &message, trust));
        for line in lines() {
            let named = named.take_if(|_| line.starts_with(b"MAINPID="));
            for news in self.hear(line, trust).into_iter().flatten().chain(named) {
                // Fails when the loop has ended, and with it everything else.
                let _ = self.news.send(news).await;
                told += 1;
            }
        }
        if told > 0 {
            let (reply, heard) = oneshot::channel();
            let _ = self.news.send(News::Heard(Reply(reply))).await;
            let _ = heard.await;
        }
        let mut descriptors = socket.take();
        let asked = match trust {
            Trust::Own => store::asked(self.run, &message.text, &mut descriptors),
            Trust::Gone | Trust::Stranger => None,
        };
        let unwanted = store::unwanted(self.run, descriptors);
        for asked in [asked, unwanted].into_iter().flatten() {
            let _ = self.news.send(News::Store(Box::new(asked))).await;
            told += 1;
        }
        told
    }

    /// That another process is the main one: `MAINPID=`.
    fn name_main(
        &self,
        socket: &mut NotifySocket,
        number: &[u8],
        message: &Message,
        trust: Trust,
    ) -> Option<News> {
        let number = std::str::from_utf8(number).ok()?.parse().ok()?;
        let named = match trust {
            Trust::Own | Trust::Gone => socket.kin.name_main(message.sender, number)?,
            Trust::Stranger => return None,
        };
        Some(News::Main { run: self.run, named })
    }

    /// What the loop is to hear of a line.
    fn hear(&self, line: &[u8], trust: Trust) -> [Option<News>; 2] {
        let run = self.run;
        let Some(equals) = line.iter().position(|byte| *byte == b'=') else { return [None, None] };
        match (&line[..equals], &line[equals + 1..], trust) {
            (_, _, Trust::Stranger) => {}
            (b"READY", b"1", _) => {
                self.ready.notify_one();
                return [self.note(|said| (said.ready, said.reloading) = (true, false)), None];
            }
            // Of use to who looks at it; what was told it to read its configuration is not ours, so that nothing waits for the end of that.
            (b"RELOADING", b"1", _) => return [self.note(|said| said.reloading = !said.stopping), None],
            (b"STATUS", text, _) => self.status.set(text),
            (b"WATCHDOG", b"1", _) => self.beats.send_modify(|_| {}),
            // What follows has consequences, and comes from programs that stay.
            (_, _, Trust::Gone) => {}
            (b"WATCHDOG", b"trigger", _) => {
                let why = "it said WATCHDOG=trigger".to_owned();
                return [Some(News::Unhealthy { run, complaint: Complaint::Itself, why }), None];
            }
            (b"WATCHDOG_USEC", time, _) => {
                let time = microseconds(time).and_then(NonZeroU64::new);
                if let Some(time) = time {
                    self.beats.send_replace(Some(Duration::from_micros(time.get())));
                    return [self.note(|said| said.watchdog_us = Some(time)), None];
                }
            }
            (b"EXTEND_TIMEOUT_USEC", time, _) => {
                let time = microseconds(time).map(Duration::from_micros);
                return [time.map(|time| News::Extend { run, time }), None];
            }
            (b"STOPPING", b"1", _) => {
                let noted = self.note(|said| (said.stopping, said.reloading) = (true, false));
                let why = "it said STOPPING=1".to_owned();
                // Once is enough.
                let told = noted.as_ref().map(|_| News::Unready { run, why });
                return [noted, told];
            }
            _ => {}
        }
        [None, None]
    }

    /// Notes what holds for as long as the run lives. A later watch has to know that, of this daemon or of another.
    fn note(&self, change: impl FnOnce(&mut Said)) -> Option<News> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *said;
        change(&mut said);
        (*said != before).then_some(News::Said { run: self.run, said: *said })
    }
}

/// Who has sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// A process of the run.
    Own,
    /// One that cannot be asked any more, like systemd-notify(1).
    Gone,
    /// Somebody else.
    Stranger,
}

impl NotifySocket {
    /// The socket that the run with this main process was told.
    ///
    /// # Errors
    /// When the runtime cannot wait for it.
    pub fn new(socket: OwnedFd, kin: Kin) -> io::Result<NotifySocket> {
        let socket = StdUnixDatagram::from(socket);
        socket.set_nonblocking(true)?;
        Ok(NotifySocket { socket: UnixDatagram::from_std(socket)?, kin })
    }

    /// Waits for a message, which stays where it is.
    async fn next(&self) -> Option<Message> {
        match self.socket.async_io(Interest::READABLE, || peek(&self.socket)).await {
            Ok(message) => Some(message),
            Err(error) => {
                // Nothing a sender does ends up here; a broken socket must not become a loop without a rest.
                tracing::debug!(%error, "cannot read a notify socket");
                None
            }
        }
    }

    /// Takes the first message away. Returns its descriptors: those for the store are kept, all others are closed, which is what
    /// BARRIER=1 waits for.
    fn take(&self) -> Vec<OwnedFd> {
        let taken = fdpass::receive_part(self.socket.as_fd(), &mut [0; 1]);
        taken.map(|(message, _)| message.descriptors).unwrap_or_default()
    }

    /// Whether a process is the run's: its main process, one that descends from it, or one in its cgroup.
    fn trust(&self, sender: u32) -> Trust {
        let parent = |pid: &u32| Stat::of(*pid).ok().map(|stat| stat.parent).filter(|parent| *parent != 0);
        let mut lineage = std::iter::successors(Some(sender), parent).take(LINEAGE_MAX);
        if lineage.any(|pid| self.kin.mains().contains(&pid)) {
            return Trust::Own;
        }
        match (cgroup(sender), cgroup(std::process::id())) {
            (None, _) => Trust::Gone,
            // A cgroup that is ours as well says nothing.
            (theirs, ours)
                if theirs != ours && self.kin.mains().iter().any(|main| theirs == cgroup(*main)) =>
            {
                Trust::Own
            }
            _ => Trust::Stranger,
        }
    }
}

/// A message, without its descriptors.
struct Message {
    text: Vec<u8>,
    sender: Option<u32>,
}

fn peek(socket: &UnixDatagram) -> io::Result<Message> {
    let mut text = vec![0; MESSAGE_SIZE_MAX];
    let (message, is_whole) = fdpass::peek(socket.as_fd(), &mut text)?;
    // One that is too long says nothing.
    text.truncate(if is_whole { message.length } else { 0 });
    // Pid 0 is a process outside of our pid namespace.
    let sender = message.sender.filter(|pid| *pid != 0);
    Ok(Message { text, sender })
}

/// A time as sd_notify(3) has it.
fn microseconds(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The v2 cgroup of a process, as its own namespace names it.
fn cgroup(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use watt_os::{descendants::Marks, process_info};

    use super::*;

    /// What comes of this message of the main process, which is this process, and how often it has to wait for that.
    async fn told(text: &str) -> (Vec<News>, u32) {
        let folder = tempfile::tempdir().unwrap();
        let socket = OwnedFd::from(StdUnixDatagram::bind(folder.path().join("notify.sock")).unwrap());
        ask_for_senders(&socket).unwrap();
        let main = std::process::id();
        let main_started = process_info::start_time(main).unwrap();
        let kin = Kin::new(main, None, Default::default(), Marks { main, main_started, ..Marks::default() });
        let mut socket = NotifySocket::new(socket, kin).unwrap();
        let sender = StdUnixDatagram::unbound().unwrap();
        sender.send_to(text.as_bytes(), folder.path().join("notify.sock")).unwrap();
        let (news, mut inbox) = mpsc::channel(64);
        let voice = Voice::new(RunId(1), Said::default(), Arc::default(), news);
        let message = socket.next().await.unwrap();
        let heard = async {
            let mut heard = Vec::new();
            while let Some(news) = inbox.recv().await {
                match news {
                    News::Heard(reply) => reply.done(),
                    news => heard.push(news),
                }
            }
            heard
        };
        let taken = async {
            let told = voice.take(&mut socket, message).await;
            drop(voice);
            told
        };
        tokio::join!(heard, taken)
    }

    /// A look at a process costs something: there is one a message, whoever is named, and a rest after it.
    #[tokio::test]
    async fn of_several_main_processes_the_last_one_is_looked_at_and_costs_a_pause() {
        // More than the kernel gives out (PID_MAX_LIMIT).
        let (first, last) = (4_194_305, 4_194_306);
        let named = |pid| News::Main { run: RunId(1), named: super::super::kin::Named::Gone { pid } };
        assert_eq!(told(&format!("MAINPID={first}\nMAINPID={last}\n")).await, (vec![named(last)], 2));
        // It is that already, is none, or is somebody else's.
        for number in [std::process::id().to_string(), "one".to_owned(), "1".to_owned()] {
            assert_eq!(told(&format!("MAINPID={number}")).await, (Vec::new(), 1), "{number}");
        }
        assert_eq!(told("STATUS=x").await, (Vec::new(), 0), "what the loop has not to hear");
    }
}
