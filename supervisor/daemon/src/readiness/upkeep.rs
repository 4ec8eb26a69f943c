//! What a ready run is watched for.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time,
};
use watt_api::mesh::Endpoint;
use watt_core::{
    RunId,
    plan::{Check, Health, Rhythm},
    probe,
    worker::Complaint,
};

use super::{
    After, Eyes, LATE_POLL_MAX, News,
    connect::{Connector, Outcome, Probe},
    exec::Walls,
    notify::Voice,
};
use crate::words;

/// Watches a ready run: for where it accepts, until that is known, and then for what the plan asks for. Ends when there is nothing left
/// to look at.
pub(super) async fn upkeep(
    mut eyes: Eyes,
    found: Option<Endpoint>,
    after: After,
    (host, walls): (&str, &Walls),
    connector: Connector,
    voice: &Voice,
    news: mpsc::Sender<News>,
) {
    let run = eyes.run;
    let (check, watchdog) = match after.health {
        Some(Health::Check(check, rhythm)) => (Some((check, rhythm)), None),
        Some(Health::Watchdog(every)) => (None, Some(every)),
        None => (None, None),
    };
    let (find, known) = watch::channel(found);
    let look = async {
        let is_found = find.borrow().is_some();
        if !is_found && let Some(endpoint) = eyes.until_accepting(LATE_POLL_MAX).await {
            // Fails when the loop has ended, and with it everything else.
            let _ = news.send(News::Endpoint { run, endpoint: endpoint.clone() }).await;
            find.send_replace(Some(endpoint));
        }
        // Of one that accepts nowhere, nothing is waited for.
        drop(find);
    };
    let repeated = |check: &Check, rhythm: Rhythm| Repeated {
        run,
        probe: Probe::new(check, host, walls),
        rhythm,
        endpoint: None,
        connector: connector.another(),
        news: news.clone(),
    };
    let ready = after.ready.map(|(check, rhythm)| repeated(&check, rhythm));
    let health = check.map(|(check, rhythm)| repeated(&check, rhythm));
    let ready = async {
        if let Some(ready) = ready
            && let Some(ready) = ready.of_endpoint(known.clone()).await
        {
            ready.stay_ready(after.is_unready, voice).await;
        }
    };
    let health = async {
        if let Some(health) = health
            && let Some(health) = health.of_endpoint(known.clone()).await
        {
            health.stay_healthy().await;
        }
    };
    let watchdog = async {
        let Some(every) = watchdog else { return };
        loop {
            let every = voice.until_silent(every).await;
            let why = format!("no WATCHDOG=1 for {}", words::duration(every));
            if news.send(News::Unhealthy { run, complaint: Complaint::Watchdog, why }).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(look, ready, health, watchdog);
}

/// A check that is repeated.
struct Repeated {
    run: RunId,
    probe: Probe,
    rhythm: Rhythm,
    /// Where it is made, if anywhere.
    endpoint: Option<Endpoint>,
    connector: Connector,
    news: mpsc::Sender<News>,
}

impl Repeated {
    /// With the place where it is made, when that is known. `None` when there will be none.
    async fn of_endpoint(mut self, mut known: watch::Receiver<Option<Endpoint>>) -> Option<Repeated> {
        if self.probe.needs_endpoint() {
            self.endpoint = known.wait_for(Option::is_some).await.ok()?.clone();
        }
        Some(self)
    }

    /// Tells when it is not ready any more, and when it is again, as long as it does not stop.
    async fn stay_ready(mut self, is_unready: bool, voice: &Voice) {
        let run = self.run;
        let mut readiness = probe::Readiness::new(self.rhythm.failures, is_unready);
        loop {
            let news = match readiness.seen(self.next().await) {
                None => continue,
                Some(Ok(())) => News::Ready { run, endpoint: None },
                Some(Err(why)) => News::Unready { run, why },
            };
            if voice.is_stopping() || self.news.send(news).await.is_err() {
                return;
            }
        }
    }

    /// Tells when it is healthy, once, and when it is not.
    async fn stay_healthy(mut self) {
        let run = self.run;
        let mut health = probe::Health::new(self.rhythm.failures);
        // At once: others may wait for that.
        let mut seen = self.look().await;
        loop {
            let news = match seen.and_then(|seen| health.seen(seen)) {
                None => None,
                Some(Ok(())) => Some(News::Healthy { run }),
                Some(Err(why)) => {
                    let complaint = Complaint::Check { failures: self.rhythm.failures };
                    Some(News::Unhealthy { run, complaint, why })
                }
            };
            if let Some(news) = news
                && self.news.send(news).await.is_err()
            {
                return;
            }
            seen = Some(self.next().await);
        }
    }

    /// The next one that says something, when its time has come.
    async fn next(&mut self) -> Result<(), String> {
        loop {
            time::sleep(self.rhythm.interval.max(Duration::from_millis(1))).await;
            if let Some(seen) = self.look().await {
                return seen;
            }
        }
    }

    /// One, if it says something.
    async fn look(&mut self) -> Option<Result<(), String>> {
        match self.connector.attempt(&self.probe, self.endpoint.as_ref(), self.rhythm.timeout).await {
            Outcome::Passes => Some(Ok(())),
            Outcome::Fails(why) => Some(Err(why)),
            Outcome::Untried => None,
        }
    }
}
