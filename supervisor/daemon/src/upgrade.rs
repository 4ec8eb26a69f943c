//! `wattctl upgrade`: another version of watt takes over while traffic flows.
//!
//! ```text
//! asked ─▶ the file is looked at ─▶ it rehearses with a copy of the table ─▶ handed over  │ by the daemon of the program before
//!             (check)                                                                      │
//! trial ─▶ the control socket answers ─▶ its proxy uses a snapshot ─▶ settled             │ by the next program's
//!                                                                      └▶ its proxy serves, the other one leaves (proxies)
//! ```
//!
//! Everything that can be found out before is. From the handover on the spawner has the program before in its hand, and goes back to it
//! unless it hears in time that all is well. What was done is kept there as a value, for whichever daemon comes next: the one that
//! ends the upgrade may be of either program.

pub(crate) mod check;
mod rehearsal;

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use watt_api::control::{self, UpgradeProgram, UpgradeProgress, UpgradeState, UpgradeStep};
use watt_spawner::protocol::Request;

use self::check::{Found, Offer, refused};
pub(crate) use self::rehearsal::rehearse;
use crate::{
    app::{App, Ending},
    beside,
    control::{Refusal, Reply},
    events::happenings,
    operate::answer,
    reload::Asked as ReloadAsked,
    start::{Held, own_uid},
    status, timestamp,
};

/// The key of the record.
pub(crate) const UPGRADE: &str = "upgrade";
/// The key that says that SIGHUP came while an upgrade was not settled.
const RELOAD: &str = "reload_after_upgrade";
/// The key of the form of what is kept.
pub(crate) const FORM: &str = "form";

/// Names under which the spawner keeps what a rehearsal needs.
const NEXT_PROGRAM: &str = "upgrade/program";
const TABLE: &str = "upgrade/table";

/// How long a trial may take when nobody says.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A proxy that ended so often while it was tried will not get well.
const PROXY_ENDS_MAX: u32 = 3;
/// How long to wait before the control socket is asked once more.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The upgrade that is under way, and the last one.
#[derive(Debug)]
pub(crate) struct Upgrades {
    /// The number of the program that we are.
    pub(crate) program: u64,
    /// Where that was found.
    pub(crate) path: String,
    phase: Phase,
    record: Option<Record>,
    /// How often our proxy has ended while it was tried.
    proxy_ends: u32,
}

/// How far it is.
#[derive(Debug)]
enum Phase {
    None,
    /// The file is looked at.
    Looking(Asked),
    /// The spawner was asked for a copy of its table.
    Copying(Asked, Found),
    /// The program rehearses.
    Rehearsing(Asked, Found),
    /// All is prepared, and a reload is to come to its end first.
    Due {
        file: OwnedFd,
        within: Duration,
    },
    /// The spawner was told, and waits for our end.
    Leaving,
    /// We are the program that took over.
    Trial {
        answers: bool,
        is_settling: bool,
    },
}

/// Somebody who asks for it.
#[derive(Debug)]
struct Asked {
    request: control::Upgrade,
    reply: Reply<Box<UpgradeState>>,
}

/// What a step beside the loop came to.
#[derive(Debug)]
pub(crate) enum News {
    /// The file was looked at.
    Found(Result<Found, Refusal>),
    /// The program has rehearsed, or could not.
    Rehearsed(Result<Vec<u8>, String>),
    /// The control socket answers.
    Answers,
}

/// What is kept of an upgrade.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    number: u64,
    from: UpgradeProgram,
    to: UpgradeProgram,
    steps: Vec<(String, u64)>,
    /// How it ended: `None` while it has not.
    end: Option<End>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Done,
    RolledBack(String),
}

impl Record {
    fn step(&mut self, step: &str) {
        if self.steps.iter().all(|(done, _)| done != step) {
            self.steps.push((step.to_owned(), status::now_ms()));
        }
    }

    fn state(&self) -> UpgradeState {
        let (state, reason) = match &self.end {
            None => (UpgradeProgress::Running, None),
            Some(End::Done) => (UpgradeProgress::Done, None),
            Some(End::RolledBack(why)) => (UpgradeProgress::RolledBack, Some(why.clone())),
        };
        let step = |(step, at_ms): &(String, u64)| UpgradeStep {
            step: step.clone(),
            at: timestamp::from_ms(*at_ms),
        };
        UpgradeState {
            number: self.number,
            state,
            from: self.from.clone(),
            to: self.to.clone(),
            steps: self.steps.iter().map(step).collect(),
            reason,
        }
    }
}

