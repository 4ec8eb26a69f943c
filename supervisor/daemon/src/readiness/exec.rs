//! Commands as checks: processes inside the run's walls ([`crate::check_command`] starts them), whose exit status says how it is.
//!
//! Of each check one command runs at a time, and so many of a service and of all of them together as there are turns; of checks whose
//! commands hang, and of those of which nobody knows yet, fewer than there are, so that others go on. To wait for a turn, or
//! for the spawner, does not count in a command's time. When it has ended, in which way ever, so has everything that it started: there may be
//! thousands of them in the life of a worker. Nothing is told of one that passes, and its output goes nowhere.

use std::{
    collections::BTreeMap,
    os::unix::process::parent_id,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use nix::errno::Errno;
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver as Pipe,
    runtime::Handle,
    sync::{Semaphore, mpsc, oneshot},
    time,
};
use watt_core::{
    RunId, ServiceId,
    worker::{ExecFailure, ExitCause},
};
use watt_exec::plan::LaunchPlan;
use watt_os::{
    cgroup::Group,
    descendants::{Environment, Marks},
};
use watt_spawner::protocol::WaitStatus;

use super::{News, connect::Outcome};
use crate::{
    beside,
    containment::Containment,
    secret_command::{self, Answer, NotStarted, Started},
    words,
};

/// Turns for the commands of all services. Who waits has its turn in the order of coming.
static TURNS: Turns = Turns::new();

/// How many commands run at a time, and how many of checks of which no command is known to have ended in its time, be it the last one. So what
/// hangs leaves turns to what does not, however many services it is of.
#[derive(Debug)]
struct Turns {
    all: Semaphore,
    unproven: Semaphore,
}

impl Turns {
    const MAX: usize = 16;
    const UNPROVEN_MAX: usize = Turns::MAX / 2;

    const fn new() -> Turns {
        Turns { all: Semaphore::const_new(Turns::MAX), unproven: Semaphore::const_new(Turns::UNPROVEN_MAX) }
    }
}

/// How many of a service do, so that one whose commands hang leaves turns to the others also where they have not hung before.
const OWN_TURNS_MAX: usize = 3;
/// The turns of services that are watched by commands.
static OWN_TURNS: Mutex<BTreeMap<ServiceId, Weak<Semaphore>>> = Mutex::new(BTreeMap::new());

/// How long its process is waited for.
const START_TIME_MAX: Duration = Duration::from_secs(10);

/// How long after its time has passed it is looked whether it has ended: this process may have stood still itself.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// How long what was killed may take to be gone.
const KILL_TIME_MAX: Duration = Duration::from_secs(1);

/// How much of its output is kept for the message, and how much is read before a rest: one that does nothing but write must not keep
/// the daemon busy.
const OUTPUT_KEPT_MAX: usize = 512;
const OUTPUT_IN_A_ROW: usize = 64 << 10;
const REST: Duration = Duration::from_millis(10);

/// The longest line of a message, in characters.
const LINE_LEN_MAX: usize = 200;

/// How a run's commands are started, by program and arguments: the run's own plan with another program.
#[derive(Debug, Clone, Default)]
pub struct Walls(pub(crate) BTreeMap<Vec<String>, Arc<LaunchPlan>>, pub(crate) OwnTurns);

/// The turns of one service.
#[derive(Debug, Clone)]
pub(crate) struct OwnTurns(Arc<Semaphore>);

impl Default for OwnTurns {
    fn default() -> OwnTurns {
        OwnTurns(Arc::new(Semaphore::new(OWN_TURNS_MAX)))
    }
}

impl OwnTurns {
    /// Those of this service, for all of its runs.
    pub(crate) fn of(service: &ServiceId) -> OwnTurns {
        let mut known = OWN_TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = known.get(service).and_then(Weak::upgrade) {
            return OwnTurns(turns);
        }
        // Those of services that are not watched any more.
        known.retain(|_, turns| turns.strong_count() > 0);
        let new = OwnTurns::default();
        known.insert(service.clone(), Arc::downgrade(&new.0));
        new
    }
}

/// A command that is to be started.
#[derive(Debug)]
pub struct Ask {
    /// In whose walls.
    pub(crate) run: RunId,
    pub(crate) plan: Arc<LaunchPlan>,
    pub(crate) reply: oneshot::Sender<Result<Begun, NotBegun>>,
}

impl PartialEq for Ask {
    fn eq(&self, other: &Ask) -> bool {
        (self.run, &self.plan) == (other.run, &other.plan)
    }
}

impl Eq for Ask {}

/// One whose process was asked for.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) answer: Answer,
    pub(crate) remains: Remains,
}

/// Why it was not.
#[derive(Debug)]
pub(crate) enum NotBegun {
    /// The run has ended.
    Gone,
    /// Something of our own stood in the way.
    Failed(ExecFailure),
}

