//! The whole of `logs` with real pipes, and real processes where only a process shows it.

mod processes;

use std::{
    fs,
    io::{PipeWriter, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use tempfile::TempDir;
use watt_api::control::{LogLine, Stream};

use super::*;
use crate::events::EventReader;

/// The cap on every wait: what does not come in this time does not come.
const PATIENCE: Duration = Duration::from_secs(60);

struct Fixture {
    /// Removed with the fixture.
    _dir: TempDir,
    settings: Settings,
    logs: Logs,
    events: Events,
}

/// A run's ends of its pipes.
struct Worker {
    id: WorkerId,
    run: RunId,
    stdout: PipeWriter,
    stderr: PipeWriter,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        change(&mut settings);
        let events = Events::new();
        let logs = Logs::start(settings.clone(), events.clone()).unwrap();
        Fixture { _dir: dir, settings, logs, events }
    }

    fn worker(&self, service: &str, run: u64) -> Worker {
        let (stdout_reader, stdout) = io::pipe().unwrap();
        let (stderr_reader, stderr) = io::pipe().unwrap();
        let worker = Worker { id: worker_id(service), run: RunId(run), stdout, stderr };
        self.logs.attach(info(service, run, None), stdout_reader.into(), stderr_reader.into());
        worker
    }

    fn follow(&self, services: &[&str]) -> Following {
        Following::new(&self.logs, Question { follow: true, ..question(services) })
    }

    async fn past(&self, services: &[&str]) -> Vec<LogLine> {
        self.read(question(services)).await
    }

    async fn read(&self, question: Question) -> Vec<LogLine> {
        let (mut output, mut all) = (self.logs.read(question), Vec::new());
        while let Some(entries) = soon("lines or their end", output.next()).await {
            all.extend(lines(&entries));
        }
        all
    }

    fn file(&self, service: &str) -> PathBuf {
        self.settings.dir.join(format!("{service}.jsonl"))
    }
}

fn settings(dir: &Path) -> Settings {
    Settings::new(dir.join("logs"), dir.join("bookmarks"), &watt_core::plan::Logs::default())
}

fn worker_id(service: &str) -> WorkerId {
    WorkerId::new(ServiceId::new(service).unwrap(), 0)
}

fn info(service: &str, run: u64, adopted_since: Option<u64>) -> RunInfo {
    RunInfo { run: RunId(run), source: Source::Worker(worker_id(service)), adopted_since }
}

fn question(services: &[&str]) -> Question {
    let services = services.iter().map(|name| ServiceId::new(name).unwrap()).collect();
    Question { services, ..Question::default() }
}

fn lines(entries: &[Entry]) -> Vec<LogLine> {
    entries.iter().map(|entry| entry.line().expect("a line")).collect()
}

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_deref().unwrap_or("(no text)")).collect()
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// A reader and what it has read.
struct Following {
    output: Output,
    lines: Vec<LogLine>,
}

impl Following {
    fn new(logs: &Logs, question: Question) -> Following {
        Following { output: logs.read(question), lines: Vec::new() }
    }

    /// Reads until the lines read so far are enough.
    async fn until(&mut self, enough: impl Fn(&[LogLine]) -> bool) -> &[LogLine] {
        while !enough(&self.lines) {
            let batch = tokio::time::timeout(PATIENCE, self.output.next()).await;
            let batch = batch.unwrap_or_else(|_| panic!("no more lines after {:?}", self.lines.last()));
            self.lines.extend(lines(&batch.expect("the stream goes on")));
        }
        &self.lines
    }

    async fn count(&mut self, count: usize) -> &[LogLine] {
        self.until(|lines| lines.len() >= count).await
    }
}

#[tokio::test]
async fn lines_are_whole_however_they_are_written() {
    let fixture = Fixture::new();
    let mut worker = fixture.worker("api", 1);
    let mut following = fixture.follow(&["api"]);
    worker.stdout.write_all(b"one\ntw").unwrap();
    assert_eq!(texts(following.count(1).await), ["one"]);
    worker.stdout.write_all(b"o\n{\"a\":").unwrap();
    following.count(2).await;
    worker.stdout.write_all(b"1}\nbad \xff byte\n").unwrap();
    let lines = following.count(4).await;
    assert_eq!(texts(lines), ["one", "two", "(no text)", "bad \u{fffd} byte"]);
    assert_eq!(lines[2].json, Some(serde_json::json!({ "a": 1 })));
    assert!(lines.is_sorted_by_key(|line| line.seq));
    let file = fs::read_to_string(fixture.file("api")).unwrap();
    let stored: Vec<LogLine> = file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(stored, lines);
}

