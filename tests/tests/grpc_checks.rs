//! Checks by gRPC's health service, of a server that is gRPC's own.

use std::{path::Path, process::Command};

use watt_tests::{App, User, for_each_user, wait};

/// The interpreter that has the distribution's packages.
const PYTHON: &str = "/usr/bin/python3";

/// A server of grpcio, whose health is in files. Messages are bytes here, so that nothing has to be generated.
const SERVER: &str = r#"
import concurrent.futures, os, sys, time, grpc

def check(request, context):
    service = request[2:].decode()
    open("asked", "a").write(f"{service} at {dict(context.invocation_metadata()).get('user-agent')}\n")
    if service not in ("", "shop.Cart"):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
    return b"\x08\x02" if os.path.exists("busy") else b"\x08\x01"

handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
if "--without" not in sys.argv:
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)])
server.add_insecure_port(f"127.0.0.1:{os.environ['PORT']}")
server.start()
server.wait_for_termination()
"#;

/// Whether there is a server to be asked. Where all tests have to be run, there is.
fn is_there() -> bool {
    let found = Path::new(PYTHON).exists()
        && Command::new(PYTHON)
            .args(["-c", "import grpc"])
            .output()
            .is_ok_and(|output| output.status.success());
    assert!(found || std::env::var_os("WATT_TEST_ALL").is_none(), "python3-grpcio is missing");
    if !found {
        eprintln!("left out: python3-grpcio is missing");
    }
    found
}

fn start(user: User, services: &str) -> App {
    let app = App::empty(user);
    app.write("server.py", SERVER);
    app.write("watt.yaml", &format!("services:\n{services}"));
    app
}

fn becomes(app: &App, state: &str) {
    wait(state, || match app.worker("cart", 0) {
        worker if worker["state"] == state => Ok(()),
        worker => Err(worker.to_string()),
    });
}

#[test]
fn a_server_s_own_health_says_whether_it_gets_requests() {
    if !is_there() {
        return;
    }
    for_each_user(|user| {
        for network in ["private", "host"] {
            let keys = "ready: { grpc: { service: shop.Cart }, interval: 1s, failures: 2 }, health: { grpc: true, failures: 1000 }";
            let cart = format!("  cart: {{ command: {PYTHON} server.py, network: {network}, {keys} }}\n");
            let app = start(user, &cart);
            app.up();
            becomes(&app, "ready");
            app.write("busy", "");
            wait("it is told why", || match app.ok(&["events"]) {
                events if events.contains("ready check failed: gRPC health of shop.Cart: NOT_SERVING") => {
                    Ok(())
                }
                events => Err(events),
            });
            becomes(&app, "unready");
            std::fs::remove_file(app.dir.join("busy")).expect("it was there");
            becomes(&app, "ready");
            wait("both of its healths were asked for", || {
                let asked = std::fs::read_to_string(app.dir.join("asked")).expect("it was asked");
                let both = asked.contains("shop.Cart at watt\n") && asked.contains("\n at watt\n");
                if both { Ok(()) } else { Err(asked) }
            });
            app.down();
        }
    });
}

#[test]
fn what_is_wrong_with_a_server_is_told() {
    if !is_there() {
        return;
    }
    let health = |check: &str| format!("health: {{ grpc: {check}, interval: 100ms, failures: 1 }}");
    let cart = format!("  cart: {{ command: {PYTHON} server.py --without, {} }}\n", health("true"));
    let other = format!("  other: {{ command: {PYTHON} server.py, {} }}\n", health("{ service: Other }"));
    let plain = format!("  plain: {{ command: {PYTHON} -m http.server 8080, {} }}\n", health("true"));
    let app = start(User::Ordinary, &format!("{cart}{other}{plain}"));
    // Who fails its first check is not ready for long: `up` may or may not see it.
    let up = app.begin_up();
    let expected = [
        "cart/0  health check failed: gRPC health: UNIMPLEMENTED: the server has no grpc.health.v1.Health",
        "other/0  health check failed: gRPC health of Other: NOT_FOUND: the server knows no service `Other`",
        "plain/0  health check failed: gRPC health: the answer is not HTTP/2",
    ];
    for line in expected {
        wait(line, || match app.ok(&["events"]) {
            events if events.contains(line) => Ok(()),
            events => Err(events),
        });
    }
    app.end_up(up);
}
