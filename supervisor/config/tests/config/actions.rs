//! What routes do besides leading to one service.

use std::time::Duration;

use insta::assert_snapshot;
use watt_core::{
    ServiceId,
    plan::{Files, HeaderRules, Protocol, RouteFault, RouteTarget, Timeouts, Upstream, UpstreamServer},
};

use crate::{errors::with_routes, invalid, valid};

fn id(name: &str) -> ServiceId {
    ServiceId::new(name).unwrap()
}

#[test]
fn what_a_route_does() {
    let config = valid(
        r#"
services: {a: {command: x}, b: {command: x}}
gateway:
  routes:
  - {path: /a, services: {a: 9, b: 1}, sticky: canary}
  - {path: '/b/{id}', redirect: 'https://Example.org:8443/new/{id}/'}
  - {path: /c, match: exact, redirect: {to: /d/, status: 308}}
  - {path: /d, respond: 503}
  - {path: /e, respond: {body: <p>, type: text/html}, response_headers: {set: {Retry-After: 60}}}
  - path: /f
    service: a
    request_headers: {set: {X-Tenant: 7}, add: {x: y}, remove: [Authorization]}
    fault: {delay: 200ms, delayed: 50%, abort: 503}
"#,
    );
    let targets: Vec<_> = config.plan.routes.iter().map(|route| route.target.clone()).collect();
    let redirect = |status, to: &str| RouteTarget::Redirect { status, to: to.into() };
    let respond = |status, body: &str, content_type: &str| RouteTarget::Respond {
        status,
        body: body.into(),
        content_type: content_type.into(),
    };
    let shares = vec![(id("a"), 9), (id("b"), 1)];
    assert_eq!(
        targets,
        [
            RouteTarget::Split { shares, sticky: Some("canary".into()) },
            redirect(307, "https://Example.org:8443/new/{id}"),
            redirect(308, "/d/"),
            respond(503, "", "text/plain; charset=utf-8"),
            respond(200, "<p>", "text/html"),
            RouteTarget::Service(id("a")),
        ]
    );
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(config.plan.routes[4].response_headers.set, [pair("retry-after", "60")]);
    let [.., last] = &config.plan.routes[..] else { panic!("no routes") };
    let expected = HeaderRules {
        remove: vec!["authorization".into()],
        set: vec![pair("x-tenant", "7")],
        add: vec![pair("x", "y")],
    };
    assert_eq!(last.request_headers, expected);
    let fault = RouteFault { delay: Some((Duration::from_millis(200), 50)), abort: Some((503, 100)) };
    assert_eq!(last.fault, Some(fault));
}

