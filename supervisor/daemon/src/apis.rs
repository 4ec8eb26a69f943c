//! The descriptions of services' APIs, of which one is made for pages of the gateway.
//!
//! A task beside the loop has them: it asks services over the mesh, as an operator would, reads files, and has one made of all whenever
//! something differs. The loop tells it the plan and which workers are ready, gets documents back, and passes them to the proxy, which serves
//! their bytes. What services send is parsed on a thread beside both, by `watt-openapi`, which bounds it.
//!
//! A service that cannot be asked, or says what cannot be used, is in the documents with what it said last. Nothing of it is kept for a successor, which asks anew;
//! meanwhile the proxy has what it had.

mod ask;
mod pages;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinHandle, JoinSet},
    time::Instant,
};
use watt_api::mesh::{Snapshot, WorkerState};
use watt_core::{
    ServiceId,
    plan::{DescribedBy, Description, Plan},
};

use self::ask::Answer;
pub(crate) use self::pages::{Documents, page};
use crate::{app::App, events::apis::OpenapiProblem};

/// How many services are asked at a time. A thousand that get ready at once are asked in turn.
const ASKED_MAX: usize = 8;

/// All descriptions together, in bytes.
const TEXTS_MAX: usize = 32 << 20;

/// How long is waited after one look before the next, so that many workers that get ready are one.
const PAUSE: Duration = Duration::from_millis(100);

/// How long after one that failed is tried again, at most.
const RETRY: Duration = Duration::from_secs(10);

/// What the task has for the loop.
#[derive(Debug)]
pub(crate) struct News {
    documents: Documents,
    problems: BTreeSet<(String, String)>,
}

/// What is to be described.
#[derive(Debug, Clone, Default)]
struct Wanted {
    /// None while nothing is.
    plan: Option<Arc<Plan>>,
    /// The newest run of a worker that is ready, by service.
    ready: BTreeMap<ServiceId, u64>,
}

/// The loop's part.
#[derive(Debug, Default)]
pub(crate) struct Apis {
    task: Option<Task>,
    told: BTreeSet<(String, String)>,
}

