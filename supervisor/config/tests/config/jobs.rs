//! What is done at certain times: what a file means, and what is wrong with it.

use std::{collections::BTreeMap, time::Duration};

use insta::assert_snapshot;
use watt_core::{
    JobId,
    plan::{Call, CatchUp, Job, Overlap, Work},
    testing,
};

use crate::{invalid, invalid_sources, sources, valid};

/// The only job of a file with these keys.
#[track_caller]
fn job(keys: &str) -> Job {
    let text = format!("services: {{api: {{command: x}}}}\njobs: {{tick: {{service: api, {keys}}}}}");
    valid(&text).plan.jobs[&JobId::new("tick").unwrap()].clone()
}

fn call(method: &str, path: &str) -> Call {
    Call { method: method.into(), path: path.into(), headers: BTreeMap::new(), body: None, retries: 0 }
}

#[test]
fn a_call_with_every_default() {
    let expected = Job {
        work: Work::Call(call("GET", "/tick?x=1")),
        timeout: Some(Duration::from_secs(60)),
        ..testing::job("api")
    };
    assert_eq!(job("http: /tick?x=1, schedule: '* * * * *'"), expected);
    assert_eq!(
        job("http: {path: /tick?x=1}, schedule: '*  * * * *', catch_up: skip, timezone: UTC"),
        expected
    );
}

#[test]
fn everything_of_a_job_can_be_said() {
    let found = job(
        "http: {method: POST, path: /a, headers: {X-Key: '1'}, body: 'a=1'}, retries: 3, schedule: '*/10 * * * * *', \
         timezone: Europe/Berlin, jitter: 5s, overlap: replace, catch_up: {mode: one, within: 6h}, timeout: never, \
         history: 7",
    );
    let mut wanted = call("POST", "/a");
    wanted.headers.insert("X-Key".into(), "1".into());
    wanted.body = Some("a=1".into());
    wanted.retries = 3;
    assert_eq!(found.work, Work::Call(wanted));
    assert_eq!(found.schedule.as_str(), "*/10 * * * * *");
    assert_eq!((found.timezone.as_str(), found.jitter), ("Europe/Berlin", Duration::from_secs(5)));
    assert_eq!((found.overlap, found.timeout, found.history), (Overlap::Replace, None, 7));
    assert_eq!(found.catch_up, CatchUp::One(Duration::from_secs(6 * 3600)));
    let day = Duration::from_secs(86_400);
    assert_eq!(job("http: /, schedule: '@daily', catch_up: all").catch_up, CatchUp::All(day));
}

#[test]
fn a_command_takes_as_long_as_it_takes() {
    let found = job("command: node 'my report.js', schedule: '@daily'");
    assert_eq!(found.work, Work::Command(vec!["node".into(), "my report.js".into()]));
    assert_eq!(found.timeout, None);
    let found = job("command: [sh, -c, 'echo $WATT_INSTANT'], schedule: '@daily', timeout: 1h");
    assert_eq!(found.timeout, Some(Duration::from_secs(3600)));
    let text =
        "services: {a: {command: x, listen: none}}\njobs: {b: {service: a, command: x, schedule: '@daily'}}";
    assert_eq!(valid(text).plan.jobs.len(), 1);
}

#[test]
fn commands_that_are_none() {
    let text = "
services: {api: {command: x}}
jobs:
  a: { service: api, command: x, http: /, schedule: '@daily' }
  b: { service: api, command: x, schedule: '@daily', retries: 3 }
  c: { service: api, command: [], schedule: '@daily' }
  d: { service: api, command: 'x {port}', schedule: '@daily' }
";
    assert_snapshot!(invalid(text));
}

#[test]
fn a_job_that_is_not_enabled_is_none() {
    let text = "services: {api: {command: x}}\njobs: {a: {service: api, http: /, schedule: '@daily', enabled: false}}";
    assert!(valid(text).plan.jobs.is_empty());
}

