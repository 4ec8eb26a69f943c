use std::{
    os::unix::process::ExitStatusExt,
    process::{Child, Command as Program, ExitStatus, Stdio},
};

use watt_os::pidfd;

use super::*;
use crate::{runs::Main, secret_command::Commands};

const RUN: RunId = RunId(7);

/// Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

fn shell(script: &str) -> Child {
    let mut shell = Program::new("sh");
    shell.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell.spawn().unwrap()
}

fn status(status: ExitStatus) -> WaitStatus {
    let signal = status.signal();
    WaitStatus {
        code: signal.or(status.code()).unwrap(),
        signaled: signal.is_some(),
        core_dumped: status.core_dumped(),
        at_ms: 0,
        cpu_us: 0,
        rss_max: 0,
    }
}

fn remains(number: u64) -> (Remains, mpsc::Receiver<RunId>) {
    let (told, emptied) = mpsc::channel(1);
    (Remains::new(None, b"X=1".to_vec(), RunId(number), told), emptied)
}

/// Does what the loop and the spawner do, for one process that is this script.
async fn start(mut news: mpsc::Receiver<News>, script: &str) {
    let Some(News::Check(ask)) = news.recv().await else { panic!("nothing is asked for") };
    assert_eq!(ask.run, RUN);
    let mut commands = Commands::new();
    let (number, answer) = commands.begin_thorough();
    let mut child = shell(script);
    let main = Main::new(child.id(), pidfd::open(child.id()).unwrap());
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    commands.spawned(number, main, stdout.into(), stderr.into());
    ask.reply.send(Ok(Begun { answer, remains: remains(number).0 })).unwrap();
    let ended = beside::now(move || child.wait().unwrap()).await.unwrap();
    commands.ended(number, status(ended));
}

async fn attempt(script: &str, time_max: Duration) -> Outcome {
    let words = vec!["sh".to_owned(), script.to_owned()];
    let walls = Walls([(words.clone(), Arc::default())].into(), OwnTurns::default());
    let command = Command::new(&words, &walls);
    let (sender, news) = mpsc::channel(1);
    tokio::join!(command.attempt(RUN, &sender, time_max), start(news, script)).0
}

fn fails(why: &str) -> Outcome {
    Outcome::Fails(why.to_owned())
}

#[tokio::test]
async fn its_exit_status_says_how_it_is_and_its_output_why() {
    assert_eq!(attempt("echo well", PATIENCE).await, Outcome::Passes);
    assert_eq!(attempt("exit 3", PATIENCE).await, fails("exit 3"));
    assert_eq!(attempt("echo so; echo no >&2; exit 1", PATIENCE).await, fails("exit 1: no"));
    assert_eq!(attempt("echo; echo ' so '; exit 1", PATIENCE).await, fails("exit 1: so"));
    assert_eq!(attempt("kill -KILL $$", PATIENCE).await, fails("signal 9 (KILL)"));
}

#[tokio::test]
async fn one_that_does_not_end_is_killed_and_says_what_it_said() {
    let short = Duration::from_millis(500);
    let outcome = attempt("echo waiting for db; exec sleep 1000", short).await;
    let Outcome::Fails(why) = outcome else { panic!("{outcome:?}") };
    // A machine that is busy may have given it no time to say anything.
    assert!(why.starts_with("no end within 500ms"), "{why}");
}

#[tokio::test]
async fn any_output_is_read_and_little_of_it_kept() {
    // More than a pipe holds: it ends only if somebody reads.
    let outcome =
        attempt("head -c 300000 /dev/zero | tr '\\0' x >&2; printf '\\033[2J' >&2; exit 1", PATIENCE);
    assert_eq!(outcome.await, fails(&format!("exit 1: {}", "x".repeat(LINE_LEN_MAX))));
    let outcome = attempt("printf 'a\\033[2Jb' >&2; exit 1", PATIENCE).await;
    assert_eq!(outcome, fails("exit 1: a[2Jb"), "what a terminal would obey");
}

#[tokio::test]
async fn what_cannot_be_started_is_held_against_a_worker_only_where_it_is_the_workers() {
    let failed = |step: &str, errno: Errno| {
        let failure = ExecFailure { step: step.into(), object: "x".into(), errno: errno as i32 };
        not_started(NotStarted::Failed(failure))
    };
    assert_eq!(failed("exec", Errno::ENOENT), fails("exec x: No such file or directory"));
    assert_eq!(failed("clone", Errno::EAGAIN), fails("clone x: Resource temporarily unavailable"));
    assert_eq!(failed("pipe", Errno::EMFILE), Outcome::Untried);
    assert_eq!(failed("join", Errno::ESRCH), Outcome::Untried);
    assert_eq!(failed("stage", Errno::ECANCELED), Outcome::Untried);
    assert_eq!(not_started(NotStarted::Lost), Outcome::Untried);
}

