//! Several listeners of the gateway, in the running application.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use serde_json::Value;
use watt_tests::{App, Load, User, exchange, for_each_user, get, kill, printed, wait};

const SHOP: &str = r#"
services:
  web: { command: python3 services/web.py }
  api: { command: python3 services/web.py }
server: { port: 0 }
gateway:
  routes: [{ path: /web, service: web, strip: true }]
  listeners:
    admin: { port: 0, routes: [{ path: /api, service: api, strip: true }], body_limit: 10, head_limit: 2K }
    local: { unix: gateway.sock, mode: 600 }
"#;

fn shop(user: User, text: &str) -> App {
    let app = App::case("", user);
    app.write("watt.yaml", text);
    app
}

/// Where a listener is.
fn at(app: &App, name: &str) -> String {
    let status = app.status();
    let listeners = status["listeners"].as_array().cloned().unwrap_or_default();
    let url = listeners.iter().find(|one| one["name"] == name).and_then(|one| one["url"].as_str());
    let url = url.unwrap_or_else(|| panic!("no {name} in {status}"));
    url.trim_start_matches("http://").trim_start_matches("https://").to_owned()
}

/// The status of what is answered at a Unix socket.
fn get_at(socket: &Path, path: &str) -> std::io::Result<u16> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| std::io::Error::other(answer))
}

/// Asks on one connection, which stays.
struct Kept(std::net::TcpStream);

impl Kept {
    fn at(address: &str) -> Kept {
        Kept(std::net::TcpStream::connect(address).expect("it listens"))
    }

    /// The head of the answer, whose body is passed over.
    fn ask(&mut self, path: &str) -> String {
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n").expect("it takes it");
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            assert_eq!(self.0.read(&mut byte).expect("an answer"), 1, "{}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("text");
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body).expect("a body");
        head
    }
}

#[test]
fn each_listener_has_its_own_routes_and_bounds() {
    for_each_user(|user| {
        let app = shop(user, SHOP);
        app.up();
        let (server, admin, local) = (app.gateway(), at(&app, "admin"), app.dir.join("gateway.sock"));
        let status = |address: &str, path: &str| get(address, path).expect("an answer").0;
        assert_eq!((status(&server, "/web/"), status(&server, "/api/")), (200, 404));
        assert_eq!((status(&admin, "/web/"), status(&admin, "/api/")), (404, 200));
        assert_eq!((get_at(&local, "/web/").unwrap(), get_at(&local, "/api/").unwrap()), (200, 404));
        assert_eq!(at(&app, "local"), format!("unix:{}", local.display()));
        assert_eq!(fs::metadata(&local).unwrap().permissions().mode() & 0o777, 0o600);

        let post = |address: &str, path: &str, length: usize| {
            let body = "x".repeat(length);
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
            );
            exchange(address, &(head + &body)).expect("an answer")
        };
        let too_large = post(&admin, "/api/", 11);
        assert!(too_large.starts_with("HTTP/1.1 413 "), "{too_large}");
        assert!(!post(&admin, "/api/", 10).starts_with("HTTP/1.1 413 "));
        assert!(!post(&server, "/web/", 11).starts_with("HTTP/1.1 413 "));
        let long = |address: &str, path: &str| {
            let field = "x".repeat(3 << 10);
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nX-Long: {field}\r\n\r\n");
            exchange(address, &request).expect("an answer")
        };
        assert!(long(&admin, "/api/").starts_with("HTTP/1.1 431 "), "{}", long(&admin, "/api/"));
        assert!(long(&server, "/web/").starts_with("HTTP/1.1 200 "), "{}", long(&server, "/web/"));

        let listed = app.ok(&["routes"]);
        assert!(listed.contains(&format!("admin  http://{admin}  routes of its own")), "{listed}");
        let explained: Value = app.json(&["routes", "--test", &format!("http://{admin}/api/x")]);
        assert_eq!(
            (&explained["listener"], &explained["verdict"]["route"]["service"]),
            (&"admin".into(), &"api".into())
        );
        let explained: Value = app.json(&["routes", "--listener", "local", "--test", "/web/x"]);
        assert_eq!(
            (&explained["listener"], &explained["verdict"]["route"]["service"]),
            (&"local".into(), &"web".into())
        );
        app.down();
        assert!(!local.exists(), "its file is gone");
    });
}

