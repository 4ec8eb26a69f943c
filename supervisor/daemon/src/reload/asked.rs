//! Who asks for a reload, and what is to be in force then: what the file says, one service in another form and the rest as it is, or
//! what was in force before.

use std::sync::Arc;

use watt_api::control::{Reload, Reloaded};
use watt_config::{Applied, Sources};
use watt_core::ServiceId;

use crate::control::Reply;

/// Somebody who asks for a reload.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) request: Reload,
    /// Nobody waits for the answer to a signal.
    pub(super) reply: Option<Reply<Box<Reloaded>>>,
    pub(super) what: What,
}

/// What is to be in force.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// What the file says now, and nothing else.
    File,
    /// What is in force, and of one service this.
    Service(Arc<Single>),
    /// The one from before, in place of the file.
    Back(Arc<Sources>),
}

/// What is applied of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Single {
    pub(crate) service: ServiceId,
    pub(crate) applied: Applied,
}

impl Asked {
    pub(crate) fn new(request: Reload, reply: Reply<Box<Reloaded>>) -> Asked {
        Asked { request, reply: Some(reply), what: What::File }
    }

    /// One service alone.
    pub(crate) fn one(single: Single, request: Reload, reply: Reply<Box<Reloaded>>) -> Asked {
        Asked { request, reply: Some(reply), what: What::Service(Arc::new(single)) }
    }

    /// SIGHUP.
    pub(crate) fn by_signal() -> Asked {
        Asked { request: Reload::default(), reply: None, what: What::File }
    }

    /// The file says something else.
    pub(crate) fn by_watch() -> Asked {
        Asked::by_signal()
    }

    /// The one from before comes back.
    pub(super) fn back(sources: Arc<Sources>) -> Asked {
        Asked { request: Reload::default(), reply: None, what: What::Back(sources) }
    }

    pub(super) fn is_back(&self) -> bool {
        matches!(self.what, What::Back(_))
    }

    fn is_of_file(&self) -> bool {
        matches!(self.what, What::File)
    }
}

/// Takes those that are next: what comes back before everything, since it is not what others wait for. Else in their order,
/// and together those that follow each other and want the file.
pub(super) fn next(waiting: &mut Vec<Asked>) -> Vec<Asked> {
    if let Some(back) = waiting.iter().position(Asked::is_back) {
        return vec![waiting.remove(back)];
    }
    let of_file = waiting.iter().take_while(|asked| asked.is_of_file()).count();
    waiting.drain(..of_file.max(1).min(waiting.len())).collect()
}

/// Puts those back whose turn it was, before what came after them: who asks last has the last word.
pub(super) fn put_back(waiting: &mut Vec<Asked>, asked: Vec<Asked>) {
    waiting.splice(0..0, asked);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> Asked {
        let applied = Applied { document: None, at_ms: 0, by: String::new() };
        let single = Single { service: ServiceId::new(name).unwrap(), applied };
        Asked::one(single, Reload::default(), tokio::sync::oneshot::channel().0)
    }

    fn words(asked: &[Asked]) -> String {
        let word = |asked: &Asked| match &asked.what {
            What::File => "file".to_owned(),
            What::Service(single) => single.service.to_string(),
            What::Back(_) => "back".to_owned(),
        };
        asked.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn one_service_at_a_time_in_their_order_and_what_comes_back_first() {
        let file = Asked::by_signal;
        let back = Asked::back(Arc::default());
        let mut waiting = vec![file(), file(), one("api"), one("web"), file(), back, file()];
        let turns: Vec<String> = std::iter::from_fn(|| {
            let asked = next(&mut waiting);
            (!asked.is_empty()).then(|| words(&asked))
        })
        .collect();
        assert_eq!(turns, ["back", "file file", "api", "web", "file file"]);
    }

    #[test]
    fn what_has_to_wait_for_a_roll_back_keeps_its_place() {
        let mut waiting = vec![one("api"), one("web")];
        let asked = next(&mut waiting);
        waiting.push(one("db"));
        put_back(&mut waiting, asked);
        assert_eq!(words(&waiting), "api web db");
    }
}
