//! `wattctl reload`: the configuration is read again, and what differs from the one in force is applied, all of it or nothing.
//!
//! ```text
//! asked ─▶ read and compared ─▶ secrets read again ─▶ the gateway's listeners bound ─▶ applied
//!             (prepare)            (values)                                            (apply)
//! ```
//!
//! Everything that may fail comes before the last step, which is the loop's own and does not. One reload is under way at a
//! time: those that are asked for meanwhile are answered together by the one that follows, because what it reads is as new as what they want.
//! Where something else has changed the plan in the meantime, it is compared anew.

mod apply;
mod asked;
pub(crate) mod back;
mod prepare;
mod values;
mod words;

use std::{
    collections::BTreeMap,
    hash::RandomState,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use watt_api::control::Reloaded;
use watt_core::{ServiceId, plan::Listener, worker::ExecFailure};
use watt_os::socket_file::SocketFile;
use watt_spawner::protocol::{Address, Request};

pub(crate) use self::asked::{Asked, Single};
pub(crate) use self::words::refusal;
use self::{
    asked::What,
    prepare::{Input, Prepared, Refused},
};
use crate::{
    app::{App, Ending},
    beside,
    control::Refusal,
    events::happenings,
    gateway::{self, AllBound, Binding},
    operate::answer,
    scaling,
};

/// What a step beside the loop came to.
#[derive(Debug)]
pub(crate) enum News {
    /// The configuration was read and compared, or has errors.
    Prepared(Result<Box<Prepared>, Refused>),
    /// The file and its `.env` were looked at: what tells their text from others.
    Looked(u64),
    /// The secrets of running services, as digests.
    Values(Result<BTreeMap<ServiceId, u64>, ExecFailure>),
}

/// Reloads that are under way, and those that wait.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    waiting: Vec<Asked>,
    under_way: Option<UnderWay>,
    /// How many cgroups were made for programs of secrets.
    groups: u64,
    /// For digests, which mean nothing to anybody but this process.
    digests: RandomState,
}

#[derive(Debug)]
struct UnderWay {
    asked: Vec<Asked>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Reading,
    Values(Box<Prepared>, values::Groups),
    Binding(Box<Prepared>, Gateway),
}

/// The gateway's listeners of a reload.
#[derive(Debug, Default)]
struct Gateway {
    /// Those that are where they are wanted.
    stay: AllBound,
    /// Those that were bound for it, and those that still are to be.
    fresh: Vec<Binding>,
}

impl Gateway {
    /// The next socket that is to be bound.
    fn next(&self) -> Option<(String, Address)> {
        self.fresh.iter().find_map(Binding::next)
    }

    /// The listener whose socket that is.
    fn binding(&mut self, name: &str) -> Option<&mut Binding> {
        let is_next = |binding: &&mut Binding| binding.next().is_some_and(|(next, _)| next == name);
        self.fresh.iter_mut().find(is_next)
    }

    /// All, where they are.
    fn bound(&self) -> AllBound {
        self.stay.clone().into_iter().chain(gateway::all(&self.fresh)).collect()
    }
}

impl Reloads {
    /// What tells values apart, within the life of this process.
    pub(crate) fn digests(&self) -> RandomState {
        self.digests.clone()
    }

    /// Whether the configuration from before is on its way back.
    fn is_coming_back(&self) -> bool {
        let asked = self.under_way.iter().flat_map(|under_way| &under_way.asked);
        asked.chain(&self.waiting).any(Asked::is_back)
    }

    /// Whether none is under way or asked for.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty()
    }
}

impl App {
    /// Takes the wish for a reload.
    pub(crate) fn reload(&mut self, asked: Asked) {
        if self.ending != Ending::No {
            return refuse(vec![asked], &Refusal::ShuttingDown);
        }
        if self.upgrades.holds_reloads() && asked.reply.is_none() && !asked.is_back() {
            // Whoever waits for an answer hears that there is none; a signal is not sent twice.
            self.remember_reload();
        }
        self.reloads.waiting.push(asked);
        self.next_reload();
    }

    /// Begins with those that wait, when none is under way, nor an upgrade that is not settled.
    pub(crate) fn next_reload(&mut self) {
        if !self.upgrades.holds_reloads()
            && self.reloads.under_way.is_none()
            && !self.reloads.waiting.is_empty()
        {
            let asked = asked::next(&mut self.reloads.waiting);
            self.read_again(asked);
        }
    }