/// A command of a check.
pub(super) struct Command {
    program: String,
    plan: Option<Arc<LaunchPlan>>,
    turns: &'static Turns,
    own_turns: OwnTurns,
    /// Whether the last one ended in its time.
    is_proven: AtomicBool,
    /// What the last one has left and could not be ended so far.
    left: Mutex<Option<Remains>>,
}

impl Command {
    pub(super) fn new(command: &[String], walls: &Walls) -> Command {
        let program = command.first().cloned().unwrap_or_default();
        let (plan, own_turns) = (walls.0.get(command).cloned(), walls.1.clone());
        Command {
            program,
            plan,
            turns: &TURNS,
            own_turns,
            is_proven: AtomicBool::new(false),
            left: Mutex::default(),
        }
    }

    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// Runs it once.
    pub(super) async fn attempt(&self, run: RunId, news: &mpsc::Sender<News>, time_max: Duration) -> Outcome {
        let Some(plan) = &self.plan else { return Outcome::Untried };
        if !self.end_last().await {
            return Outcome::Fails("what the last one started does not end".to_owned());
        }
        // They are never closed.
        let Ok(_own_turn) = self.own_turns.0.acquire().await else { return Outcome::Untried };
        let _unproven_turn = match self.is_proven.load(Relaxed) {
            true => None,
            false => self.turns.unproven.acquire().await.ok(),
        };
        let Ok(_turn) = self.turns.all.acquire().await else { return Outcome::Untried };
        let (reply, begun) = oneshot::channel();
        let ask = Ask { run, plan: Arc::clone(plan), reply };
        if news.send(News::Check(Box::new(ask))).await.is_err() {
            return Outcome::Untried;
        }
        match begun.await {
            Ok(Ok(begun)) => {
                let (outcome, left, is_in_time) = run_to_end(begun, time_max).await;
                *self.left() = left;
                self.is_proven.store(is_in_time, Relaxed);
                outcome
            }
            Ok(Err(NotBegun::Failed(failure))) => {
                tracing::debug!(run = run.0, %failure, "a check cannot be run");
                Outcome::Untried
            }
            Ok(Err(NotBegun::Gone)) | Err(_) => Outcome::Untried,
        }
    }

    fn left(&self) -> MutexGuard<'_, Option<Remains>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is left of the last one, as far as that can be known. What is may hang in the kernel, and each one more would too.
    async fn end_last(&self) -> bool {
        let Some(left) = self.left().take() else { return true };
        let left = left.end().await;
        let is_gone = left.is_none();
        *self.left() = left;
        is_gone
    }
}

/// How it went, what is left of it, and whether it ended in its time.
async fn run_to_end(begun: Begun, time_max: Duration) -> (Outcome, Option<Remains>, bool) {
    let Begun { mut answer, mut remains } = begun;
    let started = match time::timeout(START_TIME_MAX, answer.started()).await {
        Ok(Ok(started)) => started,
        Ok(Err(why)) => return (not_started(why), remains.end().await, true),
        // It is killed when it comes.
        Err(_) => return (Outcome::Untried, None, false),
    };
    let Started { process, stdout, stderr } = started;
    remains.of_process(process.identity());
    let (output, end, is_left) = follow(&mut answer, stdout, stderr, time_max).await;
    remains.may_be(is_left);
    drop(process);
    let is_in_time = end.is_some();
    let outcome = match end {
        Some(Ok(exit)) => output.judge(exit),
        Some(Err(why)) => not_started(why),
        None => Outcome::Fails(output.after(format!("no end within {}", words::duration(time_max)))),
    };
    (outcome, remains.end().await, is_in_time)
}

/// Waits for the end, so long, and reads what is written meanwhile. Says whether something that it started may be left.
async fn follow(
    answer: &mut Answer,
    stdout: Pipe,
    stderr: Pipe,
    time_max: Duration,
) -> (Output, Option<Result<WaitStatus, NotStarted>>, bool) {
    let (mut output, mut is_read) = (Output::default(), false);
    let end = {
        let reading = output.read(stdout, stderr);
        tokio::pin!(reading);
        let end = time::timeout(time_max, async {
            loop {
                tokio::select! {
                    end = answer.ended() => break end,
                    () = &mut reading, if !is_read => is_read = true,
                }
            }
        });
        let end = match end.await {
            Ok(end) => Some(end),
            Err(_) => time::timeout(SECOND_LOOK, answer.ended()).await.ok(),
        };
        // The last that it has written; and whoever holds the pipes after that was started by it.
        if end.is_some() && !is_read {
            is_read = time::timeout(SECOND_LOOK, reading).await.is_ok();
        }
        end
    };
    (output, end, !is_read)
}

