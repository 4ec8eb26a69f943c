//! What runs are watched for, and by what means: [`readiness`] does it.

use std::{collections::BTreeMap, io, os::fd::OwnedFd, sync::Arc};

use tokio::sync::{mpsc, oneshot};
use watt_core::{
    RunId,
    plan::{Check, ReadyWhen},
    worker::{Event, State},
};
use watt_exec::plan::NOTIFICATION;

use crate::{
    app::App,
    launch::{Accepts, listener_name},
    listening::{Listening, Network, Owner},
    logs,
    news::{PROBE_SOCKETS, listener_kind},
    readiness::{self, After, Sign, Watch, kin::Kin, notify::NotifySocket},
    runs::{Run, Task},
};

impl App {
    /// Starts to watch a run for its sign of readiness. To be called when it is told that it is executed.
    pub(crate) fn watch(&mut self, id: RunId, sockets: &mut Vec<OwnedFd>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let Some(service) = self.plan.services.get(&run.worker.service) else { return };
        let is_checked = service.startup.is_some() || service.health.is_some();
        let is_silent = run.accepts == Accepts::Nowhere && !service.notifies() && !is_checked;
        if service.ready.when == ReadyWhen::Started && is_silent {
            // There is no sign to wait for, and nothing to be found.
            let worker = run.worker.clone();
            return self.push(worker, Event::Ready(id));
        }
        let sign = match &service.ready.when {
            ReadyWhen::Started => Ok(Sign::Started),
            ReadyWhen::Listening => Ok(Sign::Listening),
            ReadyWhen::Check(check) => Ok(Sign::Check(check.clone())),
            ReadyWhen::Log { pattern } => log_sign(&self.logs, run, id, pattern),
            ReadyWhen::Notify => Ok(Sign::Notify),
            ReadyWhen::NotificationFd(_) => notification(run),
        };
        let sign = match sign {
            Ok(sign) => sign,
            // Without a sign the start timeout ends it, and says so.
            Err(error) => return tracing::error!("{} cannot be watched for its sign: {error}", run.worker),
        };
        let startup = service.startup.as_ref().map(|startup| startup.check.clone());
        let after = After::of(service);
        self.watch_for(id, startup, sign, after, sockets);
    }

    /// Watches a run that a predecessor watched, or whose checks have changed.
    pub(crate) fn watch_again(&mut self, id: RunId) {
        let Some(run) = self.runs.get(&id) else { return };
        let Some(service) = self.plan.services.get(&run.worker.service) else { return };
        let state = self.fleet.worker(&run.worker).map(|worker| &worker.state);
        if matches!(state, Some(State::Starting { .. })) {
            return self.watch(id, &mut Vec::new());
        }
        let is_unready = matches!(state, Some(State::Unready { .. }));
        // What this plan asks of the service's runs may be what a run of an earlier one never had.
        let is_earlier = self.in_force.is_earlier(&run.worker.service, id);
        let after = if is_earlier { After::default() } else { After::of(service) };
        let (after, sign) = (After { is_unready, ..after }, Sign::Seen(run.endpoint.clone()));
        // Without a check that could pass, it would never be ready again.
        if is_unready && after.ready.is_none() && !run.said.stopping {
            self.push_of(id, Event::Ready(id));
        }
        self.watch_for(id, None, sign, after, &mut Vec::new());
    }

    fn watch_for(
        &mut self,
        id: RunId,
        startup: Option<Check>,
        sign: Sign,
        after: After,
        sockets: &mut Vec<OwnedFd>,
    ) {
        let service = self.runs.get(&id).and_then(|run| self.plan.services.get(&run.worker.service));
        let walls = service.map(|service| self.walls(id, service)).unwrap_or_default();
        let Some(run) = self.runs.get_mut(&id) else { return };
        let Some(service) = self.plan.services.get(&run.worker.service) else { return };
        let is_found = matches!(sign, Sign::Seen(Some(_)));
        let listening = if is_found { None } else { listening(run) };
        let private = run.descriptors.contains_key("diag");
        let probe_sockets = (private && readiness::needs_sockets(service)).then(|| {
            let (sender, receiver) = mpsc::channel(PROBE_SOCKETS.into());
            for socket in sockets.drain(..sockets.len().min(PROBE_SOCKETS.into())) {
                // There is room: the channel is new.
                let _ = sender.try_send(socket);
            }
            run.probe_sockets = Some(sender);
            receiver
        });
        let pid = run.main.as_ref().map_or(0, |main| main.pid);
        let socket = self.bound.get(&listener_name("notify", &run.worker));
        let kin = || Kin::new(pid, run.inside, run.group.clone(), run.marks());
        let notify = socket.map(|socket| NotifySocket::new(socket.try_clone()?, kin())).transpose();
        let notify = notify.unwrap_or_else(|error| {
            tracing::warn!("nobody reads what {} says on its notify socket: {error}", run.worker);
            None
        });
        let watch = Watch {
            run: id,
            host: format!("{}.{}", run.worker.service, crate::addresses::DOMAIN),
            startup,
            sign,
            after,
            listening,
            sockets: probe_sockets,
            notify,
            said: run.said,
            walls,
        };
        run.watching = Some(watch.start(self.senders.readiness.clone()));
    }
}

/// Finds out where a run accepts, as far as the kernel can be asked.
fn listening(run: &Run) -> Option<Listening> {
    let network = network(run).inspect_err(|error| {
        tracing::warn!("cannot find out where {} listens: {error}", run.worker);
    });
    Some(Listening::new(run.accepts.clone(), network.ok()?))
}

/// The network in which a run listens.
fn network(run: &Run) -> io::Result<Network> {
    match run.descriptors.get("diag") {
        Some(diag) => {
            let own: BTreeMap<&String, &Arc<OwnedFd>> =
                run.descriptors.iter().filter(|(name, _)| listener_kind(name, "").is_some()).collect();
            Network::private(diag.try_clone()?, own.into_values().map(Arc::as_ref))
        }
        None => Network::host(Owner { cgroup: run.cgroup_id, marks: run.marks() }),
    }
}

/// A line break at the descriptor that it writes to.
fn notification(run: &Run) -> io::Result<Sign> {
    let pipe = run.descriptors.get(NOTIFICATION).ok_or(io::ErrorKind::NotFound)?;
    Ok(Sign::Fd(pipe.try_clone()?))
}

/// A line of output that matches.
fn log_sign(logs: &logs::Logs, run: &mut Run, id: RunId, pattern: &str) -> io::Result<Sign> {
    let pattern = regex::Regex::new(pattern).map_err(io::Error::other)?;
    let found = logs.wait_for_line(run.worker.clone(), id, pattern);
    let (sender, seen) = oneshot::channel();
    run.tasks.push(Task(tokio::spawn(async move {
        if found.await {
            // Nobody listens any more when the run has ended.
            let _ = sender.send(());
        }
    })));
    Ok(Sign::Log(seen))
}