/// There may be no such run any more.
#[tokio::test]
async fn a_run_that_has_gone_fails_no_check() {
    let words = vec!["x".to_owned()];
    let walls = Walls([(words.clone(), Arc::default())].into(), OwnTurns::default());
    let (sender, mut news) = mpsc::channel(1);
    let check = Command::new(&words, &walls);
    let answer = async {
        let Some(News::Check(ask)) = news.recv().await else { panic!("nothing is asked for") };
        ask.reply.send(Err(NotBegun::Gone)).unwrap();
    };
    assert_eq!(tokio::join!(check.attempt(RUN, &sender, PATIENCE), answer).0, Outcome::Untried);
    let unknown = Command::new(&words, &Walls::default());
    assert_eq!(unknown.attempt(RUN, &sender, PATIENCE).await, Outcome::Untried);
}

/// Whoever waits for a command may go at any time.
#[tokio::test]
async fn a_command_that_nobody_waits_for_is_killed() {
    let mut commands = Commands::new();
    let (number, answer) = commands.begin_thorough();
    let mut child = shell("exec sleep 1000");
    let main = Main::new(child.id(), pidfd::open(child.id()).unwrap());
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    commands.spawned(number, main, stdout.into(), stderr.into());
    let (remains, mut emptied) = remains(number);
    let begun = Begun { answer, remains };
    {
        let running = run_to_end(begun, PATIENCE);
        tokio::pin!(running);
        tokio::select! {
            biased;
            (outcome, ..) = &mut running => panic!("{outcome:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    let ended = beside::now(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(ended.signal(), Some(9));
    assert_eq!(emptied.recv().await, Some(RunId(number)), "a successor would look for it");
}

/// Those of a service that hang leave turns to the others.
#[tokio::test]
async fn a_service_has_so_many_turns_and_not_more() {
    let words = vec!["x".to_owned()];
    let (api, web) = (ServiceId::new("api").unwrap(), ServiceId::new("web").unwrap());
    let walls = |service| Walls([(words.clone(), Arc::default())].into(), OwnTurns::of(service));
    let (sender, mut news) = mpsc::channel(2 * OWN_TURNS_MAX);
    // As many runs of one service, none of which gets an answer.
    let mut hanging = Vec::new();
    for _ in 0..=OWN_TURNS_MAX {
        let (command, sender) = (Command::new(&words, &walls(&api)), sender.clone());
        hanging.push(tokio::spawn(async move { command.attempt(RUN, &sender, PATIENCE).await }));
    }
    let mut asked = Vec::new();
    for _ in 0..OWN_TURNS_MAX {
        asked.push(news.recv().await);
    }
    let other = Command::new(&words, &walls(&web));
    let other = tokio::spawn(async move { other.attempt(RunId(8), &sender, PATIENCE).await });
    let Some(News::Check(ask)) = news.recv().await else { panic!("nothing is asked for") };
    assert_eq!(ask.run, RunId(8), "the other service has its turn");
    ask.reply.send(Err(NotBegun::Gone)).unwrap();
    assert_eq!(other.await.unwrap(), Outcome::Untried);
    assert!(news.try_recv().is_err(), "the last one of the first service waits");
    drop(asked.pop());
    assert!(matches!(news.recv().await, Some(News::Check(ask)) if ask.run == RUN));
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

/// However many services they are of: what is known to end goes on.
#[tokio::test]
async fn checks_that_hang_leave_turns_to_those_that_do_not() {
    let turns: &'static Turns = Box::leak(Box::new(Turns::new()));
    let words = vec!["sh".to_owned(), "exit 0".to_owned()];
    let command = || {
        let walls = Walls([(words.clone(), Arc::default())].into(), OwnTurns::default());
        Command { turns, ..Command::new(&words, &walls) }
    };
    let (sender, news) = mpsc::channel(1);
    let proven = command();
    assert_eq!(
        tokio::join!(proven.attempt(RUN, &sender, PATIENCE), start(news, "exit 0")).0,
        Outcome::Passes
    );
    // Each of a service of its own, and none gets an answer.
    let (sender, mut news) = mpsc::channel(2 * Turns::MAX);
    let mut hanging = Vec::new();
    for _ in 0..Turns::MAX {
        let (command, sender) = (command(), sender.clone());
        hanging.push(tokio::spawn(async move { command.attempt(RunId(8), &sender, PATIENCE).await }));
    }
    let mut asked = Vec::new();
    for _ in 0..Turns::UNPROVEN_MAX {
        asked.push(news.recv().await);
    }
    let going = async {
        let (sender, news) = mpsc::channel(1);
        tokio::join!(proven.attempt(RUN, &sender, PATIENCE), start(news, "exit 0")).0
    };
    assert_eq!(time::timeout(PATIENCE, going).await.expect("it has no turn"), Outcome::Passes);
    assert!(news.try_recv().is_err(), "the others wait");
    // One that hangs once is among them.
    let (late, later) = mpsc::channel(1);
    let hang = async {
        let short = Duration::from_millis(100);
        tokio::join!(proven.attempt(RUN, &late, short), start(later, "exec sleep 1000")).0
    };
    let Outcome::Fails(why) = hang.await else { panic!("it passes") };
    assert!(why.starts_with("no end within"), "{why}");
    assert!(!proven.is_proven.load(Relaxed));
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}
