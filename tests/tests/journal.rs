//! Lines in systemd's journal, which the tests play: its socket, and its native protocol.

use std::{
    collections::BTreeMap,
    io,
    os::{fd::AsFd, unix::net::UnixDatagram},
    sync::mpsc::{Receiver, channel},
};

use watt_os::{fdpass, memfd};
use watt_tests::{App, User, for_each_user, wait};

/// The journal of one application.
struct Journal {
    socket: UnixDatagram,
    /// What a thread reads, as fast as it can: a socket holds few entries.
    reading: Option<Receiver<Option<BTreeMap<String, String>>>>,
    entries: Vec<BTreeMap<String, String>>,
}

impl Journal {
    fn new(app: &App) -> Journal {
        let socket = UnixDatagram::bind(app.dir.join("journal")).expect("a socket");
        // The application's user may write to it.
        app.write("made", "");
        Journal { socket, reading: None, entries: Vec::new() }
    }

    /// Reads from now on, until this is dropped.
    fn read_on(&mut self) {
        let (sender, entries) = channel();
        let socket = self.socket.try_clone().expect("a descriptor");
        std::thread::spawn(move || {
            while let Ok(entry) = next(&socket) {
                // Nobody listens any more: the test is over.
                if sender.send(entry).is_err() {
                    break;
                }
            }
        });
        self.reading = Some(entries);
    }

    fn read(&mut self) {
        match &self.reading {
            Some(reading) => self.entries.extend(reading.try_iter().flatten()),
            None => {
                while let Ok(Some(entry)) = next(&self.socket) {
                    self.entries.push(entry);
                }
            }
        }
    }

    /// Waits for an entry with these fields.
    fn entry(&mut self, wanted: &[(&str, &str)]) -> BTreeMap<String, String> {
        let has = |entry: &BTreeMap<String, String>| {
            wanted.iter().all(|(name, value)| entry.get(*name).is_some_and(|found| found == value))
        };
        wait(&format!("an entry {wanted:?}"), || {
            self.read();
            self.entries.iter().find(|entry| has(entry)).cloned().ok_or_else(|| format!("{:?}", self.entries))
        })
    }
}

/// The next entry; `None` when there is none now.
fn next(socket: &UnixDatagram) -> io::Result<Option<BTreeMap<String, String>>> {
    let mut buffer = vec![0; 1 << 20];
    let received = match fdpass::receive(socket.as_fd(), &mut buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            std::thread::park_timeout(std::time::Duration::from_millis(1));
            return Ok(None);
        }
        received => received?,
    };
    // A large one is in a file that nobody can change.
    let bytes = match received.descriptors.first() {
        Some(file) => memfd::read_sealed(file.as_fd(), 64 << 20)?,
        None => buffer[..received.length].to_vec(),
    };
    Ok(Some(fields(&bytes)))
}

/// The fields of an entry: `NAME=value`, or the name, the value's length and the value.
fn fields(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').expect("a field ends");
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 1..];
        match line.split_once('=') {
            Some((name, value)) => drop(fields.insert(name.to_owned(), value.to_owned())),
            None => {
                let (length, rest) = bytes.split_first_chunk::<8>().expect("a length");
                let length = usize::try_from(u64::from_le_bytes(*length)).expect("a size");
                fields.insert(line, String::from_utf8_lossy(&rest[..length]).into_owned());
                bytes = &rest[length + 1..];
            }
        }
    }
    fields
}

fn up(app: &App) {
    let output = app.wattctl(&["up", "-d"]).env("WATT_JOURNAL_SOCKET", app.dir.join("journal")).output();
    let output = output.expect("wattctl runs");
    assert!(output.status.success(), "{}", watt_tests::printed(&output));
}

