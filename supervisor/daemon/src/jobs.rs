//! Jobs: `watt-core`'s keepers decide what becomes of each instant, and here it is done.
//!
//! ```text
//! clock ─▶ keeper ─▶ Fire ─▶ store: noted on disk ─▶ Noted ─▶ Start ─▶ call ─▶ over, noted as well ─▶ Ended
//! ```
//!
//! Nothing begins that is not noted ([`notes`]). So a daemon that goes on after another one, or after the host went down, finds each firing
//! either not there, and the instant has its turn, or there, and it has not. Of a call that was under way nobody knows whether the
//! service got it: it is sent again if the job has retries left, and is `interrupted` if it has none.
//!
//! - `clock` wakes the loop, also when the wall clock is set.
//! - `store` is the files, `zone` the clocks of places; requests are `call`s.
//! - `view` is what operators see and ask for, `change` what a reload and the end of the application do.

mod change;
mod clock;
mod command;
mod notes;
mod store;
mod view;
mod zone;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
};
use watt_api::control::{JobResult, JobRun};
use watt_core::{
    JobId,
    jobs::{Cause, Context, Effect, Event, Firing, Keeper, Mark, Passed, Second, Wall, Why},
    plan::{self, Work},
};

use self::{
    clock::Clock,
    notes::{Ended, Fired, Line, Notes, Terms},
    store::Store,
    view::Until,
    zone::{Utc, Zone},
};
use crate::{
    app::{App, Ending},
    call::{self, Answer, Request, Way},
    control::{Refusal, Reply},
    events::jobs::{JobEnded, JobMissed, JobSkipped, JobStarted, Of},
    operate::answer,
    start::Held,
    status,
    tasks::{Stopped, TaskId},
    timestamp,
};

pub(crate) use self::{change::Prepared, view::Order};

/// How long the end of the daemon waits for the disk.
const FAREWELL: Duration = Duration::from_secs(2);

/// What comes from tasks beside the loop.
#[derive(Debug)]
pub(crate) enum News {
    /// An instant may have come, or the wall clock was set.
    Clock,
    /// A firing was noted, or could not be.
    Noted { job: JobId, number: u64, noted: io::Result<()> },
    /// A call is sent once more.
    Again { job: JobId, number: u64, attempts: u32 },
    /// What a call came to in the end.
    Answered { job: JobId, number: u64, answer: Answer },
}

/// Under `job/NAME` the spawner keeps the number of the last firing of a job that was begun with, which is known there sooner than on disk.
const BEGUN: &str = "job/";

/// What is said of a firing that nobody saw the end of.
const NOBODY_SAW: &str = "the supervisor ended meanwhile, and nobody saw what came of it";

/// All jobs.
#[derive(Debug)]
pub(crate) struct Jobs {
    entries: BTreeMap<JobId, Entry>,
    store: Store,
    writer: JoinHandle<()>,
    folder: PathBuf,
    /// Tells this life of the application from others.
    life: String,
    clock: Clock,
    news: mpsc::Sender<News>,
    /// What keepers have not been told yet.
    pending: VecDeque<(JobId, Event)>,
    /// When the loop is to be woken, as the clock was told.
    armed: Option<Wall>,
}

/// One job.
#[derive(Debug)]
struct Entry {
    job: plan::Job,
    /// `None` when the host knows no such place any more. Then it does not fire by itself.
    zone: Option<Zone>,
    keeper: Keeper,
    flights: BTreeMap<u64, Flight>,
    /// Firings that have ended, the last one at the end.
    history: VecDeque<Ended>,
    /// Who had it fire, until it does.
    asked: Vec<(Until, Reply<JobRun>)>,
    /// It is not configured any more, and goes when nothing of it is under way.
    leaves: bool,
}

/// A firing that is not over.
#[derive(Debug)]
struct Flight {
    firing: Firing,
    started_ms: u64,
    /// How often a call was sent.
    attempts: u32,
    doing: Doing,
    /// Why it is being stopped.
    stopped: Option<String>,
    /// Who waits for its beginning, and who for its end.
    waiting: Vec<(Until, Reply<JobRun>)>,
}

