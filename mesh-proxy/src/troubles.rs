//! What goes wrong at a service as a whole, on its way to the event stream.

use std::time::Duration;

use watt_api::mesh::Trouble;

use crate::{breaker::Change, failures::Outcome, gate::Refused};

/// The most that wait to be told. What tells of them is bounded by time, so that these are many services.
const TOLD_MAX: usize = 256;

/// What the daemon was not told yet.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Vec<Trouble>);

impl Troubles {
    pub(crate) fn add(&mut self, trouble: Trouble) {
        if self.0.len() < TOLD_MAX {
            self.0.push(trouble);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self) -> Vec<Trouble> {
        std::mem::take(&mut self.0)
    }
}

/// A breaker is in another state.
pub(crate) fn breaker(service: &str, change: Change) -> Trouble {
    let (kind, reason, text) = match change {
        Change::Opened { why, length: _ } => {
            ("circuit_opened", why.clone(), format!("it is not asked for a while: {why}"))
        }
        Change::Closed => ("circuit_closed", String::new(), "it answers, and is asked again".to_owned()),
    };
    Trouble { service: service.to_owned(), run: None, kind: kind.to_owned(), reason, text, count: 0 }
}

/// A worker gets no requests for so long, since so many in a row failed there, and the last one so.
pub(crate) fn ejected(service: &str, run: u64, row: u32, last: Outcome, length: Duration) -> Trouble {
    let (reason, how) = match last {
        Outcome::Connect => ("connect", "accepted no connection".to_owned()),
        Outcome::Reset => ("reset", "ended the connection without an answer".to_owned()),
        Outcome::Timeout => ("timeout", "did not answer in time".to_owned()),
        Outcome::Status(status) => ("status", format!("answered {status}")),
    };
    let (requests, it) = if row == 1 {
        ("1 request".to_owned(), "")
    } else {
        (format!("{row} requests in a row"), "at last ")
    };
    let text = format!("it gets no requests for {} s: {requests} failed, {it}it {how}", length.as_secs());
    Trouble {
        service: service.to_owned(),
        run: Some(run),
        kind: "worker_ejected".to_owned(),
        reason: reason.to_owned(),
        text,
        count: row.into(),
    }
}

/// It gets some again.
pub(crate) fn returned(service: &str, run: u64) -> Trouble {
    Trouble {
        service: service.to_owned(),
        run: Some(run),
        kind: "worker_returned".to_owned(),
        reason: String::new(),
        text: "it gets requests again".to_owned(),
        count: 0,
    }
}

/// So many requests were refused since this was told last.
pub(crate) fn refused(service: &str, why: Refused, count: u64) -> Trouble {
    let (requests, were) =
        if count == 1 { ("1 request".to_owned(), "was") } else { (format!("{count} requests"), "were") };
    let text = format!("{requests} {were} refused: {}", why.words());
    let reason = why.reason().code().to_owned();
    Trouble {
        service: service.to_owned(),
        run: None,
        kind: "requests_refused".to_owned(),
        reason,
        text,
        count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_not_more_of_them_than_can_be_told() {
        let mut troubles = Troubles::default();
        for count in 0..1_000 {
            troubles.add(refused("api", Refused::Full, count));
        }
        let told = troubles.take();
        assert_eq!((told.len(), troubles.is_empty()), (TOLD_MAX, true));
        assert_eq!(told[1].text, "1 request was refused: as many were in flight and waited as may");
        assert_eq!((&told[2].reason[..], told[2].count), ("bulkhead_full", 2));
    }
}
