//! Identifiers of the kinds of messages: MESSAGE_ID of systemd.journal-fields(7), by which `journalctl MESSAGE_ID=…` finds all messages of
//! one kind whatever their words are, as sd-messages.h has them for systemd's own.
//!
//! Each was made once, at random (`systemd-id128 new`), and stays for ever: what a kind means may become clearer, never another thing. A
//! new kind gets a new one at the end of its group, and a line in docs/systemd.md, which a test compares with this list.

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A worker entered this state.
    Entered(&'static str),
    /// A worker's run ended by this cause, and what follows is not the state above.
    Ended(&'static str),
    /// Another event than `worker_state`.
    Event(&'static str),
}

/// The event of a worker's states, which say what it is about.
const WORKER_STATE: &str = "worker_state";

/// Identifier, kind, and what it says, in words of the documentation.
const MESSAGES: &[(&str, Kind, &str)] = &[
    ("0f79e303d3f44527bf99c0b64b5a0f18", Kind::Entered("starting"), "a worker is started"),
    ("712ea1d7ad8d4e73a3080ccebd09c5f7", Kind::Entered("ready"), "a worker is ready"),
    (
        "8beb7289ef4444f69c0bebcc87076af0",
        Kind::Entered("unready"),
        "a worker that was ready gets no requests until it is again",
    ),
    (
        "14e415c7d5cf49c89614323c46d8bfb4",
        Kind::Entered("failed"),
        "a worker failed too often, and is tried again seldom or not at all",
    ),
    ("e1557a3a5dd141328bb4aae6a06db302", Kind::Ended("exit"), "a worker exited by itself, with any status"),
    (
        "b50049640bb846d49a5355605eb0442c",
        Kind::Ended("signal"),
        "a worker was ended by a signal that was not watt's",
    ),
    (
        "b93588d300d54cef95bbde74b71c0908",
        Kind::Ended("oom"),
        "a worker was ended by the kernel, because memory was short",
    ),
    ("4f87a3964b8b4ad2894105b0b0c92c2c", Kind::Ended("stopped"), "a worker was stopped, as somebody wanted"),
    (
        "583e826c09294453a21a537242e42123",
        Kind::Ended("start_timeout"),
        "a worker was not ready in time, and was stopped",
    ),
    ("2d76e183fce341d1808f464f8fec6d3d", Kind::Ended("recycled"), "a worker stalled, and is replaced"),
    ("cf7f19382aaa4a4ab58dbdf011a2a9bf", Kind::Ended("unhealthy"), "a worker was unhealthy, and is replaced"),
    (
        "727ee5e9e97f42bf94e03087a78a3de7",
        Kind::Ended("exec_failed"),
        "a worker's program could not be started",
    ),
    ("e71374e0972b4fad853addff02eb4661", Kind::Ended("unknown"), "a worker ended while nobody could see how"),
    (
        "bf26117f4a7442d9b9a92fe7cae59a2a",
        Kind::Event("oom"),
        "the kernel killed for memory; names the victims and the limit",
    ),
    (
        "08f2b4863b244e95a1e6ac937098a355",
        Kind::Event("check_failed"),
        "a worker that was ready fails its check; says what was seen",
    ),
    ("5e070b069b53442484dbbc0ab1727ab1", Kind::Event("pids_limit"), "a worker met its limit of processes"),
    ("1ac999c122624f72ac0c7b88bd933861", Kind::Event("slowed_down"), "a worker is slowed down by its limits"),
    ("0bdaa6ca3e9f49758c45d3a536ce80f3", Kind::Event("pressure"), "a worker stalls"),
    ("30923986da23478eb3ec315ec210a37d", Kind::Event("pressure_over"), "it does so no more"),
    ("3c98f2f42a8944b89ee642f377b4967f", Kind::Event("limits_changed"), "limits were changed in place"),
    (
        "666a7095e618486dab779aa53ab14a31",
        Kind::Event("scaled"),
        "a service is to have another number of workers",
    ),
    (
        "0b9d04a95fe046e3b6cb830779308668",
        Kind::Event("scaling_refused"),
        "there is no room for workers that a service would take",
    ),
    ("c440fa12f7564f3fa4d86d3f583b1491", Kind::Event("reloaded"), "another configuration is in force"),
    (
        "1a48f41d7d574229bdd3553d2d6d0a28",
        Kind::Event("reload_refused"),
        "a configuration was read and not taken",
    ),
    (
        "02ae88043b33473d83a2468b36fba6fb",
        Kind::Event("roll"),
        "a service's workers are being replaced; says how far that is",
    ),
    ("2a6eaca687bd4f4b8e9020a85f72948e", Kind::Event("roll_failed"), "a replacement of workers failed"),
    (
        "1886cca1e32c4011bfbad549ed658d7e",
        Kind::Event("rolled_back"),
        "a configuration failed, and the one before comes back",
    ),
    (
        "c1cc3379f9c34322a8b1bb2c606d675c",
        Kind::Event("upgrade_started"),
        "another version of watt is about to take over",
    ),
    ("a61389bb5ab34ebba509a898d1c5dbff", Kind::Event("upgraded"), "another version of watt has taken over"),
    (
        "e32ddcbb2ab3470b962e456b5dadf608",
        Kind::Event("upgrade_rolled_back"),
        "another version of watt did not take over, and the one before goes on",
    ),
    ("6a63892a91694cdc9de7ff928e14e953", Kind::Event("refused"), "a call inside the mesh was refused"),
    (
        "9d89aa68ae884b7189f153b401d58f36",
        Kind::Event("egress_refused"),
        "a connection out of the mesh was refused",
    ),
    (
        "801e4ef98df7454cb71fdc47c7939570",
        Kind::Event("request_lost"),
        "a request was lost with the worker that had it",
    ),
    (
        "ae22c7e8b7a74bab9808d93ac6c54222",
        Kind::Event("circuit_opened"),
        "a service fails, and is not asked for a while",
    ),
    ("ec046da8f2924cf29fb960fa17c60895", Kind::Event("circuit_closed"), "it is asked again"),
    (
        "7926af88e26347f190bb1846ab3f7b19",
        Kind::Event("requests_refused"),
        "requests were refused because of a limit of their service",
    ),
    (
        "b73433af7ebb4460b4412b88cde961fd",
        Kind::Event("worker_ejected"),
        "a worker gets no requests for a while, since those that it had failed",
    ),
    ("0aa22ad73286424b9fe0da9a0861f1aa", Kind::Event("worker_returned"), "it gets requests again"),
    (
        "5d1c3b0a9e7f4d62b8a4c1f07e93d258",
        Kind::Event("openapi_problem"),
        "the description of a service's API cannot be had, or something in it is wrong",
    ),
    (
        "a525da6d46ba4b28a14a7b7e3c15dc68",
        Kind::Event("control_refused"),
        "a process that may not tried to use the control socket",
    ),
    (
        "759129ef7757497ca0f100eb8b042f6b",
        Kind::Event("app_ready"),
        "every service has come up for the first time",
    ),
    ("403fa9a5ff7a47a0998625d6c5cf083f", Kind::Event("app_stopping"), "the application begins to end"),
    (
        "354bdae0855e40abbf96e3b1d941e09b",
        Kind::Event("daemon_replaced"),
        "the daemon ended, and another one took over",
    ),
    (
        "e9ad46e29d6b40a098b0f6bdca92edb2",
        Kind::Event("proxy_replaced"),
        "the mesh proxy ended, and another one took over",
    ),
    ("94b540120677421ba539d02cfaf80b32", Kind::Event("task_started"), "a task was started"),
    ("e3a897a1125048289d1b4ed831fff01d", Kind::Event("task_ended"), "a task has ended"),
    ("55723e9425ef4591897e5547434c35ca", Kind::Event("webhook_ended"), "a webhook was sent, or could not be"),
    (
        "89aba3759ef14b11b1b3f22eef185f6b",
        Kind::Event("log_file_failed"),
        "output cannot be written to its file",
    ),
    ("387a5c38a94144899f2fcc2b78328e31", Kind::Event("log_file_recovered"), "it is written again"),
    ("4a902be6558c4ec5bc0fe10b07a858b9", Kind::Event("journal_lost"), "lines did not get into the journal"),
    ("6621a4cee2bb4bf381bff8ae43568e8a", Kind::Event("job_started"), "a job fires"),
    ("98c3a10ce318476f985bfffcc46dfa4c", Kind::Event("job_ended"), "what a job did is over; says how"),
    (
        "39bc393e09db4b01b278dfc66b0bcaf8",
        Kind::Event("job_missed"),
        "a job did not fire at its time, and will not for that",
    ),
    (
        "1ae020a1f3804e1f8068622f433c6355",
        Kind::Event("job_skipped"),
        "a job does not fire, because an earlier firing of it comes first",
    ),
];

/// The identifier of an event of this kind, with the state that a worker entered and how its run ended, where that is known.
pub(super) fn of(kind: &str, state: Option<&str>, cause: Option<&str>) -> Option<&'static str> {
    let is_it = |of: &Kind| match *of {
        Kind::Entered(entered) => kind == WORKER_STATE && state == Some(entered),
        Kind::Ended(by) => kind == WORKER_STATE && cause == Some(by),
        Kind::Event(event) => kind == event,
    };
    MESSAGES.iter().find(|(_, of, _)| is_it(of)).map(|(id, _, _)| *id)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    #[test]
    fn an_event_has_the_identifier_of_its_kind() {
        let check = |kind, state, cause, expected: Option<Kind>| {
            let expected = MESSAGES.iter().find(|(_, of, _)| Some(*of) == expected).map(|(id, _, _)| *id);
            assert_eq!(of(kind, state, cause), expected, "{kind} {state:?} {cause:?}");
        };
        check("worker_state", Some("ready"), None, Some(Kind::Entered("ready")));
        check("worker_state", Some("backoff"), Some("signal"), Some(Kind::Ended("signal")));
        check("worker_state", Some("completed"), Some("exit"), Some(Kind::Ended("exit")));
        check("worker_state", Some("failed"), Some("exit"), Some(Kind::Entered("failed")));
        check("worker_state", Some("draining"), None, None);
        check("oom", None, None, Some(Kind::Event("oom")));
        check("nothing", Some("ready"), Some("exit"), None);
    }

    #[test]
    fn each_is_one_of_its_own() {
        let ids: BTreeSet<&str> = MESSAGES.iter().map(|(id, _, _)| *id).collect();
        assert_eq!(ids.len(), MESSAGES.len());
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(is_digit)), "{ids:?}");
    }

    #[test]
    fn every_kind_of_event_has_one() {
        let sources = [
            include_str!("../events/apis.rs"),
            include_str!("../events/happenings.rs"),
            include_str!("../events/limits.rs"),
            include_str!("../events/jobs.rs"),
            include_str!("../events/lost.rs"),
            include_str!("../events/scaling.rs"),
            include_str!("../events/tasks.rs"),
            include_str!("../events/troubles.rs"),
        ]
        .concat();
        let kinds =
            sources.lines().filter_map(|line| line.trim().strip_prefix("const KIND: &'static str = "));
        let kinds: Vec<&str> = kinds.map(|kind| kind.trim_matches(['"', ';'])).collect();
        assert!(kinds.len() > 15, "{kinds:?}");
        for kind in kinds {
            assert!(of(kind, Some("ready"), None).is_some(), "{kind}");
        }
    }

    #[test]
    fn the_documentation_has_them_all() {
        let path = root().join("docs/systemd.md");
        let text = fs::read_to_string(&path).unwrap();
        let found: Vec<&str> =
            text.lines().filter(|line| line.starts_with("| `") && line.len() > 40).collect();
        let found: Vec<&str> = found
            .into_iter()
            .filter(|line| line.as_bytes()[3..35].iter().all(u8::is_ascii_hexdigit))
            .collect();
        let wanted = MESSAGES.iter().map(|(id, kind, what)| {
            let kind = match kind {
                Kind::Entered(state) => format!("`worker_state`, `WATT_STATE={state}`"),
                Kind::Ended(cause) => format!("`worker_state`, `WATT_CAUSE={cause}`"),
                Kind::Event(kind) => format!("`{kind}`"),
            };
            format!("| `{id}` | {kind} | {what} |")
        });
        let wanted: Vec<String> = wanted.collect();
        assert_eq!(found, wanted, "the table in {} should be:\n{}", path.display(), wanted.join("\n"));
    }
}