impl Flight {
    fn new(firing: Firing, started_ms: u64) -> Flight {
        Flight { firing, started_ms, attempts: 1, doing: Doing::Nothing, stopped: None, waiting: Vec::new() }
    }
}

/// What is under way of a firing.
#[derive(Debug)]
enum Doing {
    /// Nothing yet.
    Nothing,
    Call(AbortHandle),
    Command(TaskId),
}

/// What the wall clock shows.
fn now() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Wall(since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}

/// An instant as the API says it.
fn shown(at: Second) -> String {
    timestamp::from_ms(u64::try_from(at.wall().0).unwrap_or(0))
}

impl Jobs {
    /// None yet; see [`App::begin_jobs`].
    pub(crate) fn new(folder: PathBuf, life: String, news: mpsc::Sender<News>) -> Jobs {
        let (store, writer) = Store::start(folder.clone());
        let clock = Clock::start(news.clone());
        let (entries, pending) = (BTreeMap::new(), VecDeque::new());
        Jobs { entries, store, writer, folder, life, clock, news, pending, armed: None }
    }

    /// Waits until what became of jobs is on disk, but not for ever.
    pub(crate) async fn finish(self) {
        let Jobs { entries, store, writer, .. } = self;
        drop((entries, store));
        if tokio::time::timeout(FAREWELL, writer).await.is_err() {
            tracing::warn!("what became of jobs is not all on disk: it is too slow");
        }
    }

    /// Takes a job with what was noted of it. Gives back the firings that were under way.
    fn take(&mut self, job: &plan::Job, zone: Option<Zone>, notes: Notes, anew: bool) -> Vec<Fired> {
        let saved = notes.saved(job).filter(|_| !anew);
        let is_new = saved.is_none();
        let mut saved = saved.unwrap_or_else(|| notes.numbers());
        let now = now();
        if is_new {
            saved.mark.seen = saved.mark.seen.max(now.second());
        }
        let keeper = Keeper::restore(saved, Context { now, job, zone: clocks(zone.as_ref()) });
        if is_new {
            self.put(job, Line::Schedule(Terms::of(job)));
            self.put(job, Line::Mark(keeper.mark().into()));
        }
        let flights = notes.open.values().map(|fired| {
            let Fired { noted_ms, attempts, .. } = *fired;
            let firing = fired.firing();
            let flight = Flight { attempts, ..Flight::new(firing, noted_ms) };
            (firing.number, flight)
        });
        let flights = flights.collect();
        let (job, history, asked) = (job.clone(), notes.history, Vec::new());
        let entry = Entry { job, zone, keeper, flights, history, asked, leaves: false };
        self.entries.insert(entry.job.id.clone(), entry);
        notes.open.into_values().collect()
    }

    /// Notes a line that nobody waits for.
    fn put(&self, job: &plan::Job, line: Line) {
        self.store.put(job.id.clone(), line, job.history as usize);
    }

    /// Has the clock wake the loop when the next instant comes.
    pub(crate) fn arm(&mut self) {
        let fires = self.entries.values().filter(|entry| entry.zone.is_some());
        let due = fires.filter_map(|entry| entry.keeper.deadline(&entry.job)).min();
        if due != self.armed {
            self.armed = due;
            self.clock.wake_at(due);
        }
    }

    fn flight(&mut self, job: &JobId, number: u64) -> Option<&mut Flight> {
        self.entries.get_mut(job)?.flights.get_mut(&number)
    }
}

/// The last firing of each job that a predecessor had begun with.
pub(crate) fn begun(held: &Held) -> BTreeMap<String, u64> {
    let each = held.values.iter().filter_map(|(key, value)| {
        Some((key.strip_prefix(BEGUN)?.to_owned(), str::from_utf8(value).ok()?.parse().ok()?))
    });
    each.collect()
}

/// A job whose place is not known does not fire, so it is all the same which clocks it has.
fn clocks(zone: Option<&Zone>) -> &dyn watt_core::jobs::Zone {
    match zone {
        Some(zone) => zone,
        None => &Utc,
    }
}

