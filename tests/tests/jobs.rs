//! Jobs, end to end: what a service gets at which instant, whoever is killed meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use watt_tests::{App, User, for_each_user, kill, wait};

/// An application with the service `api` and these jobs.
fn app(user: User, jobs: &str) -> App {
    let app = App::case("", user);
    write(&app, jobs);
    app
}

fn write(app: &App, jobs: &str) {
    app.write(
        "watt.yaml",
        &format!("services:\n  api: {{ command: python3 services/ticks.py, listen: port, sandbox: off }}\njobs:\n{jobs}"),
    );
}

/// What the service got, in order: job, instant, attempt, method, path and body.
fn ticks(app: &App) -> Vec<Vec<String>> {
    let text = fs::read_to_string(app.dir.join("ticks.log")).unwrap_or_default();
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

fn job(app: &App, name: &str) -> Value {
    app.json(&["jobs", "show", name])
}

fn history(app: &App, name: &str) -> Vec<Value> {
    job(app, name)["history"].as_array().cloned().unwrap_or_default()
}

fn events(app: &App, kind: &str) -> Vec<Value> {
    let text = app.ok(&["events", "--json"]);
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    all.filter(|event| event["kind"] == kind).collect()
}

fn pid_of(app: &App, role: &str) -> u32 {
    let pid = app.status()["supervisor"][role].as_u64();
    pid.and_then(|pid| pid.try_into().ok()).expect("a pid")
}

fn wait_for_ticks(app: &App, count: usize) {
    wait("so many requests have come", || match ticks(app).len() {
        enough if enough >= count => Ok(()),
        few => Err(format!("{few} of {count}; {}", app.json(&["jobs"]))),
    });
}

/// Seconds since the Unix epoch of `2026-11-26T03:00:00.000Z`, on one day.
fn second_of(instant: &str) -> u64 {
    let numbers: Vec<u64> =
        instant[11..19].split(':').map(|number| number.parse().expect("a number")).collect();
    numbers[0] * 3600 + numbers[1] * 60 + numbers[2]
}

/// The daemon is killed whenever it is: each instant has one request, or, where the daemon died around it, says that nobody saw it.
#[test]
fn every_instant_has_one_request_whoever_is_killed() {
    for_each_user(|user| {
        let app = app(
            user,
            "  tick: { service: api, http: { method: POST, path: /tick, body: now }, schedule: '* * * * * *', overlap: allow, \
             catch_up: { mode: all, within: 1h }, history: 1000 }\n",
        );
        app.up();
        for round in 1..=6 {
            wait_for_ticks(&app, round * 2);
            app.kill_daemon();
        }
        wait_for_ticks(&app, 16);
        app.ok(&["jobs", "pause", "tick"]);
        wait("nothing of it is under way", || match job(&app, "tick") {
            job if job["job"]["running"] == json!([]) => Ok(()),
            job => Err(job.to_string()),
        });
        let mut got: BTreeMap<String, usize> = BTreeMap::new();
        for tick in ticks(&app) {
            assert_eq!((tick[0].as_str(), tick[2].as_str(), tick[3].as_str()), ("tick", "0", "POST"));
            *got.entry(tick[1].clone()).or_default() += 1;
        }
        assert!(got.values().all(|count| *count == 1), "{user:?}: {got:?}");
        let history = history(&app, "tick");
        let fired: BTreeSet<String> =
            history.iter().map(|run| run["at"].as_str().unwrap().to_owned()).collect();
        assert_eq!(fired.len(), history.len(), "an instant fired twice: {history:?}");
        for run in &history {
            let was_seen = got.contains_key(run["at"].as_str().unwrap());
            assert!(was_seen || run["result"] == "interrupted", "{run}");
            assert!(run["result"] == "ok" || run["result"] == "interrupted", "{run}");
        }
        // None was left out in between. Only around midnight this says nothing.
        let seconds: Vec<u64> = fired.iter().map(|at| second_of(at)).collect();
        if seconds.is_sorted() {
            let (first, last) = (seconds[0], seconds[seconds.len() - 1]);
            assert_eq!(seconds, (first..=last).collect::<Vec<_>>());
        }
        assert!(events(&app, "job_missed").is_empty());
        app.down();
    });
}

/// The file with what became of a job.
fn notes(app: &App, name: &str) -> std::path::PathBuf {
    app.runtime()
        .parent()
        .and_then(|run| run.parent())
        .expect("a home")
        .join(format!("state/app/jobs/{name}.jsonl"))
}

fn append(app: &App, name: &str, line: &Value) {
    let mut file = fs::OpenOptions::new().append(true).open(notes(app, name)).expect("the notes");
    file.write_all(format!("{line}\n").as_bytes()).expect("a line");
}

fn fired(number: u64, life: &str) -> Value {
    let mark = json!({ "seen": now() });
    json!({ "fired": { "number": number, "at": 1_700_000_000, "cause": "schedule", "life": life, "noted_ms": 0, "attempts": 1, "mark": mark } })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

const HOURLY: &str = "  tick: { service: api, http: /tick, schedule: '30 0 1 1 *' }\n";

/// The daemon dies between the note and what follows from it: the spawner is held, so that the note is there before the next daemon.
#[test]
fn what_was_noted_and_not_begun_begins_once() {
    let app = app(User::Ordinary, HOURLY);
    app.up();
    app.ok(&["jobs", "run", "tick", "--wait"]);
    assert_eq!(ticks(&app).len(), 1);
    let info = fs::read_to_string(app.runtime().join("info.json")).expect("info.json");
    let info: Value = serde_json::from_str(&info).expect("JSON");
    let life = info["life"].as_str().expect("a life");
    let (spawner, daemon) = (pid_of(&app, "spawner_pid"), pid_of(&app, "daemon_pid"));
    kill("STOP", spawner);
    kill("KILL", daemon);
    append(&app, "tick", &fired(2, life));
    kill("CONT", spawner);
    wait_for_ticks(&app, 2);
    wait("it is over", || match history(&app, "tick") {
        history if history.len() == 2 && history[0]["result"] == "ok" => Ok(()),
        history => Err(format!("{history:?}")),
    });
    // Begun once is begun for ever.
    app.kill_daemon();
    assert_eq!(ticks(&app)[1][1], "2023-11-14T22:13:20.000Z");
    assert_eq!((ticks(&app).len(), history(&app, "tick").len()), (2, 2));
    app.down();
}

#[test]
fn what_another_life_had_begun_is_not_begun_again() {
    let app = app(User::Ordinary, HOURLY);
    app.up();
    app.ok(&["jobs", "run", "tick", "--wait"]);
    app.down();
    append(&app, "tick", &fired(2, "1-2"));
    app.up();
    let history = history(&app, "tick");
    assert_eq!(
        (history[0]["number"].as_u64(), history[0]["result"].as_str()),
        (Some(2), Some("interrupted"))
    );
    assert_eq!(history[1]["result"], "ok", "the history is there after a start");
    assert_eq!(ticks(&app).len(), 1);
    app.ok(&["jobs", "run", "tick", "--wait"]);
    assert_eq!(job(&app, "tick")["history"][0]["number"], 3, "numbers count on");
    app.down();
}

/// A call that is under way when the daemon dies: with retries left it is sent again, and says so.
#[test]
fn a_call_under_way_is_sent_again_only_if_it_may_be() {
    let app = app(
        User::Ordinary,
        "  once: { service: api, http: /hang, schedule: '@yearly' }\n  again: { service: api, http: /hang, schedule: '@yearly', retries: 1 }\n",
    );
    app.up();
    for name in ["once", "again"] {
        app.ok(&["jobs", "run", name]);
    }
    wait_for_ticks(&app, 2);
    app.kill_daemon();
    wait_for_ticks(&app, 3);
    app.write("release", "");
    wait("both are over", || match (history(&app, "once"), history(&app, "again")) {
        (once, again) if once.len() == 1 && again.len() == 1 => {
            assert_eq!(once[0]["result"], "interrupted");
            assert_eq!((again[0]["result"].as_str(), again[0]["attempts"].as_u64()), (Some("ok"), Some(2)));
            Ok(())
        }
        other => Err(format!("{other:?}")),
    });
    let attempts: Vec<(String, String)> =
        ticks(&app).into_iter().map(|tick| (tick[0].clone(), tick[2].clone())).collect();
    assert!(attempts.contains(&("again".into(), "1".into())), "{attempts:?}");
    assert_eq!(attempts.len(), 3);
    app.down();
}

#[test]
fn an_earlier_firing_is_waited_for_joined_or_replaced() {
    let app = app(
        User::Ordinary,
        "  forbid: { service: api, http: /hang, schedule: '* * * * * *' }\n  \
         allow: { service: api, http: /hang, schedule: '* * * * * *', overlap: allow }\n  \
         replace: { service: api, http: /hang, schedule: '* * * * * *', overlap: replace }\n",
    );
    app.up();
    let of = |event: &Value| event["data"]["job"].as_str().unwrap_or_default().to_owned();
    wait("firings meet each other", || {
        let skipped = events(&app, "job_skipped").iter().filter(|event| of(event) == "forbid").count();
        let beside = job(&app, "allow")["job"]["running"].as_array().map_or(0, Vec::len);
        let replaced = history(&app, "replace");
        let replaced = replaced.iter().filter(|run| run["result"] == "stopped").count();
        let found = (skipped, beside, replaced);
        if skipped >= 2 && beside >= 3 && replaced >= 2 { Ok(()) } else { Err(format!("{found:?}")) }
    });
    assert_eq!(job(&app, "forbid")["job"]["running"].as_array().map(Vec::len), Some(1));
    assert!(job(&app, "replace")["job"]["running"].as_array().is_some_and(|running| running.len() <= 1));
    let refused = app.run(&["jobs", "run", "forbid", "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("an earlier firing of forbid is under way"),
        "{}",
        watt_tests::printed(&refused)
    );
    for name in ["forbid", "allow", "replace"] {
        app.ok(&["jobs", "pause", name]);
    }
    app.write("release", "");
    app.down();
}

#[test]
fn a_paused_job_stays_so() {
    let app = app(
        User::Ordinary,
        "  tick: { service: api, http: /tick, schedule: '* * * * * *', catch_up: all }\n",
    );
    app.up();
    wait_for_ticks(&app, 1);
    let state = |app: &App| job(app, "tick")["job"]["state"].clone();
    assert_eq!(app.json(&["jobs", "pause", "tick"])["state"], "paused");
    assert_eq!(job(&app, "tick")["job"]["next"], Value::Null);
    app.kill_daemon();
    assert_eq!(state(&app), "paused");
    app.down();
    app.up();
    assert_eq!(state(&app), "paused");
    wait("what was under way is over", || match job(&app, "tick") {
        job if job["job"]["running"] == json!([]) => Ok(()),
        job => Err(job.to_string()),
    });
    let before = ticks(&app).len();
    let run = app.json(&["jobs", "run", "tick", "--wait"]);
    assert_eq!((run["result"].as_str(), run["cause"].as_str()), (Some("ok"), Some("request")));
    assert_eq!(ticks(&app).len(), before + 1, "and nothing else");
    app.ok(&["jobs", "resume", "tick"]);
    wait_for_ticks(&app, before + 3);
    assert!(history(&app, "tick").iter().all(|run| run["cause"] != "catch_up"), "a pause is not made up for");
    app.down();
}

#[test]
fn what_was_missed_is_made_up_for_as_configured() {
    let at = |mode: &str| format!("service: api, http: /{mode}, schedule: '*/10 * * * *', catch_up: {mode}");
    let jobs: String = ["skip", "one", "all"].map(|mode| format!("  {mode}: {{ {} }}\n", at(mode))).concat();
    let app = app(User::Ordinary, &jobs);
    app.up();
    app.down();
    for mode in ["skip", "one", "all"] {
        append(&app, mode, &json!({ "mark": { "seen": now() / 600 * 600 - 1800 - 1 } }));
    }
    app.up();
    let made_up = |mode: &str| {
        let history = history(&app, mode);
        history.iter().filter(|run| run["cause"] == "catch_up" && run["result"] == "ok").count()
    };
    // The last of the four may be in time when the test runs just then, or be followed by another one before the start.
    wait("they are made up for", || match (made_up("one"), made_up("all")) {
        (0..=1, 3..=5) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(made_up("skip"), 0);
    let of = |missed: &[Value], name: &str| {
        let of_job = missed.iter().find(|event| event["data"]["job"] == name);
        of_job.map(|event| event["data"]["count"].as_u64())
    };
    let missed = wait("what was missed is told", || match events(&app, "job_missed") {
        missed if of(&missed, "skip").is_some() && of(&missed, "one").is_some() => Ok(missed),
        missed => Err(format!("{missed:?}")),
    });
    assert!(matches!(of(&missed, "skip"), Some(Some(3..=5))), "{missed:?}");
    assert!(matches!(of(&missed, "one"), Some(Some(3 | 4))), "{missed:?}");
    assert_eq!(of(&missed, "all"), None, "{missed:?}");
    app.down();
}

#[test]
fn answers_are_kept_within_bounds_and_failures_are_tried_again() {
    let app = app(
        User::Ordinary,
        "  flood: { service: api, http: /flood, schedule: '@yearly', history: 3 }\n  \
         fails: { service: api, http: { method: POST, path: /status/503, headers: { X-Key: a }, body: 'b=1' }, schedule: '@yearly', retries: 2 }\n  \
         slow: { service: api, http: /hang, schedule: '@yearly', timeout: 300ms }\n",
    );
    app.up();
    for _ in 0..5 {
        app.ok(&["jobs", "run", "flood", "--wait"]);
    }
    let flood = job(&app, "flood");
    let numbers: Vec<u64> = flood["history"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|run| run["number"].as_u64())
        .collect();
    assert_eq!(numbers, [5, 4, 3]);
    let output = flood["output"].as_str().expect("an answer");
    assert!(!output.is_empty() && output.len() <= 16 << 10 && output.bytes().all(|byte| byte == b'x'));
    let failed = app.run(&["jobs", "run", "fails", "--wait", "--json"]);
    assert_eq!(failed.status.code(), Some(1));
    let failed: Value = serde_json::from_slice(&failed.stdout).expect("JSON");
    assert_eq!((failed["text"].as_str(), failed["attempts"].as_u64()), (Some("status 503"), Some(3)));
    let tries: Vec<Vec<String>> = ticks(&app).into_iter().filter(|tick| tick[0] == "fails").collect();
    let said: Vec<[&str; 4]> = tries.iter().map(|tick| [2, 3, 4, 5].map(|at| tick[at].as_str())).collect();
    assert_eq!(said, ["0", "1", "2"].map(|attempt| [attempt, "POST", "/status/503", "b=1"]));
    let slow = app.run(&["jobs", "run", "slow", "--wait", "--json"]);
    let slow: Value = serde_json::from_slice(&slow.stdout).expect("JSON");
    assert_eq!(
        (slow["result"].as_str(), slow["text"].as_str()),
        (Some("timed_out"), Some("no answer after 300ms"))
    );
    app.write("release", "");
    let ended = events(&app, "job_ended");
    assert!(ended.iter().any(|event| event["data"]["result"] == "timed_out"), "{ended:?}");
    app.down();
}

#[test]
fn a_reload_changes_jobs_and_touches_nothing_else() {
    let app = app(
        User::Ordinary,
        "  gone: { service: api, http: /gone, schedule: '* * * * * *' }\n  stays: { service: api, http: /old, schedule: '@yearly' }\n",
    );
    app.up();
    let pid = app.pid("api", 0);
    wait_for_ticks(&app, 1);
    app.ok(&["jobs", "run", "stays", "--wait"]);
    write(
        &app,
        "  new: { service: api, http: /new, schedule: '* * * * * *' }\n  stays: { service: api, http: /other, schedule: '0 0 1 * *' }\n",
    );
    let plan = app.json(&["reload", "--plan"]);
    assert_eq!(
        (plan["changes"][0]["key"].as_str(), plan["changes"][0]["effect"].as_str()),
        (Some("jobs"), Some("in_place"))
    );
    app.ok(&["reload", "--wait"]);
    let names = |app: &App| -> Vec<String> {
        let jobs = app.json(&["jobs"]);
        let jobs = jobs["jobs"].as_array().cloned().unwrap_or_default();
        jobs.iter().filter_map(|job| job["name"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(names(&app), ["new", "stays"]);
    wait("the new one fires", || match ticks(&app).iter().any(|tick| tick[0] == "new") {
        true => Ok(()),
        false => Err("not yet".into()),
    });
    app.ok(&["jobs", "run", "stays", "--wait"]);
    let paths: Vec<String> =
        ticks(&app).into_iter().filter(|tick| tick[0] == "stays").map(|tick| tick[4].clone()).collect();
    assert_eq!(paths, ["/old", "/other"]);
    assert_eq!(job(&app, "stays")["history"].as_array().map(Vec::len), Some(2));
    assert_eq!(app.pid("api", 0), pid);
    app.kill_daemon();
    assert_eq!(names(&app), ["new", "stays"]);
    app.down();
}

#[test]
fn the_next_instants_and_names_that_are_none() {
    let app = app(
        User::Ordinary,
        "  tick: { service: api, http: /tick, schedule: '30 2 29 3 *', timezone: Europe/Berlin }\n",
    );
    app.up();
    let next = app.json(&["jobs", "next", "tick", "--count", "3"]);
    let next = next["instants"].as_array().expect("a list");
    assert_eq!(next.len(), 3);
    assert!(
        next.iter().all(|at| at["local"].as_str().is_some_and(|local| local.contains("-03-29T"))),
        "{next:?}"
    );
    let unknown = app.run(&["jobs", "show", "tik"]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("there is no job \"tik\"") && said.contains("did you mean tick?"), "{said}");
    app.down();
    write(&app, "  tick: { service: api, http: /, schedule: '@daily', timezone: Europe/Berlim }\n");
    let refused = app.run(&["up", "-d"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("did you mean `Europe/Berlin`?"));
}

/// A command that notes its instant, and another one that waits until it may end.
const COMMANDS: &str = "  note: { service: api, command: [sh, -c, 'echo $WATT_JOB $WATT_INSTANT >> notes.log; echo done'], schedule: '* * * * * *', \
                        overlap: allow, catch_up: { mode: all, within: 1h }, history: 1000 }\n";

/// What is said of a command that its daemon had not come to start.
const UNBORN: &str = "replaced before its program ran";

fn lines(app: &App, file: &str) -> Vec<String> {
    let text = fs::read_to_string(app.dir.join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn every_instant_has_one_run_of_a_command_whoever_is_killed() {
    for_each_user(|user| {
        let app = app(user, COMMANDS);
        app.up();
        for round in 1..=4 {
            wait("commands have run", || match lines(&app, "notes.log").len() {
                enough if enough >= round * 2 => Ok(()),
                few => Err(format!("{few}; {}", app.json(&["jobs"]))),
            });
            app.kill_daemon();
        }
        app.ok(&["jobs", "pause", "note"]);
        wait("nothing of it is under way", || match job(&app, "note") {
            job if job["job"]["running"] == json!([]) => Ok(()),
            job => Err(job.to_string()),
        });
        let ran = lines(&app, "notes.log");
        let once: BTreeSet<&String> = ran.iter().collect();
        assert_eq!(once.len(), ran.len(), "{user:?}: an instant had two: {ran:?}");
        let history = history(&app, "note");
        for run in &history {
            let line = format!("note {}", run["at"].as_str().unwrap());
            match run["result"].as_str() {
                Some("ok") => assert!(once.contains(&line), "{run} {ran:?}"),
                // Its end was seen by a daemon that died before that was on disk.
                Some("interrupted") => {}
                // It was noted by a daemon that died before there was a process.
                Some("failed") if run["text"].as_str().is_some_and(|text| text.contains(UNBORN)) => {
                    assert!(!once.contains(&line), "{run} {ran:?}");
                }
                _ => panic!("{run}"),
            }
        }
        assert_eq!(
            history.len(),
            history.iter().map(|run| run["at"].as_str()).collect::<BTreeSet<_>>().len()
        );
        app.down();
    });
}

#[test]
fn a_command_goes_on_when_the_daemon_dies_and_its_end_is_known() {
    let app = app(
        User::Ordinary,
        "  long: { service: api, command: [sh, -c, 'echo begun; echo $WATT_INSTANT >> begun.log; while ! test -e release; do sleep 0.05; done; echo over; exit 3'], schedule: '@yearly' }\n",
    );
    app.up();
    app.ok(&["jobs", "run", "long"]);
    wait("it has begun", || if lines(&app, "begun.log").len() == 1 { Ok(()) } else { Err("not yet".into()) });
    app.kill_daemon();
    assert_eq!(job(&app, "long")["job"]["state"], "running");
    app.write("release", "");
    let shown = wait("it is over", || match job(&app, "long") {
        job if job["history"] != json!([]) && job["output"].as_str().is_some_and(|said| !said.is_empty()) => {
            Ok(job)
        }
        job => Err(job.to_string()),
    });
    assert_eq!(
        (shown["history"][0]["result"].as_str(), shown["history"][0]["text"].as_str()),
        (Some("failed"), Some("exit 3"))
    );
    // What the daemon that died had read is in the log.
    assert!(shown["output"].as_str().is_some_and(|said| said.ends_with("over\n")), "{shown}");
    assert_eq!(lines(&app, "begun.log").len(), 1);
    app.down();
}

#[test]
fn commands_are_stopped_by_time_by_a_later_one_and_by_the_end() {
    let app = app(
        User::Ordinary,
        "  slow: { service: api, command: [sleep, '1000'], schedule: '@yearly', timeout: 300ms }\n  \
         replaced: { service: api, command: [sleep, '1000'], schedule: '@yearly', overlap: replace }\n  \
         missing: { service: api, command: [sh, -c, 'exec /nowhere/program'], schedule: '@yearly' }\n  \
         flood: { service: api, command: [sh, -c, 'head -c 100000000 /dev/zero | tr \"\\0\" x; echo; seq 100000'], schedule: '@yearly' }\n",
    );
    app.up();
    let run = |name: &str| -> Value {
        let output = app.run(&["jobs", "run", name, "--wait", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", watt_tests::printed(&output)))
    };
    let slow = run("slow");
    assert_eq!(
        (slow["result"].as_str(), slow["text"].as_str()),
        (Some("timed_out"), Some("stopped after 300ms"))
    );
    let missing = run("missing");
    assert_eq!(missing["result"], "failed");
    assert_eq!(missing["text"], "exit 127");
    app.ok(&["jobs", "run", "replaced"]);
    app.ok(&["jobs", "run", "replaced"]);
    wait("the first one was replaced", || match history(&app, "replaced") {
        history if history.len() == 1 && history[0]["result"] == "stopped" => Ok(()),
        history => Err(format!("{history:?}")),
    });
    assert_eq!(run("flood")["result"], "ok");
    wait("its last output is kept, and no more", || match job(&app, "flood")["output"].as_str() {
        Some(said) if said.ends_with("99999\n100000\n") && said.len() <= 64 << 10 => Ok(()),
        other => {
            Err(format!("{:?}", other.map(|said| (said.len(), said.chars().take(100).collect::<String>()))))
        }
    });
    app.down();
    app.up();
    let history = job(&app, "replaced")["history"].clone();
    assert_eq!(
        (history[0]["number"].as_u64(), history[0]["result"].as_str()),
        (Some(2), Some("stopped")),
        "{history}"
    );
    app.down();
}
