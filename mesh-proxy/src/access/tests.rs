use std::{
    io,
    sync::{
        Mutex,
        mpsc::{self, Receiver},
    },
};

use serde_json::{Value, json};

use watt_policies::access::Names;

use super::*;
use crate::{
    entrances::Terms,
    tls::{Secure, Shown},
};

struct Lines(Mutex<mpsc::Sender<String>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in String::from_utf8_lossy(bytes).lines() {
            let _ = self.0.lock().unwrap().send(line.to_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log(wanted: AccessLog) -> (Rc<Log>, Receiver<String>) {
    let (lines, written) = mpsc::channel();
    let queue = Queue::start(Lines(Mutex::new(lines))).unwrap();
    (Rc::new(Log::new(&wanted, &queue)), written)
}

fn everything() -> AccessLog {
    AccessLog { mesh: true, percent: 100, headers: Vec::new(), query: false }
}

fn gateway() -> Client {
    let peer = Some("[::ffff:192.0.2.7]:5555".parse().unwrap());
    Client { side: Side::Gateway, peer, local: None, tls: None, terms: Terms::default() }
}

/// One whose certificate has this subject.
fn shows_certificate(name: &str) -> Client {
    let shown = Shown { name: name.into(), names: Names::default(), fields: "".into() };
    Client { tls: Some(Rc::new(Secure { shown: Some(shown) })), ..gateway() }
}

fn line(written: &Receiver<String>) -> Value {
    let mut line: Value = serde_json::from_str(&written.recv().unwrap()).expect("JSON");
    let members = line.as_object_mut().unwrap();
    let at = members.remove("at").unwrap();
    assert!(at.as_str().unwrap().parse::<Timestamp>().is_ok(), "{at}");
    assert!(members.remove("ms").unwrap().as_f64().unwrap() >= 0.0);
    line
}

#[test]
fn a_line_says_who_asked_for_what_and_what_became_of_it() {
    let (log, written) =
        log(AccessLog { headers: vec!["user-agent".into(), "x-absent".into()], ..everything() });
    let head = b"POST http://Shop.example:80/a%22b?token=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: \"c\\url\" \xff\r\n\r\n";
    let sent = b"POST /a HTTP/1.1\r\nHost: x\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
    let mut entry = Entry::begin(&log, None, &gateway(), false, head, Some(sent));
    entry.outcome = Outcome {
        status: 201,
        sent: 99,
        service: Some("api".into()),
        run: Some(7),
        tries: 2,
        ..Outcome::default()
    };
    drop(entry.end());
    let expected = json!({
        "client": "192.0.2.7", "method": "POST", "host": "Shop.example:80", "path": "/a%22b",
        "protocol": "HTTP/1.1", "headers": { "user-agent": "\"c\\url\" \u{fffd}" }, "trace": "0af7651916cd43dd8448eb211c80319c",
        "service": "api", "run": 7, "tries": 2, "status": 201, "bytes": 99,
    });
    assert_eq!(line(&written), expected);
}

#[test]
fn what_is_no_request_is_a_line_as_well() {
    let (log, written) = log(AccessLog { query: true, ..everything() });
    let mut entry = Entry::begin(&log, None, &gateway(), false, b"GE\x01T /x?a=b HTTP/1.1\n\n", None);
    entry.outcome.failed(&crate::http::Refusal::Syntax.into());
    entry.outcome.sent = 321;
    let spare = entry.end();
    let expected = json!({
        "client": "192.0.2.7", "method": "GE\u{1}T", "path": "/x", "query": "a=b",
        "status": 400, "reason": "malformed_request", "bytes": 321,
    });
    assert_eq!(line(&written), expected);

    let client = Client {
        side: Side::Mesh { caller: Some("web".into()) },
        peer: None,
        local: None,
        tls: None,
        terms: Terms::default(),
    };
    let head = format!("GET /{} HTTP/1.0\r\n\r\n", "p".repeat(10_000));
    drop(Entry::begin(&log, spare, &client, false, head.as_bytes(), None).end());
    let long = line(&written);
    assert_eq!(long["path"].as_str().unwrap().len(), TEXT_MAX);
    assert_eq!(
        (&long["caller"], &long["protocol"], &long["status"]),
        (&"web".into(), &"HTTP/1.0".into(), &Value::Null)
    );
}

#[test]
fn a_line_says_whose_certificate_the_client_has() {
    let (log, written) = log(everything());
    let head = b"GET / HTTP/1.1\r\nHost: x\r\nClient-Cert: :AAAA:\r\nX-Client-Cert-Subject: CN=root\r\n\r\n";
    for (client, expected) in
        [(gateway(), Value::Null), (shows_certificate("CN=ada,O=\"Shop\""), "CN=ada,O=\"Shop\"".into())]
    {
        drop(Entry::begin(&log, None, &client, false, head, None).end());
        assert_eq!(line(&written)["certificate"], expected);
    }
}

#[test]
fn of_many_a_part_is_written_and_each_that_failed() {
    let (log, written) = log(AccessLog { percent: 10, ..everything() });
    let one = |outcome: Outcome| {
        let mut entry =
            Entry::begin(&log, None, &gateway(), true, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", None);
        entry.outcome = outcome;
        drop(entry.end());
    };
    fastrand::seed(7);
    (0..1000).for_each(|_| one(Outcome { status: 200, ..Outcome::default() }));
    (0..20).for_each(|_| one(Outcome { status: 502, ..Outcome::default() }));
    (0..20).for_each(|_| one(Outcome { reason: Some(CutOff::ByClient.code()), ..Outcome::default() }));
    let mut counts = [0; 3];
    loop {
        let line = line(&written);
        assert_eq!(line["protocol"], "HTTP/2");
        match (&line["status"], &line["reason"]) {
            (status, _) if *status == 200 => counts[0] += 1,
            (status, _) if *status == 502 => counts[1] += 1,
            (_, reason) => {
                assert_eq!(*reason, "client_gone");
                counts[2] += 1;
            }
        }
        if counts[2] == 20 {
            break;
        }
    }
    assert!((50..200).contains(&counts[0]) && counts[1] == 20, "{counts:?}");
}

#[test]
fn calls_between_services_are_written_where_that_is_wished() {
    let mesh = Side::Mesh { caller: None };
    let covers =
        |mesh_too: bool, side: &Side| log(AccessLog { mesh: mesh_too, ..everything() }).0.covers(side);
    assert!(covers(false, &Side::Gateway) && !covers(false, &mesh) && covers(true, &mesh));
}

#[test]
fn no_line_is_longer_than_the_daemon_takes_for_one_whatever_a_client_sends() {
    let (log, written) = log(AccessLog {
        query: true,
        headers: (0..16).map(|number| format!("x-{number}")).collect(),
        ..everything()
    });
    let quotes = "\"".repeat(3_000);
    let fields: String = (0..16).map(|number| format!("x-{number}: {quotes}\r\n")).collect();
    let long = format!("GET /{quotes}?{quotes} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", "h".repeat(3_000));
    let garbage =
        [b"GET /".to_vec(), vec![1; 3_000], b"?".to_vec(), vec![1; 3_000], b" HTTP/1.1\r\n\r\n".to_vec()];
    for head in [long.as_bytes(), &garbage.concat()] {
        drop(Entry::begin(&log, None, &shows_certificate(&"\\".repeat(8_000)), false, head, None).end());
        let line = written.recv().unwrap();
        assert!(line.len() < 8 << 10, "{}", line.len());
        assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
    }
}

#[test]
fn what_a_client_took_back_and_no_password_is_written() {
    let (log, written) = log(everything());
    let mut running = Running::default();
    let head = b"GET http://alice:secret@shop.example/ HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    running.begin(Entry::begin(&log, None, &gateway(), true, head, None));
    drop(running);
    let line = line(&written);
    assert_eq!(line["reason"], "client_gone");
    assert!(!line.to_string().contains("secret"), "{line}");
}