#[derive(Debug)]
struct Task {
    wanted: watch::Sender<Wanted>,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl App {
    /// Tells the task what there is to describe by now. An application without a page has none.
    pub(crate) fn describe_apis(&mut self, snapshot: &Snapshot) {
        if !self.plan.has_api_pages() {
            if self.apis.task.take().is_some() {
                self.proxy_link.pass_documents(Documents::new());
            }
            return;
        }
        let task = self.apis.task.get_or_insert_with(|| {
            let (wanted, hear) = watch::channel(Wanted::default());
            let look = Look { wanted: hear, socket: self.places.mesh_socket(), known: BTreeMap::new() };
            Task { wanted, handle: tokio::spawn(look.run(self.senders.apis.clone())) }
        });
        let ready = ready(&self.plan, snapshot);
        task.wanted.send_if_modified(|wanted| {
            let is_same = |known: &Arc<Plan>| Arc::ptr_eq(known, &self.plan);
            let differs = !wanted.plan.as_ref().is_some_and(is_same) || wanted.ready != ready;
            *wanted = Wanted { plan: Some(Arc::clone(&self.plan)), ready };
            differs
        });
    }

    /// Another description of all was made.
    pub(crate) fn apis_described(&mut self, News { documents, problems }: News) {
        if self.apis.task.is_none() {
            // Of a plan that is no longer in force.
            return;
        }
        for (service, text) in problems.difference(&self.apis.told) {
            self.events.emit(OpenapiProblem { service: service.clone(), text: text.clone() });
        }
        self.apis.told = problems;
        self.proxy_link.pass_documents(documents);
        self.unsettle();
    }
}

/// The newest ready worker of each service that has a description.
fn ready(plan: &Plan, snapshot: &Snapshot) -> BTreeMap<ServiceId, u64> {
    let described = plan.services.values().filter(|service| service.openapi.is_some());
    let newest = |id: &ServiceId| {
        let workers = snapshot.services.get(id.as_str())?.workers.iter();
        workers.filter(|worker| worker.state == WorkerState::Ready).map(|worker| worker.run).max()
    };
    described.filter_map(|service| Some((service.id.clone(), newest(&service.id)?))).collect()
}

/// What came of a question to a service.
type Asked = (ServiceId, Result<Answer, String>);

/// What the task knows of a service's description.
#[derive(Debug, Default)]
struct Known {
    from: Option<DescribedBy>,
    text: Option<Arc<[u8]>>,
    /// What the service calls that.
    etag: Option<String>,
    /// The run that was asked last.
    run: Option<u64>,
    /// Why it could not be had.
    problem: Option<String>,
    /// When it is looked at again.
    due: Option<Instant>,
}

/// The task.
struct Look {
    wanted: watch::Receiver<Wanted>,
    /// Of the mesh.
    socket: PathBuf,
    known: BTreeMap<ServiceId, Known>,
}

impl Look {
    async fn run(mut self, news: mpsc::Sender<News>) {
        let mut plan: Option<Arc<Plan>> = None;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            if let Some(now) = &wanted.plan {
                let differs = self.ask_all(now, &wanted.ready).await;
                let is_same = plan.as_ref().is_some_and(|before| Arc::ptr_eq(before, now));
                if differs || !is_same {
                    plan = Some(Arc::clone(now));
                    // Nothing, where one panics: the next change may be another matter.
                    if let Some(made) = self.make(now).await
                        && news.send(made).await.is_err()
                    {
                        return;
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
            let due = self.known.values().filter_map(|known| known.due).min();
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = crate::app::until(due.map(Instant::into_std)) => {}
            }
        }
    }

    /// Asks whoever is due. Whether something differs.
    async fn ask_all(&mut self, plan: &Plan, ready: &BTreeMap<ServiceId, u64>) -> bool {
        let before = self.known.len();
        self.known.retain(|id, known| {
            let description = plan.services.get(id).and_then(|service| service.openapi.as_ref());
            description.is_some_and(|description| known.from.as_ref() == Some(&description.from))
        });
        let mut differs = self.known.len() != before;
        let mut asking = JoinSet::new();
        for service in plan.services.values() {
            let Some(description) = &service.openapi else { continue };
            let known = self.known.entry(service.id.clone()).or_default();
            known.from.get_or_insert_with(|| description.from.clone());
            let run = ready.get(&service.id).copied();
            if !known.is_due(description, run, Instant::now()) {
                continue;
            }
            known.run = run;
            while asking.len() >= ASKED_MAX {
                differs |= self.take(plan, asking.join_next().await);
            }
            let (id, from, etag) =
                (service.id.clone(), description.from.clone(), self.known[&service.id].etag.clone());
            let socket = self.socket.clone();
            asking.spawn(async move {
                let answer = ask::ask(&socket, &id, &from, etag).await;
                (id, answer)
            });
        }
        while !asking.is_empty() {
            differs |= self.take(plan, asking.join_next().await);
        }
        differs
    }

    /// Notes an answer. Whether something differs.
    fn take(&mut self, plan: &Plan, asked: Option<Result<Asked, JoinError>>) -> bool {
        let Some(Ok((id, answer))) = asked else { return false };
        let others: usize =
            self.known.iter().filter(|(other, _)| **other != id).map(|(_, known)| known.len()).sum();
        let Some(known) = self.known.get_mut(&id) else { return false };
        let Some(description) = plan.services.get(&id).and_then(|service| service.openapi.as_ref()) else {
            return false;
        };
        let wait = if answer.is_ok() {
            description.refresh
        } else {
            Some(description.refresh.unwrap_or(RETRY).min(RETRY))
        };
        known.due = wait.map(|wait| Instant::now() + wait.max(PAUSE)).filter(|_| is_asked_again(plan, &id));
        match answer {
            Ok(Answer::Same) => known.problem.take().is_some(),
            Ok(Answer::Text { text, .. }) if others + text.len() > TEXTS_MAX => {
                known.fails(format!("all descriptions together have more than {} MB", TEXTS_MAX >> 20))
            }
            Ok(Answer::Text { text, etag }) => {
                let differs = known.text.as_deref() != Some(&*text) || known.problem.is_some();
                (known.text, known.etag, known.problem) = (Some(text), etag, None);
                differs
            }
            Err(why) => known.fails(why),
        }
    }

    /// Makes the documents of all pages. `None` when that panics.
    async fn make(&self, plan: &Arc<Plan>) -> Option<News> {
        let texts = self.known.iter().filter_map(|(id, known)| Some((id.to_string(), known.text.clone()?)));
        let texts: HashMap<String, Arc<[u8]>> = texts.collect();
        let plan = Arc::clone(plan);
        let made = crate::beside::APIS.run(move || pages::make(&plan, &texts)).await;
        let Some((documents, mut problems)) = made else {
            tracing::error!("the description of all APIs could not be made");
            return None;
        };
        let failed =
            self.known.iter().filter_map(|(id, known)| Some((id.to_string(), known.problem.clone()?)));
        problems.extend(failed);
        Some(News { documents, problems })
    }
}

/// Whether a service is asked although no worker of it is a new one: not one that is stopped when nobody wants anything, which it would
/// keep awake.
fn is_asked_again(plan: &Plan, id: &ServiceId) -> bool {
    let Some(service) = plan.services.get(id) else { return false };
    let is_file = matches!(service.openapi, Some(Description { from: DescribedBy::File(_), .. }));
    is_file || service.workers.scaling().is_none_or(|scaling| scaling.min > 0)
}

impl Known {
    fn len(&self) -> usize {
        self.text.as_ref().map_or(0, |text| text.len())
    }

    fn is_due(&self, description: &Description, run: Option<u64>, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        match description.from {
            DescribedBy::File(_) => {
                is_due || self.due.is_none() && self.text.is_none() && self.problem.is_none()
            }
            DescribedBy::Path(_) => run.is_some() && (is_due || run != self.run),
        }
    }

    /// What it said last stays. Whether this is another reason than before.
    fn fails(&mut self, why: String) -> bool {
        let differs = self.problem.as_ref() != Some(&why);
        self.problem = Some(why);
        differs
    }
}

#[cfg(test)]
mod tests;
