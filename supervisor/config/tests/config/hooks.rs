//! Hooks of services: commands and webhooks.

use std::{collections::BTreeMap, time::Duration};

use insta::assert_snapshot;
use watt_core::{
    ServiceId,
    plan::{Hook, HookAct, HookPoint, Receiver, Webhook},
};

use crate::{invalid, valid};

/// The hook `pre_start` of the service `a`.
#[track_caller]
fn hook(text: &str) -> Hook {
    let text = format!("services: {{a: {{command: x, hooks: {{pre_start: {text}}}}}, b: {{command: x}}}}");
    let plan = valid(&text).plan;
    let service = plan.services.values().next().unwrap();
    service.hooks[&HookPoint::PreStart].clone()
}

fn command(argv: &[&str], timeout: u64) -> Hook {
    let argv = argv.iter().map(|&argument| argument.to_owned()).collect();
    Hook { act: HookAct::Command(argv), timeout: Duration::from_secs(timeout) }
}

#[test]
fn a_hook_is_a_command() {
    assert_eq!(hook("./flush 'all of it'"), command(&["./flush", "all of it"], 30));
    assert_eq!(hook("[./flush, now]"), command(&["./flush", "now"], 30));
    assert_eq!(hook("{command: ./flush, timeout: 5s}"), command(&["./flush"], 5));
}

#[test]
fn or_a_webhook() {
    let webhook = |receiver: Receiver, path: &str, headers: &[(&str, &str)], retries| {
        let headers: BTreeMap<String, String> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        HookAct::Webhook(Webhook { receiver, path: path.to_owned(), headers, retries })
    };
    let service = Receiver::Service(ServiceId::new("b").unwrap());
    let expected = Hook { act: webhook(service, "/x?y=1", &[], 3), timeout: Duration::from_secs(30) };
    assert_eq!(hook("{url: 'http://b.plt.local/x?y=1'}"), expected);
    let host = Receiver::Host { name: "example.org".to_owned(), port: 9093 };
    let act = webhook(host, "/", &[("X-Key", "1")], 0);
    let expected = Hook { act, timeout: Duration::from_secs(60) };
    let text = "{url: 'http://example.org:9093', headers: {X-Key: '1'}, retries: 0, timeout: 1m}";
    assert_eq!(hook(text), expected);
}

#[test]
fn wrong_hooks() {
    assert_snapshot!(invalid(r#"
services:
  a:
    command: x
    listen: none
    hooks:
      pre_start: { timeout: 5s }
      post_start: { command: x, url: "http://b.plt.local/" }
      pre_stop: { command: x, timeout: 0s, retries: 2 }
      post_stop: { url: "https://example.org/", webhook: x }
      on_failure: http://b.plt.local/
  b:
    command: x
    hooks:
      pre_start: { url: "http://c.plt.local/" }
      post_start: { url: "http://a.plt.local/", retries: 21 }
      preStop: x
"#), @r#"
    error: a hook that does nothing
     --> watt.yaml:7:7
      |
    7 |       pre_start: { timeout: 5s }
      |       ^^^^^^^^^
      = hint: write its `command`, for example `command: [./flush]`, or a `url`

    error: `command` and `url` in one hook
     --> watt.yaml:8:33
      |
    8 |       post_start: { command: x, url: "http://b.plt.local/" }
      |                                 ^^^
      = note: `command` is here
     --> watt.yaml:8:21
      |
    8 |       post_start: { command: x, url: "http://b.plt.local/" }
      |                     ^^^^^^^
      = hint: keep one of them

    error: in no time, no hook succeeds
     --> watt.yaml:9:40
      |
    9 |       pre_stop: { command: x, timeout: 0s, retries: 2 }
      |                                        ^^
      = hint: write a longer time, or remove it

    error: this has no effect on a command
     --> watt.yaml:9:44
      |
    9 |       pre_stop: { command: x, timeout: 0s, retries: 2 }
      |                                            ^^^^^^^
      = hint: remove it; it is for a `url`

    error: `https://example.org/` needs TLS, which webhooks do not have
      --> watt.yaml:10:25
       |
    10 |       post_stop: { url: "https://example.org/", webhook: x }
       |                         ^^^^^^^^^^^^^^^^^^^^^^
       = hint: write a `command` that sends it, for example with curl, or the URL of a service that passes it on

    error: unknown key `webhook` in `services.a.hooks.HOOK`
      --> watt.yaml:10:49
       |
    10 |       post_stop: { url: "https://example.org/", webhook: x }
       |                                                 ^^^^^^^
       = hint: write `url`

    error: `http://b.plt.local/` is no program
      --> watt.yaml:11:19
       |
    11 |       on_failure: http://b.plt.local/
       |                   ^^^^^^^^^^^^^^^^^^^
       = hint: write `on_failure: { url: … }`

    error: there is no service `c`
      --> watt.yaml:15:25
       |
    15 |       pre_start: { url: "http://c.plt.local/" }
       |                         ^^^^^^^^^^^^^^^^^^^^^
       = hint: did you mean `a`?

    error: `a` accepts no connections, so no request can be sent to it
      --> watt.yaml:16:26
       |
    16 |       post_start: { url: "http://a.plt.local/", retries: 21 }
       |                          ^^^^^^^^^^^^^^^^^^^^^
       = note: its `listen` is `none`
      --> watt.yaml:5:13
       |
     5 |     listen: none
       |             ^^^^

    error: 21 is out of range
      --> watt.yaml:16:58
       |
    16 |       post_start: { url: "http://a.plt.local/", retries: 21 }
       |                                                          ^^
       = hint: between 0 and 20

    error: unknown key `preStop` in `services.b.hooks`
      --> watt.yaml:17:7
       |
    17 |       preStop: x
       |       ^^^^^^^
       = hint: write `pre_stop`
    "#);
}