impl App {
    /// Goes on with all jobs where their notes end. Reads files, so it is not for the loop.
    pub(crate) fn begin_jobs(&mut self, begun: &BTreeMap<String, u64>) {
        for job in self.plan.jobs.clone().into_values() {
            let notes = store::read(&self.jobs.folder, &job.id, job.history as usize);
            let begun = begun.get(job.id.as_str()).copied().unwrap_or(0);
            for fired in self.jobs.take(&job, Zone::named(&job.timezone), notes, false) {
                self.go_on_with(&job, &fired, begun);
            }
        }
        if self.ending != Ending::No {
            self.close_jobs();
        }
        self.tick_jobs();
        self.settle_jobs();
    }

    /// What was under way when the last daemon ended: it begins, goes on, or has ended.
    fn go_on_with(&mut self, job: &plan::Job, fired: &Fired, begun: u64) {
        let firing = fired.firing();
        let is_of_this_life = fired.life == self.jobs.life;
        let retries = match &job.work {
            Work::Call(call) => call.retries,
            Work::Command(_) => 0,
        };
        let task = self.tasks.of(&command::owner(&job.id, firing.number));
        // One that has no process, of a firing that nobody had begun with, is cleared away, and another one begins.
        let task = task.filter(|task| firing.number <= begun || self.tasks.is_born(*task));
        if let Some(task) = task {
            if let Some(flight) = self.jobs.flight(&job.id, firing.number) {
                flight.doing = Doing::Command(task);
            }
        } else if is_of_this_life && firing.number > begun {
            self.begin_firing(&job.id, firing);
        } else if is_of_this_life && fired.attempts <= retries {
            self.call(&job.id, firing.number, fired.attempts + 1);
        } else {
            let text = NOBODY_SAW.to_owned();
            self.job_over(&job.id, firing.number, JobResult::Interrupted, text, None);
        }
    }

    /// Looks at the clock for all jobs.
    pub(crate) fn tick_jobs(&mut self) {
        let fires = self.jobs.entries.iter().filter(|(_, entry)| entry.zone.is_some());
        let all: Vec<JobId> = fires.map(|(id, _)| id.clone()).collect();
        for job in all {
            self.tell_job(&job, Event::Tick);
        }
    }

    /// Tells keepers what has come of what they wanted.
    pub(crate) fn settle_jobs(&mut self) {
        while let Some((job, event)) = self.jobs.pending.pop_front() {
            self.tell_job(&job, event);
        }
        self.jobs.arm();
    }

    /// News from beside the loop.
    pub(crate) fn job_news(&mut self, news: News) {
        match news {
            News::Clock => {
                // It wakes once.
                self.jobs.armed = None;
                self.tick_jobs();
            }
            News::Noted { job, number, noted: Ok(()) } => self.tell_job(&job, Event::Noted(number)),
            News::Noted { job, number, noted: Err(error) } => {
                // It may be there all the same, and must not be begun with later.
                let text = format!("it could not be noted: {error}");
                self.note_end(&job, number, JobResult::Failed, text);
                self.tell_job(&job, Event::NotNoted(number));
            }
            News::Again { job, number, attempts } => {
                if let Some(flight) = self.jobs.flight(&job, number) {
                    flight.attempts = attempts;
                }
            }
            News::Answered { job, number, answer } => {
                let text = answer.text();
                let (result, output) = match answer {
                    Answer::Status(200..=299, body) => (JobResult::Ok, Some(body)),
                    Answer::Status(_, body) => (JobResult::Failed, Some(body)),
                    Answer::TimedOut(_) => (JobResult::TimedOut, None),
                    Answer::Failed(_) => (JobResult::Failed, None),
                };
                self.job_over(&job, number, result, text, output);
            }
        }
    }