#[test]
fn what_routes_do_that_makes_no_sense() {
    assert_snapshot!(invalid(&with_routes(
        "  - {path: /a, service: a, redirect: /x}\n  - {path: /b, services: {a: 0, b: 1}}\n  - {path: /c, services: {a: 0}, sticky: 'a b'}\n  - {path: /d, service: a, sticky: canary}\n  - {path: /e, redirect: {to: 'https://{x}.example.org', status: 304}}\n  - {path: '/f/{id}', redirect: '/{ID:-x}/{i}'}\n  - {path: /g, respond: {status: 204, body: x}, rewrite: /y}\n  - {path: /h, respond: 99}\n"
    )), @r"
    error: `service` and `redirect` together
     --> watt.yaml:5:28
      |
    5 |   - {path: /a, service: a, redirect: /x}
      |                            ^^^^^^^^
      = note: the other one is here
     --> watt.yaml:5:16
      |
    5 |   - {path: /a, service: a, redirect: /x}
      |                ^^^^^^^
      = hint: a route has one of them

    error: there is no service `b`
     --> watt.yaml:6:33
      |
    6 |   - {path: /b, services: {a: 0, b: 1}}
      |                                 ^
      = hint: did you mean `a`?

    error: no service gets a request
     --> watt.yaml:7:16
      |
    7 |   - {path: /c, services: {a: 0}, sticky: 'a b'}
      |                ^^^^^^^^
      = hint: for example `services: { api: 9, next: 1 }`

    error: `a b` is not the name of a cookie
     --> watt.yaml:7:42
      |
    7 |   - {path: /c, services: {a: 0}, sticky: 'a b'}
      |                                          ^^^^^
      = hint: for example `canary`

    error: `sticky` has no effect without `services`
     --> watt.yaml:8:36
      |
    8 |   - {path: /d, service: a, sticky: canary}
      |                                    ^^^^^^
      = hint: it keeps clients with one of `services`

    error: `{x}.example.org` is not a host name
     --> watt.yaml:9:31
      |
    9 |   - {path: /e, redirect: {to: 'https://{x}.example.org', status: 304}}
      |                               ^^^^^^^^^^^^^^^^^^^^^^^^^
      = hint: write `example.org`, or `*.example.org` for every name below it; without scheme and port

    error: 304 sends nobody elsewhere
     --> watt.yaml:9:66
      |
    9 |   - {path: /e, redirect: {to: 'https://{x}.example.org', status: 304}}
      |                                                                  ^^^
      = hint: 301, 302, 303, 307 or 308

    error: the path has no parameter `i`
      --> watt.yaml:10:33
       |
    10 |   - {path: '/f/{id}', redirect: '/{ID:-x}/{i}'}
       |                                 ^^^^^^^^^^^^^^
       = hint: did you mean `id`?

    error: an answer with status 204 has no body
      --> watt.yaml:11:45
       |
    11 |   - {path: /g, respond: {status: 204, body: x}, rewrite: /y}
       |                                             ^
       = hint: remove it, or write another status

    error: `rewrite` has no effect: no service sees the request
      --> watt.yaml:11:49
       |
    11 |   - {path: /g, respond: {status: 204, body: x}, rewrite: /y}
       |                                                 ^^^^^^^
       = hint: remove it

    error: 99 is out of range
      --> watt.yaml:12:25
       |
    12 |   - {path: /h, respond: 99}
       |                         ^^
       = hint: between 200 and 599
    ");
    assert_snapshot!(invalid(&with_routes(
        "  - {path: /a, service: a, request_headers: {set: {Host: x, X-Forwarded-For: y}, remove: ['a b', Via]}}\n  - {path: /b, service: a, response_headers: {add: {content-length: 5, x: \"a\\nb\"}}}\n  - {path: /c, service: a, fault: {delay: 2m, aborted: 5%}}\n  - {path: /d, service: a, fault: {abort: 200, delayed: 0%}}\n  - {path: /e}\n"
    )), @r#"
    error: `Host` is the connection's or the proxy's own
     --> watt.yaml:5:52
      |
    5 | …vice: a, request_headers: {set: {Host: x, X-Forwarded-For: y}, remove: ['a b', Via]}}
      |                                   ^^^^

    error: `X-Forwarded-For` is the connection's or the proxy's own
     --> watt.yaml:5:61
      |
    5 | …request_headers: {set: {Host: x, X-Forwarded-For: y}, remove: ['a b', Via]}}
      |                                   ^^^^^^^^^^^^^^^

    error: `a b` is not the name of a header
     --> watt.yaml:5:91
      |
    5 | …x, X-Forwarded-For: y}, remove: ['a b', Via]}}
      |                                   ^^^^^

    error: `Via` is the connection's or the proxy's own
     --> watt.yaml:5:98
      |
    5 | …rwarded-For: y}, remove: ['a b', Via]}}
      |                                   ^^^

    error: `content-length` is the connection's or the proxy's own
     --> watt.yaml:6:53
      |
    6 |   - {path: /b, service: a, response_headers: {add: {content-length: 5, x: "a\nb"}}}
      |                                                     ^^^^^^^^^^^^^^

    error: `a\nb` has characters that no header has
     --> watt.yaml:6:75
      |
    6 |   - {path: /b, service: a, response_headers: {add: {content-length: 5, x: "a\nb"}}}
      |                                                                           ^^^^^^

    error: a delay on purpose is at most a minute
     --> watt.yaml:7:43
      |
    7 |   - {path: /c, service: a, fault: {delay: 2m, aborted: 5%}}
      |                                           ^^

    error: `aborted` has no effect without `abort`
     --> watt.yaml:7:56
      |
    7 |   - {path: /c, service: a, fault: {delay: 2m, aborted: 5%}}
      |                                                        ^^
      = hint: write `abort`, or remove it

    error: 200 is out of range
     --> watt.yaml:8:43
      |
    8 |   - {path: /d, service: a, fault: {abort: 200, delayed: 0%}}
      |                                           ^^^
      = hint: between 400 and 599

    error: `0%` is not a part of the whole
     --> watt.yaml:8:57
      |
    8 |   - {path: /d, service: a, fault: {abort: 200, delayed: 0%}}
      |                                                         ^^
      = hint: write a whole number from `1%` to `100%`

    error: `service` is missing
     --> watt.yaml:9:6
      |
    9 |   - {path: /e}
      |      ^^^^
      = hint: for example `service: "api"`
    "#);
}

