//! `wattctl up`: starts an application, shows how its services come up, and then follows its log, until Ctrl-C ends it.
//!
//! The application belongs to the spawner, not to this process, which is a client like every other command: when it is killed,
//! the application goes on.

use std::{
    fs::File,
    io::IsTerminal,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use watt_api::{
    client::{Client, LogsQuery},
    control::{self, Feature, Problem, Status},
};
use watt_config::Config;
use watt_core::AppName;
use watt_supervisor::{doctor, places::Places};

use super::{config, unit};
use crate::{
    args,
    context::{Running, holder, pid_in, uid},
    exit::{Exit, Failure, Outcome},
    text::{
        out,
        progress::{Progress, missing},
    },
};

/// How long the supervisor's own processes may take until the control socket answers. Cgroups of a crashed predecessor may
/// have to be emptied first.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the state is asked for what is shown while it changes.
pub const POLL: Duration = Duration::from_millis(50);

/// How long after a reader has gone a signal is the one that has ended both.
const SAME_TIME: Duration = Duration::from_millis(200);

/// How much longer than a look the pause after it is at least.
const POLL_REST: u32 = 10;

/// Runs the command.
pub async fn run(arguments: args::Up) -> Outcome {
    if arguments.unit {
        return unit::run(&arguments);
    }
    let json = arguments.print.json;
    let mut signals = Signals::new(arguments.detach)?;
    if !arguments.detach {
        out::outlive_reader();
    }
    let config = config::load(arguments.file.as_deref().or(arguments.dir.as_deref()), json)?;
    let app = name(&arguments, &config)?;
    let (mut spawner, running) = start(&app, &config).await?;
    let client = running.client().await?;

    let (status, reply) = tokio::select! {
        settled = watch(&running, &client, json) => settled?,
        () = signals.next() => {
            if arguments.detach {
                if !json {
                    out::say(&format!(
                        "\n{app} goes on starting; `wattctl status` shows it, `wattctl down` stops it"
                    ));
                }
                // `wattctl up -d && …` must not go on after Ctrl-C.
                return Ok(Exit::Failed);
            }
            return stop(&running, &client, &mut signals, &mut spawner, json).await;
        }
    };
    if arguments.detach {
        if json {
            out::json(&status);
        }
        return Ok(if missing(&status, &reply).is_empty() { Exit::Ok } else { Exit::Failed });
    }
    let query = LogsQuery { since: Some(status.started_at.clone()), follow: true, ..LogsQuery::default() };
    let json_lines = json || !std::io::stdout().is_terminal();
    tokio::select! {
        followed = super::logs::stream(&running, &client, query, json_lines) => {
            followed?;
            running.gone().await?;
            let _ = spawner.wait();
            out::say(&format!("{app} was stopped from elsewhere"));
            Ok(Exit::Ok)
        }
        () = signals.next() => stop(&running, &client, &mut signals, &mut spawner, json).await,
    }
}

/// What ends `up`: Ctrl-C, a supervisor's TERM, and a terminal that goes away, or in the foreground a reader, unless it was started to
/// outlive that.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
    /// Whether a reader of standard output that goes away is as good as one of these.
    ends_with_reader: bool,
}

impl Signals {
    fn new(is_detached: bool) -> Result<Signals, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(Exit::Host, format!("cannot listen for signals: {error}")))
        };
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: if is_nohup() { None } else { Some(listen(SignalKind::hangup())?) },
            ends_with_reader: !is_detached && !is_nohup(),
        })
    }

    async fn next(&mut self) {
        let ends_with_reader = self.ends_with_reader;
        let is_asked = self.asked();
        tokio::pin!(is_asked);
        // A Ctrl-C that has ended our reader as well is no second one.
        tokio::select! {
            biased;
            () = &mut is_asked => {}
            () = out::reader_gone(), if ends_with_reader => {
                let _ = tokio::time::timeout(SAME_TIME, is_asked).await;
            }
        }
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            Some(_) = async { self.hangup.as_mut()?.recv().await } => {}
        }
    }

    /// Those that somebody sends on purpose: a terminal that goes away may say so more than once.
    async fn request(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Whether hangups were ignored when we were started, as by nohup(1): a handler would undo that.
fn is_nohup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    ignored & (1 << (SignalKind::hangup().as_raw_value() - 1)) != 0
}