    /// Tells a job's keeper, and does what it wants.
    fn tell_job(&mut self, id: &JobId, event: Event) {
        let Some(entry) = self.jobs.entries.get_mut(id) else { return };
        let Entry { job, zone, keeper, .. } = entry;
        let mut effects = Vec::new();
        keeper.handle(Context { now: now(), job, zone: clocks(zone.as_ref()) }, event, &mut effects);
        let job = entry.job.clone();
        for effect in effects {
            match effect {
                Effect::Fire(firing, mark) => self.note_firing(&job, firing, &mark),
                Effect::Start(firing) => self.begin_firing(id, firing),
                Effect::Stop(number) => {
                    let text = if self.ending == Ending::No {
                        "a later one replaces it"
                    } else {
                        "the application ended"
                    };
                    self.stop_firing(id, number, text);
                }
                Effect::Keep(mark) => self.jobs.put(&job, Line::Mark((&mark).into())),
                Effect::Pass(passed) => self.tell_passed(&job, passed),
                Effect::SetBack { from } => tracing::warn!(
                    "the clock was set back from {} or later by more than a day: job {id} goes on by the new time",
                    shown(from)
                ),
            }
        }
        self.leave_if_over(id);
    }

    /// Has a firing noted where it is found again.
    fn note_firing(&mut self, job: &plan::Job, firing: Firing, mark: &Mark) {
        let started_ms = status::now_ms();
        let line = Line::fired(firing, mark, &self.jobs.life, started_ms);
        if let Some(entry) = self.jobs.entries.get_mut(&job.id) {
            let mut flight = Flight::new(firing, started_ms);
            if firing.cause == Cause::Request {
                flight.waiting = std::mem::take(&mut entry.asked);
            }
            entry.flights.insert(firing.number, flight);
        }
        let (store, news, id) = (self.jobs.store.clone(), self.jobs.news.clone(), job.id.clone());
        let noted = store.note(id.clone(), line, job.history as usize);
        tokio::spawn(async move {
            let noted = noted.await;
            // The loop has ended when it does not take it.
            let _ = news.send(News::Noted { job: id, number: firing.number, noted }).await;
        });
    }

    /// Begins with a firing that is noted.
    fn begin_firing(&mut self, id: &JobId, firing: Firing) {
        let Some(entry) = self.jobs.entries.get_mut(id) else { return };
        let (job, number, at) = (entry.job.clone(), firing.number, shown(firing.at));
        self.events.emit(JobStarted { of: of(&job), number, at, cause: view::cause_word(firing.cause) });
        self.answer_begun(id, number);
        let begun = (format!("{BEGUN}{id}"), number.to_string().into_bytes());
        match &job.work {
            // From here on a successor takes it as begun: as soon as a request may be on its way, and not before a process
            // was asked for, which it would find.
            Work::Call(_) => {
                self.put(&begun.0, begun.1);
                self.call(id, number, 1);
            }
            Work::Command(argv) => {
                self.run_command(&job, number, argv);
                self.put(&begun.0, begun.1);
            }
        }
    }

    /// Sends a job's request, and sends it again as often as may be. Attempts after the first one are noted before they are made.
    fn call(&mut self, id: &JobId, number: u64, first: u32) {
        let socket = self.places.mesh_socket();
        let Jobs { entries, store, news, .. } = &mut self.jobs;
        let Some(entry) = entries.get_mut(id) else { return };
        let Some(flight) = entry.flights.get_mut(&number) else { return };
        let Work::Call(call) = &entry.job.work else { return };
        let plan::Call { method, path, headers, body, retries } = call.clone();
        let request = Request {
            way: Way::Mesh(socket),
            host: format!("{}.plt.local", entry.job.service),
            method,
            path,
            own: vec![("X-Watt-Job", id.to_string()), ("X-Watt-Instant", shown(flight.firing.at))],
            headers,
            body,
            wants_body: true,
        };
        let attempts = Attempts {
            request,
            retries,
            timeout: entry.job.timeout,
            job: id.clone(),
            number,
            history: entry.job.history as usize,
            store: store.clone(),
            news: news.clone(),
        };
        flight.doing = Doing::Call(tokio::spawn(attempts.make(first)).abort_handle());
    }

    /// Stops a firing that is not over.
    fn stop_firing(&mut self, id: &JobId, number: u64, why: &str) {
        let Some(flight) = self.jobs.flight(id, number) else { return };
        match &flight.doing {
            // It is over when nothing of it is left.
            Doing::Command(task) => {
                let task = *task;
                flight.stopped = Some(why.to_owned());
                return self.stop_task(task, Stopped::Asked, false);
            }
            Doing::Call(call) => call.abort(),
            Doing::Nothing => {}
        }
        self.job_over(id, number, JobResult::Stopped, format!("stopped: {why}"), None);
    }

