//! Every state and every event: what is listed changes the state as listed, everything else changes nothing.

use std::time::{Duration, Instant};

use super::*;
use crate::{plan::*, testing};

mod restarts;

/// The present run, and a run of the past.
const RUN: RunId = RunId(7);
const OTHER: RunId = RunId(6);

const STALL: Stall = Stall { resource: Resource::Memory, percent: 43 };

const COMPLAINT: Complaint = Complaint::Check { failures: 3 };

const STATES: [&str; 32] = [
    "down",
    "asleep",
    "waiting",
    "queued",
    "starting",
    "executed",
    "ready",
    "healthy",
    "unready",
    "draining>down",
    "draining>sleep",
    "draining>restart",
    "draining>together",
    "draining>recycle",
    "draining>replace",
    "stopping>down",
    "stopping>sleep",
    "stopping>restart",
    "stopping>together",
    "stopping>recycle",
    "stopping>replace",
    "stopping>policy",
    "rest>down",
    "rest>sleep",
    "rest>restart",
    "rest>together",
    "rest>recycle",
    "rest>replace",
    "rest>policy",
    "backoff",
    "failed",
    "completed",
];

const EVENTS: [&str; 21] = [
    "start",
    "stop",
    "restart",
    "kill",
    "sleep",
    "wake",
    "deps",
    "requested",
    "executed",
    "ready",
    "drained",
    "exited",
    "emptied",
    "recycle",
    "together",
    "started",
    "extend",
    "passes",
    "unready",
    "unhealthy",
    "deadline",
];

