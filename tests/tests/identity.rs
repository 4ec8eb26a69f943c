//! Services are the same user to the kernel. None of them can pass for another one, for an operator or for the daemon.

use watt_tests::{App, User, for_each_user, is_root, wait};

const INTRUDER: &str = r#"
sandbox: SANDBOX
services:
  front: { command: python3 services/web.py }
  secret: { command: python3 services/web.py }
  intruder: { command: python3 services/intruder.py, listen: none, restart: on-failure, depends_on: [front, secret] }
server: { port: 0 }
gateway: { routes: [{ path: /, service: front }] }
policies:
  - { from: front, to: secret }
"#;

#[test]
fn no_service_uses_the_sockets_of_others() {
    for_each_user(|user| {
        intrude(user, "off");
        intrude(user, "standard");
    });
}

fn intrude(user: User, sandbox: &str) {
    let app = App::case("", user);
    app.write("watt.yaml", &INTRUDER.replace("SANDBOX", sandbox));
    app.up();
    let output = wait("the intruder has tried everything", || {
        let output = app.ok(&["logs", "intruder"]);
        if output.contains("done") { Ok(output) } else { Err(output) }
    });
    let (seen, around) = output.split_once("as the supervisor").expect("both ways");
    for (what, count) in [(": FileNotFoundError", 4), (": 200", 0)] {
        assert_eq!(seen.matches(what).count(), count, "{user:?} {what}: {output}");
    }
    // Root without a sandbox finds a way around what it does not see, and is refused by what it finds there. A
    // sandbox takes the rights over other processes away, as does an ordinary user's user namespace.
    let finds_a_way = user == User::Root && is_root() && sandbox == "off";
    let expected: &[&str] = match finds_a_way {
        true => &[": mesh.sock: 403", "control.sock: 403", "proxy.sock: closed"],
        false => {
            &[": mesh.sock: PermissionError", "control.sock: PermissionError", "proxy.sock: PermissionError"]
        }
    };
    for expected in expected {
        assert!(around.contains(expected), "{user:?} {expected}: {output}");
    }
    assert!(!around.contains(": 200"), "{user:?}: {output}");
    let events = app.ok(&["events"]);
    assert_eq!(events.contains("refused at the control socket"), finds_a_way, "{events}");
    app.down();
}
