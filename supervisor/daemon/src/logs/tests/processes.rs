//! What only another process shows: a disk of its own that is full, and daemons that are killed. This test program starts
//! itself again for both, with one of the ignored tests.

use std::{
    env, fs,
    io::{PipeReader, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::*;

/// A disk of 64 KiB, made in a mount namespace of its own for a copy of this test program.
#[tokio::test]
async fn a_full_disk_is_told_once_and_recovered_from() {
    let dir = tempfile::tempdir().unwrap();
    let program = env::current_exe().unwrap();
    let script = format!(
        r#"mount -t tmpfs -o size=64k watt-test "$WATT_TEST_DIR" && exec {} --exact logs::tests::processes::inside_full_disk --ignored"#,
        program.display()
    );
    let namespaces: &[&str] = if nix::unistd::geteuid().is_root() { &["-m"] } else { &["-Urm"] };
    let probe = Command::new("unshare").args(namespaces).arg("true").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this host gives an ordinary user no mount namespace");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["sh", "-c", &script]).env("WATT_TEST_DIR", dir.path());
    let output = crate::beside::now(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "part of a_full_disk_is_told_once_and_recovered_from, which runs it where the disk is small"]
async fn inside_full_disk() {
    let dir = PathBuf::from(env::var_os("WATT_TEST_DIR").unwrap());
    let events = Events::new();
    let mut seen = events.read(None);
    let logs = Logs::start(settings(&dir), events.clone()).unwrap();
    let (reader, mut stdout) = io::pipe().unwrap();
    let (other, _stderr) = io::pipe().unwrap();
    logs.attach(info("api", 1, None), reader.into(), other.into());
    let mut following = Following::new(&logs, Question { follow: true, ..question(&["api"]) });
    let ballast = dir.join("ballast");
    fs::write(&ballast, [0; 40 << 10]).unwrap();
    for number in 1..=100 {
        writeln!(stdout, "{number} {}", "x".repeat(1000)).unwrap();
        following.count(number).await;
    }
    assert_eq!(kinds(&mut seen), ["log_file_failed"]);
    let whole = |file: &str| file.lines().all(|line| serde_json::from_str::<LogLine>(line).is_ok());
    assert!(whole(&fs::read_to_string(dir.join("logs/api.jsonl")).unwrap()), "no line is there in part");
    fs::remove_file(&ballast).unwrap();
    // It is tried again after a while, with the next line.
    let recovered = async {
        for number in 101.. {
            writeln!(stdout, "{number}").unwrap();
            following.count(number).await;
            if let Ok(()) = tokio::time::timeout(Duration::from_millis(100), seen.ready()).await {
                break;
            }
        }
    };
    soon("recovery", recovered).await;
    assert_eq!(kinds(&mut seen), ["log_file_recovered"]);
    assert!(whole(&fs::read_to_string(dir.join("logs/api.jsonl")).unwrap()));
}

/// Daemons are killed while a worker writes. Whatever the moment, every line is in the file once.
#[tokio::test]
async fn a_killed_daemon_loses_no_line_and_doubles_none() {
    const KILLS: u64 = 15;
    let dir = tempfile::tempdir().unwrap();
    let (reader, stdout) = io::pipe().unwrap();
    let counting = r#"i=0; while [ $i -lt 60000 ]; do i=$((i+1)); echo "line $i"; done"#;
    let mut writer = Started(Command::new("sh").args(["-c", counting]).stdout(stdout).spawn().unwrap());
    for kill in 1..=KILLS {
        let daemon = Started(daemon_process(dir.path(), &reader));
        let file = dir.path().join("logs/api.jsonl");
        let size = || fs::metadata(&file).map_or(0, |metadata| metadata.len());
        // Each gets some of its work done; the moment of its death is left to chance.
        let before = size();
        let progress = async {
            while size() < before + 20_000 * kill && writer.0.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon("progress", progress).await;
        drop(daemon);
    }
    let successor = Logs::start(settings(dir.path()), Events::new()).unwrap();
    let (other, _stderr) = io::pipe().unwrap();
    successor.attach(info("api", 1, Some(0)), reader.try_clone().unwrap().into(), other.into());
    let last = successor.wait_for_line(worker_id("api"), RunId(1), Regex::new("^line 60000$").unwrap());
    assert!(soon("the last line", last).await);

    let mut numbers = Vec::new();
    for number in (0..10).rev() {
        let file = file::numbered(&dir.path().join("logs/api.jsonl"), number);
        let Ok(text) = fs::read_to_string(file) else { continue };
        let parse = |line: &str| serde_json::from_str::<LogLine>(line).unwrap().text.unwrap();
        numbers.extend(text.lines().map(parse));
    }
    let wrong = numbers.iter().enumerate().find(|(at, text)| **text != format!("line {}", at + 1));
    assert_eq!((wrong, numbers.len()), (None, 60_000));
}

/// This test program again, as a daemon that does nothing but read a worker's pipe.
fn daemon_process(dir: &Path, stdout: &PipeReader) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "logs::tests::processes::inside_daemon", "--ignored"])
        .env("WATT_TEST_DIR", dir)
        .stdin(stdout.try_clone().unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "part of a_killed_daemon_loses_no_line_and_doubles_none, which runs it with a pipe as its input"]
fn inside_daemon() {
    let dir = PathBuf::from(env::var_os("WATT_TEST_DIR").unwrap());
    let logs = Logs::start(settings(&dir), Events::new()).unwrap();
    let (other, _stderr) = io::pipe().unwrap();
    let stdout = io::stdin().as_fd().try_clone_to_owned().unwrap();
    logs.attach(info("api", 1, Some(0)), stdout, other.into());
    // Until it is killed; should the test be gone, not for ever.
    std::thread::park_timeout(PATIENCE);
}