impl Upgrades {
    /// As the spawner tells it.
    pub(crate) fn new(held: &Held) -> Upgrades {
        let record = held.value(UPGRADE).and_then(|value| serde_json::from_slice(value).ok());
        let trial = Phase::Trial { answers: false, is_settling: false };
        Upgrades {
            program: held.program,
            path: held.path.clone(),
            phase: if held.trial { trial } else { Phase::None },
            record,
            proxy_ends: 0,
        }
    }

    /// Whether we took over and may have to go.
    pub(crate) fn is_trial(&self) -> bool {
        matches!(self.phase, Phase::Trial { .. })
    }

    /// Whether our end is what the spawner waits for.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving)
    }

    /// Whether a configuration may not be replaced now: the program before may have to go on with what is in force.
    pub(crate) fn holds_reloads(&self) -> bool {
        self.is_trial() || self.is_leaving()
    }
}

impl App {
    /// Takes the wish for an upgrade.
    pub(crate) fn upgrade(&mut self, request: control::Upgrade, reply: Reply<Box<UpgradeState>>) {
        if self.ending != Ending::No {
            return answer(reply, Err(Refusal::ShuttingDown));
        }
        if !matches!(self.upgrades.phase, Phase::None) {
            let busy = refused("under_way", "another upgrade is under way".to_owned(), None);
            return answer(reply, Err(busy));
        }
        let (wanted, own) = (request.program.clone(), self.upgrades.path.clone());
        let sender = self.senders.upgrade.clone();
        tokio::spawn(async move {
            let found = beside::now(move || check::find(wanted, &own, own_uid())).await;
            let found = found.unwrap_or_else(|error| Err(refused("internal", error.to_string(), None)));
            let _ = sender.send(News::Found(found)).await;
        });
        self.upgrades.phase = Phase::Looking(Asked { request, reply });
    }

    /// The last one, or the one that is under way.
    pub(crate) fn upgrade_state(&self, reply: Reply<Box<UpgradeState>>) {
        match &self.upgrades.record {
            Some(record) => answer(reply, Ok(Box::new(record.state()))),
            None => {
                let none = "this application was not upgraded since its start".to_owned();
                answer(reply, Err(refused("no_upgrade", none, None)));
            }
        }
    }

    /// A step beside the loop has ended.
    pub(crate) fn upgrade_news(&mut self, news: News) {
        match (news, std::mem::replace(&mut self.upgrades.phase, Phase::None)) {
            (News::Found(Ok(found)), Phase::Looking(asked)) => {
                self.upgrades.phase = Phase::Copying(asked, found);
                self.link.request(Request::Table, Vec::new());
                watt_fault::step("daemon.upgrade_found");
            }
            (News::Found(Err(refusal)), Phase::Looking(asked)) => answer(asked.reply, Err(refusal)),
            (News::Rehearsed(said), Phase::Rehearsing(asked, found)) => self.rehearsed(asked, found, said),
            (News::Answers, Phase::Trial { is_settling, .. }) => {
                self.note_step("daemon");
                self.upgrades.phase = Phase::Trial { answers: true, is_settling };
            }
            (_, phase) => self.upgrades.phase = phase,
        }
        self.upgrade_step();
    }

    /// The spawner gives a copy of its table: the program rehearses with it.
    pub(crate) fn table_copied(&mut self, table: Option<OwnedFd>) {
        let (asked, found) = match std::mem::replace(&mut self.upgrades.phase, Phase::None) {
            Phase::Copying(asked, found) => (asked, found),
            phase => return self.upgrades.phase = phase,
        };
        let begun = table.ok_or_else(|| io::ErrorKind::InvalidData.into());
        match begun.and_then(|table| self.begin_rehearsal(&found, table)) {
            Ok(()) => {
                self.upgrades.phase = Phase::Rehearsing(asked, found);
                watt_fault::step("daemon.upgrade_rehearsing");
            }
            Err(error) => {
                let why = format!("the rehearsal cannot be started: {error}");
                answer(asked.reply, Err(refused("internal", why, None)));
            }
        }
    }