/// The application's name: `--app`, else the configuration's.
pub fn name(arguments: &args::Up, config: &Config) -> Result<AppName, Failure> {
    match &arguments.app {
        Some(name) => {
            AppName::new(name).map_err(|error| Failure::new(Exit::Usage, format!("--app {name}: {error}")))
        }
        None => Ok(config.plan.name.clone()),
    }
}

/// Starts the supervisor and returns when its control socket answers.
async fn start(app: &AppName, config: &Config) -> Result<(Child, Running), Failure> {
    let places = prepare(app, config)?;
    let mut spawner = spawner(app, config, &places, false)?
        .spawn()
        .map_err(|error| Failure::new(Exit::Host, format!("cannot start the spawner: {error}")))?;
    let running = wait_for_control(app, &mut spawner, &places).await?;
    Ok((spawner, running))
}

/// Makes sure that nothing is in the way of the spawner, and makes its folders.
pub fn prepare(app: &AppName, config: &Config) -> Result<Places, Failure> {
    let places = Places::for_app(app, &|name| std::env::var_os(name), uid());
    let refused = |error: watt_supervisor::places::PlaceError| {
        let exit = if error.is_denied() { Exit::Denied } else { Exit::Host };
        Failure::new(exit, watt_supervisor::words::chain(&error)).hint(error.hint())
    };
    if let Some(pid) = holder(&places.lock()) {
        return Err(already_running(app, pid, &places));
    }
    if let Some(Feature { name, detail, fix, .. }) = doctor::obstacle() {
        return Err(Failure { exit: Exit::Host, message: format!("{name}: {detail}"), hint: fix });
    }
    places.check(&config.plan).map_err(refused)?;
    places.create(uid()).map_err(refused)?;
    Ok(places)
}

fn already_running(app: &AppName, pid: u32, places: &Places) -> Failure {
    // One that has just been started has not written yet what it is of.
    let running = Running::read(&places.runtime);
    let file = running.as_ref().and_then(Running::file);
    let from = file.map(|file| format!(" from {}", file.display())).unwrap_or_default();
    Failure::new(Exit::AlreadyRunning, format!("{app} is running already{from} (pid {pid})")).hint(
        "`wattctl status` shows it, `wattctl down` stops it; `name:` or --app runs another one beside it",
    )
}

/// The spawner's command line. In a unit, it tells the manager how it goes, and it and the daemon write to the journal, if that is
/// where this process writes to. Watt's own log has it in any case.
pub fn spawner(app: &AppName, config: &Config, places: &Places, is_unit: bool) -> Result<Command, Failure> {
    let host = |what: &str, error: std::io::Error| Failure::new(Exit::Host, format!("{what}: {error}"));
    let program =
        std::env::current_exe().map_err(|error| host("cannot find the program of wattctl", error))?;
    let log = File::options()
        .append(true)
        .create(true)
        .open(places.own_log())
        .map_err(|error| host(&format!("cannot write {}", places.own_log().display()), error))?;
    let errors = log.try_clone().map_err(|error| host("cannot duplicate a descriptor", error))?;
    let stream = std::env::var_os("JOURNAL_STREAM");
    let is_on_journal = is_unit && watt_supervisor::journal::is_on_stderr(stream.as_deref());
    let to_journal = is_on_journal.then_some("--journal");
    let mut command = Command::new(&program);
    command
        .arg("spawner")
        .args(is_unit.then_some("--managed"))
        .args(to_journal)
        .args(["--app", app.as_str()])
        .arg("--lock")
        .arg(places.lock())
        .arg("--")
        .arg(&program)
        .arg("daemon")
        .args(["--app", app.as_str()])
        .arg("--file")
        .arg(&config.plan.file)
        .arg("--runtime")
        .arg(&places.runtime)
        .arg("--state")
        .arg(&places.state)
        .args(to_journal)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    Ok(command)
}

async fn wait_for_control(app: &AppName, spawner: &mut Child, places: &Places) -> Result<Running, Failure> {
    let running = Running::starting(app.as_str(), places, spawner.id());
    let mut poll = tokio::time::interval(Duration::from_millis(2));
    let deadline = tokio::time::Instant::now() + CONTROL_TIMEOUT;
    loop {
        poll.tick().await;
        // It may be another spawner's, which was faster; ours ends then.
        let is_ours = pid_in(&places.lock()) == Some(spawner.id());
        if is_ours && Client::connect(places.control_socket()).await.is_ok() {
            return Ok(running);
        }
        let ended = spawner.try_wait().ok().flatten();
        if ended.is_some() || tokio::time::Instant::now() > deadline {
            return Err(start_failure(app, places, ended));
        }
    }
}