    /// A firing that had begun is over.
    fn job_over(
        &mut self,
        id: &JobId,
        number: u64,
        result: JobResult,
        text: String,
        output: Option<Vec<u8>>,
    ) {
        let Some((of, run, took_ms)) = self.note_end(id, number, result, text) else { return };
        self.jobs.store.keep_output(id.clone(), output.unwrap_or_default());
        self.jobs.pending.push_back((id.clone(), Event::Ended(number)));
        self.events.emit(JobEnded { of, number, at: run.at, result, text: run.text, took_ms });
    }

    /// Notes the end of a firing, and tells those who wait for it.
    fn note_end(
        &mut self,
        id: &JobId,
        number: u64,
        result: JobResult,
        text: String,
    ) -> Option<(Of, JobRun, u64)> {
        let entry = self.jobs.entries.get_mut(id)?;
        let Flight { firing, started_ms, attempts, waiting, .. } = entry.flights.remove(&number)?;
        let ended_ms = status::now_ms();
        let ended = Ended::new(firing, (started_ms, ended_ms), (result, text), attempts);
        let run = view::ended(&ended);
        entry.history.push_back(ended.clone());
        while entry.history.len() > entry.job.history as usize {
            entry.history.pop_front();
        }
        self.jobs.store.put(id.clone(), Line::Ended(ended), entry.job.history as usize);
        for (_, reply) in waiting {
            answer(reply, Ok(run.clone()));
        }
        Some((of(&entry.job), run, ended_ms.saturating_sub(started_ms)))
    }

    /// Says what had its turn without a firing.
    fn tell_passed(&mut self, job: &plan::Job, passed: Passed) {
        let Passed { count, last, why } = passed;
        if let (Why::Replaced, Some(entry)) = (why, self.jobs.entries.get_mut(&job.id)) {
            // What somebody asked for may be what is replaced.
            for (_, reply) in std::mem::take(&mut entry.asked) {
                answer(reply, Err(Refusal::JobBusy(job.id.to_string())));
            }
        }
        let (of, last) = (of(job), shown(last));
        let words = match why {
            Why::Late => "nobody was there at its time",
            Why::TooLate => "it is too long ago to be made up for",
            Why::GivenUp => "what was to be made up for is given up",
            Why::NotNoted => "it could not be noted",
            Why::Busy => "an earlier one is under way",
            Why::Replaced => "a later one comes in its place",
        };
        match why.is_skip() {
            true => self.events.emit(JobSkipped { of, at: last, why: words.to_owned() }),
            false => self.events.emit(JobMissed { of, count, last, why: words.to_owned() }),
        }
    }
}

fn of(job: &plan::Job) -> Of {
    Of { job: job.id.clone(), service: job.service.clone() }
}

/// The attempts of a call.
struct Attempts {
    request: Request,
    retries: u32,
    /// Of each.
    timeout: Option<Duration>,
    job: JobId,
    number: u64,
    history: usize,
    store: Store,
    news: mpsc::Sender<News>,
}

impl Attempts {
    async fn make(self, first: u32) {
        let Attempts { request, retries, timeout, job, number, history, store, news } = self;
        let mut attempts = first;
        let answer = loop {
            if attempts > 1 {
                let line = Line::Attempt { number, attempts };
                if let Err(error) = store.note(job.clone(), line, history).await {
                    break Answer::Failed(format!("another attempt could not be noted: {error}"));
                }
                let _ = news.send(News::Again { job: job.clone(), number, attempts }).await;
            }
            let answer = call::send(&request, attempts, timeout).await;
            if answer.is_ok() || attempts > retries {
                break answer;
            }
            tokio::time::sleep(call::pause(attempts)).await;
            attempts += 1;
        };
        // The loop has ended when it does not take it.
        let _ = news.send(News::Answered { job, number, answer }).await;
    }
}