/// What this process or the host lacks is not held against a worker, nor that it has just ended, nor that somebody killed the stage.
fn not_started(why: NotStarted) -> Outcome {
    let is_ours = |errno: i32| {
        let ours = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS];
        ours.contains(&Errno::from_raw(errno))
    };
    match why {
        NotStarted::Lost => Outcome::Untried,
        NotStarted::Failed(failure) if is_ours(failure.errno) => Outcome::Untried,
        NotStarted::Failed(failure) if failure.step == "stage" => Outcome::Untried,
        NotStarted::Failed(failure) if failure.step == "join" && failure.errno == Errno::ESRCH as i32 => {
            Outcome::Untried
        }
        NotStarted::Failed(failure) => Outcome::Fails(failure.to_string()),
    }
}

/// What one says.
#[derive(Debug, Default)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    /// Reads all of it, and keeps its beginning.
    async fn read(&mut self, stdout: Pipe, stderr: Pipe) {
        tokio::join!(read_start(stdout, &mut self.stdout), read_start(stderr, &mut self.stderr));
    }

    fn judge(&self, exit: WaitStatus) -> Outcome {
        match secret_command::cause(exit) {
            ExitCause::Exited(0) => Outcome::Passes,
            cause => Outcome::Fails(self.after(cause.to_string())),
        }
    }

    /// How it ended, and the first line that it wrote: of its errors, or else of its output.
    fn after(&self, end: String) -> String {
        let line = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
            Some(line.chars().filter(|c| !c.is_control()).take(LINE_LEN_MAX).collect::<String>())
        };
        match line(&self.stderr).or_else(|| line(&self.stdout)) {
            Some(line) => format!("{end}: {line}"),
            None => end,
        }
    }
}

async fn read_start(mut pipe: Pipe, start: &mut Vec<u8>) {
    let (mut buffer, mut in_a_row) = ([0; 4096], 0);
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let room = OUTPUT_KEPT_MAX - start.len();
        start.extend(buffer.iter().take(count.min(room)));
        in_a_row += count;
        if in_a_row >= OUTPUT_IN_A_ROW {
            in_a_row = 0;
            time::sleep(REST).await;
        }
    }
}

/// What a command may have left. It is ended in any case, also when nobody waits for the command any more.
#[derive(Debug)]
pub(crate) struct Remains {
    run: RunId,
    /// What holds its processes, where there is a cgroup or a process.
    held: Option<Containment>,
    /// The entry of the environment by which they can be told elsewhere.
    environment: Vec<u8>,
    /// Whether there may be something where only a look at all processes of the host would tell.
    may_be: bool,
    /// Who is told that nothing is left.
    told: Option<mpsc::Sender<RunId>>,
}

impl Remains {
    /// Those of a command's run, in this cgroup or with this entry of the environment.
    pub(crate) fn new(
        group: Option<Group>,
        environment: Vec<u8>,
        run: RunId,
        told: mpsc::Sender<RunId>,
    ) -> Remains {
        let held = group.map(Containment::Group);
        Remains { run, held, environment, may_be: true, told: Some(told) }
    }

    /// Without a cgroup, what the process starts is known by its marks.
    fn of_process(&mut self, (main, main_started): (u32, u64)) {
        let environment = Some(Environment::Entry(self.environment.clone()));
        let ancestor = Some(parent_id());
        let marks = Marks { main, main_started, environment, ancestor, ..Marks::default() };
        self.held.get_or_insert(Containment::Marks(marks));
    }

    fn may_be(&mut self, may_be: bool) {
        self.may_be = may_be;
    }

    /// Ends what there is. They are given back when something does not end.
    async fn end(mut self) -> Option<Remains> {
        let (Some(told), held) = (self.told.clone(), self.held.clone()) else { return None };
        let held = match held {
            Some(Containment::Marks(_)) if !self.may_be => Containment::Nothing,
            held => held.unwrap_or(Containment::Nothing),
        };
        if !clear(held, self.run, told).await {
            return Some(self);
        }
        self.told = None;
        None
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        if let (Some(told), Ok(runtime)) = (self.told.take(), Handle::try_current()) {
            runtime.spawn(clear(self.held.take().unwrap_or(Containment::Nothing), self.run, told));
        }
    }
}

/// Kills all that is left of a command, waits a moment until it is gone, removes its cgroup, and tells of that. Says whether all is gone.
pub(crate) async fn clear(held: Containment, run: RunId, told: mpsc::Sender<RunId>) -> bool {
    let group = match &held {
        Containment::Group(group) => Some(group.clone()),
        Containment::Marks(_) | Containment::Nothing => None,
    };
    if group.as_ref().is_none_or(Group::is_populated) {
        held.clone().kill().await;
        if time::timeout(KILL_TIME_MAX, held.emptied()).await.is_err() {
            return false;
        }
    }
    if let Some(group) = group
        && !beside::now(move || group.remove_part()).await.is_ok_and(|removed| removed.is_ok())
    {
        // Something has come meanwhile.
        return false;
    }
    // Fails when the loop has ended, and with it everything else.
    let _ = told.send(run).await;
    true
}

#[cfg(test)]
mod tests;
