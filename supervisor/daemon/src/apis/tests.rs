//! The task beside the loop, with services that are sockets.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};
use watt_core::{
    plan::{ApiPage, Route, RouteTarget},
    testing::id,
};

use super::*;

/// A mesh whose services answer one after the other with these, and then with the last again. What was asked is counted.
fn mesh(answers: Vec<String>) -> (tempfile::TempDir, PathBuf, Arc<AtomicUsize>) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("mesh.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let number = count.fetch_add(1, Ordering::SeqCst);
            let answer = answers[number.min(answers.len() - 1)].clone();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(connection.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap().to_lowercase();
            assert!(
                request.starts_with("get /openapi.json http/1.1\r\nhost: api.plt.local\r\n"),
                "{request}"
            );
            let answer = match request.contains("if-none-match: \"same\"") {
                true => "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(),
                false => answer,
            };
            // It may be cut off.
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    (dir, socket, asked)
}

fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn described(path: &str) -> String {
    format!(r#"{{"openapi": "3.1.0", "paths": {{"{path}": {{"get": {{"responses": {{}}}}}}}}}}"#)
}

fn plan(from: DescribedBy, refresh: Option<Duration>) -> Plan {
    let mut plan = crate::testing::plan(&["api"]);
    let service = plan.services.get_mut(&id("api")).unwrap();
    service.openapi =
        Some(Description { from, base: String::new(), refresh, ignore: Vec::new(), rename: BTreeMap::new() });
    let page = ApiPage { title: Some("Shop".into()), version: "1".into(), description: None };
    let docs = Route { target: RouteTarget::ApiPage(page), ..Route::prefix("/docs", id("api")) };
    plan.routes = vec![Route::prefix("/", id("api")), docs];
    plan
}

/// A task that is told this, and what it has made.
fn start(socket: PathBuf, plan: Plan, run: Option<u64>) -> (watch::Sender<Wanted>, mpsc::Receiver<News>) {
    let ready = run.map(|run| (id("api"), run)).into_iter().collect();
    let (tell, wanted) = watch::channel(Wanted { plan: Some(Arc::new(plan)), ready });
    let (sender, news) = mpsc::channel(1);
    tokio::spawn(Look { wanted, socket, known: BTreeMap::new() }.run(sender));
    (tell, news)
}

/// The next one that is about this path.
async fn about(news: &mut mpsc::Receiver<News>, path: &str) -> News {
    loop {
        let made = news.recv().await.expect("more news");
        if made.documents[":/docs"].contains(path) {
            return made;
        }
    }
}

fn at_path() -> DescribedBy {
    DescribedBy::Path("/openapi.json".into())
}

#[tokio::test]
async fn a_service_is_asked_when_a_worker_gets_ready_and_again_when_another_one_does() {
    let (_dir, socket, asked) = mesh(vec![ok("", &described("/first")), ok("", &described("/second"))]);
    let (tell, mut news) = start(socket, plan(at_path(), None), None);
    let empty = news.recv().await.unwrap();
    assert!(
        empty.problems.is_empty() && !empty.documents[":/docs"].contains("/first"),
        "nobody is there to ask"
    );
    assert!(empty.documents[":/docs"].contains(r#""title":"Shop""#));
    tell.send_modify(|wanted| {
        wanted.ready.insert(id("api"), 5);
    });
    about(&mut news, "/first").await;
    tell.send_modify(|wanted| {
        wanted.ready.insert(id("api"), 6);
    });
    about(&mut news, "/second").await;
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_description_that_changes_is_seen_and_one_that_does_not_makes_no_news() {
    let refresh = Some(Duration::from_millis(1));
    let (_dir, socket, asked) = mesh(vec![
        ok("", &described("/first")),
        ok("", &described("/first")),
        ok("ETag: \"same\"\r\n", &described("/second")),
    ]);
    let (_tell, mut news) = start(socket, plan(at_path(), refresh), Some(5));
    assert!(news.recv().await.unwrap().documents[":/docs"].contains("/first"));
    assert!(
        news.recv().await.unwrap().documents[":/docs"].contains("/second"),
        "the next news is the next change"
    );
    while asked.load(Ordering::SeqCst) < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(news.try_recv().is_err(), "it is the same");
}

#[tokio::test]
async fn who_fails_is_named_and_stays_in_with_what_it_said_last() {
    let refresh = Some(Duration::from_millis(1));
    let answers = vec![
        ok("", &described("/first")),
        "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n".to_owned() + &" ".repeat(5 << 20),
        ok("", "no json"),
        ok("", &described("/last")),
    ];
    let (_dir, socket, _) = mesh(answers);
    let (_tell, mut news) = start(socket, plan(at_path(), refresh), Some(5));
    assert!(about(&mut news, "/first").await.problems.is_empty());
    for expected in ["status 503", "more than 4 MB", "no JSON"] {
        let failed = about(&mut news, "/first").await.problems;
        let (service, text) = failed.first().unwrap();
        assert!(
            service == "api" && text.starts_with("GET /openapi.json: ") && text.contains(expected),
            "{text}"
        );
    }
    assert!(about(&mut news, "/last").await.problems.is_empty());
}

#[tokio::test]
async fn a_file_is_read_again_and_is_no_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("openapi.json");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let from = DescribedBy::File(file.clone());
    let (_tell, mut news) =
        start(dir.path().join("nobody"), plan(from, Some(Duration::from_millis(1))), None);
    let failed = news.recv().await.unwrap().problems;
    assert!(failed.first().unwrap().1.contains("it is no file"), "{failed:?}");
    fs::remove_file(&file).unwrap();
    fs::write(&file, described("/first")).unwrap();
    assert!(about(&mut news, "/first").await.problems.is_empty());
    fs::write(&file, described("/second")).unwrap();
    about(&mut news, "/second").await;
}

#[test]
fn a_service_that_sleeps_is_left_asleep() {
    use watt_core::plan::{Scaling, Targets, Workers};
    let mut plan = plan(at_path(), Some(Duration::from_secs(1)));
    assert!(is_asked_again(&plan, &id("api")));
    plan.services.get_mut(&id("api")).unwrap().workers = Workers::Scaled(Scaling {
        min: 0,
        max: std::num::NonZeroU16::MIN,
        targets: Targets::default(),
        window: Duration::from_secs(1),
        cooldown: Duration::from_secs(1),
        idle: Duration::from_secs(1),
    });
    assert!(!is_asked_again(&plan, &id("api")));
}