/// Requests of the listeners that stay are answered while others come, move and go.
#[test]
fn listeners_come_and_go_and_nothing_of_the_others_is_lost() {
    for_each_user(|user| {
        let app = shop(user, SHOP);
        app.up();
        let (server, admin, local) = (app.gateway(), at(&app, "admin"), app.dir.join("gateway.sock"));
        let loads = [Load::start(&server, "/web/"), Load::start(&admin, "/api/")];
        let (mut on_server, mut on_admin) = (Kept::at(&server), Kept::at(&admin));
        assert!(
            on_server.ask("/web/").starts_with("HTTP/1.1 200 ")
                && on_admin.ask("/api/").starts_with("HTTP/1.1 200 ")
        );
        let reload = |text: &str| -> Value {
            app.write("watt.yaml", text);
            app.json(&["reload", "--wait"])
        };
        let gone = SHOP.replace("    local: { unix: gateway.sock, mode: 600 }\n", "");
        let reloaded = reload(&gone);
        assert_eq!(reloaded["changes"][0]["key"], "gateway.listeners.local", "{reloaded}");
        assert_eq!(reloaded["changes"][0]["kind"], "removed", "{reloaded}");
        assert!(!local.exists(), "its file is gone");
        for round in 0..3 {
            let more = gone.clone()
                + &format!("    more{round}: {{ port: 0 }}\n    again: {{ unix: again{round}.sock }}\n");
            reload(&more);
            assert_eq!(get(&at(&app, &format!("more{round}")), "/web/").expect("an answer").0, 200);
            assert_eq!(get_at(&app.dir.join(format!("again{round}.sock")), "/web/").unwrap(), 200);
            assert_eq!(app.dir.join("again0.sock").exists(), round == 0);
        }
        // Called otherwise, it is the same sockets; its mode changes in place.
        let mut kept = UnixStream::connect(app.dir.join("again2.sock")).expect("it listens");
        let renamed = gone.clone() + "    other: { unix: again2.sock, mode: 666 }\n";
        reload(&renamed);
        assert_eq!(fs::metadata(app.dir.join("again2.sock")).unwrap().permissions().mode() & 0o777, 0o666);
        kept.write_all(b"GET /web/ HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        kept.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

        assert_eq!((at(&app, "admin"), app.gateway()), (admin.clone(), server.clone()));
        assert!(on_server.ask("/web/").starts_with("HTTP/1.1 200 "), "its connection lives on");
        assert!(on_admin.ask("/api/").starts_with("HTTP/1.1 200 "));
        // A successor and another proxy have all of them.
        app.kill_daemon();
        let proxy = app.status()["supervisor"]["proxy_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let [on_server, on_admin] = loads.map(Load::stop);
        for tally in [on_server, on_admin] {
            assert!(tally.answered > 0 && tally.failures.is_empty(), "{user:?}: {:?}", tally.failures);
        }
        kill("KILL", proxy.expect("a pid"));
        for (address, path) in [(&server, "/web/"), (&admin, "/api/")] {
            wait("another proxy answers", || match get(address, path) {
                Ok((200, _)) => Ok(()),
                other => Err(format!("{other:?}")),
            });
        }
        wait("another proxy answers at the socket", || match get_at(&app.dir.join("again2.sock"), "/web/") {
            Ok(200) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        app.down();
    });
}

/// What an open connection may ask for is its own listener's, wherever that is by now, and nobody else's when it is gone.
#[test]
fn a_connection_of_a_listener_that_goes_gets_nothing_of_the_others() {
    let app = shop(User::Ordinary, SHOP);
    app.up();
    let mut kept = Kept::at(&at(&app, "admin"));
    assert!(kept.ask("/api/").starts_with("HTTP/1.1 200 "));
    let moved = SHOP.replace("admin: { port: 0", "admin: { hostname: 127.0.0.2, port: 0");
    app.write("watt.yaml", &moved);
    app.ok(&["reload", "--wait"]);
    let answer = kept.ask("/api/");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(at(&app, "admin").starts_with("127.0.0.2:"));
    let (before, _) = SHOP.split_once("    admin:").expect("it is there");
    app.write("watt.yaml", &format!("{before}    local: {{ unix: gateway.sock }}\n"));
    app.ok(&["reload", "--wait"]);
    let answer = wait("it is told to go", || match kept.ask("/web/") {
        answer if answer.to_ascii_lowercase().contains("connection: close") => Ok(answer),
        answer => Err(answer),
    });
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    app.down();
}

#[test]
fn a_socket_that_is_in_the_way_is_replaced_only_if_nobody_listens_there() {
    for_each_user(|user| {
        let app = shop(user, SHOP);
        let path = app.dir.join("gateway.sock");
        app.write("gateway.sock", "a file");
        let output = app.run(&["up", "-d"]);
        assert!(
            !output.status.success() && printed(&output).contains("a file is there that is no socket"),
            "{}",
            printed(&output)
        );
        assert!(printed(&output).contains("gateway.listeners.local.unix"), "{}", printed(&output));
        fs::remove_file(&path).unwrap();
        let stranger = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let output = app.run(&["up", "-d"]);
        let pid = format!("(pid {}) listens there", std::process::id());
        assert!(!output.status.success() && printed(&output).contains(&pid), "{}", printed(&output));
        drop(stranger);
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket(), "it was left alone");
        app.pass_through();
        app.up();
        assert_eq!(get_at(&path, "/web/").unwrap(), 200);
        // The same in a reload, which is refused as a whole.
        app.write("second.sock", "a file");
        app.write("watt.yaml", &(SHOP.to_owned() + "    second: { unix: second.sock }\n"));
        let output = app.run(&["reload"]);
        assert!(!output.status.success() && printed(&output).contains("no socket"), "{}", printed(&output));
        assert_eq!((get_at(&path, "/web/").unwrap(), app.get("/web/").0), (200, 200));
        app.down();
    });
}

/// A head that does not come has its listener's time.
#[test]
fn slow_clients_have_the_time_of_their_listener() {
    let hasty = SHOP.replace("body_limit: 10", "head_timeout: 300ms, idle_timeout: 300ms");
    let app = shop(User::Ordinary, &hasty);
    app.up();
    let read_to_end = |mut stream: std::net::TcpStream| {
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let mut slow = std::net::TcpStream::connect(at(&app, "admin")).unwrap();
    slow.write_all(b"GET /api/ HTTP/1.1\r\nHost: sh").unwrap();
    let answer = read_to_end(slow);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let idle = std::net::TcpStream::connect(at(&app, "admin")).unwrap();
    assert_eq!(read_to_end(idle), "");
    app.down();
}
