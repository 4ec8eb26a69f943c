//! What `status` looks like with every column and every trouble, at the widths of a small and of a large terminal.

use insta::assert_snapshot;
use watt_api::control::{PidsLimit, Pressure, Supervisor};

use super::*;

fn ago(seconds: i64) -> String {
    (jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds)).to_string()
}

fn worker(index: u16, state: WorkerState) -> Worker {
    Worker {
        index,
        part: Default::default(),
        state,
        run: Some(7),
        pid: Some(4_000_100 + u32::from(index)),
        started_at: Some(ago(8000)),
        since: ago(8000),
        endpoint: Some("private:127.0.0.1:3000".into()),
        deadline_ms: None,
        restarts: 0,
        last_exit: None,
        memory: Some(48 << 20),
        cpu_us: Some(5_000_000),
        cpu_millis: Some(35),
        pids: Some(11),
        pids_limit: None,
        pressure: Vec::new(),
        says: None,
        reloading: false,
        stored: Vec::new(),
        last_output: Vec::new(),
    }
}

fn service(id: &str, workers: Vec<Worker>) -> Service {
    let wanted = u16::try_from(workers.len()).unwrap();
    let ready = workers.iter().filter(|worker| worker.state == WorkerState::Ready).count();
    Service {
        id: id.into(),
        state: workers.iter().map(|worker| worker.state).max().unwrap(),
        waiting_for: Vec::new(),
        ready: ready.try_into().unwrap(),
        wanted,
        scaling: None,
        workers,
        requests: Requests::default(),
        sandbox: "standard".into(),
        unenforced: Vec::new(),
        applied: None,
    }
}

fn status() -> Status {
    let exit = |text: &str| Exit { cause: "exit".into(), code: Some(1), text: text.into(), at: ago(90) };
    let requests = Requests { total: 12_345, failures: 12, in_flight: 3, ..Requests::default() };
    let api = Service {
        requests,
        unenforced: vec!["memory, cpu (no cgroup can be made here)".into()],
        ..service("api", vec![worker(0, WorkerState::Ready), worker(1, WorkerState::Ready)])
    };
    let bomb = Worker {
        pids: Some(64),
        pids_limit: Some(PidsLimit { max: 64, refused: 1200 }),
        ..worker(0, WorkerState::Ready)
    };
    let applied = Some(Applied { at: ago(8000), by: "user 1000".into() });
    let bomb = Service { applied, ..service("bomb", vec![bomb]) };
    let bad = Worker {
        pid: None,
        endpoint: None,
        since: ago(2),
        deadline_ms: Some(297_000),
        restarts: 4,
        last_exit: Some(exit("exit 1")),
        memory: None,
        cpu_millis: None,
        pids: None,
        says: None,
        last_output: vec!["no such table".into()],
        ..worker(0, WorkerState::Failed)
    };
    Status {
        app: "shop".into(),
        file: "/srv/shop/watt.yaml".into(),
        version: "0.1.0".into(),
        started_at: ago(8000),
        loaded_at: ago(8000),
        digest: "00".into(),
        gateway: Some("http://127.0.0.1:3042".into()),
        listeners: Vec::new(),
        tls: None,
        supervisor: Supervisor {
            spawner_pid: 1,
            daemon_pid: 2,
            proxy_pid: Some(3),
            daemon_restarts: 0,
            proxy_restarts: 1,
            memory: 7 << 20,
            program: "/usr/bin/wattctl".into(),
            proxies: Vec::new(),
        },
        taken_out: [("cache".to_owned(), Applied { at: ago(8000), by: "user 0".into() })].into(),
        services: vec![api, service("bad", vec![bad]), bomb],
        warnings: vec!["cgroups: no limits".into()],
    }
}