    fn read_again(&mut self, asked: Vec<Asked>) {
        if asked.iter().any(|asked| !asked.request.plan) {
            self.tell_reloading();
        }
        let folder = asked.iter().find_map(|asked| asked.request.folder.clone());
        let input = Input {
            folder,
            what: asked.first().map_or(What::File, |asked| asked.what.clone()),
            in_force: self.in_force.clone(),
            plan: Arc::clone(&self.plan),
            accounts: self.accounts.clone(),
            places: self.places.clone(),
            host: self.host.clone(),
            gateway: self.gateway.clone(),
            gateway_inodes: self.gateway_inodes.clone(),
            jobs: self.jobs.folder(),
        };
        let sender = self.senders.reload.clone();
        tokio::spawn(async move {
            let prepared = beside::now(move || prepare::prepare(input));
            let prepared = prepared.await.unwrap_or_else(|error| Err(internal(&error.to_string()).into()));
            // The loop has ended when it does not take it.
            let _ = sender.send(News::Prepared(prepared)).await;
        });
        self.reloads.under_way = Some(UnderWay { asked, stage: Stage::Reading });
    }

    /// A step beside the loop has ended.
    pub(crate) fn reload_news(&mut self, news: News) {
        if let News::Looked(digest) = news {
            return self.file_looked_at(digest);
        }
        let Some(UnderWay { asked, stage }) = self.reloads.under_way.take() else { return };
        if self.ending != Ending::No {
            self.abandon(stage);
            return refuse(asked, &Refusal::ShuttingDown);
        }
        match (news, stage) {
            (News::Prepared(Err(Refused { refusal, unusable })), _) => {
                let is_plan = asked.iter().all(|asked| asked.request.plan);
                if let Some(unusable) = unusable.filter(|_| !is_plan) {
                    self.note_file_refused(*unusable);
                }
                self.not_reloaded(asked, &refusal);
            }
            (News::Prepared(Ok(prepared)), _) if !self.is_current(&prepared) => self.read_again(asked),
            (News::Prepared(Ok(prepared)), _) => self.read_values(asked, prepared),
            (News::Values(values), Stage::Values(mut prepared, groups)) => {
                self.leave_groups(groups);
                match values {
                    _ if !self.is_current(&prepared) => self.read_again(asked),
                    Err(failure) => self.not_reloaded(asked, &missing_secret(&failure)),
                    Ok(values) => {
                        self.note_rotated(&mut prepared, &values);
                        self.values_read(asked, prepared);
                    }
                }
            }
            // Of a reload that was begun anew.
            (News::Values(_) | News::Looked(_), stage) => {
                self.reloads.under_way = Some(UnderWay { asked, stage })
            }
        }
    }

    /// Whether nothing has changed the plan since it was compared.
    fn is_current(&self, prepared: &Prepared) -> bool {
        Arc::ptr_eq(&prepared.base, &self.plan)
    }

    fn values_read(&mut self, asked: Vec<Asked>, prepared: Box<Prepared>) {
        if asked.iter().all(|asked| asked.request.plan) {
            let reloaded = self.reloaded(&prepared, false);
            for asked in asked {
                if let Some(reply) = asked.reply {
                    answer(reply, Ok(Box::new(reloaded.clone())));
                }
            }
            return self.next_reload();
        }
        let (stay, missing) = gateway::assign(&prepared.plan, &self.gateway);
        let number = self.in_force.last_listener + 1;
        let binding = |(number, (name, listener)): (u64, (&str, &Listener))| {
            let owner = prepared.owners.get(name).copied().flatten();
            Binding::new(name, number, &listener.at, owner, self.threads)
        };
        let gateway = Gateway { stay, fresh: (number..).zip(missing).map(binding).collect() };
        self.bind_next(asked, prepared, gateway);
    }

    /// Asks for the next of the gateway's sockets, or goes on when all are there.
    fn bind_next(&mut self, asked: Vec<Asked>, prepared: Box<Prepared>, gateway: Gateway) {
        match gateway.next() {
            Some((name, address)) => {
                self.link.request(Request::Listen { name, address }, Vec::new());
                let stage = Stage::Binding(prepared, gateway);
                self.reloads.under_way = Some(UnderWay { asked, stage });
            }
            None if self.is_current(&prepared) => self.apply(asked, *prepared, gateway),
            None => {
                self.abandon(Stage::Binding(prepared, gateway));
                self.read_again(asked);
            }
        }
    }

