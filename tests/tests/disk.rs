//! The disk with watt's own log hangs: lines wait or are lost and counted, and everything else goes on.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::Child,
};

use watt_tests::{App, User, for_each_user, kill, wait};

/// `O_NONBLOCK` of open(2).
const NONBLOCK: i32 = 0o4000;

/// `watt.log` as a pipe that is full: a write to it does not return. It is read by nobody but the test.
struct Disk {
    path: PathBuf,
    pipe: File,
    text: String,
}

impl Disk {
    fn hanging(app: &App) -> Disk {
        let folder = app.dir.with_file_name("state").join("app/logs");
        let path = folder.join("watt.log");
        let script = "umask 077; mkdir -p \"$0\" && mkfifo \"$0/watt.log\" && chmod 711 \"$0/..\"";
        let made = app.command("sh").args(["-c", script]).arg(&folder).status().expect("sh runs");
        assert!(made.success(), "{}", folder.display());
        let pipe = File::options().read(true).write(true).custom_flags(NONBLOCK).open(&path);
        let mut pipe = pipe.expect("a pipe that has both ends");
        while pipe.write(&[b'\n'; 4096]).is_ok() {}
        Disk { path, pipe, text: String::new() }
    }

    /// Takes what has come and what comes, until this is among it.
    fn works_again(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        wait(what, || {
            let mut bytes = [0; 65536];
            if let Ok(count) = self.pipe.read(&mut bytes) {
                self.text.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            if wanted(&self.text) { Ok(()) } else { Err(self.text.trim_start().to_owned()) }
        });
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Who opens it to read what is in it would wait.
        let _ = fs::remove_file(&self.path);
    }
}

#[test]
fn a_disk_that_hangs_stops_neither_spawner_nor_daemon() {
    for_each_user(|user| {
        let app = App::yaml("services:\n  api: { command: sleep 1000, listen: none, workers: 3 }\n", user);
        let mut disk = Disk::hanging(&app);
        app.up();
        app.ok(&["restart"]);
        let first = app.status()["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok());
        let first: u32 = first.expect("a daemon");
        kill("KILL", first);
        wait("its successor answers", || match app.status()["supervisor"]["daemon_restarts"].as_u64() {
            Some(1) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        app.ok(&["restart"]);
        kill("KILL", app.pid("api", 0));
        wait("a killed worker is back", || match app.worker("api", 0) {
            worker if worker["state"] == "ready" && worker["restarts"] == 1 => Ok(()),
            worker => Err(worker.to_string()),
        });

        let of_spawner = format!("watt spawner: the daemon (pid {first}) was killed by signal 9\n");
        disk.works_again("the lines of both are there", |text| {
            text.contains(&of_spawner) && text.contains("\"kind\":\"daemon_replaced\"")
        });
        app.down();
    });
}

#[test]
fn a_spawner_that_cannot_start_ends() {
    let app = App::yaml("services:\n  api: { command: sleep 1000, listen: none }\n", User::Ordinary);
    let mut disk = Disk::hanging(&app);
    let log = File::options().append(true).open(&disk.path).expect("it is a pipe with a reader");
    let arguments = ["spawner", "--app", "app", "--lock", "/nowhere/lock", "--", "true"];
    let start = || app.wattctl(&arguments).stderr(log.try_clone().expect("a descriptor")).spawn();
    let end = |mut spawner: Child| {
        let ended = || spawner.try_wait().expect("a child of ours").ok_or_else(|| "it runs".to_owned());
        assert_eq!(wait("it ends", ended).code(), Some(1));
    };
    end(start().expect("it starts"));
    disk.works_again("the disk takes lines", |_| true);
    end(start().expect("it starts"));
    disk.works_again("why it failed", |text| text.contains("spawner: cannot lock /nowhere/lock: "));
}

#[test]
fn the_end_is_not_held_up_and_has_its_last_lines_on_a_disk_that_works() {
    let app = App::yaml("services:\n  api: { command: sleep 1000, listen: none }\n", User::Ordinary);
    let disk = Disk::hanging(&app);
    app.up();
    app.down();
    drop(disk);
    app.up();
    app.down();
    let log = app.own_log();
    let stopping = log.lines().filter(|line| line.contains("\"kind\":\"app_stopping\"")).count();
    assert_eq!(stopping, 1, "{log}");
}
