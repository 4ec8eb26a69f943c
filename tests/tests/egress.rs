//! What a private service reaches outside is what its list has, whatever it tries.
//!
//! Each application runs in a network of its own where every address of the Internet is answered by a program
//! of the test, so that whatever gets out is seen. Making it takes root; what runs in it runs as root and as
//! an ordinary user.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use watt_tests::{App, User, for_each_user, is_root, printed, wait};

/// What the program that is the Internet says when the host does not let it.
const NOT_POSSIBLE: i32 = 77;

/// The Internet of one application. It ends with this.
struct World(Child);

impl World {
    /// `None` where a network of one's own cannot be made.
    fn new(app: &App) -> Option<World> {
        if !is_root() {
            eprintln!("not tested: only root can make the Internet of this test");
            return None;
        }
        app.write("resolv.conf", "nameserver 127.0.0.1\n");
        let mut child = Command::new("unshare")
            .args(["--net", "--mount", "python3"])
            .arg(app.dir.join("services/world.py"))
            .arg(&app.dir)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut line = String::new();
        let said = BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line);
        if said.is_ok() && line == "ready\n" {
            return Some(World(child));
        }
        let status = child.wait().expect("it has ended");
        assert_eq!(status.code(), Some(NOT_POSSIBLE), "{line}");
        eprintln!("not tested: no network namespace with nftables here");
        None
    }

    /// Starts the application in there.
    fn up(&self, app: &App, redirect: bool) {
        let up = app.wattctl(&["up", "-d"]);
        let mut inside = Command::new("nsenter");
        inside.args(["--net", "--mount", "--target", &self.0.id().to_string(), "--"]);
        // nsenter goes to the namespace's root folder.
        inside.args(["env", "--chdir"]).arg(&app.dir);
        if app.user == User::Ordinary {
            inside.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        inside.arg(up.get_program()).args(up.get_args()).env_clear();
        inside.envs(up.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if !redirect {
            inside.env("WATT_REDIRECT", "off");
        }
        let output = inside.output().expect("nsenter runs");
        assert!(output.status.success(), "{:?}: {}", app.user, printed(&output));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn application(allow: &str, sandbox: &str) -> String {
    format!(
        "services:
  a: {{ command: python3 services/ways_out.py, listen: none, restart: on-failure, sandbox: {sandbox}, egress: {{ {allow} }}, depends_on: [secret, open] }}
  open: {{ command: python3 services/web.py }}
  secret: {{ command: python3 services/web.py }}
policies:
  - {{ from: open, to: secret }}
"
    )
}

/// What became of one service's attempts.
struct Seen {
    lines: Vec<String>,
    asked: String,
    events: Vec<Value>,
    outside: Vec<Value>,
    what: String,
}

/// `None` where it cannot be tried.
fn attempts(user: User, redirect: bool, allow: &str, sandbox: &str) -> Option<Seen> {
    let app = App::case("", user);
    app.write("watt.yaml", &application(allow, sandbox));
    let world = World::new(&app)?;
    world.up(&app, redirect);
    let output = wait("everything was tried", || {
        let output = app.ok(&["logs", "a", "--json"]);
        if output.contains("end of attempts") { Ok(output) } else { Err(output) }
    });
    let text = |line: &str| Some(serde_json::from_str::<Value>(line).ok()?["text"].as_str()?.to_owned());
    let lines: Vec<String> = output.lines().filter_map(text).collect();
    // Both are told once a second; the last attempt of all is in them when they are complete.
    let last = "93.184.216.66:80";
    let events = wait("the refusals are told", || {
        let events = app.ok(&["events", "--json"]);
        let done = !allow.contains("[\"") || events.contains(last);
        if done { Ok(events) } else { Err(format!("{events}\n{lines:#?}")) }
    });
    let outside = wait("the destinations are counted", || {
        let outside = app.json(&["inspect", "a"])["outside"].as_array().cloned().unwrap_or_default();
        let done = !allow.contains("[\"") || outside.iter().any(|one| one["to"] == last);
        if done { Ok(outside) } else { Err(format!("{outside:#?}")) }
    });
    let seen = Seen {
        lines,
        asked: std::fs::read_to_string(app.dir.join("asked")).unwrap_or_default(),
        events: events.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
        outside,
        what: format!("{user:?}, redirect: {redirect}, {allow}, {sandbox}"),
    };
    app.ok(&["down"]);
    drop(world);
    app.assert_gone();
    Some(seen)
}

impl Seen {
    #[track_caller]
    fn expect(&self, what: &str, expected: &[&str]) {
        let start = format!("{what}: ");
        let came = self.lines.iter().find_map(|line| line.strip_prefix(&start));
        let lines = &self.lines;
        assert!(
            came.is_some_and(|came| expected.contains(&came)),
            "{}: {what} is {came:?}, not {expected:?}: {lines:#?}",
            self.what
        );
    }

    /// The line of configuration that an event offers for this.
    fn line_for(&self, target: &str) -> Option<&str> {
        let refusals = self.events.iter().filter(|event| event["kind"] == "egress_refused");
        let about = refusals.filter(|event| event["service"] == "a" && event["data"]["target"] == target);
        about.filter_map(|event| event["data"]["line"].as_str()).next()
    }

    fn destination(&self, to: &str) -> &Value {
        let found = self.outside.iter().find(|outside| outside["to"] == to);
        found.unwrap_or_else(|| panic!("{}: {to} is not in {:#?}", self.what, self.outside))
    }
}

/// A connection that is refused after the redirect, or has nobody to accept it.
const REFUSED: &[&str] = &["ECONNRESET", "ECONNREFUSED"];
const LIST: &str = r#"allow: ["db.example.org:80", "*.example.net:80", "10.1.2.0/24:80"]"#;

#[test]
fn what_is_not_in_the_list_is_out_of_reach_in_every_way() {
    for_each_user(|user| {
        for redirect in [true, false] {
            let Some(seen) = attempts(user, redirect, LIST, "standard") else { return };
            let by_name = ["by name", "in capitals", "another alphabet", "below a wildcard"];
            for what in by_name.into_iter().chain(["an address kept from before"]) {
                seen.expect(what, &["outside"]);
            }
            seen.expect("an address of a network", &["outside"]);
            seen.expect("a name in the network", &["outside"]);
            for what in [
                "another port",
                "a bare address",
                "another bare address",
                "an address beside the network",
                "a name of the inside, metadata",
                "a name of the inside, host",
                "a name of the inside, public-host",
                "other resolver over TCP",
                "another port of it",
            ] {
                seen.expect(what, REFUSED);
            }
            for what in [
                "another name",
                "a name above the wildcard",
                "own resolver over TCP",
                "own resolver over UDP",
            ] {
                seen.expect(what, &["no such name"]);
            }
            for what in ["other resolver over UDP", "UDP"] {
                seen.expect(what, &["ECONNREFUSED", "ENETUNREACH", "EPERM", "EACCES"]);
            }
            seen.expect("IPv6", &["ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT"]);
            for what in ["with a mark", "bound to a device"] {
                seen.expect(what, &["ECONNRESET", "ECONNREFUSED", "EPERM"]);
            }
            seen.expect("from a new network", &["ENETUNREACH", "no namespace"]);
            seen.expect("raw socket", &["EPERM", "EAFNOSUPPORT"]);
            seen.expect("packet socket", &["EPERM", "EAFNOSUPPORT"]);
            seen.expect("through the proxy's listeners", &["nowhere"]);
            seen.expect("a forbidden service", &["HTTP/1.1 403 Forbidden"]);
            seen.expect("its name at another's address", &["HTTP/1.1 403 Forbidden"]);
            seen.expect("changed rules", &["not allowed"]);
            assert!(!seen.asked.contains("evil"), "{}: {}", seen.what, seen.asked);
        }
    });
}

#[test]
fn a_refusal_comes_with_the_line_that_would_allow_it_and_is_counted() {
    let Some(seen) = attempts(User::Ordinary, true, LIST, "standard") else { return };
    for (target, allow) in [
        ("93.184.216.66:80", "93.184.216.66:80"),
        ("93.184.216.34:443", "db.example.org:443"),
        ("169.254.169.254:80", "169.254.169.254:80"),
        ("evil.net", "evil.net"),
    ] {
        let line = format!("services.a.egress.allow: [\"{allow}\"]");
        assert_eq!(seen.line_for(target), Some(&*line), "{:#?}", seen.events);
    }
    let made = seen.destination("db.example.org:80");
    // By name, in capitals, and with the address that was kept, once the name was looked up.
    assert_eq!((&made["connections"], &made["open"], &made["refused"]), (&3.into(), &0.into(), &0.into()));
    for count in ["sent", "received", "connect_us_mean", "connect_us_max"] {
        assert!(made[count].as_u64().is_some_and(|count| count > 0), "{count}: {made}");
    }
    let refused = seen.destination("db.example.org:443");
    assert_eq!((&refused["connections"], &refused["refused"]), (&0.into(), &1.into()), "{refused}");
}

/// Who may change the rules of its own network, as root in no sandbox may, gets around the redirect, and no
/// further.
#[test]
fn whoever_rules_its_own_network_gets_no_further() {
    for_each_user(|user| {
        let Some(seen) = attempts(user, true, LIST, "off") else { return };
        seen.expect("by name", &["outside"]);
        seen.expect("a bare address", REFUSED);
        seen.expect("a bare address after that", REFUSED);
        seen.expect("with a mark", &["ECONNRESET", "ECONNREFUSED", "EPERM"]);
        seen.expect("bound to a device", REFUSED);
        seen.expect("through the proxy's listeners", &["nowhere"]);
    });
}

#[test]
fn an_empty_list_is_no_way_out_and_no_list_is_every_way() {
    for_each_user(|user| {
        let Some(seen) = attempts(user, true, "allow: []", "standard") else { return };
        for what in ["a bare address", "an address of a network", "other resolver over TCP"] {
            seen.expect(what, &["ENETUNREACH"]);
        }
        for what in ["by name", "another name", "own resolver over TCP"] {
            seen.expect(what, &["no such name"]);
        }
        assert_eq!(seen.asked, "", "{}", seen.what);
        assert_eq!(seen.line_for("evil.net"), Some("services.a.egress.allow: [\"evil.net\"]"));

        let Some(seen) = attempts(user, true, "host_ports: []", "standard") else { return };
        for what in ["by name", "another name", "a bare address", "a name in the network"] {
            seen.expect(what, &["outside"]);
        }
        for name in ["metadata", "host", "public-host"] {
            seen.expect(&format!("a name of the inside, {name}"), &["outside"]);
        }
        assert!(seen.asked.contains("evil.net"));
        assert_eq!(seen.line_for("evil.net"), None);
    });
}

#[test]
fn on_the_hosts_network_a_list_is_called_not_enforced() {
    for_each_user(|user| {
        // A strict sandbox has an empty list, unless another one is written.
        let service =
            "services:\n  a: { command: sleep 1000, listen: none, network: host, sandbox: strict }\n";
        let app = App::yaml(service, user);
        app.up();
        let unenforced = app.service("a")["unenforced"].to_string();
        assert!(unenforced.contains("egress.allow"), "{user:?}: {unenforced}");
        app.down();
        app.write("watt.yaml", &service.replace("sandbox: strict", "egress: { allow: [example.org] }"));
        let check = app.run(&["config", "check"]);
        assert!(
            !check.status.success()
                && printed(&check).contains("`allow` has no effect on the host's network")
        );
    });
}