    /// A listener was bound, or not. Says whether it was one of a reload's.
    pub(crate) fn reload_bound(&mut self, name: &str, bound: Result<(Address, OwnedFd), i32>) -> bool {
        let Some(UnderWay { stage: Stage::Binding(_, gateway), .. }) = &mut self.reloads.under_way else {
            return false;
        };
        let Some(binding) = gateway.binding(name) else { return false };
        let refused = match bound {
            Ok((address, descriptor)) => {
                binding.took(address, descriptor);
                None
            }
            Err(errno) => Some(binding.refused(&std::io::Error::from_raw_os_error(errno))),
        };
        let Some(UnderWay { asked, stage: Stage::Binding(prepared, gateway) }) =
            self.reloads.under_way.take()
        else {
            return false;
        };
        match refused {
            None => self.bind_next(asked, prepared, gateway),
            Some(error) => {
                self.abandon(Stage::Binding(prepared, gateway));
                self.not_reloaded(asked, &not_started(&error));
            }
        }
        true
    }

    /// Lets go of what a reload had taken that comes to nothing.
    fn abandon(&mut self, stage: Stage) {
        match stage {
            Stage::Reading => {}
            Stage::Values(_, groups) => self.leave_groups(groups),
            Stage::Binding(_, gateway) => self.unlisten(&gateway),
        }
    }

    /// Lets go of listeners that were bound for nothing, the one that may be on its way included.
    fn unlisten(&mut self, gateway: &Gateway) {
        for binding in &gateway.fresh {
            // An answer that is still to come is no other one's.
            self.in_force.last_listener = self.in_force.last_listener.max(binding.number);
            for name in binding.names() {
                self.link.request(Request::Unlisten { name }, Vec::new());
            }
        }
    }

    /// A reload comes to nothing, and what runs goes on as it is.
    fn not_reloaded(&mut self, asked: Vec<Asked>, refusal: &Refusal) {
        if asked.iter().any(|asked| !asked.request.plan) {
            let reason = words::refusal(refusal);
            self.unit.not_reloaded(&reason);
            if asked.iter().any(Asked::is_back) {
                // What cannot come back now would not at each start of a daemon either.
                self.in_force.before = None;
                self.keep_in_force();
            }
            self.unsettle();
            self.events.emit(happenings::ReloadRefused { reason });
        }
        refuse(asked, refusal);
        self.next_reload();
    }

    /// What a reload comes to at first.
    fn reloaded(&self, prepared: &Prepared, applied: bool) -> Reloaded {
        let changes = words::changes(&self.plan, prepared, &self.gateway);
        let stay = scaling::that_stay(&self.scales, &self.plan, prepared.plan());
        let taken_back = prepared.taken_back.iter().map(ToString::to_string).collect();
        Reloaded { ok: true, applied, changes, stay, taken_back, services: BTreeMap::new() }
    }
}

fn refuse(asked: Vec<Asked>, refusal: &Refusal) {
    for asked in asked {
        if let Some(reply) = asked.reply {
            answer(reply, Err(refusal.clone()));
        }
    }
}

/// Says who may connect to a socket, by the mode of its file and, where one is given, its owner. The file is found without following links: its
/// folder may be somebody else's.
pub(crate) fn own_socket(socket: &Path, mode: u32, owner: Option<(u32, u32)>) {
    let set = || {
        let file = SocketFile::open(socket)?;
        owner.map_or(Ok(()), |owner| file.set_owner(owner))?;
        file.set_mode(mode)
    };
    let set: io::Result<()> = set();
    if let Err(error) = set {
        tracing::warn!("mode and owner of {} cannot be set: {error}", socket.display());
    }
}

fn missing_secret(failure: &ExecFailure) -> Refusal {
    Refusal::NotReloaded { code: "secrets", message: failure.to_string(), hint: None }
}

fn not_started(error: &crate::settings::StartError) -> Refusal {
    Refusal::NotReloaded { code: error.code(), message: crate::words::chain(error), hint: error.hint() }
}

fn internal(message: &str) -> Refusal {
    Refusal::NotReloaded { code: "internal", message: message.to_owned(), hint: None }
}

/// The folder that paths in messages are relative to.
type Folder = Option<PathBuf>;
