//! Several listeners of the gateway.

use std::time::Duration;

use insta::assert_snapshot;
use watt_core::plan::{ClientBounds, ListenAt, Listener, RouteTarget, SocketOwner, ToHttps, UpstreamServer};

use crate::{invalid, valid};

const SERVICES: &str = "services: { a: { command: sh }, b: { command: sh } }\n";

fn of(text: &str) -> watt_core::plan::Plan {
    valid(&format!("{SERVICES}{text}")).plan
}

fn wrong(text: &str) -> String {
    invalid(&format!("{SERVICES}{text}")).to_string()
}

#[test]
fn each_has_its_place_its_routes_and_its_bounds() {
    let plan = of("
server: { port: 443, tls: { certificate: a.pem }, head_timeout: 5s }
gateway:
  routes: [{ service: a }]
  listeners:
    admin: { port: 9000, routes: [{ service: b }], idle_timeout: 1m, head_limit: 16K, body_limit: 1M, body_rate: 0 }
    local: { unix: run/gateway.sock, mode: 0600, group: www-data }
    plain: { hostname: 0.0.0.0, port: 80, redirect: https }
    acme: { hostname: 127.0.0.2, port: 81, redirect: https, redirect_port: 8443, routes: [{ path: /.well-known, service: b }] }
");
    let names: Vec<&str> = plan.listeners.keys().map(String::as_str).collect();
    assert_eq!(names, ["acme", "admin", "local", "plain", "server"]);
    let [acme, admin, local, plain, server] =
        ["acme", "admin", "local", "plain", "server"].map(|name| &plan.listeners[name]);
    assert_eq!(server.at.to_string(), "127.0.0.1:443");
    assert_eq!(
        server.bounds,
        ClientBounds { head_timeout: Duration::from_secs(5), ..ClientBounds::default() }
    );
    assert_eq!((server.routes.as_ref(), local.routes.as_ref()), (None, None));
    let bounds = ClientBounds {
        idle_timeout: Duration::from_secs(60),
        head_max: 16 << 10,
        body_max: Some(1 << 20),
        body_rate_min: Some(0),
        ..ClientBounds::default()
    };
    assert_eq!((&admin.bounds, admin.routes.as_ref().map(Vec::len)), (&bounds, Some(1)));
    let owner = SocketOwner { user: None, group: Some("www-data".into()) };
    assert_eq!(local.at, ListenAt::Unix { path: "/srv/shop/run/gateway.sock".into(), mode: 0o600, owner });
    assert_eq!(
        (plain.to_https, plain.routes.as_ref().map(Vec::len)),
        (Some(ToHttps { port: None }), Some(0))
    );
    assert_eq!(
        (acme.to_https, acme.routes.as_ref().map(Vec::len)),
        (Some(ToHttps { port: Some(8443) }), Some(1))
    );
    assert_eq!(plan.all_routes().count(), 3);
}

#[test]
fn where_listeners_are_named_there_is_no_other() {
    let plan = of("gateway: { routes: [{ service: a }], listeners: { local: { unix: /run/x.sock } } }");
    assert_eq!(plan.listeners.keys().collect::<Vec<_>>(), ["local"]);
    let plan =
        of("server: {}\ngateway: { routes: [{ service: a }], listeners: { local: { unix: /run/x.sock } } }");
    assert_eq!(plan.listeners.keys().collect::<Vec<_>>(), ["local", "server"]);
    let plan = of("gateway: { listeners: { admin: { port: 1, routes: [{ service: a }] } } }");
    assert_eq!(plan.listeners.keys().collect::<Vec<_>>(), ["admin"]);
}

/// A route is for one request once in a listener, and may be in several.
#[test]
fn equal_routes_are_told_for_each_listener() {
    of(
        "server: {}\ngateway: { routes: [{ service: a }], listeners: { x: { port: 1, routes: [{ service: b }] } } }",
    );
    assert_snapshot!(wrong("gateway: { listeners: { x: { port: 1, routes: [{ path: /a, service: a }, { path: /a, service: b }] } } }"), @r#"
    error: two routes for `/a`
     --> watt.yaml:2:82
      |
    2 | … path: /a, service: a }, { path: /a, service: b }] } } }
      |                                   ^^
      = note: the first one is here
     --> watt.yaml:2:56
      |
    2 | …{ x: { port: 1, routes: [{ path: /a, service: a }, { path: /a, service: b }] } } }
      |                                   ^^
      = hint: keep one of them, or give them different paths or hosts
    "#);
}