#[test]
fn what_a_route_asks_for_is_bounded() {
    let many = |entry: &dyn Fn(usize) -> String| (0..33).map(entry).collect::<Vec<_>>().join(", ");
    let (methods, headers) = (many(&|number| format!("M{number}")), many(&|number| format!("h{number}: x")));
    let report = invalid(&with_routes(&format!(
        "  - {{path: /a, service: a, methods: [{methods}]}}\n  - {{path: /b, service: a, headers: {{{headers}}}}}\n"
    )));
    let report = report.to_string();
    for what in ["a route with more than 32 methods", "a route with more than 32 conditions"] {
        assert!(report.contains(what), "{report}");
    }
}

#[test]
fn headers_that_are_changed_are_bounded_and_the_clients_own() {
    let many: String = (0..33).map(|number| format!("h{number}: x, ")).collect();
    let long = "x".repeat(8 << 10);
    assert_snapshot!(invalid(&with_routes(&format!(
        "  - {{path: /a, service: a, request_headers: {{set: {{{many}}}}}}}\n  - {{path: /b, service: a, response_headers: {{add: {{b: {long}}}}}}}\n"
    ))).to_string().lines().filter(|line| line.starts_with("error")).collect::<Vec<_>>().join("\n"), @r"
    error: more than 32 headers are changed
    error: the headers that are set and added have more than 8 KB
    ");
    assert_snapshot!(invalid(&with_routes(
        "  - {path: /c, service: a, request_headers: {set: {X-Tenant: 1, x-tenant: 2, x_forwarded_for: 3, Grpc-Timeout: 1S}}}\n"
    )), @r"
    error: the header `x-tenant` is there twice
     --> watt.yaml:5:65
      |
    5 | …est_headers: {set: {X-Tenant: 1, x-tenant: 2, x_forwarded_for: 3, Grpc-Timeout: 1S}}}
      |                                   ^^^^^^^^

    error: `x_forwarded_for` is the connection's or the proxy's own
     --> watt.yaml:5:78
      |
    5 | …{set: {X-Tenant: 1, x-tenant: 2, x_forwarded_for: 3, Grpc-Timeout: 1S}}}
      |                                   ^^^^^^^^^^^^^^^

    error: `Grpc-Timeout` is the connection's or the proxy's own
     --> watt.yaml:5:98
      |
    5 | …x-tenant: 2, x_forwarded_for: 3, Grpc-Timeout: 1S}}}
      |                                   ^^^^^^^^^^^^
    ");
}

