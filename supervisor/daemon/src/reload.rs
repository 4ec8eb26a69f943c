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
    fs,
    hash::RandomState,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use watt_api::control::Reloaded;
use watt_core::{ServiceId, worker::ExecFailure};
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
    gateway,
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

/// The gateway's new listeners.
#[derive(Debug)]
struct Gateway {
    generation: u64,
    address: SocketAddr,
    bound: Vec<Arc<OwnedFd>>,
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
            gateway: self.gateway,
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
        match &prepared.plan.server {
            // It may be where it is wanted already, when that is said in another way.
            Some(server) if !self.gateway.is_some_and(|bound| gateway::is_at(server, bound)) => {
                let gateway = Gateway {
                    generation: self.in_force.gateway + 1,
                    address: SocketAddr::new(server.hostname, server.port),
                    bound: Vec::new(),
                };
                self.bind_next(&gateway);
                let stage = Stage::Binding(prepared, gateway);
                self.reloads.under_way = Some(UnderWay { asked, stage });
            }
            _ => self.apply(asked, *prepared, None),
        }
    }

    /// Asks for the next of the gateway's listeners.
    fn bind_next(&mut self, gateway: &Gateway) {
        let name = gateway::name(gateway.generation, gateway.bound.len());
        let address = Address::Tcp { address: gateway.address, reuse_port: true };
        self.link.request(Request::Listen { name, address }, Vec::new());
    }

    /// A listener was bound, or not. Says whether it was one of a reload's.
    pub(crate) fn reload_bound(&mut self, name: &str, bound: Result<(Address, OwnedFd), i32>) -> bool {
        let Some(UnderWay { stage: Stage::Binding(_, gateway), .. }) = &self.reloads.under_way else {
            return false;
        };
        if name != gateway::name(gateway.generation, gateway.bound.len()) {
            return false;
        }
        let Some(UnderWay { asked, stage: Stage::Binding(prepared, mut gateway) }) =
            self.reloads.under_way.take()
        else {
            return false;
        };
        match bound {
            Err(errno) => {
                let error = gateway::refused(gateway.address, &std::io::Error::from_raw_os_error(errno));
                self.abandon(Stage::Binding(prepared, gateway));
                self.not_reloaded(asked, &not_started(&error));
            }
            Ok((address, descriptor)) => {
                gateway.bound.push(Arc::new(descriptor));
                if let Address::Tcp { address, .. } = address {
                    // Port 0 is chosen by the kernel for the first, and the others follow it.
                    gateway.address = address;
                }
                if gateway.bound.len() < self.threads {
                    self.bind_next(&gateway);
                    let stage = Stage::Binding(prepared, gateway);
                    self.reloads.under_way = Some(UnderWay { asked, stage });
                } else if self.is_current(&prepared) {
                    self.apply(asked, *prepared, Some(gateway));
                } else {
                    self.abandon(Stage::Binding(prepared, gateway));
                    self.read_again(asked);
                }
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
        for thread in 0..=gateway.bound.len() {
            let name = gateway::name(gateway.generation, thread);
            self.link.request(Request::Unlisten { name }, Vec::new());
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
        let changes = words::changes(&self.plan, prepared, self.gateway);
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

/// Whoever has a role may connect, and nobody else.
pub(crate) fn set_mode(socket: &Path, mode: u32) {
    if let Err(error) = fs::set_permissions(socket, fs::Permissions::from_mode(mode)) {
        tracing::warn!("the mode of {} cannot be set: {error}", socket.display());
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
