//! Which requests are written to the access log.

use insta::assert_snapshot;
use watt_core::plan::AccessLog;

use crate::{invalid, valid};

fn access(logs: &str) -> Option<AccessLog> {
    valid(&format!("logs: {logs}\nservices: {{a: {{command: x}}}}\n")).plan.logs.access.clone()
}

#[test]
fn a_word_or_a_table() {
    let gateway = AccessLog { mesh: false, percent: 100, headers: Vec::new(), query: false };
    assert_eq!((access("{}"), access("{access: none}")), (None, None));
    assert_eq!(access("{access: gateway}"), Some(gateway.clone()));
    assert_eq!(access("{access: {}}"), Some(gateway.clone()));
    assert_eq!(access("{access: all}"), Some(AccessLog { mesh: true, ..gateway }));
    assert_eq!(access("{access: {requests: none, sample: 5%}}"), None);
    let all = AccessLog { mesh: true, percent: 5, headers: vec!["user-agent".into()], query: true };
    assert_eq!(
        access("{access: {requests: all, sample: 5%, headers: [User-Agent], query: true}}"),
        Some(all)
    );
}

#[test]
fn what_must_not_be_in_a_log_and_what_is_nothing() {
    assert_snapshot!(invalid("logs: {access: {requests: mesh, sample: 0, headers: [Cookie, 'a b'], body: true}}\nservices: {a: {command: x}}\n"), @r"
error: `mesh` is not understood here
 --> watt.yaml:1:27
  |
1 | logs: {access: {requests: mesh, sample: 0, headers: [Cookie, 'a b'], body: true}}
  |                           ^^^^
  = hint: one of `none`, `gateway`, `all`

error: `0` is not a part of the whole
 --> watt.yaml:1:41
  |
1 | logs: {access: {requests: mesh, sample: 0, headers: [Cookie, 'a b'], body: true}}
  |                                         ^
  = hint: write a whole number from `1%` to `100%`

error: `Cookie` lets in whoever reads it, and is not written to a log
 --> watt.yaml:1:54
  |
1 | logs: {access: {requests: mesh, sample: 0, headers: [Cookie, 'a b'], body: true}}
  |                                                      ^^^^^^
  = hint: remove it

error: `a b` is not the name of a header
 --> watt.yaml:1:62
  |
1 | logs: {access: {requests: mesh, sample: 0, headers: [Cookie, 'a b'], body: true}}
  |                                                              ^^^^^
  = hint: for example `user-agent`

error: unknown key `body` in `logs.access`
 --> watt.yaml:1:70
  |
1 | logs: {access: {requests: mesh, sample: 0, headers: [Cookie, 'a b'], body: true}}
  |                                                                      ^^^^
  = hint: known here: `requests`, `sample`, `headers`, `query`
");
}

#[test]
fn no_keys_in_a_log_and_nothing_is_known_by_what_anybody_may_write() {
    let gateway = |keys: &str| {
        let logs = "logs: {access: {headers: [x-shop-key]}}";
        invalid(&format!(
            "{logs}\nservices: {{a: {{command: x}}}}\ngateway:\n  routes: [{{path: /, service: a}}]\n  {keys}\n"
        ))
    };
    let hash = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let told = gateway(&format!("auth: {{header: X-Shop-Key, api_keys: {{billing: {{hash: '{hash}'}}}}}}"));
    assert!(told.to_string().contains("keys come in `x-shop-key`, and are not written to a log"), "{told}");
    let told = gateway("rate_limit: {requests: 5, header: X-Forwarded-For}");
    assert!(
        told.to_string().contains("a client may write anything there")
            && told.to_string().contains("`by: address`"),
        "{told}"
    );
    let told = gateway("auth: {header: Content-Length, api_keys: {}}");
    assert!(told.to_string().contains("`Content-Length` is the connection's or the proxy's own"), "{told}");
}