/// `state event -> state: effects`. `stopping` still has its main process, `rest` has not.
const TABLE: &str = "
    down start -> waiting
    down restart -> waiting
    down sleep -> asleep

    asleep start -> waiting
    asleep stop -> down
    asleep kill -> down
    asleep wake -> waiting

    waiting stop -> down
    waiting kill -> down
    waiting deps -> queued: spawn

    queued stop -> stopping>down: signal
    queued restart -> stopping>restart: signal
    queued together -> stopping>together: signal
    queued kill -> stopping>down: kill
    queued requested -> starting
    queued started -> starting
    queued executed -> executed
    queued ready -> ready
    queued exited -> rest>policy: terminate-rest release
    queued emptied -> backoff

    starting stop -> stopping>down: signal
    starting restart -> stopping>restart: signal
    starting together -> stopping>together: signal
    starting kill -> stopping>down: kill
    starting executed -> executed
    starting ready -> ready
    starting exited -> rest>policy: terminate-rest release
    starting emptied -> backoff
    starting deadline -> stopping>policy: signal

    executed stop -> stopping>down: signal
    executed restart -> stopping>restart: signal
    executed together -> stopping>together: signal
    executed kill -> stopping>down: kill
    executed ready -> ready
    executed exited -> rest>policy: terminate-rest release
    executed emptied -> backoff
    executed deadline -> stopping>policy: signal

    ready stop -> draining>down: drain
    ready restart -> draining>restart: drain
    ready kill -> stopping>down: kill
    ready sleep -> draining>sleep: drain
    ready recycle -> draining>recycle: drain
    ready together -> draining>together: drain
    ready unready -> unready
    ready unhealthy -> draining>replace: drain
    ready exited -> rest>policy: terminate-rest release
    ready emptied -> backoff

    healthy stop -> draining>down: drain
    healthy restart -> draining>restart: drain
    healthy kill -> stopping>down: kill
    healthy sleep -> draining>sleep: drain
    healthy recycle -> draining>recycle: drain
    healthy together -> draining>together: drain
    healthy unready -> unready
    healthy unhealthy -> draining>replace: drain
    healthy exited -> rest>policy: terminate-rest release
    healthy emptied -> waiting

    unready stop -> draining>down: drain
    unready restart -> draining>restart: drain
    unready together -> draining>together: drain
    unready kill -> stopping>down: kill
    unready sleep -> draining>sleep: drain
    unready ready -> ready
    unready unhealthy -> draining>replace: drain
    unready exited -> rest>policy: terminate-rest release
    unready emptied -> backoff

    draining>down start -> draining>restart
    draining>down restart -> draining>restart
    draining>down kill -> stopping>down: kill
    draining>down sleep -> draining>sleep
    draining>down drained -> stopping>down: signal
    draining>down exited -> rest>down: terminate-rest release
    draining>down emptied -> down
    draining>down deadline -> stopping>down: signal

    draining>sleep start -> draining>restart
    draining>sleep stop -> draining>down
    draining>sleep restart -> draining>restart
    draining>sleep kill -> stopping>down: kill
    draining>sleep wake -> draining>restart
    draining>sleep drained -> stopping>sleep: signal
    draining>sleep exited -> rest>sleep: terminate-rest release
    draining>sleep emptied -> asleep
    draining>sleep deadline -> stopping>sleep: signal

    draining>restart stop -> draining>down
    draining>restart kill -> stopping>down: kill
    draining>restart drained -> stopping>restart: signal
    draining>restart exited -> rest>restart: terminate-rest release
    draining>restart emptied -> waiting
    draining>restart deadline -> stopping>restart: signal

    draining>together start -> draining>restart
    draining>together stop -> draining>down
    draining>together restart -> draining>restart
    draining>together kill -> stopping>down: kill
    draining>together drained -> stopping>together: signal
    draining>together exited -> rest>together: terminate-rest release
    draining>together emptied -> waiting
    draining>together deadline -> stopping>together: signal

    draining>recycle start -> draining>restart
    draining>recycle stop -> draining>down
    draining>recycle restart -> draining>restart
    draining>recycle kill -> stopping>down: kill
    draining>recycle drained -> stopping>recycle: signal
    draining>recycle exited -> rest>recycle: terminate-rest release
    draining>recycle emptied -> waiting
    draining>recycle deadline -> stopping>recycle: signal

    draining>replace start -> draining>restart
    draining>replace stop -> draining>down
    draining>replace restart -> draining>restart
    draining>replace kill -> stopping>down: kill
    draining>replace drained -> stopping>replace: signal
    draining>replace exited -> rest>replace: terminate-rest release
    draining>replace emptied -> backoff
    draining>replace deadline -> stopping>replace: signal

    stopping>down start -> stopping>restart
    stopping>down restart -> stopping>restart
    stopping>down kill -> stopping>down: kill
    stopping>down sleep -> stopping>sleep
    stopping>down exited -> rest>down: terminate-rest release
    stopping>down emptied -> down
    stopping>down deadline -> stopping>down: kill

    stopping>sleep start -> stopping>restart
    stopping>sleep stop -> stopping>down
    stopping>sleep restart -> stopping>restart
    stopping>sleep kill -> stopping>down: kill
    stopping>sleep wake -> stopping>restart
    stopping>sleep exited -> rest>sleep: terminate-rest release
    stopping>sleep emptied -> asleep
    stopping>sleep deadline -> stopping>sleep: kill

    stopping>restart stop -> stopping>down
    stopping>restart kill -> stopping>down: kill
    stopping>restart exited -> rest>restart: terminate-rest release
    stopping>restart emptied -> waiting
    stopping>restart deadline -> stopping>restart: kill

    stopping>together start -> stopping>restart
    stopping>together stop -> stopping>down
    stopping>together restart -> stopping>restart
    stopping>together kill -> stopping>down: kill
    stopping>together exited -> rest>together: terminate-rest release
    stopping>together emptied -> waiting
    stopping>together deadline -> stopping>together: kill

    stopping>recycle start -> stopping>restart
    stopping>recycle stop -> stopping>down
    stopping>recycle restart -> stopping>restart
    stopping>recycle kill -> stopping>down: kill
    stopping>recycle exited -> rest>recycle: terminate-rest release
    stopping>recycle emptied -> waiting
    stopping>recycle deadline -> stopping>recycle: kill

    stopping>replace start -> stopping>restart
    stopping>replace stop -> stopping>down
    stopping>replace restart -> stopping>restart
    stopping>replace kill -> stopping>down: kill
    stopping>replace exited -> rest>replace: terminate-rest release
    stopping>replace emptied -> backoff
    stopping>replace deadline -> stopping>replace: kill

    stopping>policy start -> stopping>restart
    stopping>policy stop -> stopping>down
    stopping>policy restart -> stopping>restart
    stopping>policy kill -> stopping>down: kill
    stopping>policy exited -> rest>policy: terminate-rest release
    stopping>policy emptied -> backoff
    stopping>policy deadline -> stopping>policy: kill

    rest>down start -> rest>restart
    rest>down restart -> rest>restart
    rest>down kill -> rest>down: kill
    rest>down sleep -> rest>sleep
    rest>down emptied -> down
    rest>down deadline -> rest>down: kill

    rest>sleep start -> rest>restart
    rest>sleep stop -> rest>down
    rest>sleep restart -> rest>restart
    rest>sleep kill -> rest>down: kill
    rest>sleep wake -> rest>restart
    rest>sleep emptied -> asleep
    rest>sleep deadline -> rest>sleep: kill

    rest>restart stop -> rest>down
    rest>restart kill -> rest>down: kill
    rest>restart emptied -> waiting
    rest>restart deadline -> rest>restart: kill

    rest>together start -> rest>restart
    rest>together stop -> rest>down
    rest>together restart -> rest>restart
    rest>together kill -> rest>down: kill
    rest>together emptied -> waiting
    rest>together deadline -> rest>together: kill

    rest>recycle start -> rest>restart
    rest>recycle stop -> rest>down
    rest>recycle restart -> rest>restart
    rest>recycle kill -> rest>down: kill
    rest>recycle emptied -> waiting
    rest>recycle deadline -> rest>recycle: kill

    rest>replace start -> rest>restart
    rest>replace stop -> rest>down
    rest>replace restart -> rest>restart
    rest>replace kill -> rest>down: kill
    rest>replace emptied -> backoff
    rest>replace deadline -> rest>replace: kill

    rest>policy start -> rest>restart
    rest>policy stop -> rest>down
    rest>policy restart -> rest>restart
    rest>policy kill -> rest>down: kill
    rest>policy emptied -> backoff
    rest>policy deadline -> rest>policy: kill

    backoff start -> waiting
    backoff stop -> down
    backoff restart -> waiting
    backoff kill -> down
    backoff sleep -> asleep
    backoff deadline -> waiting

    failed start -> waiting
    failed stop -> down
    failed restart -> waiting
    failed kill -> down
    failed sleep -> asleep
    failed deadline -> waiting

    completed start -> waiting
    completed stop -> down
    completed restart -> waiting
    completed kill -> down
    completed sleep -> asleep