#[test]
fn listeners_that_cannot_be() {
    assert_snapshot!(wrong("
gateway:
  routes: [{ service: a }]
  listeners:
    server: { port: 1 }
    Admin: { port: 2 }
    both: { port: 3, unix: /run/x.sock }
    nowhere: { tls: { certificate: a.pem } }
    secure: { unix: /run/y.sock, tls: { certificate: a.pem } }
    owned: { port: 4, mode: 600 }
    hasty: { port: 5, head_timeout: 0, head_limit: 1M }
    sent: { port: 6, redirect_port: 443 }
    cert: { port: 7, cert: x }
"), @r#"
    error: `server` is the listener at the top of the file
     --> watt.yaml:6:5
      |
    6 |     server: { port: 1 }
      |     ^^^^^^
      = hint: give this one another name

    error: `Admin` cannot be a listener's name: 'A' is not allowed: a name is made of a-z, 0-9, '-' and '_'
     --> watt.yaml:7:5
      |
    7 |     Admin: { port: 2 }
      |     ^^^^^

    error: a listener is at a Unix socket or at a port
     --> watt.yaml:8:13
      |
    8 |     both: { port: 3, unix: /run/x.sock }
      |             ^^^^
      = hint: write two listeners, or keep one of them

    error: `port` is missing
     --> watt.yaml:9:5
      |
    9 |     nowhere: { tls: { certificate: a.pem } }
      |     ^^^^^^^
      = hint: for example `port: 9000`

    error: `tls` at a Unix socket
      --> watt.yaml:10:34
       |
    10 |     secure: { unix: /run/y.sock, tls: { certificate: a.pem } }
       |                                  ^^^
       = hint: remove it, or write `port` in place of `unix`

    error: a port has neither mode nor owner
      --> watt.yaml:11:23
       |
    11 |     owned: { port: 4, mode: 600 }
       |                       ^^^^
       = hint: write `unix` in place of `port`, or remove it

    error: with `head_timeout` of no time, nobody gets an answer
      --> watt.yaml:12:37
       |
    12 |     hasty: { port: 5, head_timeout: 0, head_limit: 1M }
       |                                     ^
       = hint: write a longer time, or remove it

    error: the longest head is between 1K and 64K
      --> watt.yaml:12:52
       |
    12 |     hasty: { port: 5, head_timeout: 0, head_limit: 1M }
       |                                                    ^^
       = hint: for example `head_limit: 16K`

    error: a port to be sent to, and no `redirect`
      --> watt.yaml:13:37
       |
    13 |     sent: { port: 6, redirect_port: 443 }
       |                                     ^^^
       = hint: write `redirect: https` as well

    error: unknown key `cert` in `gateway.listeners.cert`
      --> watt.yaml:14:22
       |
    14 |     cert: { port: 7, cert: x }
       |                      ^^^^
       = hint: known here: `hostname`, `port`, `unix`, `mode`, `user`, `group`, `tls`, `proxy_protocol`, `routes`, `redirect`, `redirect_port`, `head_timeout`, `idle_timeout`, `head_limit`, `body_limit`, `body_rate`
    "#);
}

#[test]
fn listeners_that_do_not_go_together() {
    assert_snapshot!(wrong("
server: { hostname: 0.0.0.0, port: 80 }
gateway:
  routes: [{ service: a }]
  listeners:
    admin: { port: 80 }
    local: { unix: /run/x.sock }
    other: { unix: /run/x.sock }
"), @r#"
    error: 127.0.0.1:80 is taken by the listener of `server`
     --> watt.yaml:7:20
      |
    7 |     admin: { port: 80 }
      |                    ^^
      = note: it listens there
     --> watt.yaml:3:36
      |
    3 | server: { hostname: 0.0.0.0, port: 80 }
      |                                    ^^
      = hint: write another one, or put the routes of both into one

    error: unix:/run/x.sock is taken by the listener `local`
     --> watt.yaml:9:20
      |
    9 |     other: { unix: /run/x.sock }
      |                    ^^^^^^^^^^^
      = note: it listens there
     --> watt.yaml:8:20
      |
    8 |     local: { unix: /run/x.sock }
      |                    ^^^^^^^^^^^
      = hint: write another one, or put the routes of both into one
    "#);
    // Two addresses, and ports that the kernel chooses, are no obstacle.
    of(
        "server: { hostname: 127.0.0.1, port: 80 }\ngateway: { routes: [{ service: a }], listeners: { x: { hostname: 127.0.0.2, port: 80 }, y: { port: 0 }, z: { port: 0 } } }",
    );
    assert_snapshot!(wrong("gateway: { routes: [{ service: a }], listeners: { x: { port: 80, redirect: https }, y: { port: 81 } } }"), @r#"
    error: clients are sent to TLS, and no listener speaks it
     --> watt.yaml:2:76
      |
    2 | …ners: { x: { port: 80, redirect: https }, y: { port: 81 } } }
      |                                   ^^^^^
      = hint: give one of them `tls`, or write `redirect_port` if something before the gateway speaks it and comes in by another listener
    "#);
    assert_snapshot!(wrong("gateway: { routes: [{ service: a }], listeners: { x: { port: 80, routes: [{ service: b }] } } }"), @r#"
    error: routes of the gateway that no listener has: each has its own
     --> watt.yaml:2:23
      |
    2 | gateway: { routes: [{ service: a }], listeners: { x: { port: 80, routes: [{ service: b }] } } }
      |                       ^^^^^^^
      = hint: write `server` for the listener that they are of, or remove them
    "#);
    assert_snapshot!(wrong("gateway: { listeners: { x: { port: 80 } } }"), @r#"
    error: a listener without a route: no request could be answered
     --> watt.yaml:2:25
      |
    2 | gateway: { listeners: { x: { port: 80 } } }
      |                         ^
      = hint: add `routes: [{ path: /, service: a }]`
    "#);
    assert_snapshot!(wrong("server: { tls: { certificate: a.pem }, redirect: https }\ngateway: { routes: [{ service: a }] }"), @r#"
    error: clients that speak TLS already would be sent to it
     --> watt.yaml:2:50
      |
    2 | server: { tls: { certificate: a.pem }, redirect: https }
      |                                                  ^^^^^
      = hint: write it at a listener without `tls`
    "#);
}

#[test]
fn collectors_have_a_listener_of_their_own_that_only_this_host_reaches_by_default() {
    let at = |text: &str| {
        let plan = of(text);
        let listener = plan.listeners.get(Listener::METRICS)?;
        let routes = listener.routes.as_ref().expect("its own");
        assert_eq!(routes[2..].iter().map(|route| &*route.path).collect::<Vec<_>>(), ["/ready", "/status"]);
        for route in routes {
            let RouteTarget::Upstream(upstream) = &route.target else { panic!("{route:?}") };
            assert_eq!((&upstream.server, route.guard.body_max), (&UpstreamServer::Metrics, Some(0)));
        }
        Some(format!("{}{}", listener.at, listener.routes.as_ref()?.first()?.path))
    };
    for none in ["", "metrics: false", "metrics: { enabled: false, port: 9091 }"] {
        assert_eq!(at(none), None, "{none}");
    }
    for (text, expected) in [
        ("metrics: true", "127.0.0.1:9090/metrics"),
        ("metrics: {}", "127.0.0.1:9090/metrics"),
        ("metrics: { port: 9091 }", "127.0.0.1:9091/metrics"),
        ("metrics: { hostname: 0.0.0.0, endpoint: /figures }", "0.0.0.0:9090/figures"),
    ] {
        assert_eq!(at(text).as_deref(), Some(expected), "{text}");
    }
    let with_routes = of("metrics: true\ngateway: { routes: [{ service: a }] }");
    assert_eq!(with_routes.listeners.keys().collect::<Vec<_>>(), ["metrics", "server"]);

    assert_snapshot!(wrong("metrics: { port: 3042, endpoint: metrics }\ngateway: { routes: [{ service: a }], listeners: { metrics: { port: 1 } } }\nserver: { port: 3042 }\n"), @r#"
    error: 127.0.0.1:3042 is taken by the listener of `server`
     --> watt.yaml:2:18
      |
    2 | metrics: { port: 3042, endpoint: metrics }
      |                  ^^^^
      = note: it listens there
     --> watt.yaml:4:17
      |
    4 | server: { port: 3042 }
      |                 ^^^^
      = hint: write another one, or put the routes of both into one

    error: `metrics` does not start with `/`
     --> watt.yaml:2:34
      |
    2 | metrics: { port: 3042, endpoint: metrics }
      |                                  ^^^^^^^
      = hint: did you mean `/metrics`?

    error: `metrics` is the listener at the top of the file
     --> watt.yaml:3:51
      |
    3 | gateway: { routes: [{ service: a }], listeners: { metrics: { port: 1 } } }
      |                                                   ^^^^^^^
      = hint: give this one another name
    "#);
    assert_snapshot!(wrong("metrics: yes please\n"), @r#"
    error: `yes please` is neither `true` nor `false`
     --> watt.yaml:2:10
      |
    2 | metrics: yes please
      |          ^^^^^^^^^^
    "#);
}