const PLATFORMATIC: &str = r#"{
  "services": { "api": { "command": "x" } },
  "scheduler": [
    { "name": "Clean Up", "cron": "*/5 * * * * *", "callbackUrl": "http://api.plt.local/clean?all=1", "method": "POST",
      "headers": { "content-type": "application/json" }, "body": { "n": 1, "deep": [true, "1", null] } },
    { "name": "off", "cron": "0 0 * * *", "callbackUrl": "http://api.plt.local", "enabled": false },
    { "name": "once", "cron": "0 0 * * *", "callbackUrl": "http://api.plt.local:80", "maxRetries": 0, "body": "{\"a\": 1}" }
  ]
}"#;

#[test]
fn the_jobs_of_platformatic_are_understood() {
    let config =
        watt_config::parse(&sources("watt.json", PLATFORMATIC)).unwrap_or_else(|report| panic!("{report}"));
    let job = |name: &str| config.plan.jobs[&JobId::new(name).unwrap()].clone();
    let mut wanted = call("POST", "/clean?all=1");
    wanted.headers.insert("content-type".into(), "application/json".into());
    wanted.body = Some(r#"{"n":1,"deep":[true,"1",null]}"#.into());
    wanted.retries = 3;
    let found = job("clean-up");
    assert_eq!(found.work, Work::Call(wanted));
    assert_eq!(
        (found.timezone.as_str(), found.overlap, found.catch_up),
        ("UTC", Overlap::Forbid, CatchUp::Skip)
    );
    let once = Call { body: Some(r#"{"a": 1}"#.into()), ..call("GET", "/") };
    assert_eq!(job("once").work, Work::Call(once));
    assert_eq!(config.plan.jobs.len(), 2);
    // What is shown is what one would write here.
    let shown = valid(&config.show_text()).plan;
    assert_eq!(shown.jobs, config.plan.jobs);
}

#[test]
fn schedules_that_are_none() {
    let text = "
services: {api: {command: x}}
jobs:
  a: { service: api, http: /, schedule: '0 3 * *' }
  b: { service: api, http: /, schedule: '0 24 * * *' }
  c: { service: api, http: /, schedule: '0 0 31 2 *' }
  d: { service: api, http: /, schedule: '@dayly' }
  e: { service: api, http: /, schedule: '@reboot' }
  f: { service: api, http: /, schedule: '*/10 * * * * *', jitter: 10s }
  g: { service: api, http: /, schedule: 5, timezone: 'Berlin!' }
";
    assert_snapshot!(invalid(text));
}

#[test]
fn jobs_that_are_none() {
    let text = "
services: {api: {command: x}, quiet: {command: x, listen: none}}
jobs:
  A: { service: api, http: /, schedule: '@daily' }
  b: { service: apy, http: /, cron: '@daily' }
  c: { service: quiet, http: /, schedule: '@daily' }
  d: { service: api, http: { path: tick, method: BREW, headers: { Connection: close } }, schedule: '@daily' }
  e: { service: api, http: /, schedule: '@daily', catch_up: { within: 1h }, timeout: 0s, retries: 101, history: 0 }
  f: { service: api, http: /, schedule: '@daily', overlap: queue, catch_up: last }
  g: { service: api }
  h: ping
";
    assert_snapshot!(invalid(text));
}

#[test]
fn jobs_of_platformatic_that_are_none() {
    let text = r#"{ "services": { "api": { "command": "x" } },
  "jobs": { "tick": { "service": "api", "http": "/", "schedule": "@daily" } },
  "scheduler": [
    { "name": "Tick", "cron": "@daily", "callbackUrl": "http://api.plt.local" },
    { "name": "a", "cron": "@daily", "callbackUrl": "https://example.org/" },
    { "name": "b", "cron": "@daily", "callbackUrl": "http://web.plt.local/" },
    { "name": "!", "cron": "@daily", "callbackUrl": "http://api.plt.local/" },
    { "cron": "@daily" }
  ] }"#;
    assert_snapshot!(invalid_sources(&sources("watt.json", text)));
}