";

#[test]
fn every_state_answers_every_event() {
    let expected = |state: &str, event: &str| -> (String, String) {
        let head = format!("{state} {event} -> ");
        let Some(line) = TABLE.lines().find_map(|line| line.trim().strip_prefix(&head)) else {
            return (state.to_owned(), String::new());
        };
        let (state, effects) = line.split_once(": ").unwrap_or((line, ""));
        (state.to_owned(), effects.to_owned())
    };
    for state in STATES {
        for event in EVENTS {
            let mut bench = Bench::new(state);
            let effects = bench.feed(event, RUN);
            let (state_expected, effects_expected) = expected(state, event);
            assert_eq!(bench.describe(), state_expected, "state after {state}, {event}");
            assert_eq!(effects, effects_expected, "effects after {state}, {event}");
            bench.check_wanted(event);
        }
    }
}

/// docs/lifecycle.md has what every event does in every state. With `WATT_BLESS` in the environment it is written anew.
#[test]
fn the_page_has_every_transition() {
    const BEGIN: &str = "<!-- every transition -->\n";
    const END: &str = "<!-- end of transitions -->\n";
    let mut table = String::from("| state | event → next state (what is done) |\n|---|---|\n");
    for state in STATES.into_iter().filter(|state| *state != "healthy") {
        let next = |event: &str| {
            let mut bench = Bench::new(state);
            let effects = bench.feed(event, RUN);
            let after = bench.describe();
            let done = if effects.is_empty() { String::new() } else { format!(" ({effects})") };
            (after != state || !effects.is_empty()).then(|| format!("{event} → {after}{done}"))
        };
        let all: Vec<String> = EVENTS.into_iter().filter_map(next).collect();
        table += &format!("| `{state}` | {} |\n", all.join("; "));
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lifecycle.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("WATT_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == expected, "docs/lifecycle.md is not current; run this test with WATT_BLESS=1");
}

#[test]
fn every_line_of_the_table_is_about_a_state_and_an_event() {
    for line in TABLE.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let (state, event) = (words.next().unwrap(), words.next().unwrap());
        assert!(STATES.contains(&state) && EVENTS.contains(&event), "{line}");
    }
}

#[test]
fn news_of_another_run_change_nothing() {
    for state in STATES {
        for event in [
            "executed",
            "ready",
            "drained",
            "exited",
            "emptied",
            "recycle",
            "started",
            "extend",
            "passes",
            "unready",
            "unhealthy",
        ] {
            let mut bench = Bench::new(state);
            let before = bench.worker.clone();
            assert_eq!(bench.feed(event, OTHER), "", "{state}, {event}");
            assert_eq!(bench.worker, before, "{state}, {event}");
        }
    }
}

#[test]
fn states_that_wait_for_time_have_a_deadline_and_others_have_none() {
    for state in STATES {
        let waits = !["down", "asleep", "waiting", "queued", "ready", "healthy", "unready", "completed"]
            .contains(&state);
        assert_eq!(Bench::new(state).worker.deadline().is_some(), waits, "{state}");
    }
}

#[test]
fn a_stall_is_why_a_worker_was_replaced_and_no_failure() {
    let mut bench = Bench::new("ready");
    for event in ["recycle", "drained", "exited", "emptied"] {
        bench.feed(event, RUN);
    }
    let Worker { wanted, state, record, part: _ } = &bench.worker;
    assert_eq!((*wanted, state), (Wanted::Up, &State::Waiting));
    assert_eq!(record.last_exit, Some(ExitCause::Recycled(STALL)));
    assert_eq!((record.restarts, record.failures_in_row, record.recent_failures.len()), (1, 0, 0));
    assert_eq!(record.recycled, Some(Recycled { at: bench.now, in_row: NonZeroU32::MIN }));
}

#[test]
fn ill_health_is_a_failure_after_which_it_is_tried_again() {
    for (state, failures, next) in
        [("ready", 1, "backoff"), ("healthy", 0, "waiting"), ("unready", 1, "backoff")]
    {
        let mut bench = Bench::new(state);
        // Even a program that exits well when it is told to.
        bench.plan.restart.policy = RestartPolicy::OnFailure;
        bench.feed("unhealthy", RUN);
        bench.feed("drained", RUN);
        bench.event(Event::Exited(RUN, ExitCause::Exited(0)));
        bench.feed("emptied", RUN);
        assert_eq!(bench.describe(), next, "{state}");
        let record = &bench.worker.record;
        assert_eq!(record.last_exit, Some(ExitCause::Unhealthy(COMPLAINT)), "{state}");
        assert_eq!((record.failures_in_row, record.recent_failures.len()), (failures, 1), "{state}");
    }
}

#[test]
fn a_startup_check_has_a_time_of_its_own_before_that_to_get_ready() {
    let mut bench = Bench::new("queued");
    bench.plan.startup = Some(Startup { check: Check::Tcp, timeout: Duration::from_secs(300) });
    let left = |bench: &Bench| bench.worker.deadline().unwrap() - bench.now;
    bench.feed("requested", RUN);
    assert_eq!(left(&bench), Duration::from_secs(300));
    bench.now += Duration::from_secs(200);
    bench.feed("started", RUN);
    assert_eq!(left(&bench), bench.plan.ready.timeout);
}

#[test]
fn a_program_that_runs_has_not_passed_its_startup_check_by_that() {
    let mut bench = Bench::new("starting");
    bench.plan.ready.when = ReadyWhen::Started;
    bench.plan.startup = Some(Startup { check: Check::Tcp, timeout: Duration::from_secs(300) });
    bench.feed("executed", RUN);
    assert_eq!(bench.describe(), "executed");
    bench.plan.startup = None;
    bench.feed("executed", RUN);
    assert_eq!(bench.describe(), "ready");
}

#[test]
fn more_time_to_get_ready_is_never_less() {
    let mut bench = Bench::new("starting");
    let left = |bench: &Bench| bench.worker.deadline().unwrap() - bench.now;
    bench.event(Event::Extend(RUN, Duration::from_secs(5)));
    assert_eq!(left(&bench), Duration::from_secs(10));
    bench.event(Event::Extend(RUN, Duration::from_secs(50)));
    assert_eq!(left(&bench), Duration::from_secs(50));
    bench.event(Event::Extend(RUN, Duration::MAX));
    assert_eq!(left(&bench), Duration::from_secs(3600), "an hour at a time");
}

#[test]
fn a_tick_before_the_deadline_changes_nothing() {
    for state in STATES {
        let mut bench = Bench::new(state);
        let before = bench.worker.clone();
        if let Some(deadline) = before.deadline() {
            bench.now = deadline - Duration::from_nanos(1);
        }
        assert_eq!(bench.tick(), "", "{state}");
        assert_eq!(bench.worker, before, "{state}");
    }
}

#[test]
fn a_deadline_that_was_acted_on_is_over() {
    // Or the daemon would be called again at once, for ever.
    for state in STATES {
        let mut bench = Bench::new(state);
        bench.feed("deadline", RUN);
        let deadline = bench.worker.deadline();
        assert!(deadline.is_none_or(|deadline| deadline > bench.now), "{state}");
    }
}

#[test]
fn a_service_that_does_not_listen_or_has_no_drain_is_signalled_at_once() {
    let mut bench = Bench::new("ready");
    bench.plan.listen = Listen::None;
    assert_eq!((bench.feed("stop", RUN), bench.describe()), ("signal".into(), "stopping>down".into()));
    let mut bench = Bench::new("ready");
    bench.plan.stop.drain = Duration::ZERO;
    assert_eq!((bench.feed("restart", RUN), bench.describe()), ("signal".into(), "stopping>restart".into()));
}

#[test]
fn execution_is_readiness_where_the_plan_says_so() {
    let mut bench = Bench::new("starting");
    bench.plan.ready.when = ReadyWhen::Started;
    assert_eq!((bench.feed("executed", RUN), bench.describe()), (String::new(), "ready".into()));
}

#[test]
fn what_follows_an_end_is_the_policys() {
    let check = |policy, cause: ExitCause, expected: &str| {
        let mut bench = Bench::new("ready");
        bench.plan.restart.policy = policy;
        bench.event(Event::Exited(RUN, cause.clone()));
        bench.event(Event::Emptied(RUN));
        assert_eq!(bench.describe(), expected, "{policy:?} {cause}");
        assert_eq!(bench.worker.record.last_exit, Some(cause));
    };
    let oom = ExitCause::OutOfMemory { limit: None };
    check(RestartPolicy::Always, ExitCause::Exited(0), "backoff");
    check(RestartPolicy::Always, ExitCause::Exited(1), "backoff");
    check(RestartPolicy::OnFailure, ExitCause::Exited(0), "completed");
    check(RestartPolicy::OnFailure, ExitCause::Exited(1), "backoff");
    check(RestartPolicy::OnFailure, oom.clone(), "backoff");
    check(RestartPolicy::Never, ExitCause::Exited(0), "completed");
    check(RestartPolicy::Never, ExitCause::Exited(1), "completed");
    check(RestartPolicy::Never, oom, "completed");
}

#[test]
fn an_end_is_named_by_what_caused_it() {
    let check = |state: &str, cause: ExitCause, expected: ExitCause| {
        let mut bench = Bench::new(state);
        bench.event(Event::Exited(RUN, cause.clone()));
        assert_eq!(bench.worker.record.last_exit, Some(expected.clone()), "{state}, {cause} at the exit");
        bench.event(Event::Emptied(RUN));
        assert_eq!(bench.worker.record.last_exit, Some(expected), "{state}, {cause} in the end");
    };
    let signal = |signal| ExitCause::Signaled { signal, core_dumped: false };
    let oom = || ExitCause::OutOfMemory { limit: Some(1) };
    check("ready", signal(15), signal(15));
    check("starting", signal(9), signal(9));
    check("draining>down", ExitCause::Exited(0), ExitCause::Exited(0));
    check("stopping>down", signal(15), ExitCause::Stopped);
    check("stopping>down", signal(9), ExitCause::Stopped);
    check("stopping>down", ExitCause::Exited(143), ExitCause::Stopped);
    check("stopping>down", signal(11), signal(11));
    check("stopping>restart", oom(), oom());
    check("stopping>policy", signal(15), ExitCause::StartTimeout);
    check("stopping>policy", oom(), oom());
    check("ready", ExitCause::Unknown, ExitCause::Unknown);
}

#[test]
fn retries_wait_longer_and_longer_until_the_worker_has_failed_too_often() {
    let mut bench = Bench::new("waiting");
    for expected_ms in [200, 400, 800, 1600] {
        bench.fail();
        let State::Backoff { until, .. } = bench.worker.state else { panic!("{:?}", bench.worker.state) };
        // Jitter 0.5 is the middle: no change.
        assert_eq!(until - bench.now, Duration::from_millis(expected_ms));
        bench.now = until;
        bench.tick();
    }
    bench.fail();
    let State::Failed { failures, retry_at } = bench.worker.state else { panic!("{:?}", bench.worker.state) };
    assert_eq!((failures.get(), retry_at), (5, Some(bench.now + Duration::from_secs(300))));
    assert_eq!(bench.worker.record.restarts, 4);

    // The slow retry has as many tries as the first start.
    bench.now += Duration::from_secs(300);
    bench.tick();
    assert_eq!(bench.describe(), "waiting");
    bench.fail();
    assert_eq!(bench.describe(), "backoff");
    assert_eq!((bench.worker.record.restarts, bench.worker.record.failures_in_row), (5, 1));
}

#[test]
fn failures_that_are_far_apart_never_make_it_failed() {
    let mut bench = Bench::new("waiting");
    for _ in 0..50 {
        bench.fail();
        assert_eq!(bench.describe(), "backoff");
        bench.now = bench.worker.deadline().unwrap();
        bench.tick();
        bench.now += Duration::from_secs(15);
        assert!(bench.worker.record.recent_failures.len() <= 5);
    }
}

#[test]
fn a_worker_that_was_healthy_starts_again_at_once_with_a_clean_record() {
    let mut bench = Bench::new("waiting");
    for _ in 0..4 {
        bench.fail();
        bench.now = bench.worker.deadline().unwrap();
        bench.tick();
    }
    bench.live(Duration::from_secs(30));
    assert_eq!(bench.describe(), "waiting");
    let record = &bench.worker.record;
    assert_eq!((record.failures_in_row, record.recent_failures.len(), record.restarts), (0, 1, 5));
    bench.live(Duration::from_millis(29_999));
    assert_eq!(bench.describe(), "backoff");
}

#[test]
fn a_service_that_counts_as_healthy_at_once_is_not_restarted_for_ever() {
    // Supervisor/supervisor #1285: with `startsecs=0` its retries have no limit.
    let mut bench = Bench::new("waiting");
    bench.plan.restart.healthy_after = Duration::ZERO;
    for _ in 0..4 {
        bench.live(Duration::from_millis(10));
        assert_eq!(bench.describe(), "waiting");
    }
    bench.live(Duration::from_millis(10));
    assert_eq!(bench.describe(), "failed");
}

#[test]
fn a_policy_without_a_number_of_failures_never_gives_up() {
    let mut bench = Bench::new("waiting");
    bench.plan.restart.give_up_failures = 0;
    bench.plan.restart.give_up_within = Duration::MAX;
    for _ in 0..2000 {
        bench.fail();
        assert_eq!(bench.describe(), "backoff");
        bench.now = bench.worker.deadline().unwrap();
        bench.tick();
    }
    assert!(bench.worker.record.recent_failures.len() <= 1024, "a record has to stay small");
}

#[test]
fn an_operators_word_cleans_the_record_and_counts_no_restart() {
    for (state, word) in
        [("backoff", "start"), ("failed", "start"), ("ready", "restart"), ("rest>policy", "start")]
    {
        let mut bench = Bench::new(state);
        bench.worker.record.failures_in_row = 3;
        bench.worker.record.recent_failures = vec![bench.now; 3];
        bench.feed(word, RUN);
        bench.feed("drained", RUN);
        bench.feed("exited", RUN);
        bench.feed("emptied", RUN);
        let record = &bench.worker.record;
        assert_eq!(bench.describe(), "waiting", "{state}");
        assert_eq!(
            (record.failures_in_row, record.recent_failures.len(), record.restarts),
            (0, 0, 0),
            "{state}"
        );
    }
}

#[test]
fn jitter_spreads_a_wait_by_a_fifth() {
    let wait = |jitter: f64| {
        let mut bench = Bench::new("waiting");
        bench.jitter = jitter;
        bench.fail();
        bench.worker.deadline().unwrap() - bench.now
    };
    assert_eq!(wait(0.0), Duration::from_millis(160));
    assert_eq!(wait(0.5), Duration::from_millis(200));
    assert_eq!(wait(1.0), Duration::from_millis(240));
    // A source that gives nonsense must not make a wait endless or negative.
    assert_eq!(wait(7.0), Duration::from_millis(240));
    assert_eq!(wait(-7.0), Duration::from_millis(160));
}

#[test]
fn a_backoff_doubles_up_to_its_longest() {
    let check = |failures: u32, expected: u64| {
        let failures = NonZeroU32::new(failures).unwrap();
        let wait = backoff(Duration::from_millis(200), Duration::from_secs(30), failures);
        assert_eq!(wait, Duration::from_millis(expected));
    };
    check(1, 200);
    check(2, 400);
    check(8, 25_600);
    check(9, 30_000);
    check(u32::MAX, 30_000);
    let huge = backoff(Duration::MAX, Duration::MAX, NonZeroU32::MAX);
    assert_eq!(huge, Duration::MAX);
}

#[test]
fn waits_too_long_for_the_clock_are_no_panic() {
    let mut bench = Bench::new("waiting");
    bench.plan.ready.timeout = Duration::MAX;
    bench.plan.stop = Stop { signal: 15, drain: Duration::MAX, grace: Duration::MAX };
    bench.plan.restart.backoff_first = Duration::MAX;
    bench.plan.restart.backoff_max = Duration::MAX;
    bench.plan.restart.retry_failed_after = Some(Duration::MAX);
    bench.jitter = 1.0;
    for _ in 0..6 {
        for event in ["deps", "ready", "restart", "drained", "exited", "emptied", "deps", "exited", "emptied"]
        {
            bench.feed(event, bench.worker.run().unwrap_or(RUN));
        }
        bench.feed("start", RUN);
    }
}

/// A worker on a bench.
struct Bench {
    worker: Worker,
    plan: Service,
    ids: RunIds,
    jitter: f64,
    now: Instant,
}

impl Bench {
    fn new(state: &str) -> Bench {
        // Tests look back in time.
        let now = Instant::now() + Duration::from_secs(1_000_000);
        let later = now + Duration::from_secs(10);
        let stopping = |left, then| State::Stopping {
            run: RUN,
            kill_at: later,
            then,
            left,
            cause: match (left, then) {
                (Left::All, AfterStop::Policy) => ExitCause::StartTimeout,
                (Left::All, AfterStop::Down | AfterStop::Sleep | AfterStop::Restart) => ExitCause::Stopped,
                (Left::All, AfterStop::Together) => ExitCause::Group,
                (Left::All, AfterStop::Recycle(stall)) => ExitCause::Recycled(stall),
                (Left::All, AfterStop::Replace(complaint)) => ExitCause::Unhealthy(complaint),
                (Left::Rest, _) => ExitCause::Exited(1),
            },
        };
        let then = match state.split_once('>') {
            Some((_, "down")) => AfterStop::Down,
            Some((_, "sleep")) => AfterStop::Sleep,
            Some((_, "restart")) => AfterStop::Restart,
            Some((_, "together")) => AfterStop::Together,
            Some((_, "recycle")) => AfterStop::Recycle(STALL),
            Some((_, "replace")) => AfterStop::Replace(COMPLAINT),
            Some(_) | None => AfterStop::Policy,
        };
        let four = NonZeroU32::new(4).unwrap();
        let mut worker = Worker::new();
        worker.state = match state.split('>').next().unwrap() {
            "down" => State::Down,
            "asleep" => State::Asleep,
            "waiting" => State::Waiting,
            "queued" => State::Starting { run: RUN, ready_by: None, executed: false },
            "starting" => State::Starting { run: RUN, ready_by: Some(later), executed: false },
            "executed" => State::Starting { run: RUN, ready_by: Some(later), executed: true },
            "ready" => State::Ready { run: RUN, since: now },
            "healthy" => State::Ready { run: RUN, since: now - Duration::from_secs(30) },
            "unready" => State::Unready { run: RUN, since: now },
            "draining" => State::Draining { run: RUN, until: later, then },
            "stopping" => stopping(Left::All, then),
            "rest" => stopping(Left::Rest, then),
            "backoff" => State::Backoff { until: later, failures: four },
            "failed" => State::Failed { failures: four, retry_at: Some(later) },
            "completed" => State::Completed { exit: ExitCause::Exited(0) },
            other => panic!("no state {other}"),
        };
        let ends = ["draining", "stopping", "rest"].contains(&state.split('>').next().unwrap());
        if ends && matches!(then, AfterStop::Policy | AfterStop::Replace(_)) {
            // The failure was noted when the stop began.
            worker.record.failures_in_row = 1;
            worker.record.recent_failures = vec![now];
        }
        worker.wanted = if state == "down" || then == AfterStop::Down { Wanted::Down } else { Wanted::Up };
        let ids = RunIds::starting_at(RunId(RUN.0 + 1));
        Bench { worker, plan: testing::service("api"), ids, jitter: 0.5, now }
    }

    fn feed(&mut self, event: &str, run: RunId) -> String {
        match event {
            "start" => self.event(Event::Start),
            "stop" => self.event(Event::Stop),
            "restart" => self.event(Event::Restart),
            "kill" => self.event(Event::Kill),
            "sleep" => self.event(Event::Sleep),
            "wake" => self.event(Event::Wake),
            "deps" => self.event(Event::DependenciesMet),
            "requested" => self.event(Event::Requested(run)),
            "executed" => self.event(Event::Executed(run)),
            "ready" => self.event(Event::Ready(run)),
            "drained" => self.event(Event::Drained(run)),
            "exited" => self.event(Event::Exited(run, ExitCause::Exited(1))),
            "emptied" => self.event(Event::Emptied(run)),
            "together" => self.event(Event::Together),
            "recycle" => self.event(Event::Recycle(run, STALL, NonZeroU32::MIN)),
            "started" => self.event(Event::Started(run)),
            "extend" => self.event(Event::Extend(run, Duration::from_secs(60))),
            "passes" => self.event(Event::Healthy(run)),
            "unready" => self.event(Event::Unready(run)),
            "unhealthy" => self.event(Event::Unhealthy(run, COMPLAINT)),
            "deadline" => {
                self.now = self.worker.deadline().unwrap_or(self.now);
                self.tick()
            }
            other => panic!("no event {other}"),
        }
    }

    fn event(&mut self, event: Event) -> String {
        let mut effects = Vec::new();
        let mut context = Context {
            now: self.now,
            plan: &self.plan,
            ids: &mut self.ids,
            jitter: self.jitter,
            siblings: None,
        };
        self.worker.handle(event, &mut context, &mut effects);
        words(&effects)
    }

    fn tick(&mut self) -> String {
        let mut effects = Vec::new();
        let mut context = Context {
            now: self.now,
            plan: &self.plan,
            ids: &mut self.ids,
            jitter: self.jitter,
            siblings: None,
        };
        self.worker.tick(&mut context, &mut effects);
        words(&effects)
    }

    /// From `Waiting` through a run that never gets ready.
    fn fail(&mut self) {
        self.feed("deps", RUN);
        let run = self.worker.run().unwrap();
        self.feed("exited", run);
        self.feed("emptied", run);
    }

    /// From `Waiting` through a run that is ready for a while.
    fn live(&mut self, time: Duration) {
        if let State::Backoff { until, .. } = self.worker.state {
            self.now = until;
            self.tick();
        }
        self.feed("deps", RUN);
        let run = self.worker.run().unwrap();
        self.feed("ready", run);
        self.now += time;
        self.feed("exited", run);
        self.feed("emptied", run);
    }

    fn describe(&self) -> String {
        let then = |then| match then {
            AfterStop::Down => "down",
            AfterStop::Sleep => "sleep",
            AfterStop::Restart => "restart",
            AfterStop::Together => "together",
            AfterStop::Recycle(_) => "recycle",
            AfterStop::Replace(_) => "replace",
            AfterStop::Policy => "policy",
        };
        match &self.worker.state {
            State::Down => "down".into(),
            State::Asleep => "asleep".into(),
            State::Waiting => "waiting".into(),
            State::Starting { executed: false, ready_by: None, .. } => "queued".into(),
            State::Starting { executed: false, .. } => "starting".into(),
            State::Starting { executed: true, .. } => "executed".into(),
            State::Ready { since, .. } if self.now - *since >= self.plan.restart.healthy_after => {
                "healthy".into()
            }
            State::Ready { .. } => "ready".into(),
            State::Unready { .. } => "unready".into(),
            State::Draining { then: after, .. } => format!("draining>{}", then(*after)),
            State::Stopping { left: Left::All, then: after, .. } => format!("stopping>{}", then(*after)),
            State::Stopping { left: Left::Rest, then: after, .. } => format!("rest>{}", then(*after)),
            State::Backoff { .. } => "backoff".into(),
            State::Failed { .. } => "failed".into(),
            State::Completed { .. } => "completed".into(),
        }
    }

    fn check_wanted(&self, event: &str) {
        let state = self.describe();
        let down = state == "down" || state.ends_with(">down");
        assert_eq!(
            self.worker.wanted == Wanted::Down,
            down,
            "wanted {:?} in {state} after {event}",
            self.worker.wanted
        );
    }
}

fn words(effects: &[Effect]) -> String {
    let word = |effect: &Effect| match effect {
        Effect::Spawn(_) => "spawn",
        Effect::Drain(_) => "drain",
        Effect::Signal(_) => "signal",
        Effect::TerminateRest(_) => "terminate-rest",
        Effect::Kill(_) => "kill",
        Effect::Release(_) => "release",
    };
    effects.iter().map(word).collect::<Vec<_>>().join(" ")
}