    /// The spawner does not do it.
    pub(crate) fn upgrade_refused(&mut self, why: String) {
        match std::mem::replace(&mut self.upgrades.phase, Phase::None) {
            Phase::Copying(asked, _) => answer(asked.reply, Err(refused("spawner", why, None))),
            phase => {
                self.upgrades.phase = phase;
                tracing::warn!("the spawner refuses an upgrade: {why}");
            }
        }
    }

    fn rehearsed(&mut self, asked: Asked, found: Found, said: Result<Vec<u8>, String>) {
        for name in [TABLE, NEXT_PROGRAM] {
            self.link.request(Request::Unkeep { name: name.to_owned() }, Vec::new());
        }
        let path = found.path.display().to_string();
        let own = Offer::own();
        let offer = said.and_then(|said| Offer::parse(&said).ok_or_else(|| "it is no wattctl".to_owned()));
        let offer =
            offer.map_err(|why| refused("rehearsal", format!("{path} cannot take over: {why}"), None));
        let offer = offer.and_then(|offer| match offer.fits(&own) {
            Ok(()) => Ok(offer),
            Err(why) => Err(refused("version", format!("{path} cannot take over: {why}"), None)),
        });
        let Asked { request, reply } = asked;
        let offer = match offer {
            Ok(offer) => offer,
            Err(refusal) => return answer(reply, Err(refusal)),
        };
        let number = self.upgrades.record.as_ref().map_or(0, |record| record.number) + 1;
        let from = UpgradeProgram { path: self.upgrades.path.clone(), version: own.version };
        let to = UpgradeProgram { path, version: offer.version };
        let mut record = Record { number, from, to, steps: Vec::new(), end: None };
        record.step("checked");
        if request.check {
            let state = UpgradeState { state: UpgradeProgress::Checked, ..record.state() };
            return answer(reply, Ok(Box::new(state)));
        }
        let (from, to) = (record.from.clone(), record.to.clone());
        self.events.emit(happenings::UpgradeStarted { from, to });
        answer(reply, Ok(Box::new(record.state())));
        self.upgrades.record = Some(record);
        self.keep_record();
        watt_fault::step("daemon.upgrade_kept");
        let within = request.timeout_ms.map_or(TIMEOUT, Duration::from_millis);
        self.upgrades.phase = Phase::Due { file: found.file, within };
    }

    /// Does what can be done next.
    pub(crate) fn upgrade_step(&mut self) {
        let is_trial = self.upgrades.is_trial();
        self.proxy_link.step(Instant::now(), is_trial);
        match &mut self.upgrades.phase {
            Phase::Due { .. } if self.ending != Ending::No => {
                self.end_upgrade(End::RolledBack("the application is being shut down".to_owned()));
            }
            Phase::Due { .. } if self.reloads.is_idle() => self.hand_over(),
            Phase::Trial { answers: true, is_settling: false } => {
                let proxy_is_well = self.proxy_link.own_is_well();
                if proxy_is_well {
                    self.note_step("proxy");
                }
                // The end of all is nothing that the program before could do better.
                if proxy_is_well || self.ending != Ending::No {
                    self.upgrades.phase = Phase::Trial { answers: true, is_settling: true };
                    watt_fault::step("daemon.upgrade_settling");
                    self.link.request(Request::Settle, Vec::new());
                }
            }
            Phase::None
            | Phase::Looking(_)
            | Phase::Copying(..)
            | Phase::Rehearsing(..)
            | Phase::Due { .. }
            | Phase::Leaving
            | Phase::Trial { .. } => {}
        }
    }

    /// The last thing that this daemon does.
    fn hand_over(&mut self) {
        let Phase::Due { file, within } = std::mem::replace(&mut self.upgrades.phase, Phase::Leaving) else {
            return;
        };
        let Some(record) = &self.upgrades.record else { return };
        let (number, path) = (record.number, record.to.path.clone());
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.link.request(Request::Upgrade { number, path, within_ms }, vec![file]);
        watt_fault::step("daemon.upgrade_asked");
    }