/// Why the supervisor did not come up: what the daemon left for us, else the end of its log.
fn start_failure(app: &AppName, places: &Places, ended: Option<ExitStatus>) -> Failure {
    // Somebody else was faster: the spawner that lost the race for the lock has ended.
    if let (Some(_), Some(pid)) = (ended, holder(&places.lock())) {
        return already_running(app, pid, places);
    }
    // What another start left there is not ours to tell, nor is the folder ours to remove.
    let is_refused = ended.and_then(|status| status.code()) == Some(watt_spawner::DAEMON_REFUSED);
    let reason = is_refused.then(|| std::fs::read(places.error()).ok()).flatten();
    if let Some(problem) = reason.and_then(|text| serde_json::from_slice::<Problem>(&text).ok()) {
        let exit = match problem.code.as_str() {
            "config" => Exit::Config,
            "forbidden" => Exit::Denied,
            _ => Exit::Host,
        };
        remove_leftovers(places);
        return Failure { exit, message: problem.message, hint: problem.hint };
    }
    let what = if ended.is_some() { "ended while starting" } else { "did not answer in time" };
    Failure::new(Exit::Host, format!("the supervisor {what}{}", tail_of(&places.own_log())))
        .hint(format!("its log is {}", places.own_log().display()))
}

/// A supervisor that refused to start leaves nothing but its reason; that was read. Where one was killed before, the next
/// start needs what that one noted.
fn remove_leftovers(places: &Places) {
    if !places.info().exists() {
        let _ = std::fs::remove_dir_all(&places.runtime);
    }
}

fn tail_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.iter().rev().map(|line| format!("\n  {}", crate::text::safe::line(line, false))).collect()
}

/// Shows how the services come up; returns when each of them is ready or will not be. That is the supervisor's to judge: it is
/// asked for what it does already, and answers when it is done.
async fn watch(
    running: &Running,
    client: &Client,
    json: bool,
) -> Result<(Status, control::Outcome), Failure> {
    if !json {
        for warning in &client.status().await.map_err(|error| running.failure(error))?.warnings {
            out::say(&format!("warning: {warning}"));
        }
    }
    let mut progress = Progress::new();
    let reply = tokio::select! {
        reply = client.wait_for(&[]) => reply,
        never = show(client, &mut progress), if !json => match never {},
    };
    let reply = reply.map_err(|error| running.failure(error))?;
    let status = client.status().await.map_err(|error| running.failure(error))?;
    if !json {
        progress.coming(&status);
        progress.finish(&status, &reply);
    }
    Ok((status, reply))
}

/// Looks often at few services, and seldom at a thousand of them: a look must not take the CPU that they need to start.
async fn show(client: &Client, progress: &mut Progress) -> std::convert::Infallible {
    loop {
        let asked = tokio::time::Instant::now();
        if let Ok(status) = client.status().await {
            progress.coming(&status);
        }
        tokio::time::sleep(POLL.max(asked.elapsed() * POLL_REST)).await;
    }
}

/// The first Ctrl-C drains, the second kills, and the third leaves whatever does not end alone.
async fn stop(
    running: &Running,
    client: &Client,
    signals: &mut Signals,
    spawner: &mut Child,
    json: bool,
) -> Outcome {
    if !json {
        out::say(&format!("\nstopping {}; Ctrl-C again kills", running.app()));
    }
    tokio::select! {
        ended = super::down::shutdown(running, client, false, json) => { ended?; }
        () = signals.request() => tokio::select! {
            ended = super::down::shutdown(running, client, true, json) => { ended?; }
            () = signals.request() => {
                return Err(Failure::new(Exit::Host, format!("{} has not ended yet", running.app()))
                    .hint("it is told to; `wattctl status` shows what is left"));
            }
        },
    }
    running.gone().await?;
    let _ = spawner.wait();
    if !json {
        out::say(&format!("{} is down", running.app()));
    }
    Ok(Exit::Ok)
}
