//! The ends of runs' main processes, and main processes that take the place of others: `MAINPID=` of sd_notify(3).
//!
//! What a program has said before it ended may be heard after that: its words wait in a socket, its end is told by the spawner. So an end is
//! judged when everything that was said has been heard. If that names another main process, the run goes on in that one: the spawner, or
//! the init of a PID namespace, watches it from then on. Which ends are of which process is told by the order of its answers.

use tokio::sync::oneshot;
use watt_core::{
    RunId,
    worker::{Event, ExitCause, Left, State},
};
use watt_spawner::protocol::{Request, WaitStatus};

use crate::{
    app::App,
    oom, proxy,
    readiness::{self, Watching, kin::Named},
    runs::Main,
    secret_command::Commands,
    tasks::TaskId,
    words,
};

impl App {
    /// A main process ended. What its cgroup counted is read before anything can remove it.
    pub(crate) fn exited(&mut self, run: u64, exit: WaitStatus) {
        let id = RunId(run);
        if run >= proxy::FIRST_RUN {
            drop(self.logs.ended(id));
            if self.other_proxy_ended(run) {
                return;
            }
            self.forgettable.push(id);
            return self.proxy_ended(run, exit_words(exit));
        }
        if let Some(task) = TaskId::of_run(id) {
            return self.task_exited(task, exit);
        }
        if Commands::is_one(run) {
            if self.secret_commands.ended(run, exit) {
                self.forgettable.push(id);
            }
            return;
        }
        self.worker_exited(id, exit);
    }

    /// The main process of a worker's run, or one that was it, has ended.
    fn worker_exited(&mut self, id: RunId, exit: WaitStatus) {
        let Some(known) = self.runs.get_mut(&id) else {
            // A run that was nobody's.
            return self.forgettable.push(id);
        };
        watt_fault::step("daemon.exited");
        if known.follows > 0 {
            // The spawner has not come to the next one, and tells the end again if there is none.
            return;
        }
        match known.watching.as_ref().and_then(Watching::hear_out) {
            Some(heard) => {
                known.unjudged = Some(exit);
                self.wait_for_last_words(id, heard);
            }
            None => self.run_ended(id, exit),
        }
    }

    fn wait_for_last_words(&self, id: RunId, heard: oneshot::Receiver<()>) {
        let news = self.senders.readiness.clone();
        tokio::spawn(async move {
            // A watch that has gone has nothing more to say either.
            let _ = heard.await;
            // Behind all that it has said.
            let _ = news.send(readiness::News::HeardOut { run: id }).await;
        });
    }

    /// Whatever a run had said before its main process ended has been heard.
    pub(crate) fn heard_out(&mut self, id: RunId) {
        if let Some(exit) = self.runs.get_mut(&id).and_then(|run| run.unjudged.take()) {
            self.run_ended(id, exit);
        }
    }

    /// A run has ended with its main process. What its cgroup counted is read before anything can remove it.
    fn run_ended(&mut self, id: RunId, exit: WaitStatus) {
        let Some(known) = self.runs.get_mut(&id) else { return };
        if let Some(main) = &mut known.main {
            main.exit = Some(exit);
        }
        let worker = known.worker.clone();
        // Runs are of services of the plan.
        let Some(service) = self.plan.services.get(&worker.service) else { return };
        let oom_group = service.limits.oom_group;
        // Told before the end that it may have brought about.
        self.out_of_memory(id);
        self.fork_refused(id);
        let Some(known) = self.runs.get(&id) else { return };
        // A kill that a predecessor would have told is not news, and has to be looked into all the same.
        let ended = known.oom_ended.clone().or_else(|| oom::by_peak(&self.plan, &worker, &known.group));
        let limit = ended.and_then(|ended| ended.limit(&self.plan, &worker));
        let cause = known.cause(exit, known.group.oom_kills(), oom_group, limit);
        self.exited_now(&worker);
        self.push(worker, Event::Exited(id, cause));
    }

    /// A run has said which process is its main one.
    pub(crate) fn main_named(&mut self, id: RunId, named: Named) {
        watt_fault::step("daemon.main_named");
        let Some(run) = self.runs.get_mut(&id) else { return };
        let Some(main) = run.main.as_ref().filter(|main| main.exit.is_none()) else { return };
        let (pid, passed) = match named {
            Named::Gone { pid } => {
                tracing::warn!("{}: there is no process {pid} that it could go on in (MAINPID)", run.worker);
                run.has_lost_main = true;
                return;
            }
            Named::Inside { pid } => {
                run.inside = Some(pid);
                (pid, None)
            }
            Named::Process { pid, pidfd } => match pidfd.try_clone() {
                Ok(passed) => {
                    run.first = run.first.or(Some((main.pid, main.started)));
                    run.main = Some(Main::new(pid, pidfd));
                    (pid, Some(passed))
                }
                Err(error) => {
                    return tracing::warn!("{} cannot go on in process {pid}: {error}", run.worker);
                }
            },
        };
        tracing::info!("{} goes on in process {pid}", run.worker);
        (run.unjudged, run.has_lost_main) = (None, false);
        run.follows += 1;
        let is_here = passed.is_some();
        if is_here {
            // Before the spawner goes on with another: a successor has to know the one that has said so as the run's own.
            self.note_run(id);
        }
        self.link.request(Request::Follow { run: id.0, pid }, passed.into_iter().collect());
        watt_fault::step("daemon.main_followed");
        if is_here {
            self.signal_again(id);
        } else {
            // After the init has it: what is noted is not ordered again.
            self.note_run(id);
        }
        self.unsettle();
    }

    /// The signal to stop went to the main process before, or waited for this one.
    fn signal_again(&mut self, id: RunId) {
        let Some(worker) = self.runs.get(&id).map(|run| run.worker.clone()) else { return };
        let state = self.fleet.worker(&worker).map(|worker| &worker.state);
        if matches!(state, Some(State::Stopping { run, left: Left::All, .. }) if *run == id) {
            self.signal(&worker, id);
        }
    }

    /// The spawner goes on with another main process, or has none to go on with.
    pub(crate) fn followed(&mut self, id: RunId, taken: bool) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.has_lost_main |= !taken;
        run.follows = run.follows.saturating_sub(1);
        // An init has the order by now, and knows whom a signal is for.
        if run.inside.is_some() && run.follows == 0 {
            self.signal_again(id);
        }
    }
}

fn exit_words(exit: WaitStatus) -> String {
    let WaitStatus { code, signaled, core_dumped, .. } = exit;
    let cause = match signaled {
        true => ExitCause::Signaled { signal: code, core_dumped },
        false => ExitCause::Exited(code),
    };
    words::exit(&cause, std::time::Duration::ZERO)
}