#[test]
fn what_routes_say_together() {
    assert_snapshot!(invalid(&with_routes(
        "  - {path: /a, services: {a: 1}, sticky: c}\n  - {path: /b, services: {b: 1}, sticky: c}\n  - {path: /c, redirect: /c/}\n  - {path: /d, redirect: 'https://*.example.org'}\n  - {path: /e, service: a, fault: {}}\n  - {path: /f, services: [a]}\n"
    )), @r#"
    error: the cookie `c` is another route's, with other services
     --> watt.yaml:6:12
      |
    6 |   - {path: /b, services: {b: 1}, sticky: c}
      |            ^^
      = note: the first one is here
     --> watt.yaml:5:12
      |
    5 |   - {path: /a, services: {a: 1}, sticky: c}
      |            ^^
      = hint: give each of them a name of its own

    error: there is no service `b`
     --> watt.yaml:6:27
      |
    6 |   - {path: /b, services: {b: 1}, sticky: c}
      |                           ^
      = hint: did you mean `a`?

    error: a redirect to where it comes from
     --> watt.yaml:7:12
      |
    7 |   - {path: /c, redirect: /c/}
      |            ^^
      = hint: write another path, or a URL

    error: `*.example.org` is not the name of one host
     --> watt.yaml:8:26
      |
    8 |   - {path: /d, redirect: 'https://*.example.org'}
      |                          ^^^^^^^^^^^^^^^^^^^^^^^
      = hint: write one, or a path alone for the host that was asked

    error: a fault that is none
     --> watt.yaml:9:28
      |
    9 |   - {path: /e, service: a, fault: {}}
      |                            ^^^^^
      = hint: write `delay` or `abort`, or remove it

    error: `services` is a table by service, and this is a list
      --> watt.yaml:10:26
       |
    10 |   - {path: /f, services: [a]}
       |                          ^^^
       = hint: for example `services: {"api": 9, "web": 1}`
    "#);
    let body = "x".repeat(64 << 10);
    let many: String =
        (0..17).map(|number| format!("  - {{path: /{number}, respond: {{body: {body}}}}}\n")).collect();
    let report = invalid(&with_routes(&many)).to_string();
    assert!(report.contains("bodies and headers of routes of more than 1 MB"), "{}", &report[..200]);
    let agreed = "  - {path: /a, services: {a: 1}, sticky: c}\n  - {path: /b, services: {a: 9}, sticky: c}\n  - {path: /, redirect: /a}\n";
    assert!(watt_config::parse(&crate::sources("watt.yaml", &with_routes(agreed))).is_ok());
}

#[test]
fn servers_outside() {
    let config = valid(&with_routes(
        "  - {path: /a, upstream: 'http://Example.org'}\n  - {path: /b, upstream: 'http://[2001:DB8::1]:81/'}\n  - {path: /c, upstream: 'unix:/run/other.sock'}\n  - {path: /d, upstream: 'internal://a'}\n  - {path: /e, upstream: {url: 'http://localhost:8080', host: client, protocol: h2c, timeouts: {connect: 1s}}}\n  - {path: /f, upstream: {url: 'http://127.0.0.1:81', host: 'legacy:82'}}\n",
    ));
    let targets: Vec<_> = config.plan.routes.iter().map(|route| route.target.clone()).collect();
    let tcp = |name: &str, port| UpstreamServer::Tcp { name: name.into(), port };
    let plain = |server: UpstreamServer, host: Option<&str>| {
        RouteTarget::Upstream(Upstream {
            server,
            host: host.map(str::to_owned),
            protocol: Protocol::Http1,
            timeouts: Timeouts::default(),
            ca: None,
        })
    };
    let timeouts = Timeouts { connect: Duration::from_secs(1), ..Timeouts::default() };
    let other =
        Upstream { server: tcp("localhost", 8080), host: None, protocol: Protocol::H2c, timeouts, ca: None };
    assert_eq!(
        targets,
        [
            plain(tcp("example.org", 80), Some("example.org")),
            plain(tcp("2001:db8::1", 81), Some("[2001:db8::1]:81")),
            plain(UpstreamServer::Unix("/run/other.sock".into()), None),
            RouteTarget::Service(id("a")),
            RouteTarget::Upstream(other),
            plain(tcp("127.0.0.1", 81), Some("legacy:82")),
        ]
    );
    let names: Vec<_> = config.plan.upstreams().map(|upstream| upstream.server.to_string()).collect();
    assert_eq!(
        names,
        [
            "http://example.org",
            "http://[2001:db8::1]:81",
            "unix:/run/other.sock",
            "http://localhost:8080",
            "http://127.0.0.1:81"
        ]
    );
}

#[test]
fn servers_outside_in_tls() {
    let config = valid(&with_routes(
        "  - {path: /a, upstream: 'https://Example.org'}\n  - {path: /b, upstream: {url: 'https://[::1]:8443', ca: /ca.pem, protocol: http1}}\n",
    ));
    let said: Vec<_> = config.plan.upstreams().map(|to| (to.server.to_string(), to.host.clone())).collect();
    let said: Vec<_> = said.iter().map(|(url, host)| (url.as_str(), host.as_deref())).collect();
    let expected = [("https://example.org", Some("example.org")), ("https://[::1]:8443", Some("[::1]:8443"))];
    assert_eq!(said, expected);
    let read: Vec<_> = config.plan.text_files().into_iter().map(|path| path.display().to_string()).collect();
    assert_eq!(read, ["/ca.pem"]);

    assert_snapshot!(invalid(&with_routes(
        "  - {path: /a, upstream: {url: 'http://a.example', ca: ca.pem}}\n  - {path: /b, upstream: {url: 'https://b.example', protocol: http2}}\n  - {path: /c, upstream: {url: 'internal://a', ca: ca.pem}}\n"
    )), @r#"
    error: nobody vouches for a server without TLS
     --> watt.yaml:5:52
      |
    5 |   - {path: /a, upstream: {url: 'http://a.example', ca: ca.pem}}
      |                                                    ^^
      = hint: write `https://` in `url`, or remove it

    error: HTTP/2 is not spoken in TLS with servers outside
     --> watt.yaml:6:53
      |
    6 |   - {path: /b, upstream: {url: 'https://b.example', protocol: http2}}
      |                                                     ^^^^^^^^
      = hint: remove it: HTTP/1.1 is, which nearly all that speak HTTP/2 speak as well

    error: nobody vouches for a server without TLS
     --> watt.yaml:7:48
      |
    7 |   - {path: /c, upstream: {url: 'internal://a', ca: ca.pem}}
      |                                                ^^
      = hint: write `https://` in `url`, or remove it
    "#);
}

#[test]
fn servers_outside_that_are_none() {
    assert_snapshot!(invalid(&with_routes(
        "  - {path: /a, upstream: example.org}\n  - {path: /b, upstream: 'http://example.org/x'}\n  - {path: /c, upstream: 'unix:other.sock'}\n  - {path: /d, upstream: 'http://a.plt.local'}\n  - {path: /e, upstream: 'internal://b'}\n  - {path: /f, upstream: {url: 'internal://a', host: client}}\n  - {path: /g, upstream: 'http://x'}\n  - {path: /h, upstream: {url: 'http://x', host: client}}\n  - {path: /i, upstream: {host: 'a b'}}\n  - {path: /j, upstream: 'http://me:secret@x:80'}\n"
    )), @r#"
    error: `example.org` is not an upstream
     --> watt.yaml:5:26
      |
    5 |   - {path: /a, upstream: example.org}
      |                          ^^^^^^^^^^^
      = hint: write `http://example.org:8080`, `https://example.org`, `unix:/run/other.sock` or `internal://NAME`

    error: `http://example.org/x` has a path
     --> watt.yaml:6:26
      |
    6 |   - {path: /b, upstream: 'http://example.org/x'}
      |                          ^^^^^^^^^^^^^^^^^^^^^^
      = hint: write what the path becomes as `rewrite`

    error: `other.sock` is not the path of a socket
     --> watt.yaml:7:26
      |
    7 |   - {path: /c, upstream: 'unix:other.sock'}
      |                          ^^^^^^^^^^^^^^^^^
      = hint: an absolute one of at most 107 bytes: `unix:/run/other.sock`

    error: `a.plt.local` is a name of the mesh
     --> watt.yaml:8:26
      |
    8 |   - {path: /d, upstream: 'http://a.plt.local'}
      |                          ^^^^^^^^^^^^^^^^^^^^
      = hint: write `service`, or `internal://NAME`

    error: there is no service `b`
     --> watt.yaml:9:26
      |
    9 |   - {path: /e, upstream: 'internal://b'}
      |                          ^^^^^^^^^^^^^^
      = hint: did you mean `a`?

    error: `host` of a service is the service's to say
      --> watt.yaml:10:48
       |
    10 |   - {path: /f, upstream: {url: 'internal://a', host: client}}
       |                                                ^^^^
       = hint: remove it

    error: two routes say different things of `http://x`
      --> watt.yaml:12:12
       |
    12 |   - {path: /h, upstream: {url: 'http://x', host: client}}
       |            ^^
       = note: the first one is here
      --> watt.yaml:11:12
       |
    11 |   - {path: /g, upstream: 'http://x'}
       |            ^^
       = hint: `host`, `protocol`, `timeouts` and `ca` are the same for all routes to a server

    error: `url` is missing
      --> watt.yaml:13:16
       |
    13 |   - {path: /i, upstream: {host: 'a b'}}
       |                ^^^^^^^^
       = hint: for example `url: "http://legacy.example.org:8080"`

    error: `a b` is not a host
      --> watt.yaml:13:33
       |
    13 |   - {path: /i, upstream: {host: 'a b'}}
       |                                 ^^^^^
       = hint: a name or an address

    error: `me:secret@x:80` has more than one colon
      --> watt.yaml:14:26
       |
    14 |   - {path: /j, upstream: 'http://me:secret@x:80'}
       |                          ^^^^^^^^^^^^^^^^^^^^^^^
       = hint: an IPv6 address is in brackets: `[2001:db8::1]:443`
    "#);
}

#[test]
fn copies_for_another_service() {
    let config = valid(&with_routes(
        "  - {path: /a, service: a, mirror: a}\n  - {path: /b, service: a, mirror: {service: a, part: 5%}}\n",
    ));
    let mirrors: Vec<_> = config.plan.routes.iter().map(|route| route.mirror.clone()).collect();
    assert_eq!(mirrors, [Some((id("a"), 100)), Some((id("a"), 5))]);
    let report = invalid(&with_routes(
        "  - {path: /a, service: a, mirror: b}\n  - {path: /b, redirect: /a, mirror: a}\n  - {path: /c, service: a, mirror: {part: 0%}}\n",
    ));
    let report = report.to_string();
    for what in [
        "there is no service `b`",
        "`mirror` has no effect: no service sees the request",
        "`service` is missing",
        "`0%` is not a part of the whole",
    ] {
        assert!(report.contains(what), "{what}: {report}");
    }
}

#[test]
fn files_of_a_folder() {
    let config = valid(&with_routes(
        "  - {path: /, static: dist}\n  - {path: /x, static: {root: /srv/x, index: main.htm, spa: app/index.html, cache_control: 'max-age=60', precompressed: false, hidden: true}}\n",
    ));
    let targets: Vec<_> = config.plan.routes.iter().map(|route| route.target.clone()).collect();
    let first = Files {
        root: "/srv/shop/dist".into(),
        index: "index.html".into(),
        spa: None,
        cache_control: "no-cache".into(),
        precompressed: true,
        hidden: false,
    };
    let second = Files {
        root: "/srv/x".into(),
        index: "main.htm".into(),
        spa: Some("app/index.html".into()),
        cache_control: "max-age=60".into(),
        precompressed: false,
        hidden: true,
    };
    assert_eq!(targets, [RouteTarget::Files(first), RouteTarget::Files(second)]);
    assert_snapshot!(invalid(&with_routes(
        "  - {path: /a, match: exact, static: dist}\n  - {path: /b, static: {root: dist, spa: ../x, index: a/b}}\n  - {path: /c, static: {index: x}, strip: true}\n  - {path: /d, static: {root: dist, cache_control: \"a\\nb\"}}\n"
    )), @r#"
    error: `static` needs a path with everything below it
     --> watt.yaml:5:30
      |
    5 |   - {path: /a, match: exact, static: dist}
      |                              ^^^^^^
      = hint: remove `match`

    error: `../x` is no path of a file below `root`
     --> watt.yaml:6:42
      |
    6 |   - {path: /b, static: {root: dist, spa: ../x, index: a/b}}
      |                                          ^^^^
      = hint: for example `index.html`

    error: `a/b` is not a file's name
     --> watt.yaml:6:55
      |
    6 |   - {path: /b, static: {root: dist, spa: ../x, index: a/b}}
      |                                                       ^^^
      = hint: a name has no `/`

    error: `root` is missing
     --> watt.yaml:7:16
      |
    7 |   - {path: /c, static: {index: x}, strip: true}
      |                ^^^^^^
      = hint: for example `root: "dist"`

    error: `a\nb` has characters that no header has
     --> watt.yaml:8:52
      |
    8 |   - {path: /d, static: {root: dist, cache_control: "a\nb"}}
      |                                                    ^^^^^^
    "#);
}