fn rendered(workers: bool, width: usize) -> String {
    let text = render(&status(), workers, Style { colours: false, width: Some(width) });
    let table = text.lines().skip_while(|line| !line.starts_with("SERVICE")).take(6);
    for line in table {
        assert!(line.chars().count() <= width, "wider than {width} columns: {line}");
    }
    text
}

#[test]
fn a_large_terminal_shows_every_column() {
    assert_snapshot!(rendered(true, 200), @r"
    shop  2 of 3 up for 2h13m  http://127.0.0.1:3042  watt 0.1.0 7.0 MB  proxy replaced 1×

    SERVICE  STATE     FOR  READY      PID  RESTARTS   CPU    MEM  TASKS           REQUESTS  NOW  ENDPOINT                NOTE
    api      ready   2h13m    2/2                  0  7.0%  96 MB     22  12.3k (12 failed)    3
      api/0  ready   2h13m         4000100         0  3.5%  48 MB     11                          private:127.0.0.1:3000
      api/1  ready   2h13m         4000101         0  3.5%  48 MB     11                          private:127.0.0.1:3000
    bad      failed     2s    0/1                  4                                                                      exit 1; retry in 4m57s
    bomb     ready   2h13m    1/1  4000100         0  3.5%  48 MB     64                          private:127.0.0.1:3000  pids limit 64 met 1200×

    not enforced: api: memory, cpu (no cgroup can be made here)
    last output of bad/0:
      │ no such table
    not from the file: bomb was applied by itself 2h13m ago by user 1000
    not from the file: cache was taken out of the application 2h13m ago by user 0
    warning: cgroups: no limits
    ");
}

#[test]
fn what_was_stopped_is_no_alarm() {
    let style = Style { colours: true, width: None };
    let check = |expected: Tone, state: WorkerState| {
        let services = vec![service("one", vec![worker(0, state)])];
        let heading = heading(&Status { services, ..status() }, style);
        let count = if expected == Tone::Good { "1 of 1" } else { "0 of 1" };
        assert!(heading.contains(&style.paint(expected, count)), "{state:?}: {heading}");
    };
    check(Tone::Good, WorkerState::Ready);
    check(Tone::Busy, WorkerState::Down);
    check(Tone::Busy, WorkerState::Starting);
    check(Tone::Bad, WorkerState::Failed);
}

#[test]
fn pids_are_there_for_who_asks_for_workers() {
    assert!(rendered(true, 80).contains("  api/1  ready   2h13m         4000101"), "{}", rendered(true, 80));
}

#[test]
fn a_small_terminal_shows_what_matters_most() {
    assert_snapshot!(rendered(false, 80), @r"
    shop  2 of 3 up for 2h13m  http://127.0.0.1:3042  watt 0.1.0 7.0 MB  proxy replaced 1×

    SERVICE  STATE     FOR  READY  RESTARTS   CPU    MEM  NOTE
    api      ready   2h13m    2/2         0  7.0%  96 MB
    bad      failed     2s    0/1         4               exit 1; retry in 4m57s
    bomb     ready   2h13m    1/1         0  3.5%  48 MB  pids limit 64 met 1200×

    not enforced: api: memory, cpu (no cgroup can be made here)
    last output of bad/0:
      │ no such table
    not from the file: bomb was applied by itself 2h13m ago by user 1000
    not from the file: cache was taken out of the application 2h13m ago by user 0
    warning: cgroups: no limits
    ");
}

#[test]
fn a_worker_that_stalls_is_noted_with_what_hinders_it_besides() {
    let stalling = Worker {
        pids_limit: Some(PidsLimit { max: 64, refused: 2 }),
        pressure: vec![Pressure { resource: "memory".into(), percent: 43, for_ms: 12_000 }],
        ..worker(0, WorkerState::Ready)
    };
    let expected = "memory pressure 43 % for 12s; pids limit 64 met 2×";
    assert_eq!(hindered(Some(&stalling)).as_deref(), Some(expected));
    assert_eq!(hindered(Some(&worker(0, WorkerState::Ready))), None);
}
