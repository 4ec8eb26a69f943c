//! Tasks are listed and stopped, and end when they have to: with their worker, with the application, and with a daemon that has not come
//! to start them.

use std::{
    fs,
    process::{Child, Stdio},
};

use serde_json::Value;
use watt_tests::{App, User, for_each_user, is_root, kill, printed, wait};

fn begin(app: &App, arguments: &[&str]) -> Child {
    let mut command = app.wattctl(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("wattctl runs")
}

/// The one process with this command line.
fn process(app: &App, line: &str) -> u32 {
    wait(&format!("{line} runs"), || {
        let all = app.processes();
        let found = all.iter().find(|(_, command)| command.trim() == line);
        found.map(|(pid, _)| *pid).ok_or_else(|| "it does not".to_owned())
    })
}

fn gone(pid: u32) {
    wait("the process has gone", || {
        let all = watt_tests::processes();
        if all.iter().any(|(other, _)| *other == pid) { Err(format!("{pid} is there")) } else { Ok(()) }
    });
}

/// The tasks there are, by command, when this many run.
fn tasks(app: &App, count: usize) -> Vec<Value> {
    wait("so many tasks run", || {
        let listed = app.json(&["tasks"]);
        let tasks = listed["tasks"].as_array().cloned().unwrap_or_default();
        let run = tasks.iter().filter(|task| task["state"] == "running").count();
        if run == count { Ok(tasks) } else { Err(listed.to_string()) }
    })
}

/// The event of a task's end.
fn end(app: &App, name: &str) -> Value {
    wait("the task has ended", || {
        let text = app.ok(&["events", "--json"]);
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut ends = events.filter(|event| event["kind"] == "task_ended");
        ends.find(|event| event["data"]["task"] == name).ok_or(text)
    })
}

/// Kills the daemon, and waits for the next one.
fn replace_daemon(app: &App) {
    let daemon = app.status()["supervisor"]["daemon_pid"].as_u64().expect("a pid");
    kill("KILL", u32::try_from(daemon).expect("a pid"));
    wait("another daemon is there", || {
        let now = app.status()["supervisor"]["daemon_pid"].as_u64();
        if now != Some(daemon) { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

#[test]
fn tasks_are_listed_and_stopped() {
    for_each_user(|user| {
        let app = App::yaml(
            "services: { api: { command: sleep 1000, listen: none, stop: { grace: 200ms } } }
jobs: { tick: { service: api, command: [sleep, '4301'], schedule: '@yearly' } }",
            user,
        );
        app.up();
        assert_eq!(app.ok(&["tasks"]), "no tasks\n");
        let mut exec = begin(&app, &["exec", "api", "--", "sleep", "4302"]);
        let run = app.ok(&["run", "--detach", "api", "--", "sh", "-c", "trap '' TERM; sleep 4303"]);
        let run = run.trim().to_owned();
        app.ok(&["jobs", "run", "tick"]);
        // As a daemon has it that started them, and one that took them over.
        for round in 0..2 {
            let found = tasks(&app, 3);
            let line = |task: &Value| {
                let word = |key: &str| task[key].as_str().unwrap_or("-").to_owned();
                let command: Vec<_> =
                    task["command"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let by = word("by");
                let by = if by.starts_with("user ") { "user".to_owned() } else { by };
                format!("{} {} {} {by}", word("kind"), word("worker"), command.join(" "))
            };
            let mut lines: Vec<String> = found.iter().map(line).collect();
            lines.sort();
            let expected = [
                "exec api/0 sleep 4302 user",
                "job - sleep 4301 job tick, run 1",
                "run - sh -c trap '' TERM; sleep 4303 user",
            ];
            assert_eq!(lines, expected, "{user:?} {round}");
            for task in &found {
                let pid = task["pid"].as_u64().expect("a pid");
                assert!(fs::metadata(format!("/proc/{pid}")).is_ok(), "{user:?}: {task}");
                assert_eq!(task["attached"], task["kind"] == "exec", "{task}");
            }
            if round == 0 {
                replace_daemon(&app);
            }
        }
        // Its signal is not heeded, and after the grace everything of it is killed.
        let sleeper = process(&app, "sleep 4303");
        let stopped = app.json(&["tasks", "stop", &run]);
        assert_eq!(stopped["text"], "signal 9 (KILL)", "{user:?}: {stopped}");
        gone(sleeper);
        let again = app.run(&["tasks", "stop", &run]);
        assert_eq!(again.status.code(), Some(1), "{}", printed(&again));
        assert!(printed(&again).contains("there is no task"), "{}", printed(&again));
        assert!(printed(&app.run(&["tasks", "stop", "api"])).contains("api is no task"));
        let name = |kind: &str| {
            let all = tasks(&app, if kind == "job" { 2 } else { 1 });
            let task = all.iter().find(|task| task["kind"] == kind).expect("it runs").clone();
            task["id"].as_str().and_then(|id| id.split('/').next_back()).expect("a name").to_owned()
        };
        let text = app.ok(&["tasks", "stop", &name("job")]);
        assert!(text.contains("has ended: signal 15 (TERM)"), "{user:?}: {text}");
        assert_eq!(app.json(&["jobs", "show", "tick"])["history"][0]["result"], "stopped");
        app.ok(&["tasks", "stop", "--now", &name("exec")]);
        assert_eq!(exec.wait().expect("it was started").code(), Some(137), "{user:?}");
        assert_eq!(app.ok(&["tasks", "ls"]), "no tasks\n");
        app.down();
    });
}

/// Its secrets are being read when the daemon dies: there is no process that a successor would find.
#[test]
fn a_task_that_its_daemon_had_not_come_to_start_is_told_to_have_ended() {
    for_each_user(|user| {
        let app = App::yaml(
            "secrets: { key: { command: [sh, -c, 'test ! -e slow || exec sleep 4311; echo value'] } }
services: { api: { command: sleep 1000, listen: none, secrets: [key] } }
jobs: { tick: { service: api, command: [sleep, '4312'], schedule: '@yearly' } }",
            user,
        );
        app.up();
        app.write("slow", "");
        let run = app.ok(&["run", "--detach", "api", "--", "true"]);
        let run = run.trim().rsplit('/').next().expect("a name").to_owned();
        app.ok(&["jobs", "run", "tick"]);
        wait("the secrets of both are read", || {
            let all = app.processes();
            let count = all.iter().filter(|(_, line)| line.trim() == "sleep 4311").count();
            if count == 2 { Ok(()) } else { Err(format!("{count}")) }
        });
        let dirs = |name: &str| -> Vec<_> {
            let inspected = app.json(&["inspect", "api"]);
            let of_worker = inspected["cgroups"].as_array().cloned().unwrap_or_default();
            let beside = of_worker
                .iter()
                .filter_map(Value::as_str)
                .map(|dir| dir.replace("/api/0", &format!("/api/{name}")));
            beside.filter(|dir| fs::metadata(dir).is_ok()).collect()
        };
        assert_eq!(
            dirs(&run).is_empty(),
            dirs("0").is_empty(),
            "{user:?}: it has a cgroup if workers have one"
        );
        replace_daemon(&app);
        let over = end(&app, &run);
        assert!(
            over["text"].as_str().is_some_and(|text| text.contains("replaced before its program ran")),
            "{over}"
        );
        wait("the job's run is over", || {
            let job = app.json(&["jobs", "show", "tick"]);
            if job["history"][0]["result"] == "failed" { Ok(()) } else { Err(job.to_string()) }
        });
        assert_eq!(app.ok(&["tasks"]), "no tasks\n");
        assert_eq!(dirs(&run), [""; 0], "{user:?}");
        let left: Vec<_> = app.processes().into_iter().filter(|(_, line)| line.contains("4311")).collect();
        assert!(left.is_empty(), "{user:?}: {left:?}");
        let folder = app.runtime().join("workers/api").join(&run);
        assert!(!folder.exists(), "{user:?}: {}", folder.display());
        // Told once: the next one finds nothing of it.
        replace_daemon(&app);
        let ends = app.ok(&["events", "--json"]);
        assert!(!ends.contains("task_ended"), "{user:?}: {ends}");
        app.down();
    });
}

/// The command carries no mark of the worker's, and there may be no cgroup.
#[test]
fn what_runs_inside_a_worker_ends_with_it() {
    for_each_user(|user| {
        let app = App::yaml(
            "services: { api: { command: sleep 1000, listen: none, sandbox: off, network: host } }",
            user,
        );
        app.up();
        let mut client = begin(&app, &["exec", "api", "--", "env", "-i", "sleep", "4321"]);
        let sleeper = process(&app, "sleep 4321");
        let worker = app.pid("api", 0);
        kill("KILL", worker);
        let status = wait("the client ends", || {
            client.try_wait().expect("it was started").ok_or_else(|| "it does not".to_owned())
        });
        assert!(matches!(status.code(), Some(137 | 143)), "{user:?}: {status}");
        gone(sleeper);
        app.down();
    });
}

#[test]
fn those_attached_hear_of_the_end_when_the_application_ends() {
    for_each_user(|user| {
        let app = App::yaml("services: { api: { command: sleep 1000, listen: none } }", user);
        app.up();
        let clients: Vec<Child> = (0..12)
            .map(|nth| begin(&app, &[["exec", "run"][nth % 2], "api", "--", "sleep", "4331"]))
            .collect();
        tasks(&app, 12);
        app.down();
        for client in clients {
            let output = client.wait_with_output().expect("it was started");
            assert!(matches!(output.status.code(), Some(129 | 137 | 143)), "{user:?}: {}", printed(&output));
        }
    });
}

#[test]
fn a_kill_is_not_taken_for_one_for_memory_because_there_was_one_before() {
    if !is_root() {
        return;
    }
    let limits = |group: bool| {
        format!(
            "services: {{ api: {{ command: sleep 1000, listen: none, limits: {{ memory: 48M, oom_group: {group} }} }} }}"
        )
    };
    let app = App::yaml(&limits(false), User::Root);
    app.up();
    let worker = app.pid("api", 0);
    app.run(&["exec", "api", "--", "python3", "-c", "bytearray(200 << 20)"]);
    wait("the kernel has killed it for memory", || {
        let events = app.ok(&["events", "--json"]);
        if events.contains("\"kind\":\"oom\"") { Ok(()) } else { Err(events) }
    });
    app.write("watt.yaml", &limits(true));
    app.ok(&["reload", "--wait"]);
    assert_eq!(app.pid("api", 0), worker, "the cgroup is the same");
    let ended = app.run(&["exec", "api", "--", "sh", "-c", "kill -KILL $$"]);
    assert_eq!(ended.status.code(), Some(137), "{}", printed(&ended));
    let events = app.ok(&["events", "--json"]);
    let last = events.lines().rfind(|line| line.contains("task_ended")).expect("an end");
    assert!(last.contains("signal 9 (KILL)"), "{last}");
    app.down();
}
