//! What people see when something is wrong.

use insta::assert_snapshot;

use crate::{invalid, invalid_sources, sources};

#[test]
fn all_errors_at_once_in_the_order_of_their_places() {
    assert_snapshot!(invalid(include_str!("wrong.yaml")), @r#"
    error: `My Shop` cannot be an application's name: 'M' is not allowed: a name is made of a-z, 0-9, '-' and '_'
     --> watt.yaml:1:7
      |
    1 | name: My Shop
      |       ^^^^^^^
      = hint: did you mean `my-shop`?

    error: the variable PROT is not set
     --> watt.yaml:2:18
      |
    2 | server: { port: "{PROT}" }
      |                  ^^^^^^
      = hint: did you mean `PORT`? Or set it in the environment or in .env, or give a default: `{PROT:-…}`

    error: unknown key `comand` in `services.api`
     --> watt.yaml:5:5
      |
    5 |     comand: node server.js
      |     ^^^^^^
      = hint: did you mean `command`?

    error: there is no service `dbb`
     --> watt.yaml:6:23
      |
    6 |     depends_on: [web, dbb]
      |                       ^^^
      = hint: the services are `api`, `web`

    error: `30` has no unit
     --> watt.yaml:7:23
      |
    7 |     ready: { timeout: 30 }
      |                       ^^
      = hint: did you mean `30s` or `30ms`?

    error: `memory` of less than 1M, in which no program runs
     --> watt.yaml:8:23
      |
    8 |     limits: { memory: 512 }
      |                       ^^^
      = hint: did you mean `512M`?

    error: `&` is for a shell, and no shell is run
      --> watt.yaml:10:14
       |
    10 |     command: node server.js && echo done
       |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: quote it, or run a shell: `command: [sh, -c, "node server.js && echo done"]`

    error: watt sets `PORT` itself
      --> watt.yaml:11:12
       |
    11 |     env: { PORT: 3000 }
       |            ^^^^
       = hint: remove it, or write `listen: 3000`

    error: there is no service `wbe`
      --> watt.yaml:14:27
       |
    14 |     - { path: /, service: wbe }
       |                           ^^^
       = hint: did you mean `web`?
    "#);
}

#[test]
fn unknown_keys() {
    assert_snapshot!(invalid("services: {a: {comand: x}}\nservces: {}"), @r#"
    error: unknown key `comand` in `services.a`
     --> watt.yaml:1:16
      |
    1 | services: {a: {comand: x}}
      |                ^^^^^^
      = hint: did you mean `command`?

    error: unknown key `servces`
     --> watt.yaml:2:1
      |
    2 | servces: {}
      | ^^^^^^^
      = hint: did you mean `services`?
    "#);
    assert_snapshot!(invalid("services: {a: {command: x, cwd: y, build: strict, zzz: 1}}"), @r#"
    error: unknown key `cwd` in `services.a`
     --> watt.yaml:1:28
      |
    1 | services: {a: {command: x, cwd: y, build: strict, zzz: 1}}
      |                            ^^^
      = hint: write `path`

    error: unknown key `build` in `services.a`
     --> watt.yaml:1:36
      |
    1 | services: {a: {command: x, cwd: y, build: strict, zzz: 1}}
      |                                    ^^^^^
      = hint: it is not supported yet

    error: unknown key `zzz` in `services.a`
     --> watt.yaml:1:51
      |
    1 | services: {a: {command: x, cwd: y, build: strict, zzz: 1}}
      |                                                   ^^^
      = hint: known here: `id`, `path`, `command`, `env`, `unset_env`, `stdin`, `workers`, `slow_start`, `listen`, `protocol`, `network`, `egress`, `depends_on`, `startup`, `ready`, `health`, `restart`, `roll`, `stop`, `hooks`, `limits`, `limits_total`, `pressure`, `scheduling`, `sandbox`, `secrets`, `management`, `fd_store`, `timeouts`, `retries`, `breaker`, `bulkhead`, `balance`, `ejection`, `body_limit`, `rate_limit`, `rules`, `cache`, `openapi`
    "#);
}

#[test]
fn health() {
    assert_snapshot!(invalid(
        "services: {a: {command: x, ready: {log: up, interval: 1s}, health: {watchdog: 1ms, failures: 2, tcp: true}}, b: {command: x, listen: none, health: {}, startup: {http: {status: 99, headers: {Content-Length: 1}, body: '('}}}}"
    ));
}

#[test]
fn commands_of_checks() {
    assert_snapshot!(invalid(
        "services:\n  a: {command: x, ready: {http: /z, exec: ''}}\n  b: {command: x, health: {cmd: x}}\n  c: {command: x, startup: {exec: 'a | b'}}\n  d: {command: x, health: {test: [CMD, x], exec: {a: b}}}\n"
    ));
}

#[test]
fn calls_of_checks() {
    assert_snapshot!(invalid(
        "services:\n  a: {command: x, ready: {grpc: shop.Cart}}\n  b: {command: x, listen: none, health: {grpc: true}}\n  c: {command: x, startup: {grpc: {authority: 'http://x', port: 1}, tcp: true}}\n"
    ));
}

#[test]
fn notification_descriptors() {
    assert_snapshot!(invalid(
        "services:\n  a: {command: x, listen: fd, ready: {notification_fd: 3}}\n  b: {command: x, ready: {notification_fd: 2}}\n  c: {command: x, ready: {notification-fd: 3}}\n  d: {command: x, ready: {notification_fd: 3, notify: true, failures: 1}}\n  e: {command: x, listen: fd, ready: {notification_fd: 7}, fd_store: 4}\n  f: {command: x, fd_store: 129}\n"
    ));
}

#[test]
fn unset_variables() {
    assert_snapshot!(invalid("name: x{WROD}y\nservices: {a: {command: 'x {DB:?set it in .env}', env: {A: '{NONE'}}}"), @r#"
    error: the variable WROD is not set
     --> watt.yaml:1:8
      |
    1 | name: x{WROD}y
      |        ^^^^^^
      = hint: did you mean `WORD`? Or set it in the environment or in .env, or give a default: `{WROD:-…}`

    error: the variable DB is not set: set it in .env
     --> watt.yaml:2:28
      |
    2 | services: {a: {command: 'x {DB:?set it in .env}', env: {A: '{NONE'}}}
      |                            ^^^^^^^^^^^^^^^^^^^^

    error: `{NONE` is not a placeholder
     --> watt.yaml:2:61
      |
    2 | services: {a: {command: 'x {DB:?set it in .env}', env: {A: '{NONE'}}}
      |                                                             ^^^^^
      = hint: write `{NAME}`, `{NAME:-default}` or `{NAME:?message}`, or `{{` for a brace that is text
    "#);
}

#[test]
fn a_placeholder_without_quotes() {
    assert_snapshot!(invalid("services: {a: {command: x, workers: {COUNT:-2}}}"), @r#"
    error: `workers` is a whole number from 1 to 1000, or a table, and this is a table
     --> watt.yaml:1:37
      |
    1 | services: {a: {command: x, workers: {COUNT:-2}}}
      |                                     ^^^^^^^^^^
      = hint: a value that starts with a brace needs quotes: "{COUNT:-2}"
    "#);
    assert_snapshot!(invalid("services:\n  a:\n    command: x\n    listen: {PORT\n"), @r#"
    error: this `{` is never closed
     --> watt.yaml:4:13
      |
    4 |     listen: {PORT
      |             ^
      = hint: a value that starts with a brace needs quotes: "{NAME}"
    "#);
}

#[test]
fn a_value_from_a_variable_says_so() {
    assert_snapshot!(invalid("services: {a: {command: x, workers: '{WORD}'}}"), @r#"
    error: `word` is not a whole number (from variable WORD of the environment)
     --> watt.yaml:1:37
      |
    1 | services: {a: {command: x, workers: '{WORD}'}}
      |                                     ^^^^^^^^
    "#);
}

#[test]
fn duplicate_keys() {
    assert_snapshot!(invalid("services:\n  a: {command: x}\n  b: {command: x}\n  a: {command: y}\n"), @r#"
    error: `a` is written twice
     --> watt.yaml:4:3
      |
    4 |   a: {command: y}
      |   ^
      = note: it was first written here
     --> watt.yaml:2:3
      |
    2 |   a: {command: x}
      |   ^
      = hint: keep one of them
    "#);
    assert_snapshot!(invalid_sources(&sources("watt.json", "{\"name\": \"a\",\n \"name\": \"b\"}")), @r#"
    error: `services` is missing
     --> watt.json:1:1
      |
    1 | {"name": "a",
      | ^
      = hint: for example `services: {"api": {"command": "node server.js"}}`

    error: `name` is written twice
     --> watt.json:2:2
      |
    2 |  "name": "b"}
      |  ^^^^^^
      = note: it was first written here
     --> watt.json:1:2
      |
    1 | {"name": "a",
      |  ^^^^^^
      = hint: keep one of them
    "#);
    assert_snapshot!(invalid_sources(&sources("watt.toml", "name = \"a\"\nname = \"b\"\n")), @r#"
    error: `name` is written twice
     --> watt.toml:2:1
      |
    2 | name = "b"
      | ^^^^
      = note: it was first written here
     --> watt.toml:1:1
      |
    1 | name = "a"
      | ^^^^
      = hint: keep one of them
    "#);
}

#[test]
fn two_services_of_one_id() {
    assert_snapshot!(invalid("services:\n- {id: a, command: x}\n- {id: b, command: x}\n- {id: a, command: y}\n"), @r#"
    error: two services are called `a`
     --> watt.yaml:4:8
      |
    4 | - {id: a, command: y}
      |        ^
      = note: the first one is here
     --> watt.yaml:2:8
      |
    2 | - {id: a, command: x}
      |        ^
      = hint: give one of them another name
    "#);
}

#[test]
fn a_dependency_circle_with_its_path() {
    assert_snapshot!(invalid("services:\n  a: {command: x, depends_on: [b]}\n  b: {command: x, depends_on: [c]}\n  c: {command: x, depends_on: [a]}\n  d: {command: x, depends_on: [d]}\n"), @r#"
    error: services depend on each other in a circle: a -> b -> c -> a
     --> watt.yaml:4:32
      |
    4 |   c: {command: x, depends_on: [a]}
      |                                ^
      = hint: none of them could ever start; remove one of the dependencies

    error: `d` depends on itself
     --> watt.yaml:5:32
      |
    5 |   d: {command: x, depends_on: [d]}
      |                                ^
      = hint: none of them could ever start; remove one of the dependencies
    "#);
}

#[test]
fn unknown_services() {
    assert_snapshot!(invalid("services:\n  web: {command: x, depends_on: [database]}\n  databse: {command: x}\ngateway: {routes: [{service: wbe}]}\npolicies: [{from: web, to: nobody}]"), @r#"
    error: there is no service `database`
     --> watt.yaml:2:34
      |
    2 |   web: {command: x, depends_on: [database]}
      |                                  ^^^^^^^^
      = hint: did you mean `databse`?

    error: there is no service `wbe`
     --> watt.yaml:4:30
      |
    4 | gateway: {routes: [{service: wbe}]}
      |                              ^^^
      = hint: did you mean `web`?

    error: there is no service `nobody`
     --> watt.yaml:5:28
      |
    5 | policies: [{from: web, to: nobody}]
      |                            ^^^^^^
      = hint: the services are `databse`, `web`
    "#);
}

#[test]
fn names() {
    assert_snapshot!(invalid("name: my_app-\nservices: {My Api: {command: x}, '': {command: x}}"), @r#"
    error: `my_app-` cannot be an application's name: a name starts with a letter or digit and does not end with '-'
     --> watt.yaml:1:7
      |
    1 | name: my_app-
      |       ^^^^^^^
      = hint: did you mean `my_app`?

    error: `My Api` cannot be a service's name: 'M' is not allowed: a name is made of a-z, 0-9, '-' and '_'
     --> watt.yaml:2:12
      |
    2 | services: {My Api: {command: x}, '': {command: x}}
      |            ^^^^^^
      = hint: did you mean `my-api`?

    error: `` cannot be a service's name: a name cannot be empty
     --> watt.yaml:2:34
      |
    2 | services: {My Api: {command: x}, '': {command: x}}
      |                                  ^^
    "#);
}

#[test]
fn commands() {
    assert_snapshot!(invalid("services:\n  a: {command: 'node x && y'}\n  b: {command: 'A=1 node'}\n  c: {command: 'echo $HOME'}\n  d: {command: []}\n  e: {command: 'x \"y'}\n  f: {}\n  g: {command: [x, {a: b}]}\n"), @r#"
    error: `&` is for a shell, and no shell is run
     --> watt.yaml:2:16
      |
    2 |   a: {command: 'node x && y'}
      |                ^^^^^^^^^^^^^
      = hint: quote it, or run a shell: `command: [sh, -c, "node x && y"]`

    error: a variable before the program is for a shell, and no shell is run
     --> watt.yaml:3:16
      |
    3 |   b: {command: 'A=1 node'}
      |                ^^^^^^^^^^
      = hint: write `A` into `env`

    error: `$` is for a shell, and no shell is run
     --> watt.yaml:4:16
      |
    4 |   c: {command: 'echo $HOME'}
      |                ^^^^^^^^^^^^
      = hint: write `{NAME}` for a variable, or put the word into single quotes

    error: a command without a program
     --> watt.yaml:5:16
      |
    5 |   d: {command: []}
      |                ^^
      = hint: for example `command: ["node", "server.js"]`

    error: the quote " is never closed
     --> watt.yaml:6:16
      |
    6 |   e: {command: 'x "y'}
      |                ^^^^^^

    error: `command` is missing
     --> watt.yaml:7:3
      |
    7 |   f: {}
      |   ^
      = hint: for example `command: ["node", "server.js"]`

    error: an argument is text, and this is a table
     --> watt.yaml:8:20
      |
    8 |   g: {command: [x, {a: b}]}
      |                    ^^^^^^
      = hint: put it into quotes
    "#);
}

#[test]
fn numbers_times_and_sizes() {
    assert_snapshot!(invalid("services:\n  a:\n    command: x\n    workers: 0\n    listen: 70000\n    ready: {timeout: 30}\n    stop: {grace: soon, signal: TREM}\n    limits: {memory: 512, cpu: lots, pids: -1, core: x, nofile: {soft: 2, hard: 1}}\n    egress: {host_ports: [0, http]}\n"), @r#"
    error: 0 is out of range
     --> watt.yaml:4:14
      |
    4 |     workers: 0
      |              ^
      = hint: between 1 and 1000

    error: `70000` is not a port
     --> watt.yaml:5:13
      |
    5 |     listen: 70000
      |             ^^^^^
      = hint: between 1 and 65535

    error: `30` has no unit
     --> watt.yaml:6:22
      |
    6 |     ready: {timeout: 30}
      |                      ^^
      = hint: did you mean `30s` or `30ms`?

    error: `soon` is not a time
     --> watt.yaml:7:19
      |
    7 |     stop: {grace: soon, signal: TREM}
      |                   ^^^^
      = hint: write `200ms`, `10s`, `1m`, `1h30m` or `7d`

    error: `TREM` is not a signal
     --> watt.yaml:7:33
      |
    7 |     stop: {grace: soon, signal: TREM}
      |                                 ^^^^
      = hint: did you mean `TERM`?

    error: `memory` of less than 1M, in which no program runs
     --> watt.yaml:8:22
      |
    8 |     limits: {memory: 512, cpu: lots, pids: -1, core: x, nofile: {soft: 2, hard: 1}}
      |                      ^^^
      = hint: did you mean `512M`?

    error: `lots` is not an amount of CPU
     --> watt.yaml:8:32
      |
    8 |     limits: {memory: 512, cpu: lots, pids: -1, core: x, nofile: {soft: 2, hard: 1}}
      |                                ^^^^
      = hint: write `1.5` for one and a half CPUs, or `150%`

    error: `-1` is out of range
     --> watt.yaml:8:44
      |
    8 |     limits: {memory: 512, cpu: lots, pids: -1, core: x, nofile: {soft: 2, hard: 1}}
      |                                            ^^
      = hint: between 1 and 4194304

    error: `x` is not a limit
     --> watt.yaml:8:54
      |
    8 |     limits: {memory: 512, cpu: lots, pids: -1, core: x, nofile: {soft: 2, hard: 1}}
      |                                                      ^
      = hint: write a number, `64K` (powers of 1024), or `unlimited`

    error: `soft` is more than `hard`
     --> watt.yaml:8:72
      |
    8 |     limits: {memory: 512, cpu: lots, pids: -1, core: x, nofile: {soft: 2, hard: 1}}
      |                                                                        ^
      = note: `hard` is here
     --> watt.yaml:8:81
      |
    8 |     limits: {memory: 512, cpu: lots, pids: -1, core: x, nofile: {soft: 2, hard: 1}}
      |                                                                                 ^

    error: 0 is out of range
     --> watt.yaml:9:27
      |
    9 |     egress: {host_ports: [0, http]}
      |                           ^
      = hint: between 1 and 65535

    error: `http` is not a whole number
     --> watt.yaml:9:30
      |
    9 |     egress: {host_ports: [0, http]}
      |                              ^^^^
    "#);
    assert_snapshot!(invalid("services:\n  a:\n    command: x\n    restart: {backoff: {first: 1m, max: 1s}}\n    limits: {memory: 1G, memory_high: 2G}\n    timeouts: {idle: 0}\n    stop: {signal: STOP}\n"), @r#"
    error: the first wait, 1m, is longer than the longest, 1s
     --> watt.yaml:4:32
      |
    4 |     restart: {backoff: {first: 1m, max: 1s}}
      |                                ^^
      = hint: `first` is at most `max`

    error: `memory_high` is more than `memory`
     --> watt.yaml:5:39
      |
    5 |     limits: {memory: 1G, memory_high: 2G}
      |                                       ^^
      = note: `memory` is here
     --> watt.yaml:5:22
      |
    5 |     limits: {memory: 1G, memory_high: 2G}
      |                      ^^

    error: with `idle` of no time, no request succeeds
     --> watt.yaml:6:22
      |
    6 |     timeouts: {idle: 0}
      |                      ^
      = hint: write a longer time, or remove it

    error: `STOP` does not make a process end
     --> watt.yaml:7:20
      |
    7 |     stop: {signal: STOP}
      |                    ^^^^
      = hint: `TERM` is the usual one
    "#);
}

#[test]
fn wrong_kinds() {
    assert_snapshot!(invalid("name: [x]\nservices: {a: {command: x, env: [A=1], depends_on: b, limits: 5, workers: , listen: {}}}\ngateway: {routes: /}"), @r#"
    error: `name` is a name, and this is a list
     --> watt.yaml:1:7
      |
    1 | name: [x]
      |       ^^^

    error: `env` is a table of names and texts, and this is a list
     --> watt.yaml:2:33
      |
    2 | services: {a: {command: x, env: [A=1], depends_on: b, limits: 5, workers: , listen: {}}}
      |                                 ^^^^^
      = hint: write `NAME: value` for each variable

    error: `depends_on` is a list or a table of services, and this is text
     --> watt.yaml:2:52
      |
    2 | services: {a: {command: x, env: [A=1], depends_on: b, limits: 5, workers: , listen: {}}}
      |                                                    ^
      = hint: for example `depends_on: [db]`

    error: `services.a.limits` is a table of keys, and this is a number
     --> watt.yaml:2:63
      |
    2 | services: {a: {command: x, env: [A=1], depends_on: b, limits: 5, workers: , listen: {}}}
      |                                                               ^
      = hint: for example `memory: "512M"`

    error: `workers` has no value
     --> watt.yaml:2:66
      |
    2 | services: {a: {command: x, env: [A=1], depends_on: b, limits: 5, workers: , listen: {}}}
      |                                                                  ^^^^^^^
      = hint: it is a whole number from 1 to 1000, or a table

    error: `listen` is one of `auto`, `unix`, `fd`, `port`, `none`, or a whole number from 1 to 65535, and this is a table
     --> watt.yaml:2:85
      |
    2 | services: {a: {command: x, env: [A=1], depends_on: b, limits: 5, workers: , listen: {}}}
      |                                                                                     ^^

    error: `routes` is a list, and this is text
     --> watt.yaml:3:19
      |
    3 | gateway: {routes: /}
      |                   ^
      = hint: write `[…]`, or a line with `-` for each item
    "#);
    assert_snapshot!(invalid("just text"), @r#"
    error: a configuration is a table of keys, and this is text
     --> watt.yaml:1:1
      |
    1 | just text
      | ^^^^^^^^^
      = hint: the smallest one is `services: { web: { command: ./web } }`
    "#);
    assert_snapshot!(invalid("services: [{command: x}, y]"), @r#"
    error: a service in a list needs an `id`
     --> watt.yaml:1:13
      |
    1 | services: [{command: x}, y]
      |             ^^^^^^^
      = hint: for example `id: web`

    error: a service is a table of keys, and this is text
     --> watt.yaml:1:26
      |
    1 | services: [{command: x}, y]
      |                          ^
      = hint: for example `- { id: web, command: ./web }`
    "#);
}

#[test]
fn readiness() {
    assert_snapshot!(invalid("services:\n  a: {command: x, ready: {http: z, tcp: true}}\n  b: {command: x, ready: /healthz}\n  c: {command: x, listen: none, ready: tcp}\n  d: {command: x, ready: {log: '(', notify: true}}\n"), @r#"
    error: `z` does not start with `/`
     --> watt.yaml:2:33
      |
    2 |   a: {command: x, ready: {http: z, tcp: true}}
      |                                 ^
      = hint: did you mean `/z`?

    error: two signs of readiness
     --> watt.yaml:2:41
      |
    2 |   a: {command: x, ready: {http: z, tcp: true}}
      |                                         ^^^^
      = note: this is the first one
     --> watt.yaml:2:33
      |
    2 |   a: {command: x, ready: {http: z, tcp: true}}
      |                                 ^
      = hint: keep one of them

    error: `/healthz` is not understood here
     --> watt.yaml:3:26
      |
    3 |   b: {command: x, ready: /healthz}
      |                          ^^^^^^^^
      = hint: did you mean `ready: { http: /healthz }`?

    error: this sign needs a service that accepts connections, and its `listen` is `none`
     --> watt.yaml:4:40
      |
    4 |   c: {command: x, listen: none, ready: tcp}
      |                                        ^^^
      = hint: wait for `started`, `notify` or a `log` line, run a command with `exec`, or remove `listen: none`

    error: `(` is not a regular expression: unclosed group
     --> watt.yaml:5:32
      |
    5 |   d: {command: x, ready: {log: '(', notify: true}}
      |                                ^^^
    "#);
}

#[test]
fn waiting_for_what_never_completes() {
    assert_snapshot!(invalid("services:\n  a: {command: x, depends_on: {b: completed}}\n  b: {command: x}\n"), @r#"
    error: `b` never completes: it is restarted after every exit
     --> watt.yaml:2:32
      |
    2 |   a: {command: x, depends_on: {b: completed}}
      |                                ^
      = note: its restart policy is `always`
     --> watt.yaml:3:3
      |
    3 |   b: {command: x}
      |   ^
      = hint: give `b` `restart: on-failure` or `restart: never`
    "#);
}

#[test]
fn routes() {
    assert_snapshot!(invalid("services:\n  a: {command: x}\n  b: {command: x, listen: none}\ngateway:\n  routes:\n  - {path: /x, service: a}\n  - {path: /x/, service: a}\n  - {path: /y, service: b}\n  - {path: z, service: a}\n  - {path: /q?, service: a, host: 'http://x'}\n  - {path: /w, service: a, strip: true, rewrite: /v}\n  - {path: /n}\n"), @r#"
    error: two routes for `/x`
     --> watt.yaml:7:12
      |
    7 |   - {path: /x/, service: a}
      |            ^^^
      = note: the first one is here
     --> watt.yaml:6:12
      |
    6 |   - {path: /x, service: a}
      |            ^^
      = hint: keep one of them, or give them different paths or hosts

    error: `b` accepts no connections, so no request can be sent to it
     --> watt.yaml:8:25
      |
    8 |   - {path: /y, service: b}
      |                         ^
      = note: its `listen` is `none`
     --> watt.yaml:3:27
      |
    3 |   b: {command: x, listen: none}
      |                           ^^^^

    error: `z` does not start with `/`
     --> watt.yaml:9:12
      |
    9 |   - {path: z, service: a}
      |            ^
      = hint: did you mean `/z`?

    error: `?` cannot be in the path of a route
      --> watt.yaml:10:12
       |
    10 |   - {path: /q?, service: a, host: 'http://x'}
       |            ^^^
       = hint: what has to be in the query is written as `query: {name: value}`

    error: `http://x` is not a host name
      --> watt.yaml:10:35
       |
    10 |   - {path: /q?, service: a, host: 'http://x'}
       |                                   ^^^^^^^^^^
       = hint: write `example.org`, or `*.example.org` for every name below it; without scheme and port

    error: `strip` and `rewrite` together
      --> watt.yaml:11:50
       |
    11 |   - {path: /w, service: a, strip: true, rewrite: /v}
       |                                                  ^^
       = note: `strip` is here
      --> watt.yaml:11:35
       |
    11 |   - {path: /w, service: a, strip: true, rewrite: /v}
       |                                   ^^^^
       = hint: `rewrite` alone replaces the path

    error: `service` is missing
      --> watt.yaml:12:6
       |
    12 |   - {path: /n}
       |      ^^^^
       = hint: for example `service: "api"`
    "#);
}

/// A file with these routes, one a line from the fifth on.
pub(crate) fn with_routes(routes: &str) -> String {
    format!("services:\n  a: {{command: x}}\ngateway:\n  routes:\n{routes}")
}

#[test]
fn paths_of_routes_that_are_none() {
    assert_snapshot!(invalid(&with_routes(
        "  - {path: '/x{id}', service: a}\n  - {path: '/{id}/{id}', service: a}\n  - {path: '/{ID}', service: a}\n  - {path: '/(x', match: regex, service: a}\n  - {path: 'v[0-9]', match: regex, service: a}\n  - {match: regex, service: a}\n  - {path: /x, match: exactly, service: a}\n  - {path: /y, match: exact, strip: true, service: a}\n"
    )), @r#"
    error: `x{id}` is no parameter of a path
     --> watt.yaml:5:12
      |
    5 |   - {path: '/x{id}', service: a}
      |            ^^^^^^^^
      = hint: a parameter is a whole segment, `{name}`, and begins with a letter in lower case; for a part of a segment write `match: regex`

    error: two parameters are called `id`
     --> watt.yaml:6:12
      |
    6 |   - {path: '/{id}/{id}', service: a}
      |            ^^^^^^^^^^^^
      = hint: give one of them another name

    error: the variable ID is not set
     --> watt.yaml:7:14
      |
    7 |   - {path: '/{ID}', service: a}
      |              ^^^^
      = hint: set it in the environment or in .env, or give a default: `{ID:-…}`

    error: `/(x` is not a regular expression: unclosed group
     --> watt.yaml:8:12
      |
    8 |   - {path: '/(x', match: regex, service: a}
      |            ^^^^^

    error: `v[0-9]` matches no path: they all begin with `/`
     --> watt.yaml:9:12
      |
    9 |   - {path: 'v[0-9]', match: regex, service: a}
      |            ^^^^^^^^
      = hint: did you mean `/v[0-9]`?

    error: `path` is missing
      --> watt.yaml:10:6
       |
    10 |   - {match: regex, service: a}
       |      ^^^^^
       = hint: for example `path: "/users/{id}"`

    error: `exactly` is not understood here
      --> watt.yaml:11:23
       |
    11 |   - {path: /x, match: exactly, service: a}
       |                       ^^^^^^^
       = hint: did you mean `exact`?

    error: `strip` would leave nothing of the path
      --> watt.yaml:12:37
       |
    12 |   - {path: /y, match: exact, strip: true, service: a}
       |                                     ^^^^
       = hint: write what it becomes: `rewrite: /`
    "#);
    let deep = "/a".repeat(65);
    assert_snapshot!(invalid(&with_routes(&format!("  - {{path: {deep}, service: a}}\n"))), @r"
    error: `/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a…` has more than 64 segments
     --> watt.yaml:5:12
      |
    5 |   - {path: /a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/…
      |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = hint: a route for what they begin with takes them as well
    ");
}

#[test]
fn paths_of_routes_that_no_request_would_take() {
    assert_snapshot!(invalid(&with_routes(
        "  - {path: /caf%C3%A9, service: a}\n  - {path: /café, match: exact, service: a}\n  - {path: /a;b, service: a}\n"
    )), @r"
    error: `%` cannot be in the path of a route
     --> watt.yaml:5:12
      |
    5 |   - {path: /caf%C3%A9, service: a}
      |            ^^^^^^^^^^
      = hint: write `match: regex`, and what it is over the wire as well as what that is decoded to: `/caf(%C3%A9|\xC3\xA9)`

    error: `é` cannot be in the path of a route
     --> watt.yaml:6:12
      |
    6 |   - {path: /café, match: exact, service: a}
      |            ^^^^^
      = hint: write `match: regex`, and what it is over the wire as well as what that is decoded to: `/caf(%C3%A9|\xC3\xA9)`

    error: `;` cannot be in the path of a route
     --> watt.yaml:7:12
      |
    7 |   - {path: /a;b, service: a}
      |            ^^^^
      = hint: some read no further than there: leave it out, or write `match: regex` and take both, `/a(;.*)?`
    ");
    let regex = "  - {path: '/caf(%C3%A9|\\xC3\\xA9)', match: regex, service: a}\n  - {path: '/a(;.*)?', match: regex, service: a}\n  - {path: /b, rewrite: /caf%C3%A9, service: a}\n";
    watt_config::parse(&sources("watt.yaml", &with_routes(regex))).expect("what the hints say, and rewrites");
}

#[test]
fn expressions_that_close_what_is_around_them() {
    assert_snapshot!(invalid(&with_routes(
        "  - {path: '/a)|(?:/b', match: regex, service: a}\n  - {headers: {x: {regex: '1)|(2'}}, service: a}\n"
    )), @r"
    error: `/a)|(?:/b` is not a regular expression: unopened group
     --> watt.yaml:5:12
      |
    5 |   - {path: '/a)|(?:/b', match: regex, service: a}
      |            ^^^^^^^^^^^

    error: `1)|(2` is not a regular expression: unopened group
     --> watt.yaml:6:27
      |
    6 |   - {headers: {x: {regex: '1)|(2'}}, service: a}
      |                           ^^^^^^^
    ");
}

#[test]
fn what_routes_ask_for_that_nothing_has() {
    assert_snapshot!(invalid(&with_routes(
        "  - {methods: [get, 'A B', CONNECT], service: a}\n  - {path: /x, headers: {'a b': 1, X: 2, x: 3}, service: a}\n  - {path: /y, cookies: {c: {is: 1, present: true}, d: {}, e: {regx: x}}, service: a}\n  - {path: /z, query: {q: {regex: '('}}, service: a, method: GET}\n"
    )), @r"
    error: `get` is not a method: they are written in capital letters
     --> watt.yaml:5:16
      |
    5 |   - {methods: [get, 'A B', CONNECT], service: a}
      |                ^^^
      = hint: did you mean `GET`?

    error: `A B` is not a method
     --> watt.yaml:5:21
      |
    5 |   - {methods: [get, 'A B', CONNECT], service: a}
      |                     ^^^^^
      = hint: for example `GET`

    error: the gateway takes no CONNECT
     --> watt.yaml:5:28
      |
    5 |   - {methods: [get, 'A B', CONNECT], service: a}
      |                            ^^^^^^^
      = hint: remove it

    error: `a b` is not the name of a header
     --> watt.yaml:6:26
      |
    6 |   - {path: /x, headers: {'a b': 1, X: 2, x: 3}, service: a}
      |                          ^^^^^

    error: the header `x` is there twice
     --> watt.yaml:6:42
      |
    6 |   - {path: /x, headers: {'a b': 1, X: 2, x: 3}, service: a}
      |                                          ^

    error: more than one of `is`, `regex` and `present`
     --> watt.yaml:7:29
      |
    7 |   - {path: /y, cookies: {c: {is: 1, present: true}, d: {}, e: {regx: x}}, service: a}
      |                             ^^^^^^^^^^^^^^^^^^^^^^
      = hint: keep one of them

    error: nothing that it has to be
     --> watt.yaml:7:56
      |
    7 |   - {path: /y, cookies: {c: {is: 1, present: true}, d: {}, e: {regx: x}}, service: a}
      |                                                        ^^
      = hint: write the value, or `present: true`

    error: unknown key `regx` in `gateway.routes.headers`
     --> watt.yaml:7:64
      |
    7 |   - {path: /y, cookies: {c: {is: 1, present: true}, d: {}, e: {regx: x}}, service: a}
      |                                                                ^^^^
      = hint: did you mean `regex`?

    error: `(` is not a regular expression: unclosed group
     --> watt.yaml:8:35
      |
    8 |   - {path: /z, query: {q: {regex: '('}}, service: a, method: GET}
      |                                   ^^^

    error: unknown key `method` in `gateway.routes`
     --> watt.yaml:8:54
      |
    8 |   - {path: /z, query: {q: {regex: '('}}, service: a, method: GET}
      |                                                      ^^^^^^
      = hint: write `methods`
    ");
}

#[test]
fn headers_that_no_service_sees_as_clients_send_them() {
    assert_snapshot!(invalid(&with_routes(
        "  - {headers: {Host: a.org}, service: a}\n  - {headers: {X-Forwarded-Proto: https, x_real_ip: 127.0.0.1}, service: a}\n  - {headers: {X-Client-Cert-Subject: CN=root}, service: a}\n"
    )), @r"
    error: `host` is replaced or dropped by the proxy, so clients may write anything
     --> watt.yaml:5:16
      |
    5 |   - {headers: {Host: a.org}, service: a}
      |                ^^^^
      = hint: write `host` beside `path`

    error: `x-forwarded-proto` is replaced or dropped by the proxy, so clients may write anything
     --> watt.yaml:6:16
      |
    6 |   - {headers: {X-Forwarded-Proto: https, x_real_ip: 127.0.0.1}, service: a}
      |                ^^^^^^^^^^^^^^^^^
      = hint: ask for a header that goes on to the service as the client sent it

    error: `x_real_ip` is replaced or dropped by the proxy, so clients may write anything
     --> watt.yaml:6:42
      |
    6 |   - {headers: {X-Forwarded-Proto: https, x_real_ip: 127.0.0.1}, service: a}
      |                                          ^^^^^^^^^
      = hint: ask for a header that goes on to the service as the client sent it

    error: `x-client-cert-subject` is replaced or dropped by the proxy, so clients may write anything
     --> watt.yaml:7:16
      |
    7 |   - {headers: {X-Client-Cert-Subject: CN=root}, service: a}
      |                ^^^^^^^^^^^^^^^^^^^^^
      = hint: ask for a header that goes on to the service as the client sent it
    ");
}

#[test]
fn rewrites_with_what_a_path_does_not_have() {
    assert_snapshot!(invalid(&with_routes(
        "  - {path: '/u/{user}', rewrite: '/{usr}', service: a}\n  - {path: /v, rewrite: '/{x}', service: a}\n  - {path: '/w(?<rest>.*)', match: regex, rewrite: '/{other}', service: a}\n  - {path: '/y', rewrite: '/{', service: a}\n"
    )), @r"
    error: the path has no parameter `usr`
     --> watt.yaml:5:34
      |
    5 |   - {path: '/u/{user}', rewrite: '/{usr}', service: a}
      |                                  ^^^^^^^^
      = hint: did you mean `user`?

    error: the path has no parameter `x`
     --> watt.yaml:6:25
      |
    6 |   - {path: /v, rewrite: '/{x}', service: a}
      |                         ^^^^^^
      = hint: the path has no parameters

    error: the path has no parameter `other`
     --> watt.yaml:7:52
      |
    7 |   - {path: '/w(?<rest>.*)', match: regex, rewrite: '/{other}', service: a}
      |                                                    ^^^^^^^^^^
      = hint: the path has `rest`

    error: a brace of `/{` is no parameter
     --> watt.yaml:8:27
      |
    8 |   - {path: '/y', rewrite: '/{', service: a}
      |                           ^^^^
      = hint: write `%7B` for `{` and `%7D` for `}`
    ");
}

#[test]
fn equal_routes_are_named_both() {
    assert_snapshot!(invalid(&with_routes(
        "  - {path: '/u/{id}', host: x.org, methods: [GET, POST], service: a}\n  - {path: '/u/{name}', host: x.org, methods: [POST], service: a}\n  - {path: /v, headers: {A: 1, b: 2}, service: a}\n  - {path: /v/, headers: {b: 2, a: 1}, service: a}\n"
    )), @r"
    error: two routes for POST of `/u/{name}` for `x.org`
     --> watt.yaml:6:12
      |
    6 |   - {path: '/u/{name}', host: x.org, methods: [POST], service: a}
      |            ^^^^^^^^^^^
      = note: the first one is here
     --> watt.yaml:5:12
      |
    5 |   - {path: '/u/{id}', host: x.org, methods: [GET, POST], service: a}
      |            ^^^^^^^^^
      = hint: keep one of them, or give them different paths or hosts

    error: two routes for `/v` with the same conditions
     --> watt.yaml:8:12
      |
    8 |   - {path: /v/, headers: {b: 2, a: 1}, service: a}
      |            ^^^
      = note: the first one is here
     --> watt.yaml:7:12
      |
    7 |   - {path: /v, headers: {A: 1, b: 2}, service: a}
      |            ^^
      = hint: keep one of them, or give them different paths or hosts
    ");
    let different = "  - {path: /u, service: a}\n  - {path: /u, match: exact, service: a}\n  - {path: /u, match: regex, service: a}\n  - {path: /u, methods: [GET], service: a}\n  - {path: /u, methods: [POST], service: a}\n  - {path: /u, host: x.org, service: a}\n  - {path: /u, headers: {a: 1}, service: a}\n  - {path: /u, cookies: {a: 1}, service: a}\n  - {path: /u/, match: exact, service: a}\n";
    watt_config::parse(&sources("watt.yaml", &with_routes(different))).expect("no two of them are equal");
}

#[test]
fn more_expressions_than_the_proxy_keeps() {
    let many: String =
        (0..501).map(|index| format!("  - {{path: '/{index}.*', match: regex, service: a}}\n")).collect();
    let report = invalid(&with_routes(&many)).to_string();
    assert!(report.contains("more than 500 regular expressions in routes"), "{report}");
}

#[test]
fn a_server_without_routes() {
    assert_snapshot!(invalid("server: {port: 80}\nservices: {a: {command: x}}"), @r#"
    error: a server without a route: no request could be answered
     --> watt.yaml:1:1
      |
    1 | server: {port: 80}
      | ^^^^^^
      = hint: add `gateway: { routes: [{ path: /, service: a }] }`, or remove `server`
    "#);
    assert_snapshot!(invalid("server: {port: 80, hostname: example.org}\nservices: {a: {command: x}}\ngateway: {routes: [{service: a}]}"), @r#"
    error: `example.org` is not an IP address
     --> watt.yaml:1:30
      |
    1 | server: {port: 80, hostname: example.org}
      |                              ^^^^^^^^^^^
      = hint: write `127.0.0.1` for this host only, `0.0.0.0` or `::` for all its addresses
    "#);
}

#[test]
fn ports_of_the_host() {
    assert_snapshot!(invalid("services:\n  a: {command: x, network: host, listen: 3042}\n  b: {command: x, network: host, listen: 3042}\n  c: {command: x, network: host, listen: 99, workers: 2}\ngateway: {routes: [{service: a}]}"), @r#"
    error: port 3042 of the host is taken by the gateway
     --> watt.yaml:2:42
      |
    2 |   a: {command: x, network: host, listen: 3042}
      |                                          ^^^^
      = hint: write `network: private` or another port

    error: port 3042 of the host is taken by `a`
     --> watt.yaml:3:42
      |
    3 |   b: {command: x, network: host, listen: 3042}
      |                                          ^^^^
      = note: it listens there
     --> watt.yaml:2:42
      |
    2 |   a: {command: x, network: host, listen: 3042}
      |                                          ^^^^
      = hint: write `network: private` or another port

    error: port 3042 of the host is taken by the gateway
     --> watt.yaml:3:42
      |
    3 |   b: {command: x, network: host, listen: 3042}
      |                                          ^^^^
      = hint: write `network: private` or another port

    error: 2 workers cannot all listen on port 99 of the host
     --> watt.yaml:4:42
      |
    4 |   c: {command: x, network: host, listen: 99, workers: 2}
      |                                          ^^
      = hint: write `network: private`, `listen: port`, or `workers: 1`
    "#);
}

#[test]
fn variables_that_are_ours() {
    assert_snapshot!(invalid("services:\n  a: {command: x, env: {PORT: 3000, WATT_APP: x, 'A=B': c}}\n"), @r#"
    error: watt sets `PORT` itself
     --> watt.yaml:2:25
      |
    2 |   a: {command: x, env: {PORT: 3000, WATT_APP: x, 'A=B': c}}
      |                         ^^^^
      = hint: remove it, or write `listen: 3000`

    error: watt sets `WATT_APP` itself
     --> watt.yaml:2:37
      |
    2 |   a: {command: x, env: {PORT: 3000, WATT_APP: x, 'A=B': c}}
      |                                     ^^^^^^^^
      = hint: remove it

    error: `A=B` is not a variable's name
     --> watt.yaml:2:50
      |
    2 |   a: {command: x, env: {PORT: 3000, WATT_APP: x, 'A=B': c}}
      |                                                  ^^^^^
      = hint: a name has no `=` and no NUL character, and is not empty
    "#);
}

#[test]
fn syntax() {
    assert_snapshot!(invalid("services:\n\ta: x"), @r#"
    error: a tab cannot indent YAML
     --> watt.yaml:2:2
      |
    2 |  a: x
      |  ^
      = hint: indent with spaces
    "#);
    assert_snapshot!(invalid("services: [a"), @r#"
    error: this `[` is never closed
     --> watt.yaml:1:11
      |
    1 | services: [a
      |           ^
    "#);
    assert_snapshot!(invalid("a: b: c"), @r#"
    error: mapping values are not allowed in this context
     --> watt.yaml:1:5
      |
    1 | a: b: c
      |     ^
    "#);
    assert_snapshot!(invalid("services: *nope"), @r#"
    error: `services` is a table of services, and this is nothing
     --> watt.yaml:1:1
      |
    1 | services: *nope
      | ^^^^^^^^
      = hint: for example `services: { web: { command: ./web } }`

    error: `*nope` has no anchor before it
     --> watt.yaml:1:11
      |
    1 | services: *nope
      |           ^^^^^
      = hint: an anchor is written `&name` before a value
    "#);
    assert_snapshot!(invalid("services: !include x.yaml"), @r#"
    error: the tag `!include` is not understood
     --> watt.yaml:1:11
      |
    1 | services: !include x.yaml
      |           ^^^^^^^^
      = hint: remove it

    error: `services` is a table of services, and this is text
     --> watt.yaml:1:20
      |
    1 | services: !include x.yaml
      |                    ^^^^^^
      = hint: for example `services: { web: { command: ./web } }`
    "#);
    assert_snapshot!(invalid("services: {a: {command: x}}\n---\nname: b"), @r#"
    error: a second document in the file
     --> watt.yaml:2:1
      |
    2 | ---
      | ^^^
      = hint: keep one document; remove `---`
    "#);
    assert_snapshot!(invalid(""), @r#"
    error: the file is empty
     --> watt.yaml:1:1
      |
    1 |
      | ^
      = hint: the smallest one is `services: { web: { command: ./web } }`
    "#);
    assert_snapshot!(invalid_sources(&sources("watt.json", "{\"name\": \"x\",\n  \"services\" {}}")), @r#"
    error: invalid trailing content after double-quoted scalar
     --> watt.json:2:14
      |
    2 |   "services" {}}
      |              ^
    "#);
    assert_snapshot!(invalid_sources(&sources("watt.toml", "name = x\n[services\n")), @r#"
    error: string values must be quoted, expected literal string
     --> watt.toml:1:8
      |
    1 | name = x
      |        ^

    error: unclosed table, expected `]`
     --> watt.toml:2:10
      |
    2 | [services
      |          ^
    "#);
}

#[test]
fn dotenv() {
    let mut sources = sources("watt.yaml", "services: {a: {command: 'x {NAME}'}}");
    sources.dotenv = Some((
        "/srv/shop/.env".into(),
        "GOOD=1\nno equals\n1BAD=x\nA=\"x\" y\nNAMES=1\nB='never closed\n".into(),
    ));
    assert_snapshot!(invalid_sources(&sources), @r#"
    error: the variable NAME is not set
     --> watt.yaml:1:28
      |
    1 | services: {a: {command: 'x {NAME}'}}
      |                            ^^^^^^
      = hint: did you mean `NAMES`? Or set it in the environment or in .env, or give a default: `{NAME:-…}`

    error: this line has no `=`
     --> .env:2:1
      |
    2 | no equals
      | ^^^^^^^^^
      = hint: a line is NAME=value; a comment starts with `#`

    error: `1BAD` is not a variable's name
     --> .env:3:1
      |
    3 | 1BAD=x
      | ^^^^
      = hint: a name is made of letters, digits and `_`, and does not start with a digit

    error: text after the closing quote
     --> .env:4:7
      |
    4 | A="x" y
      |       ^
      = hint: put the whole value into quotes, or write `#` before a comment

    error: the quote ' is never closed
     --> .env:6:3
      |
    6 | B='never closed
      |   ^
    "#);
}

#[test]
fn excerpts_are_short_and_harmless() {
    let long = format!("name: {}\u{1b}[2J\u{202e}{}\nservices: {{}}", "x".repeat(500), "y".repeat(500));
    assert_snapshot!(invalid(&long.replace('\u{1b}', "\u{85}")), @r#"
    error: `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…` cannot be an application's name: a name has at most 63 characters
     --> watt.yaml:1:7
      |
    1 | name: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
      |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = hint: did you mean `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…`?
    "#);
}

#[test]
fn reports_as_json() {
    let report = invalid("services:\n  é: {command: x}\n  a: {command: x, comand: y}\n  a: {}\n");
    assert_snapshot!(serde_json::to_string_pretty(&report.to_json()).unwrap(), @r#"
    {
      "errors": [
        {
          "file": "/srv/shop/watt.yaml",
          "line": 2,
          "column": 3,
          "end_line": 2,
          "end_column": 4,
          "message": "`é` cannot be a service's name: 'é' is not allowed: a name is made of a-z, 0-9, '-' and '_'",
          "hint": null,
          "related": null
        },
        {
          "file": "/srv/shop/watt.yaml",
          "line": 3,
          "column": 19,
          "end_line": 3,
          "end_column": 25,
          "message": "unknown key `comand` in `services.a`",
          "hint": "did you mean `command`?",
          "related": null
        },
        {
          "file": "/srv/shop/watt.yaml",
          "line": 4,
          "column": 3,
          "end_line": 4,
          "end_column": 4,
          "message": "`a` is written twice",
          "hint": "keep one of them",
          "related": {
            "file": "/srv/shop/watt.yaml",
            "line": 3,
            "column": 3,
            "end_line": 3,
            "end_column": 4,
            "message": "it was first written here"
          }
        }
      ],
      "omitted": 0
    }
    "#);
}

#[test]
fn sandboxes() {
    assert_snapshot!(invalid("
services:
  a:
    command: x
    sandbox:
      profile: strikt
      private_tpm: true
      protect_system: readonly
      umask: 888
      system_calls: ['@sistem-service', 'ptrace:EPRM', read, standard]
      capabilities: [CAP_NET_BIND, chown]
      ambient_capabilities: [kill]
      address_families: [inet7]
"), @r#"
    error: `strikt` is not understood here
     --> watt.yaml:6:16
      |
    6 |       profile: strikt
      |                ^^^^^^
      = hint: did you mean `strict`?

    error: unknown key `private_tpm` in `sandbox`
     --> watt.yaml:7:7
      |
    7 |       private_tpm: true
      |       ^^^^^^^^^^^
      = hint: did you mean `private_tmp`?

    error: `readonly` is not understood here
     --> watt.yaml:8:23
      |
    8 |       protect_system: readonly
      |                       ^^^^^^^^
      = hint: one of `false`, `true`, `full`, `strict`

    error: `888` is not a mask of mode bits
     --> watt.yaml:9:14
      |
    9 |       umask: 888
      |              ^^^
      = hint: write octal digits from `000` to `777`, such as `027`

    error: `@sistem-service` is neither a system call nor a group
      --> watt.yaml:10:22
       |
    10 |       system_calls: ['@sistem-service', 'ptrace:EPRM', read, standard]
       |                      ^^^^^^^^^^^^^^^^^
       = hint: did you mean `@system-service`?

    error: `EPRM` is no answer to a call
      --> watt.yaml:10:41
       |
    10 |       system_calls: ['@sistem-service', 'ptrace:EPRM', read, standard]
       |                                         ^^^^^^^^^^^^^
       = hint: did you mean `EPERM`?

    error: `standard` is a whole list, and not the first entry
      --> watt.yaml:10:62
       |
    10 |       system_calls: ['@sistem-service', 'ptrace:EPRM', read, standard]
       |                                                              ^^^^^^^^
       = hint: write it first; what follows changes it

    error: `CAP_NET_BIND` is not a capability
      --> watt.yaml:11:22
       |
    11 |       capabilities: [CAP_NET_BIND, chown]
       |                      ^^^^^^^^^^^^
       = hint: did you mean `CAP_NET_BIND_SERVICE`?

    error: `CAP_KILL` is not one of its `capabilities`
      --> watt.yaml:12:30
       |
    12 |       ambient_capabilities: [kill]
       |                              ^^^^
       = hint: add it to `capabilities`

    error: `inet7` is not an address family
      --> watt.yaml:13:26
       |
    13 |       address_families: [inet7]
       |                          ^^^^^
       = hint: did you mean `AF_INET`?
    "#);
    assert_snapshot!(invalid("
services:
  a:
    command: x
    sandbox:
      dynamic_user: true
      user: www data
      read_only_paths: [../x, /a]
      inaccessible_paths: [/, /a]
      bind_paths: ['/b:']
  b: { command: x, sandbox: { group: adm } }
  c: { command: x, sandbox: { user: x, dynamic_user: true } }
  d: { command: x, sandbox: [strict] }
  e: { command: x, user: nobody, sandbox: { system_call_filter: [] } }
"), @r#"
    error: `www data` is not the name or number of an account
     --> watt.yaml:7:13
      |
    7 |       user: www data
      |             ^^^^^^^^
      = hint: write a name such as `www-data`, or a number such as 33

    error: `../x` is not a path without `..`
     --> watt.yaml:8:25
      |
    8 |       read_only_paths: [../x, /a]
      |                         ^^^^
      = hint: write the path from `/`, or from the folder of the file

    error: nothing would be left of the file system
     --> watt.yaml:9:28
      |
    9 |       inaccessible_paths: [/, /a]
      |                            ^
      = hint: name folders below `/`

    error: two rules for `/a`
     --> watt.yaml:9:31
      |
    9 |       inaccessible_paths: [/, /a]
      |                               ^^
      = note: the first one is here
     --> watt.yaml:8:31
      |
    8 |       read_only_paths: [../x, /a]
      |                               ^^
      = hint: keep one of them

    error: an empty path
      --> watt.yaml:10:20
       |
    10 |       bind_paths: ['/b:']
       |                    ^^^^^
       = hint: write both, or one for both

    error: a group without a user
      --> watt.yaml:11:38
       |
    11 |   b: { command: x, sandbox: { group: adm } }
       |                                      ^^^
       = hint: write `user` as well, or `supplementary_groups`

    error: `user` and `dynamic_user` together
      --> watt.yaml:12:37
       |
    12 |   c: { command: x, sandbox: { user: x, dynamic_user: true } }
       |                                     ^
       = note: `dynamic_user` is here
      --> watt.yaml:12:54
       |
    12 |   c: { command: x, sandbox: { user: x, dynamic_user: true } }
       |                                                      ^^^^
       = hint: keep one of them

    error: `sandbox` is a table of keys, and this is a list
      --> watt.yaml:13:29
       |
    13 |   d: { command: x, sandbox: [strict] }
       |                             ^^^^^^^^
       = hint: for example `profile: "strict"`

    error: unknown key `user` in `services.e`
      --> watt.yaml:14:20
       |
    14 |   e: { command: x, user: nobody, sandbox: { system_call_filter: [] } }
       |                    ^^^^
       = hint: write it inside `sandbox`

    error: unknown key `system_call_filter` in `sandbox`
      --> watt.yaml:14:45
       |
    14 |   e: { command: x, user: nobody, sandbox: { system_call_filter: [] } }
       |                                             ^^^^^^^^^^^^^^^^^^
       = hint: write `system_calls`
    "#);
}

#[test]
fn limits_and_scheduling() {
    assert_snapshot!(invalid("
limits: { memory: 1G }
services:
  a:
    command: x
    limits: { memory: 512M, memory_low: 1G, cpuset: 3-1, cpus: 2, cpu_weight: 0, io: { /var: 5M }, hugetlb: { 3: 1M } }
    limits_total: { memory: 256M, nofile: 5 }
    scheduling: { nice: 20, policy: batch, priority: 5, io: idle, io_level: 1 }
  b: { command: x, limits_total: { memory: 2G } }
"), @r#"
    error: `memory` of a worker is more than that of the whole service
     --> watt.yaml:6:23
      |
    6 |     limits: { memory: 512M, memory_low: 1G, cpuset: 3-1, cpus: 2, cpu_weight: 0, io: { /var: 5M }, h…
      |                       ^^^^
      = note: which is here
     --> watt.yaml:7:29
      |
    7 |     limits_total: { memory: 256M, nofile: 5 }
      |                             ^^^^

    error: `memory_low` is more than `memory`
     --> watt.yaml:6:41
      |
    6 | …its: { memory: 512M, memory_low: 1G, cpuset: 3-1, cpus: 2, cpu_weight: 0, io: { /var: 5M }, hugetlb:…
      |                                   ^^
      = note: `memory` is here
     --> watt.yaml:6:23
      |
    6 |     limits: { memory: 512M, memory_low: 1G, cpuset: 3-1, cpus: 2, cpu_weight: 0, io: { /var: 5M }, h…
      |                       ^^^^

    error: `3-1` is not a set of CPUs
     --> watt.yaml:6:53
      |
    6 | …y: 512M, memory_low: 1G, cpuset: 3-1, cpus: 2, cpu_weight: 0, io: { /var: 5M }, hugetlb: { 3: 1M } }
      |                                   ^^^
      = hint: write numbers and ranges such as `0-3,6`; the first CPU is 0, the last 8191

    error: unknown key `cpus` in `services.a.limits`
     --> watt.yaml:6:58
      |
    6 | …2M, memory_low: 1G, cpuset: 3-1, cpus: 2, cpu_weight: 0, io: { /var: 5M }, hugetlb: { 3: 1M } }
      |                                   ^^^^
      = hint: write `cpu` for an amount of CPU, `cpuset` for certain CPUs

    error: 0 is out of range
     --> watt.yaml:6:79
      |
    6 | …puset: 3-1, cpus: 2, cpu_weight: 0, io: { /var: 5M }, hugetlb: { 3: 1M } }
      |                                   ^
      = hint: between 1 and 10000

    error: `limits.io.DEVICE` is a table of keys, and this is text
     --> watt.yaml:6:94
      |
    6 | …s: 2, cpu_weight: 0, io: { /var: 5M }, hugetlb: { 3: 1M } }
      |                                   ^^
      = hint: for example `read_bytes: "50M"`

    error: `3` is not the size of a page
     --> watt.yaml:6:111
      |
    6 | … 0, io: { /var: 5M }, hugetlb: { 3: 1M } }
      |                                   ^
      = hint: write it as the kernel does: `2MB`, `1GB`

    error: unknown key `nofile` in `limits`
     --> watt.yaml:7:35
      |
    7 |     limits_total: { memory: 256M, nofile: 5 }
      |                                   ^^^^^^
      = hint: known here: `memory`, `memory_high`, `memory_low`, `memory_min`, `swap`, `cpu`, `cpu_weight`, `cpuset`, `pids`, `io_weight`, `io`, `hugetlb`

    error: 20 is out of range
     --> watt.yaml:8:25
      |
    8 |     scheduling: { nice: 20, policy: batch, priority: 5, io: idle, io_level: 1 }
      |                         ^^
      = hint: between -20 and 19

    error: a priority is for the realtime policies alone
     --> watt.yaml:8:54
      |
    8 |     scheduling: { nice: 20, policy: batch, priority: 5, io: idle, io_level: 1 }
      |                                                      ^
      = note: for this one
     --> watt.yaml:8:37
      |
    8 |     scheduling: { nice: 20, policy: batch, priority: 5, io: idle, io_level: 1 }
      |                                     ^^^^^
      = hint: write `policy: fifo` or `policy: round_robin`, or `nice` for the others

    error: the class `idle` has no levels
     --> watt.yaml:8:77
      |
    8 |     scheduling: { nice: 20, policy: batch, priority: 5, io: idle, io_level: 1 }
      |                                                                             ^
      = note: for this one
     --> watt.yaml:8:61
      |
    8 |     scheduling: { nice: 20, policy: batch, priority: 5, io: idle, io_level: 1 }
      |                                                             ^^^^
      = hint: remove `io_level`

    error: `memory` of `b` is more than that of the application
     --> watt.yaml:9:44
      |
    9 |   b: { command: x, limits_total: { memory: 2G } }
      |                                            ^^
      = note: which is here
     --> watt.yaml:2:19
      |
    2 | limits: { memory: 1G }
      |                   ^^
    "#);
}

#[test]
fn ways_out() {
    assert_snapshot!(invalid("
services:
  a:
    command: x
    egress:
      allow: ['https://example.org/x', '2001:db8::1', 10.1.2.3/8, 10.0.0.0/33, 10.0.0, '*:0', a.*.b, localhost, 127.0.0.1:5432]
  b: { command: x, network: host, egress: { allow: ['*'] } }
"), @r#"
    error: `https://example.org/x` is a URL
     --> watt.yaml:6:15
      |
    6 |       allow: ['https://example.org/x', '2001:db8::1', 10.1.2.3/8, 10.0.0.0/33, 10.0.0, '*:0', a.*.b,…
      |               ^^^^^^^^^^^^^^^^^^^^^^^
      = hint: did you mean `example.org:443`?

    error: `2001:db8::1` has more than one colon
     --> watt.yaml:6:40
      |
    6 | …allow: ['https://example.org/x', '2001:db8::1', 10.1.2.3/8, 10.0.0.0/33, 10.0.0, '*:0', a.*.b, local…
      |                                   ^^^^^^^^^^^^^
      = hint: an IPv6 address is in brackets: `[2001:db8::1]:443`

    error: `10.1.2.3/8` has bits after its first 8
     --> watt.yaml:6:55
      |
    6 | …//example.org/x', '2001:db8::1', 10.1.2.3/8, 10.0.0.0/33, 10.0.0, '*:0', a.*.b, localhost, 127.0.0.1…
      |                                   ^^^^^^^^^^
      = hint: did you mean `10.0.0.0/8`?

    error: `10.0.0.0/33` has a wrong length of its network
     --> watt.yaml:6:67
      |
    6 | …g/x', '2001:db8::1', 10.1.2.3/8, 10.0.0.0/33, 10.0.0, '*:0', a.*.b, localhost, 127.0.0.1:5432]
      |                                   ^^^^^^^^^^^
      = hint: between 0 and 32

    error: `10.0.0` is not an address
     --> watt.yaml:6:80
      |
    6 | …b8::1', 10.1.2.3/8, 10.0.0.0/33, 10.0.0, '*:0', a.*.b, localhost, 127.0.0.1:5432]
      |                                   ^^^^^^
      = hint: write `192.0.2.1`, `10.0.0.0/8`, `[2001:db8::1]` or `[2001:db8::]/32`

    error: `*:0` has a wrong port: 0 is out of range
     --> watt.yaml:6:88
      |
    6 | …10.1.2.3/8, 10.0.0.0/33, 10.0.0, '*:0', a.*.b, localhost, 127.0.0.1:5432]
      |                                   ^^^^^
      = hint: between 1 and 65535; without a port it is every one

    error: `a.*.b` is not a destination
     --> watt.yaml:6:95
      |
    6 | …3/8, 10.0.0.0/33, 10.0.0, '*:0', a.*.b, localhost, 127.0.0.1:5432]
      |                                   ^^^^^
      = hint: write `*`, `example.org`, `*.example.org`, `10.0.0.0/8` or `[2001:db8::]/32`, and a port after a colon

    error: `localhost` is the service's own localhost
     --> watt.yaml:6:102
      |
    6 | ….0.0.0/33, 10.0.0, '*:0', a.*.b, localhost, 127.0.0.1:5432]
      |                                   ^^^^^^^^^
      = hint: ports of the host's localhost are written into `host_ports`

    error: `127.0.0.1` is the service's own localhost
     --> watt.yaml:6:113
      |
    6 | …10.0.0, '*:0', a.*.b, localhost, 127.0.0.1:5432]
      |                                   ^^^^^^^^^^^^^^
      = hint: ports of the host's localhost are written into `host_ports`

    error: `allow` has no effect on the host's network
     --> watt.yaml:7:53
      |
    7 |   b: { command: x, network: host, egress: { allow: ['*'] } }
      |                                                     ^^^
      = hint: write `network: private`, or remove it
    "#);
}

#[test]
fn secrets_and_roles() {
    assert_snapshot!(invalid("
secrets:
  a: { file: x, env: DB_PASSWORD }
  b: { env: DB_PASSWROD }
  c:
  d: { value: x }
  e/f: { file: x }
control: { groups: { 'o p s': operate, adm: root } }
services:
  a: { command: x, secrets: [bb, a, a], management: operator }
  b: { command: x, secrets: { '..': a }, env: { STATE_DIRECTORY: x } }
"), @r#"
    error: two sources of one secret
     --> watt.yaml:3:22
      |
    3 |   a: { file: x, env: DB_PASSWORD }
      |                      ^^^^^^^^^^^
      = note: this is the first one
     --> watt.yaml:3:14
      |
    3 |   a: { file: x, env: DB_PASSWORD }
      |              ^
      = hint: keep one of them

    error: the variable DB_PASSWROD is not set
     --> watt.yaml:4:13
      |
    4 |   b: { env: DB_PASSWROD }
      |             ^^^^^^^^^^^
      = hint: did you mean `DB_PASSWORD`?

    error: the secret `c` has no source
     --> watt.yaml:5:3
      |
    5 |   c:
      |   ^
      = hint: give it one of `file`, `env`, `credential`, `command`

    error: unknown key `value` in `secrets.NAME`
     --> watt.yaml:6:8
      |
    6 |   d: { value: x }
      |        ^^^^^
      = hint: a secret does not belong into this file; write `file`, `env`, `credential` or `command`

    error: `e/f` is not a file's name
     --> watt.yaml:7:3
      |
    7 |   e/f: { file: x }
      |   ^^^
      = hint: a name has no `/`

    error: `o p s` is not the name or number of an account
     --> watt.yaml:8:22
      |
    8 | control: { groups: { 'o p s': operate, adm: root } }
      |                      ^^^^^^^
      = hint: write a name such as `www-data`, or a number such as 33

    error: `root` is not understood here
     --> watt.yaml:8:45
      |
    8 | control: { groups: { 'o p s': operate, adm: root } }
      |                                             ^^^^
      = hint: one of `view`, `operate`, `admin`

    error: there is no secret `bb`
      --> watt.yaml:10:30
       |
    10 |   a: { command: x, secrets: [bb, a, a], management: operator }
       |                              ^^
       = hint: did you mean `b`?

    error: `a` is written twice
      --> watt.yaml:10:37
       |
    10 |   a: { command: x, secrets: [bb, a, a], management: operator }
       |                                     ^
       = hint: keep one of them

    error: `operator` is not understood here
      --> watt.yaml:10:53
       |
    10 |   a: { command: x, secrets: [bb, a, a], management: operator }
       |                                                     ^^^^^^^^
       = hint: did you mean `operate`?

    error: `..` is not a file's name
      --> watt.yaml:11:31
       |
    11 |   b: { command: x, secrets: { '..': a }, env: { STATE_DIRECTORY: x } }
       |                               ^^^^
       = hint: write a name such as `db_password`

    error: watt sets `STATE_DIRECTORY` itself
      --> watt.yaml:11:49
       |
    11 |   b: { command: x, secrets: { '..': a }, env: { STATE_DIRECTORY: x } }
       |                                                 ^^^^^^^^^^^^^^^
       = hint: remove it
    "#);
}

#[test]
fn stalls_that_cannot_be_told() {
    let text = "\
name: shop
services:
  a:
    command: x
    pressure: { memory: 5s, cpu: 0, io: 1, recycle: { memory: 500ms, cpu: 1m } }
  b:
    command: x
    limits: { memory_high: 64M }
    pressure: { memory: never, recycle: { memory: 1m, io: 1m } }
";
    assert_snapshot!(invalid(text), @r"
    error: `memory` is not a part of 2 seconds
     --> watt.yaml:5:25
      |
    5 |     pressure: { memory: 5s, cpu: 0, io: 1, recycle: { memory: 500ms, cpu: 1m } }
      |                         ^^
      = hint: between `1ms` and `2s`, or `never`

    error: `cpu` is not a part of 2 seconds
     --> watt.yaml:5:34
      |
    5 |     pressure: { memory: 5s, cpu: 0, io: 1, recycle: { memory: 500ms, cpu: 1m } }
      |                                  ^
      = hint: between `1ms` and `2s`, or `never`

    error: `1` has no unit
     --> watt.yaml:5:41
      |
    5 |     pressure: { memory: 5s, cpu: 0, io: 1, recycle: { memory: 500ms, cpu: 1m } }
      |                                         ^
      = hint: did you mean `1s` or `1ms`?

    error: shorter than the 2 seconds over which stalls are added up
     --> watt.yaml:5:63
      |
    5 |     pressure: { memory: 5s, cpu: 0, io: 1, recycle: { memory: 500ms, cpu: 1m } }
      |                                                               ^^^^^

    error: a worker is replaced that stalls as much as is told, and `memory` is `never`
     --> watt.yaml:9:51
      |
    9 |     pressure: { memory: never, recycle: { memory: 1m, io: 1m } }
      |                                                   ^^
      = hint: write how much is told: `memory: 1s`
    ");
}

#[test]
fn rolls_that_cannot_be() {
    let text = "\
services:
  a: { command: x, roll: { surge: 0 } }
  b: { command: x, roll: { surge: 120%, max_unavailable: 5000, on_failure: revert } }
  c: { command: x, roll: { surge: some, max_surge: 1 } }
  d: { command: x, roll: { surge: 0%, max_unavailable: 0, min_healthy: 5 } }
";
    assert_snapshot!(invalid(text), @r"
    error: with neither a worker more nor one fewer, none can be replaced
     --> watt.yaml:2:35
      |
    2 |   a: { command: x, roll: { surge: 0 } }
      |                                   ^
      = hint: write `max_unavailable: 1` with `surge: 0`

    error: `120%` is out of range
     --> watt.yaml:3:35
      |
    3 |   b: { command: x, roll: { surge: 120%, max_unavailable: 5000, on_failure: revert } }
      |                                   ^^^^
      = hint: it is at most 100%

    error: `5000` is out of range
     --> watt.yaml:3:58
      |
    3 |   b: { command: x, roll: { surge: 120%, max_unavailable: 5000, on_failure: revert } }
      |                                                          ^^^^
      = hint: it is at most 1000

    error: `revert` is not understood here
     --> watt.yaml:3:76
      |
    3 |   b: { command: x, roll: { surge: 120%, max_unavailable: 5000, on_failure: revert } }
      |                                                                            ^^^^^^
      = hint: one of `keep`, `roll_back`, `rollback`, `pause`

    error: `some` is not a number of workers
     --> watt.yaml:4:35
      |
    4 |   c: { command: x, roll: { surge: some, max_surge: 1 } }
      |                                   ^^^^
      = hint: write `2`, or `25%` for a part of them

    error: unknown key `max_surge` in `services.c.roll`
     --> watt.yaml:4:41
      |
    4 |   c: { command: x, roll: { surge: some, max_surge: 1 } }
      |                                         ^^^^^^^^^
      = hint: write `surge`

    error: with neither a worker more nor one fewer, none can be replaced
     --> watt.yaml:5:35
      |
    5 |   d: { command: x, roll: { surge: 0%, max_unavailable: 0, min_healthy: 5 } }
      |                                   ^^
      = hint: write `max_unavailable: 1` with `surge: 0`

    error: `5` has no unit
     --> watt.yaml:5:72
      |
    5 |   d: { command: x, roll: { surge: 0%, max_unavailable: 0, min_healthy: 5 } }
      |                                                                        ^
      = hint: did you mean `5s` or `5ms`?
    ");
}

#[test]
fn what_a_program_speaks() {
    assert_snapshot!(invalid("services:\n  a: {command: x, protocol: h2}\n  b: {command: x, listen: none, protocol: http2}\n"), @"
    error: `h2` is not understood here
     --> watt.yaml:2:29
      |
    2 |   a: {command: x, protocol: h2}
      |                             ^^
      = hint: did you mean `h2c`?

    error: this service accepts no connections: its `listen` is `none`
     --> watt.yaml:3:43
      |
    3 |   b: {command: x, listen: none, protocol: http2}
      |                                           ^^^^^
      = hint: remove `protocol`, or `listen: none`
    ");
}
