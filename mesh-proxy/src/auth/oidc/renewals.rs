//! Sessions that are being renewed, of all threads together.
//!
//! A browser sends many requests at a time, over several connections, and a provider takes what a session is renewed with once: a second time may
//! end the session for good. So one request has it renewed, and the others, those a little later with the old cookie among them, get what came of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::session::Session;
use crate::auth::recent::Print;

/// How long what came of it is remembered: longer than requests of one page are apart.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// How many of them.
const REMEMBERED_MAX: usize = 8_192;

/// What came of it.
#[derive(Debug, Clone)]
pub(super) enum Renewed {
    /// This is the session now.
    Session(Arc<Session>),
    /// The provider says that it is over.
    Over,
    /// It says nothing.
    Unknown,
}

/// Where it is told.
type Told = watch::Receiver<Option<Renewed>>;

/// All of them, with the time when each began.
#[derive(Debug, Default)]
pub(crate) struct Renewals(Mutex<HashMap<Print, (Instant, Told)>>);

/// What a request has to do.
pub(super) enum Turn {
    /// To have it renewed, and tell.
    Leads(watch::Sender<Option<Renewed>>),
    /// To wait for it.
    Follows(Told),
    /// There are too many.
    None,
}

impl Renewals {
    pub(super) fn turn(&self, print: Print) -> Turn {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, told)) = all.get(&print)
            && now.duration_since(*since) < REMEMBERED_FOR
        {
            return Turn::Follows(told.clone());
        }
        if all.len() >= REMEMBERED_MAX {
            all.retain(|_, (since, _)| now.duration_since(*since) < REMEMBERED_FOR);
        }
        if all.len() >= REMEMBERED_MAX {
            return Turn::None;
        }
        let (tell, told) = watch::channel(None);
        all.insert(print, (now, told));
        Turn::Leads(tell)
    }
}

/// Waits for what came of it.
pub(super) async fn wait(mut told: Told) -> Renewed {
    match told.wait_for(Option::is_some).await {
        Ok(renewed) => renewed.clone().unwrap_or(Renewed::Unknown),
        // Whoever was to tell is gone.
        Err(_) => Renewed::Unknown,
    }
}
