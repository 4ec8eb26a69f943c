//! Events of services whose requests do not go as they should: breakers, workers that are left out, and what is refused.

use watt_api::{control::Event, mesh::Trouble};

use super::{Events, Happening, Level, cut};

impl Events {
    /// What a proxy tells, and of which worker that is. One of a newer version may tell what this daemon has no words for.
    pub(crate) fn tell_trouble(&self, trouble: Trouble, worker: Option<u16>) {
        match trouble.kind.as_str() {
            CircuitOpened::KIND => self.emit(CircuitOpened(trouble)),
            CircuitClosed::KIND => self.emit(CircuitClosed(trouble)),
            WorkerEjected::KIND => self.emit(WorkerEjected { trouble, worker }),
            WorkerReturned::KIND => self.emit(WorkerReturned { trouble, worker }),
            RequestsRefused::KIND => self.emit(RequestsRefused(trouble)),
            kind => tracing::info!(kind, service = trouble.service, "the proxy tells: {}", trouble.text),
        }
    }
}

/// A service failed so often that it is not asked for a while.
#[derive(Debug)]
pub struct CircuitOpened(Trouble);

impl Happening for CircuitOpened {
    const KIND: &'static str = "circuit_opened";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        describe(self.0, event);
    }
}

/// It is asked again.
#[derive(Debug)]
pub struct CircuitClosed(Trouble);

impl Happening for CircuitClosed {
    const KIND: &'static str = "circuit_closed";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        describe(self.0, event);
    }
}

/// Requests were refused because of a limit of their service.
#[derive(Debug)]
pub struct RequestsRefused(Trouble);

impl Happening for RequestsRefused {
    const KIND: &'static str = "requests_refused";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        let count = self.0.count;
        describe(self.0, event);
        event.data.insert("count".into(), count.into());
    }
}

/// A worker gets no requests for a while, since those that it had failed.
#[derive(Debug)]
pub struct WorkerEjected {
    trouble: Trouble,
    worker: Option<u16>,
}

impl Happening for WorkerEjected {
    const KIND: &'static str = "worker_ejected";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        let count = self.trouble.count;
        describe(self.trouble, event);
        event.worker = self.worker;
        event.data.insert("count".into(), count.into());
    }
}

/// It gets some again.
#[derive(Debug)]
pub struct WorkerReturned {
    trouble: Trouble,
    worker: Option<u16>,
}

impl Happening for WorkerReturned {
    const KIND: &'static str = "worker_returned";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        describe(self.trouble, event);
        event.worker = self.worker;
    }
}

fn describe(trouble: Trouble, event: &mut Event) {
    let Trouble { mut service, run, kind: _, mut reason, text, count: _ } = trouble;
    // A proxy that somebody took over may say anything. Texts are cut wherever they come from.
    [&mut service, &mut reason].into_iter().for_each(cut);
    event.text = text;
    event.service = Some(service);
    event.run = run;
    if !reason.is_empty() {
        event.data.insert("reason".into(), reason.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_word_becomes_an_event_and_an_unknown_one_none() {
        let events = Events::new();
        for kind in
            ["circuit_opened", "from_the_future", "requests_refused", "circuit_closed", "worker_ejected"]
        {
            let trouble = Trouble {
                service: "api".into(),
                run: Some(5),
                kind: kind.into(),
                reason: "shed".into(),
                text: "so it is".into(),
                count: 7,
            };
            events.tell_trouble(trouble, Some(1));
        }
        let batch = events.read(None).batch();
        let told: Vec<Event> = batch.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let kinds: Vec<&str> = told.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["circuit_opened", "requests_refused", "circuit_closed", "worker_ejected"]);
        assert_eq!(
            (told[3].worker, told[3].run, told[3].data["count"].as_u64()),
            (Some(1), Some(5), Some(7))
        );
        assert_eq!(
            (told[1].data["count"].as_u64(), told[1].data["reason"].as_str()),
            (Some(7), Some("shed"))
        );
        assert_eq!((told[0].service.as_deref(), &told[0].text[..]), (Some("api"), "so it is"));
    }
}