#[test]
fn lines_and_events_have_fields_to_ask_for() {
    for_each_user(|user| {
        let app = App::yaml(
            r#"
logs: { journal: true }
services:
  talker:
    command: [sh, -c, 'echo hello; echo "<3>broken" >&2; sleep 1; head -c 300000 /dev/zero | tr "\0" x; echo; exec sleep 1000']
    listen: none
    workers: 2
"#,
            user,
        );
        let mut journal = Journal::new(&app);
        journal.read_on();
        up(&app);
        let hello = journal.entry(&[("MESSAGE", "hello"), ("WATT_WORKER", "1")]);
        for (name, value) in [
            ("PRIORITY", "6"),
            ("SYSLOG_IDENTIFIER", "talker"),
            ("WATT_APP", "app"),
            ("WATT_SERVICE", "talker"),
            ("WATT_STREAM", "stdout"),
        ] {
            assert_eq!(hello.get(name).map(String::as_str), Some(value), "{hello:?}");
        }
        let run = app.worker("talker", 1)["run"].to_string();
        assert_eq!(hello.get("WATT_RUN"), Some(&run));
        journal.entry(&[("MESSAGE", "broken"), ("PRIORITY", "3"), ("WATT_STREAM", "stderr")]);
        wait("a part of the large line", || {
            journal.read();
            let of_x = journal.entries.iter().filter(|entry| entry.contains_key("WATT_PARTIAL"));
            of_x.clone()
                .find(|entry| entry["MESSAGE"].len() >= 8192)
                .map(drop)
                .ok_or(format!("{}", of_x.count()))
        });
        let ready = journal.entry(&[
            ("WATT_EVENT", "worker_state"),
            ("MESSAGE", "talker/0: ready"),
            ("WATT_SERVICE", "talker"),
        ]);
        assert_eq!(ready.get("SYSLOG_IDENTIFIER").map(String::as_str), Some("watt"), "{ready:?}");
        let ready = journal.entry(&[("WATT_EVENT", "app_ready"), ("PRIORITY", "6")]);
        // Those of docs/systemd.md, for ever.
        assert_eq!(ready["MESSAGE_ID"], "759129ef7757497ca0f100eb8b042f6b");
        let started = journal.entry(&[("MESSAGE_ID", "0f79e303d3f44527bf99c0b64b5a0f18")]);
        assert_eq!((&*started["WATT_EVENT"], &*started["WATT_STATE"]), ("worker_state", "starting"));
        app.down();
    });
}

#[test]
fn without_the_key_nothing_goes_there_outside_of_a_unit() {
    let app = App::yaml(
        "services: { talker: { command: [sh, -c, 'echo hello; exec sleep 1000'], listen: none } }",
        User::Ordinary,
    );
    let mut journal = Journal::new(&app);
    up(&app);
    app.down();
    journal.read();
    assert_eq!(journal.entries.len(), 0, "{:?}", journal.entries);
}

#[test]
fn a_journal_that_does_not_read_holds_nobody_up_and_the_file_has_all() {
    const LINES: usize = 5000;
    let app = App::yaml(
        &format!(
            r#"
logs: {{ journal: true }}
services:
  talker: {{ command: [sh, -c, 'seq 1 {LINES}; exec sleep 1000'], listen: none }}
"#
        ),
        User::Ordinary,
    );
    let mut journal = Journal::new(&app);
    up(&app);
    wait("every line is in the file", || {
        let lines = app.ok(&["logs", "talker"]).lines().count();
        if lines == LINES { Ok(()) } else { Err(lines.to_string()) }
    });
    let events = app.ok(&["events", "--json"]);
    assert!(events.contains("journal_lost"), "{events}");
    // What it takes later arrives.
    journal.read();
    assert!(!journal.entries.is_empty() && journal.entries.len() < LINES, "{}", journal.entries.len());
    journal.read_on();
    // Whoever reads may be too slow for one of them: lines wait for a fifth of a second.
    wait("lines of another run arrive", || {
        app.ok(&["restart", "talker"]);
        let run = app.worker("talker", 0)["run"].to_string();
        // Events and lines come in their order.
        let is_of = |entry: &&BTreeMap<String, String>| entry.get("WATT_RUN") == Some(&run);
        wait("something of it has come", || {
            journal.read();
            if journal.entries.iter().any(|entry| is_of(&entry)) { Ok(()) } else { Err(run.clone()) }
        });
        let lines = journal.entries.iter().filter(is_of);
        let lines = lines.filter(|entry| entry.contains_key("WATT_STREAM")).count();
        if lines > 0 { Ok(()) } else { Err(run.clone()) }
    });
    app.down();
}