    /// The program that took over stays.
    pub(crate) fn settled(&mut self) {
        if !self.upgrades.is_trial() {
            return;
        }
        self.note_step("settled");
        watt_fault::step("daemon.upgrade_settled");
        // Another proxy counts from now on.
        self.autoscale.proxy_lost();
        self.put(FORM, watt_spawner::format::FORMAT.to_string().into_bytes());
        self.end_upgrade(End::Done);
        self.upgrade_step();
        self.reload_after_upgrade(false);
    }

    /// Our proxy has ended. One that is tried and does so again and again is no proxy to go on with.
    pub(crate) fn tried_proxy_ended(&mut self, exit: &str) {
        if !self.upgrades.is_trial() {
            return;
        }
        self.upgrades.proxy_ends += 1;
        if self.upgrades.proxy_ends == PROXY_ENDS_MAX {
            let why = format!("its mesh proxy ended {PROXY_ENDS_MAX} times: {exit}");
            self.link.request(Request::GoBack { why }, Vec::new());
        }
    }

    /// Goes on with what an earlier daemon had begun: this one is of the next program, or of the one before, which went on.
    pub(crate) fn take_over_upgrade(&mut self, went_back: Option<&str>, reload_is_wanted: bool) {
        if self.upgrades.is_trial() {
            self.note_step("spawner");
            watt_fault::step("daemon.upgrade_trial");
            self.ask_control_socket();
        } else if let Some(Record { number, end: None, .. }) = &self.upgrades.record {
            let is_done = *number == self.upgrades.program;
            let why = went_back.unwrap_or("the spawner did not take it").to_owned();
            self.end_upgrade(if is_done { End::Done } else { End::RolledBack(why) });
        }
        self.reload_after_upgrade(reload_is_wanted);
        self.upgrade_step();
    }

    /// SIGHUP comes while no configuration may be replaced.
    pub(crate) fn remember_reload(&mut self) {
        self.put(RELOAD, b"1".to_vec());
    }

    /// Whether that is remembered.
    pub(crate) fn is_reload_wanted(held: &Held) -> bool {
        held.value(RELOAD).is_some()
    }

    /// Reloads that have waited, or that an earlier daemon was asked for.
    fn reload_after_upgrade(&mut self, is_wanted: bool) {
        if is_wanted && self.reloads.is_idle() {
            self.reload(ReloadAsked::by_signal());
        }
        if !self.upgrades.holds_reloads() {
            self.put(RELOAD, Vec::new());
            self.next_reload();
        }
    }

    /// Asks our own control socket, as somebody else would, until it answers.
    fn ask_control_socket(&self) {
        let (socket, sender) = (self.places.control_socket(), self.senders.upgrade.clone());
        tokio::spawn(async move {
            loop {
                match ask(&socket).await {
                    Ok(()) => break,
                    Err(error) => tracing::warn!("the control socket does not answer: {error}"),
                }
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
            }
            let _ = sender.send(News::Answers).await;
        });
    }

    fn note_step(&mut self, step: &str) {
        if let Some(record) = &mut self.upgrades.record {
            record.step(step);
            self.keep_record();
        }
    }

    fn end_upgrade(&mut self, end: End) {
        self.upgrades.phase = Phase::None;
        let Some(record) = &mut self.upgrades.record else { return };
        let (from, to) = (record.from.clone(), record.to.clone());
        match &end {
            End::Done => self.events.emit(happenings::Upgraded { from, to }),
            End::RolledBack(why) => {
                record.step("rolled_back");
                self.events.emit(happenings::UpgradeRolledBack { to, reason: why.clone() });
            }
        }
        record.end = Some(end);
        self.keep_record();
    }

    fn keep_record(&mut self) {
        // Strings and numbers always have a JSON form.
        if let Some(Ok(value)) = self.upgrades.record.as_ref().map(serde_json::to_vec) {
            self.put(UPGRADE, value);
        }
    }
}

/// Asks for the status, which the loop has to say. What it says is of no interest.
async fn ask(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: watt\r\n\r\n").await?;
    let mut start = [0; b"HTTP/1.1 ".len()];
    stream.read_exact(&mut start).await?;
    if start == *b"HTTP/1.1 " { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