#[tokio::test]
async fn each_stream_and_service_keeps_its_own_lines() {
    let fixture = Fixture::new();
    let (mut api, mut web) = (fixture.worker("api", 1), fixture.worker("web", 2));
    let mut following = fixture.follow(&["api", "web"]);
    api.stdout.write_all(b"half").unwrap();
    api.stderr.write_all(b"error\n").unwrap();
    web.stdout.write_all(b"page\n").unwrap();
    following.count(2).await;
    api.stdout.write_all(b" a line\n").unwrap();
    let lines = following.count(3).await;
    let find = |text: &str| lines.iter().find(|line| line.text.as_deref() == Some(text)).unwrap();
    assert_eq!((find("error").stream, find("error").service.as_str()), (Stream::Stderr, "api"));
    assert_eq!((find("half a line").stream, find("half a line").run), (Stream::Stdout, 1));
    assert_eq!((find("page").service.as_str(), find("page").run), ("web", 2));
    assert_eq!(texts(&fixture.past(&["web"]).await), ["page"]);
}

#[tokio::test]
async fn long_lines_come_in_parts() {
    let fixture = Fixture::new();
    let mut worker = fixture.worker("api", 1);
    let mut following = fixture.follow(&["api"]);
    worker.stdout.write_all(&[b'x'; 20_000]).unwrap();
    worker.stdout.write_all(b"\nnext\n").unwrap();
    let lines = following.count(4).await;
    let parts: Vec<_> = lines.iter().map(|line| (line.text.as_ref().unwrap().len(), line.partial)).collect();
    assert_eq!(parts, [(8192, true), (8192, true), (3616, false), (4, false)]);
}

#[tokio::test]
async fn a_prompt_is_shown_once_although_its_line_has_no_end() {
    let fixture = Fixture::new();
    let mut worker = fixture.worker("api", 1);
    let mut following = fixture.follow(&["api"]);
    worker.stdout.write_all(b"password: ").unwrap();
    let lines = following.count(1).await;
    assert_eq!((texts(lines), lines[0].partial), (vec!["password: "], true));
    worker.stdout.write_all(b"thanks\n").unwrap();
    let lines = following.count(2).await;
    assert_eq!((texts(lines), lines[1].partial), (vec!["password: ", "thanks"], false));
}

