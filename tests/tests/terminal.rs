//! A terminal's Ctrl-C, and its end.

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use watt_tests::{App, User, for_each_user, wait, wattctl};

/// Always has something to write to the terminal, and takes a moment to end well.
const TALKING: &str = r#"
services:
  talking:
    command: [sh, -c, "trap 'touch finished; exit 0' TERM; while :; do echo again; sleep 0.01; done"]
    listen: none
    stop: { grace: 60s }
"#;

/// A terminal with a session of its own, made by script(1), as an emulator or sshd would.
struct Terminal {
    emulator: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    /// Opens one in which a shell runs this.
    fn open(app: &App, shell: &str) -> Terminal {
        // Whoever runs this test, nohup for one, may ignore signals that a terminal sends.
        let mut emulator = app
            .command("env")
            .args([
                "--default-signal=HUP,INT",
                "script",
                "--quiet",
                "--return",
                "--command",
                shell,
                "/dev/null",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("env runs");
        let keyboard = emulator.stdin.take().expect("a pipe");
        let mut output = emulator.stdout.take().expect("a pipe");
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut some) {
                *shown.lock().expect("nobody panics with it") += &String::from_utf8_lossy(&some[..length]);
            }
        });
        Terminal { emulator, keyboard, screen }
    }

    /// Waits until a line has this in it; gives back the rest of the line.
    fn shows(&self, text: &str) -> String {
        wait(&format!("the terminal shows {text:?}"), || {
            let screen = self.screen.lock().expect("nobody panics with it").clone();
            let rest = screen.split_once(text).and_then(|(_, rest)| rest.split_once('\n'));
            rest.map(|(rest, _)| rest.trim().to_owned()).ok_or(screen)
        })
    }

    fn ctrl_c(&mut self) {
        self.keyboard.write_all(b"\x03").expect("somebody reads the keyboard");
    }

    /// Closes it, with everything that runs in it still there.
    fn hang_up(self) {
        drop(self);
    }

    /// How the command ended.
    fn ended(mut self) -> Option<i32> {
        wait("the command ends", || self.emulator.try_wait().expect("it is ours").ok_or_else(String::new))
            .code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.emulator.kill());
        drop(self.emulator.wait());
    }
}

/// The session of a process, which is the pid of its first one.
fn session(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let after_name = stat.rsplit_once(')').expect("a name").1;
    after_name.split_whitespace().nth(3).and_then(|session| session.parse().ok()).expect("a session")
}

fn worker_is(app: &App, state: &str) {
    wait(&format!("it is {state}"), || {
        let status = app.run(&["status", "--json"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        if text.contains(&format!("\"state\": \"{state}\"")) { Ok(()) } else { Err(text) }
    });
}

#[test]
fn an_application_in_the_background_has_nothing_to_do_with_the_terminal() {
    for_each_user(|user| {
        let app = App::yaml(TALKING, user);
        let up = wattctl().display().to_string();
        // What says that it is there is what Ctrl-C ends: a shell between two commands would go on with the next one.
        let shell = format!(
            "trap : INT; {up} up -d && sh -c 'echo shell $PPID; exec cat'; echo interrupted; exec cat"
        );
        let mut terminal = Terminal::open(&app, &shell);
        let shell: u32 = terminal.shows("shell ").parse().expect("a pid");
        let supervisor = app.status()["supervisor"].clone();
        for pid in ["spawner_pid", "daemon_pid", "proxy_pid"] {
            let pid = supervisor[pid].as_u64().and_then(|pid| pid.try_into().ok()).expect("a pid");
            assert_ne!(session(pid), session(shell), "{user:?}: {supervisor}");
        }
        terminal.ctrl_c();
        terminal.shows("interrupted");
        terminal.hang_up();
        // It is nobody's child that we know, so that it may be left unreaped.
        wait("the shell has ended", || match std::fs::read_to_string(format!("/proc/{shell}/stat")) {
            Ok(stat) if !stat.contains(") Z ") => Err(stat),
            Ok(_) | Err(_) => Ok(()),
        });
        for pid in ["spawner_pid", "daemon_pid", "proxy_pid"] {
            assert_eq!(app.status()["supervisor"][pid], supervisor[pid], "{user:?}");
        }
        assert_eq!(app.worker("talking", 0)["state"], "ready");
        assert!(!app.ok(&["events"]).contains("stopping"));
        app.down();
    });
}

#[test]
fn a_terminal_that_goes_away_takes_an_application_in_the_foreground_with_it() {
    for_each_user(|user| {
        let app = App::yaml(TALKING, user);
        let terminal = Terminal::open(&app, &format!("exec {} up", wattctl().display()));
        terminal.shows("again");
        terminal.hang_up();
        app.assert_gone();
        assert!(app.dir.join("finished").exists(), "{user:?}: the service was killed");
    });
}

#[test]
fn the_first_ctrl_c_drains_and_the_second_kills() {
    let stubborn = r#"
services:
  stubborn:
    command: [sh, -c, "trap '' TERM; while :; do sleep 0.05; done"]
    listen: none
    stop: { grace: 1h }
"#;
    let app = App::yaml(stubborn, User::Ordinary);
    let mut terminal = Terminal::open(&app, &format!("exec {} up", wattctl().display()));
    worker_is(&app, "ready");
    terminal.ctrl_c();
    worker_is(&app, "stopping");
    terminal.ctrl_c();
    assert_eq!(terminal.ended(), Some(0));
    app.assert_gone();
}

/// A live part says how far a restart is, as long as it is under way.
#[test]
fn a_restart_shows_how_many_were_replaced() {
    let slow = r#"
services:
  slow:
    command: [sh, -c, "while [ ! -e go ]; do sleep 0.05; done; exec python3 services/web.py 3000"]
    workers: 2
    ready: { timeout: 5m }
"#;
    let app = App::case("", User::Ordinary);
    app.write("watt.yaml", slow);
    app.write("go", "");
    app.up();
    std::fs::remove_file(app.dir.join("go")).expect("it is there");
    let terminal = Terminal::open(&app, &format!("{} restart", wattctl().display()));
    // There may have been a look before there was a new one.
    wait("the terminal shows the new one that is waited for", || {
        let screen = terminal.screen.lock().expect("nobody panics with it").clone();
        let is_shown = screen.lines().any(|line| {
            line.split_once("0 of 2 replaced").is_some_and(|(_, rest)| rest.contains("new slow/0 starting"))
        });
        if is_shown { Ok(()) } else { Err(screen) }
    });
    app.write("go", "");
    assert_eq!(terminal.ended(), Some(0));
    app.down();
}
