//! `wattctl exec` and `wattctl run`: a command inside the walls of a worker, and in a new sandbox like its own.

use std::{
    fs,
    io::{Read, Write},
    process::{Child, Output, Stdio},
};

use serde_json::Value;
use watt_tests::{App, User, for_each_user, kill, printed, wait, wattctl};

/// A service that listens in a network of its own, has left a word in its `/tmp`, and says what it is.
const SERVICE: &str = r#"
services:
  api:
    command: [sh, -c, "echo mine > /tmp/word; exec python3 services/web.py"]
    limits: { nofile: 321 }
  other: { command: sleep 1000, listen: none }
server: { port: 0 }
gateway: { routes: [{ path: /, service: api }] }
"#;

fn app(user: User) -> App {
    let app = App::case("", user);
    app.write("watt.yaml", SERVICE);
    app.up();
    app
}

/// `wattctl exec api -- sh -c <script>`, without a terminal.
fn exec(app: &App, script: &str) -> Output {
    app.wattctl(&["exec", "api", "--", "sh", "-c", script])
        .stdin(Stdio::null())
        .output()
        .expect("wattctl runs")
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// What the kernel says of a process that is the same for all within its walls.
fn walls(status: &str) -> Vec<String> {
    let wanted = ["Uid:", "Gid:", "Groups:", "NoNewPrivs:", "Seccomp:", "CapPrm:", "CapBnd:", "CapAmb:"];
    let lines = status.lines().filter(|line| wanted.iter().any(|key| line.starts_with(key)));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_command_is_inside_the_walls_of_the_worker() {
    for_each_user(|user| {
        for profile in ["standard", "strict", "off"] {
            let app = App::case("", user);
            app.write("watt.yaml", &format!("sandbox: {profile}\n{SERVICE}"));
            app.up();
            let pid = app.pid("api", 0);
            let script = "cat /tmp/word; curl -s -m 30 http://127.0.0.1:3000/env | grep -c WATT_SERVICE
                echo $WATT_SERVICE $WATT_WORKER; pwd; ulimit -n";
            let output = exec(&app, script);
            let context = format!("{user:?} {profile}: {}", printed(&output));
            assert!(output.status.success(), "{context}");
            let found = lines(&output);
            let cwd = app.dir.display().to_string();
            assert_eq!(found, ["mine", "1", "api 0", &cwd, "321"], "{context}");
            // The program's own: an init may be in between.
            let program = children(pid).first().copied().filter(|_| is_init(pid)).unwrap_or(pid);
            let own = walls(&fs::read_to_string(format!("/proc/{program}/status")).expect("it runs"));
            // Ids are those of the user namespace it is in, which is ours from here.
            let mut sleeping = start(&app, &["exec", "api", "--", "sleep", "7331"]);
            let sleeper = process(&app, "sleep 7331");
            let inside = walls(&fs::read_to_string(format!("/proc/{sleeper}/status")).expect("it runs"));
            assert_eq!(inside, own, "{user:?} {profile}");
            for namespace in ["mnt", "net", "ipc", "uts", "pid", "user", "cgroup"] {
                let of =
                    |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).expect("a namespace");
                assert_eq!(of(sleeper), of(program), "{user:?} {profile}: {namespace}");
            }
            assert_eq!(
                fs::read_to_string(format!("/proc/{sleeper}/cgroup")).expect("it runs"),
                fs::read_to_string(format!("/proc/{program}/cgroup")).expect("it runs")
            );
            kill("KILL", sleeping.id());
            sleeping.wait().expect("it was started");
            app.down();
        }
    });
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn is_init(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "watt-init")
}

fn start(app: &App, arguments: &[&str]) -> Child {
    let mut command = app.wattctl(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("wattctl runs")
}

/// The one process with this command line.
fn process(app: &App, line: &str) -> u32 {
    wait(&format!("{line} runs"), || {
        let all = app.processes();
        let found = all.iter().find(|(_, command)| command.trim() == line);
        found.map(|(pid, _)| *pid).ok_or_else(|| format!("{all:?}"))
    })
}

fn gone(pid: u32) {
    wait("the process has gone", || {
        let all = watt_tests::processes();
        if all.iter().any(|(other, _)| *other == pid) { Err(format!("{pid} is there")) } else { Ok(()) }
    });
}

#[test]
fn how_a_command_ends_is_how_wattctl_ends() {
    for_each_user(|user| {
        let app = app(user);
        for (script, status) in
            [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
        {
            assert_eq!(exec(&app, script).status.code(), Some(status), "{user:?} {script}");
        }
        let missing = app.run(&["exec", "api", "--", "no-such-program"]);
        assert_eq!(missing.status.code(), Some(127), "{user:?}: {}", printed(&missing));
        assert!(String::from_utf8_lossy(&missing.stderr).contains("No such file"), "{}", printed(&missing));
        let folder = app.run(&["exec", "api", "--", "/tmp"]);
        assert_eq!(folder.status.code(), Some(126), "{user:?}: {}", printed(&folder));
        let check = |arguments: &[&str], text: &str| {
            let output = app.run(arguments);
            assert!(!output.status.success(), "{user:?}: {}", printed(&output));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(text), "{user:?} {arguments:?}: {said}");
        };
        check(&["exec", "apo", "--", "true"], "there is no service \"apo\"");
        check(&["exec", "api/7", "--", "true"], "api/7 does not run");
        check(&["exec", "api/x", "--", "true"], "is no number of a worker");
        app.ok(&["stop", "other"]);
        check(&["exec", "other", "--", "true"], "no worker of other runs");
        app.down();
    });
}

#[test]
fn streams_are_three_and_whole() {
    for_each_user(|user| {
        let app = app(user);
        let output = exec(&app, "echo out; echo err >&2; cat");
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]), "{user:?}");
        // The end of our input is the end of the command's.
        let size = 100 << 20;
        let script = format!("head -c {size} /dev/urandom | \"$0\" exec api -- cat | wc -c");
        let output = app.command("sh").args(["-c", &script]).arg(wattctl()).output().expect("sh runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), size.to_string(), "{}", printed(&output));
        let script = "seq 1 200000 > in; \"$0\" exec api -- cat < in | cmp - in && echo same";
        let output = app.command("sh").args(["-c", script]).arg(wattctl()).output().expect("sh runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "same", "{}", printed(&output));
        // Who reads nothing holds the command up, and costs nobody memory.
        let mut idle = start(&app, &["exec", "api", "--", "sh", "-c", "yes 4245; true"]);
        let writer = process(&app, "yes 4245");
        wait("it waits for a reader", || {
            let state = fs::read_to_string(format!("/proc/{writer}/wchan")).unwrap_or_default();
            if state.contains("pipe") { Ok(()) } else { Err(state) }
        });
        drop(idle.stdout.take());
        let status = idle.wait().expect("it was started");
        assert!(status.code().is_some(), "{user:?}: {status}");
        gone(writer);
        app.down();
    });
}

#[test]
fn nothing_is_left_when_the_client_goes_away() {
    for_each_user(|user| {
        let app = app(user);
        for script in ["sleep 4246", "trap '' HUP TERM; sleep 4246", "setsid sleep 4246 & wait"] {
            let mut client = start(&app, &["exec", "api", "--", "sh", "-c", script]);
            let sleeper = process(&app, "sleep 4246");
            kill("KILL", client.id());
            client.wait().expect("it was started");
            gone(sleeper);
        }
        // A signal to it is one for the command.
        let mut client = start(
            &app,
            &["exec", "api", "--", "sh", "-c", "trap 'exit 9' TERM; echo ready; sleep 4247 & wait"],
        );
        let mut ready = [0; 6];
        client.stdout.as_mut().expect("a pipe").read_exact(&mut ready).expect("it says so");
        kill("TERM", client.id());
        assert_eq!(client.wait().expect("it was started").code(), Some(9), "{user:?}");
        assert_eq!(app.service("api")["ready"], 1, "{user:?}");
        app.down();
    });
}

#[test]
fn a_command_ends_with_its_worker() {
    for_each_user(|user| {
        let app = app(user);
        let mut client = start(&app, &["exec", "api", "--", "sleep", "4248"]);
        let sleeper = process(&app, "sleep 4248");
        kill("KILL", app.pid("api", 0));
        let status = client.wait().expect("it was started");
        // By the signal that what is left of a worker gets.
        assert_eq!(status.code(), Some(143), "{user:?}");
        gone(sleeper);
        app.down();
    });
}

#[test]
fn a_command_outlives_the_daemon() {
    for_each_user(|user| {
        let app = app(user);
        let mut client =
            start(&app, &["exec", "api", "--", "sh", "-c", "read word; echo heard $word; exit 7"]);
        let _shell = process(&app, "sh -c read word; echo heard $word; exit 7");
        let daemon = app.status()["supervisor"]["daemon_pid"].as_u64().expect("a pid");
        kill("KILL", u32::try_from(daemon).expect("a pid"));
        wait("another daemon is there", || {
            let now = app.status()["supervisor"]["daemon_pid"].as_u64();
            if now != Some(daemon) { Ok(()) } else { Err(format!("{now:?}")) }
        });
        client.stdin.take().expect("a pipe").write_all(b"this\n").expect("it reads");
        let output = client.wait_with_output().expect("it was started");
        assert_eq!(
            (output.status.code(), lines(&output).concat()),
            (Some(7), "heard this".into()),
            "{}",
            printed(&output)
        );
        app.down();
    });
}

/// Runs a shell line in a terminal of script(1), 20 rows and 70 columns: each of these keys when the screen has shown that.
fn in_terminal(app: &App, line: &str, keys: &[(&str, &str)]) -> (Option<i32>, String) {
    let line = format!("stty rows 20 cols 70; {line}");
    // Whoever runs this test may ignore signals that a terminal sends.
    let mut emulator = app
        .command("env")
        .args(["--default-signal=HUP,INT,QUIT", "script"])
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("env runs");
    let mut keyboard = emulator.stdin.take().expect("a pipe");
    let mut output = emulator.stdout.take().expect("a pipe");
    let (mut screen, mut some) = (String::new(), [0; 4096]);
    let mut keys = keys.iter();
    let mut next = keys.next();
    let mut from = 0;
    while let Ok(count @ 1..) = output.read(&mut some) {
        screen += &String::from_utf8_lossy(&some[..count]);
        while let Some((shown, typed)) = next
            && let Some(at) = screen[from..].find(shown)
        {
            from += at + shown.len();
            keyboard.write_all(typed.as_bytes()).expect("somebody reads the keyboard");
            next = keys.next();
        }
    }
    drop(keyboard);
    (emulator.wait().expect("it was started").code(), screen)
}

#[test]
fn a_command_has_a_terminal_when_there_is_one() {
    for_each_user(|user| {
        let app = app(user);
        let wattctl = wattctl().display().to_string();
        let exec = |arguments: &str| format!("{wattctl} exec {arguments}");
        let (status, screen) = in_terminal(&app, &exec("api -- sh -c 'tty; stty size; exit 5'"), &[]);
        assert_eq!(status, Some(5), "{user:?}: {screen}");
        assert!(screen.contains("/dev/pts/") && screen.contains("20 70"), "{user:?}: {screen}");
        // A shell, and a key that is a signal there and not here.
        let keys = [
            ("", "echo ready $((40+2))\n"),
            ("ready 42", "sh -c 'echo sleeping $((2+3)); exec sleep 4249'\n"),
            ("sleeping 5", "\x03"),
            ("^C", "exit 6\n"),
        ];
        let (status, screen) = in_terminal(&app, &exec("api"), &keys);
        assert_eq!(status, Some(6), "{user:?}: {screen}");
        let (_, screen) = in_terminal(&app, &exec("-T api -- sh -c 'tty; true'"), &[]);
        assert!(screen.contains("not a tty"), "{user:?}: {screen}");
        // Ours is as it was.
        let line = format!("{}; stty -a | grep -o ' echo '", exec("api -- true"));
        let (_, screen) = in_terminal(&app, &line, &[]);
        assert!(screen.contains(" echo "), "{user:?}: {screen}");
        // Its size follows.
        app.command("mkfifo").arg("go").status().expect("mkfifo runs");
        let until = "echo go > go; until stty size | grep 33.99; do sleep 0.05; done";
        let command = exec(&format!("api -- sh -c '{until}'"));
        let line = format!("(read go < go; stty rows 33 cols 99 < /dev/tty) & {command}");
        let (status, screen) = in_terminal(&app, &line, &[]);
        assert_eq!(status, Some(0), "{user:?}: {screen}");
        app.down();
    });
}

#[test]
fn a_command_is_run_once_in_a_sandbox_of_its_own() {
    for_each_user(|user| {
        let app = app(user);
        let output = app
            .wattctl(&[
                "run",
                "api",
                "--",
                "sh",
                "-c",
                "ls /tmp/word 2>/dev/null; echo as $WATT_SERVICE $WATT_TASK; cat; exit 3",
            ])
            .stdin(Stdio::null())
            .output()
            .expect("wattctl runs");
        assert_eq!(output.status.code(), Some(3), "{user:?}: {}", printed(&output));
        let said = lines(&output);
        assert!(said.len() == 1 && said[0].starts_with("as api t"), "{user:?}: {said:?}");
        let output = app.run(&["run", "--timeout", "2s", "api", "--", "sleep", "1000"]);
        assert_eq!(output.status.code(), Some(129), "{user:?}: {}", printed(&output));
        let task = app.ok(&["run", "--detach", "api", "--", "sh", "-c", "echo from a task"]);
        let task = task.trim().to_owned();
        wait("its line is in the log", || {
            let text = app.ok(&["logs", "api"]);
            let found = text.lines().any(|line| line.contains(&task) && line.contains("from a task"))
                || text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).any(|line| {
                    line["text"] == "from a task" && task.ends_with(line["task"].as_str().unwrap_or("-"))
                });
            if found { Ok(()) } else { Err(text) }
        });
        app.down();
    });
}

/// A service's own processes get in only where its `management` lets them.
#[test]
fn a_service_does_not_get_into_another_one() {
    for_each_user(|user| {
        for (management, expected) in
            [("", "refused"), ("management: operate", "refused"), ("management: admin", "inside")]
        {
            let app = App::yaml(
                &format!(
                    "services:
  front: {{ command: sleep 1000, listen: none, {management} }}
  back: {{ command: sleep 1000, listen: none }}"
                )
                .replace(", }", " }"),
                user,
            );
            app.up();
            let own = app.own_wattctl();
            let script = "\"$0\" exec back -- echo inside 2>/dev/null || echo refused";
            let output = app.run(&["exec", "front", "--", "sh", "-c", script, &own.display().to_string()]);
            assert_eq!(lines(&output), [expected], "{user:?} {management}: {}", printed(&output));
            app.down();
        }
    });
}