#[tokio::test]
async fn a_run_that_ends_leaves_no_line_behind() {
    let fixture = Fixture::new();
    let mut worker = fixture.worker("api", 1);
    worker.stdout.write_all(&b"line\n".repeat(10_000)).unwrap();
    worker.stdout.write_all(b"last words").unwrap();
    // The writers stay open, as an orphan's would.
    soon("the end", fixture.logs.ended(worker.run)).await;
    let past = fixture.past(&["api"]).await;
    assert_eq!(
        past.last().map(|line| (line.text.as_deref(), line.partial)),
        Some((Some("last words"), false))
    );
    let error = (0..).find_map(|_| worker.stdout.write_all(b"to nobody\n").err()).unwrap();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn the_end_of_a_pipe_is_not_the_end_of_its_run() {
    let fixture = Fixture::new();
    let mut worker = fixture.worker("api", 1);
    let mut following = fixture.follow(&["api"]);
    worker.stdout.write_all(b"closing").unwrap();
    drop(worker.stdout);
    // At once, not as an unfinished line after a second: nothing will follow.
    assert_eq!(following.count(1).await.last().map(|line| line.partial), Some(false));
    worker.stderr.write_all(b"still here\n").unwrap();
    assert_eq!(texts(following.count(2).await), ["closing", "still here"]);
}

#[tokio::test]
async fn a_failed_start_has_the_last_lines_of_both_streams() {
    let fixture = Fixture::new();
    let mut worker = fixture.worker("api", 1);
    worker.stdout.write_all(b"1\n2\nstarting\n").unwrap();
    worker.stderr.write_all(b"no such module\n").unwrap();
    let last = soon("lines", fixture.logs.last_lines(Source::Worker(worker.id), 2)).await;
    let last = lines(&last);
    assert_eq!(texts(&last), ["starting", "no such module"]);
}

#[tokio::test]
async fn a_pattern_is_found_before_and_after_it_is_asked_for() {
    let fixture = Fixture::new();
    let mut worker = fixture.worker("api", 1);
    let wait =
        |pattern: &str| fixture.logs.wait_for_line(worker_id("api"), RunId(1), Regex::new(pattern).unwrap());
    worker.stdout.write_all(b"listening on 80\n").unwrap();
    assert!(soon("the pattern", wait("^listening")).await);
    let (later, never) = (wait(r#""msg":"up""#), wait("^never$"));
    worker.stderr.write_all(b"{\"msg\":\"up\"}\n").unwrap();
    assert!(soon("the pattern", later).await);
    soon("the end", fixture.logs.ended(worker.run)).await;
    assert!(!soon("the end", never).await);
    assert!(
        !soon("an answer", fixture.logs.wait_for_line(worker_id("api"), RunId(9), Regex::new("x").unwrap()))
            .await
    );
}

#[tokio::test]
async fn a_reader_of_a_run_ends_with_it() {
    let fixture = Fixture::new();
    let (mut first, mut second) = (fixture.worker("api", 1), fixture.worker("api", 2));
    let question = Question { run: Some(first.run), follow: true, ..question(&["api"]) };
    let mut reader = fixture.logs.read(question);
    second.stdout.write_all(b"other\n").unwrap();
    first.stdout.write_all(b"mine\n").unwrap();
    assert_eq!(texts(&lines(&soon("a line", reader.next()).await.unwrap())), ["mine"]);
    soon("the end", fixture.logs.ended(first.run)).await;
    // That the past has been given out, if "mine" was of it, and the end.
    while let Some(lines) = soon("the end", reader.next()).await {
        assert!(lines.is_empty() && reader.is_live());
    }
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed() {
    let fixture = Fixture::with(|settings| settings.memory_per_service = 20_000);
    let mut worker = fixture.worker("api", 1);
    let mut following = fixture.follow(&["api"]);
    for count in 1..=2 {
        // The second one is read by a reader of what comes; the first one may be the past.
        worker.stdout.write_all(b"first\n").unwrap();
        following.count(count).await;
    }
    let numbers: String = (2..5000).map(|number| format!("{number}\n")).collect();
    worker.stdout.write_all(numbers.as_bytes()).unwrap();
    soon("the end", fixture.logs.ended(worker.run)).await;
    let lines =
        following.until(|lines| lines.last().is_some_and(|line| line.text.as_deref() == Some("4999"))).await;
    let skipped: u64 = lines.iter().filter_map(|line| line.skipped).sum();
    let read = lines.iter().filter(|line| line.skipped.is_none()).count();
    assert!(skipped > 0, "the ring is smaller than the output");
    assert_eq!(skipped + read as u64, 5000);
    assert_eq!(lines[0].service, "api");
}

#[tokio::test]
async fn the_past_is_put_together_from_files_and_memory() {
    let fixture = Fixture::with(|settings| {
        settings.memory_per_service = 20_000;
        settings.rotation = Rotation { file_size_max: 100_000, files_max: 100 };
    });
    let (mut api, mut web) = (fixture.worker("api", 1), fixture.worker("web", 2));
    for number in 0..1000 {
        writeln!(api.stdout, "{number}").unwrap();
        writeln!(web.stdout, "{number}").unwrap();
    }
    soon("the end", fixture.logs.ended(api.run)).await;
    soon("the end", fixture.logs.ended(web.run)).await;
    let all: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(texts(&fixture.past(&["api"]).await), all);
    assert!(fixture.file("api.jsonl").with_file_name("api.jsonl.1").exists(), "there was a rotation");
    let both = fixture.past(&["api", "web"]).await;
    assert_eq!(both.len(), 2000);
    assert!(both.is_sorted_by_key(|line| line.seq));
    let tail = fixture.read(Question { tail: Some(700), ..question(&["api"]) }).await;
    assert_eq!(texts(&tail), all[300..]);
    let after = Question { after: tail[99].seq, ..question(&["api"]) };
    assert_eq!(texts(&fixture.read(after).await), all[400..]);
    let future = Question { after: u64::MAX, follow: true, ..question(&["api"]) };
    let mut future = fixture.logs.read(future);
    // Nothing of the past, and no trouble with a number that cannot grow.
    assert!(soon("the past", future.next()).await.unwrap().is_empty() && future.is_live());
    assert!(tokio::time::timeout(Duration::from_millis(50), future.next()).await.is_err());
}

/// A host's clock may be an hour ahead at boot, and set right later.
#[tokio::test]
async fn lines_of_a_clock_that_was_set_back_are_not_hidden() {
    let fixture = Fixture::new();
    fs::create_dir_all(&fixture.settings.dir).unwrap();
    let ahead = crate::timestamp::now_us() + 3_600_000_000;
    let line = |seq: u64| {
        format!(
            r#"{{"at":"2099-01-01T00:00:00.000Z","service":"api","worker":0,"run":1,"stream":"stdout","text":"ahead","seq":{seq}}}"#
        ) + "\n"
    };
    fs::write(fixture.file("api"), line(ahead) + &line(ahead + 1)).unwrap();
    let mut worker = fixture.worker("api", 2);
    worker.stdout.write_all(b"one\ntwo\n").unwrap();
    drop(worker);
    soon("the end", fixture.logs.ended(RunId(2))).await;
    assert_eq!(texts(&fixture.past(&["api"]).await), ["ahead", "ahead", "one", "two"]);
}

#[tokio::test]
async fn the_past_is_read_in_pieces_and_joined_to_what_comes() {
    let fixture = Fixture::with(|settings| {
        settings.memory_per_service = 20_000;
        settings.rotation = Rotation { file_size_max: 200_000, files_max: 100 };
    });
    let mut worker = fixture.worker("api", 1);
    // More than are looked for from the newest one on, and more than memory holds while they are read.
    let write = |worker: &mut Worker, numbers: std::ops::Range<usize>| {
        worker.stdout.write_all(numbers.map(|number| format!("{number}\n")).collect::<String>().as_bytes())
    };
    write(&mut worker, 0..12_000).unwrap();
    let mut following = fixture.follow(&["api"]);
    following.count(1).await;
    write(&mut worker, 12_000..15_000).unwrap();
    soon("the end", fixture.logs.ended(worker.run)).await;
    let all: Vec<String> = (0..15_000).map(|number| number.to_string()).collect();
    assert_eq!(texts(following.count(15_000).await), all);
    assert_eq!(texts(&fixture.past(&["api"]).await), all);
    following.output.end_here();
    assert!(soon("the end", following.output.next()).await.is_none());
}

#[tokio::test]
async fn a_successor_finds_a_line_that_is_kept_and_none_of_an_earlier_life() {
    let fixture = Fixture::new();
    let mut earlier = fixture.worker("api", 1);
    earlier.stdout.write_all(b"listening, long ago\n").unwrap();
    soon("the end", fixture.logs.ended(earlier.run)).await;
    let started = crate::timestamp::now_us();
    let mut worker = fixture.worker("api", 1);
    worker.stdout.write_all(&[&b"up\n"[..], &b"line\n".repeat(11_000)].concat()).unwrap();
    soon("the end", fixture.logs.ended(worker.run)).await;

    let successor = Logs::start(fixture.settings.clone(), Events::new()).unwrap();
    let ((reader, _stdout), (other, _stderr)) = (io::pipe().unwrap(), io::pipe().unwrap());
    successor.attach(info("api", 1, Some(started)), reader.into(), other.into());
    let wait =
        |pattern: &str| successor.wait_for_line(worker_id("api"), RunId(1), Regex::new(pattern).unwrap());
    assert!(soon("the line", wait("^up$")).await);
    let never = wait("long ago");
    soon("the end", successor.ended(RunId(1))).await;
    assert!(!soon("an answer", never).await);
}

#[tokio::test]
async fn a_batch_of_many_short_lines_that_was_written_is_not_written_again() {
    let fixture = Fixture::new();
    let text = b"x\n".repeat(20_000);
    let mut worker = fixture.worker("api", 1);
    worker.stdout.write_all(&text).unwrap();
    soon("the end", fixture.logs.ended(worker.run)).await;
    let written = fs::read_to_string(fixture.file("api")).unwrap();

    // As a daemon that is killed before the lines have left the pipe leaves it.
    let first: LogLine = serde_json::from_str(written.lines().next().unwrap()).unwrap();
    let mut bookmarks = bookmark::Bookmarks::open(&fixture.settings.bookmarks);
    let (slot, _) = bookmarks.take(RunId(1), Stream::Stdout);
    bookmarks.begin(&slot, bookmark::Batch { first_seq: first.seq, size: text.len() as u64 });
    let ((reader, mut stdout), (other, _stderr)) = (io::pipe().unwrap(), io::pipe().unwrap());
    stdout.write_all(&text).unwrap();
    let successor = Logs::start(fixture.settings.clone(), Events::new()).unwrap();
    successor.attach(info("api", 1, Some(0)), reader.into(), other.into());
    soon("the end", successor.ended(RunId(1))).await;
    assert_eq!(fs::read_to_string(fixture.file("api")).unwrap().lines().count(), 20_000);
}

#[tokio::test]
async fn memory_is_bounded_for_one_service_and_for_all() {
    let fixture = Fixture::with(|settings| {
        settings.memory_per_service = 40_000;
        settings.memory = 100_000;
    });
    let mut workers: Vec<Worker> = (0..10).map(|n| fixture.worker(&format!("s{n}"), n)).collect();
    for worker in &mut workers {
        for _ in 0..100 {
            worker.stdout.write_all(&[&[b'x'; 400][..], b"\n"].concat()).unwrap();
        }
    }
    for worker in &workers {
        soon("the end", fixture.logs.ended(worker.run)).await;
    }
    let mut kept = Vec::new();
    for worker in workers {
        let newest = fixture.logs.last_lines(Source::Worker(worker.id), TAIL_MAX).await;
        kept.push(newest.iter().map(|entry| entry.json.len()).sum::<usize>());
    }
    assert!(kept.iter().all(|size| *size > 0 && *size <= 40_000), "{kept:?}");
    assert!(kept.iter().sum::<usize>() <= 100_000, "{kept:?}");
}

#[tokio::test]
async fn a_flood_does_not_keep_another_worker_waiting() {
    let fixture =
        Fixture::with(|settings| settings.rotation = Rotation { file_size_max: 1 << 20, files_max: 2 });
    let (flood, mut quiet) = (fixture.worker("flood", 1), fixture.worker("quiet", 2));
    let mut yes = Started(Command::new("yes").stdout(flood.stdout).spawn().unwrap());
    let mut flooded = fixture.follow(&["flood"]);
    flooded.count(1000).await;
    let mut following = fixture.follow(&["quiet"]);
    for number in 1..=20 {
        writeln!(quiet.stdout, "{number}").unwrap();
        following.count(number).await;
    }
    assert!(yes.0.try_wait().unwrap().is_none(), "the flood goes on");
    drop(yes);
    let size =
        |name: &str| fs::metadata(fixture.settings.dir.join(name)).map_or(0, |metadata| metadata.len());
    assert!(size("flood.jsonl") + size("flood.jsonl.1") <= 2 << 20, "files are bounded");
}

#[tokio::test]
async fn what_the_proxy_says_goes_to_our_own_log_and_its_requests_to_a_file_of_their_own() {
    let fixture = Fixture::new();
    let (requests, mut stdout) = io::pipe().unwrap();
    let (reader, mut stderr) = io::pipe().unwrap();
    fixture.logs.attach(
        RunInfo { run: RunId(1), source: Source::Proxy, adopted_since: None },
        requests.into(),
        reader.into(),
    );
    stdout.write_all(b"{\"status\":200}\n{\"status\":404}\n").unwrap();
    stderr.write_all(b"INFO ready\n").unwrap();
    soon("the end", fixture.logs.ended(RunId(1))).await;
    let file = |name: &str| fs::read_to_string(fixture.settings.dir.join(name)).unwrap();
    assert_eq!(file("watt.log"), "INFO ready\n");
    assert_eq!(file("access.log"), "{\"status\":200}\n{\"status\":404}\n");
    let last = lines(&fixture.logs.last_lines(Source::Proxy, 5).await);
    assert_eq!(texts(&last), ["INFO ready"]);
    assert!(fixture.past(&["mesh-proxy"]).await.is_empty(), "a service of this name is another one");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_costs_the_file_alone() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.file("api")).unwrap();
    let mut events = fixture.events.read(None);
    let mut worker = fixture.worker("api", 1);
    let mut following = fixture.follow(&["api"]);
    for number in 1..=3 {
        writeln!(worker.stdout, "{number}").unwrap();
        following.count(number).await;
    }
    assert_eq!(texts(&fixture.past(&["api"]).await), ["1", "2", "3"]);
    assert_eq!(kinds(&mut events), ["log_file_failed"]);
}

fn kinds(events: &mut EventReader) -> Vec<String> {
    let kind = |json: &Arc<str>| serde_json::from_str::<watt_api::control::Event>(json).unwrap().kind;
    events.batch().iter().map(kind).collect()
}

/// A process that is killed when its test is over.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
