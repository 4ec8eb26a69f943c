//! Addresses of servers that are known by a name: what the host's own means say (getaddrinfo(3): its files, its name servers).
//!
//! They may take long, and block. So they are asked beside the thread, by one call for each name at a time, and what they said is used
//! for a while: how long it may be used they do not say.

use std::{cell::RefCell, io, net::IpAddr, rc::Rc, time::Duration};

use tokio::{net, sync::Notify, time::Instant};

/// How long an answer is used without another question, and how long after a question that came to nothing none is asked.
const FRESH: Duration = Duration::from_secs(10);
const FAILED: Duration = Duration::from_secs(1);

/// How long an answer is used while the next one is on its way, or does not come.
const USABLE: Duration = Duration::from_secs(600);

/// The most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// One name.
#[derive(Debug)]
pub(crate) struct Name {
    host: Box<str>,
    state: RefCell<State>,
    /// Told when a question was answered.
    answered: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The last addresses, and since when.
    known: Option<(Rc<[IpAddr]>, Instant)>,
    /// Why there are none after all.
    error: Option<(String, Instant)>,
    is_asking: bool,
}

/// Two are the same if they ask for the same.
impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.host == other.host
    }
}

impl Eq for Name {}

impl Name {
    pub(crate) fn new(host: &str) -> Rc<Name> {
        Rc::new(Name { host: host.into(), state: RefCell::default(), answered: Notify::new() })
    }

    /// Its addresses, in the order in which they are to be tried.
    pub(crate) async fn addresses(self: &Rc<Name>) -> io::Result<Rc<[IpAddr]>> {
        loop {
            // Before looking, so that an answer that comes in between is noticed.
            let answered = self.answered.notified();
            if let Some(result) = self.look() {
                return result;
            }
            answered.await;
        }
    }

    /// What is known, if it will do. Asks when that is due.
    fn look(self: &Rc<Name>) -> Option<io::Result<Rc<[IpAddr]>>> {
        let mut state = self.state.borrow_mut();
        let now = Instant::now();
        let age = |since: Instant| now.duration_since(since);
        let is_fresh = state.known.as_ref().is_some_and(|(_, since)| age(*since) < FRESH);
        let has_failed = state.error.as_ref().is_some_and(|(_, since)| age(*since) < FAILED);
        if !is_fresh && !has_failed && !std::mem::replace(&mut state.is_asking, true) {
            tokio::task::spawn_local(Rc::clone(self).ask());
        }
        match (&state.known, &state.error) {
            (Some((addresses, since)), _) if age(*since) < USABLE => Some(Ok(addresses.clone())),
            (_, Some((error, _))) if has_failed => Some(Err(io::Error::other(error.clone()))),
            _ => None,
        }
    }

    async fn ask(self: Rc<Name>) {
        // The port is of no importance.
        let found = net::lookup_host((&*self.host, 0)).await;
        let now = Instant::now();
        let mut state = self.state.borrow_mut();
        state.is_asking = false;
        match found {
            Ok(addresses) => {
                state.known =
                    Some((addresses.map(|address| address.ip()).take(ADDRESSES_MAX).collect(), now));
                state.error = None;
            }
            Err(error) => {
                let message = format!("the name `{}` leads nowhere: {error}", self.host);
                state.error = Some((message, now));
            }
        }
        drop(state);
        self.answered.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test]
    async fn a_name_is_asked_once_for_many() {
        let name = Name::new("localhost");
        let test = async {
            let many = (0..100).map(|_| {
                let name = name.clone();
                tokio::task::spawn_local(async move { name.addresses().await.unwrap() })
            });
            let mut lists = Vec::new();
            for one in many.collect::<Vec<_>>() {
                lists.push(one.await.unwrap());
            }
            assert!(lists[0].iter().all(IpAddr::is_loopback) && !lists[0].is_empty(), "{:?}", lists[0]);
            assert!(lists.iter().all(|list| Rc::ptr_eq(list, &lists[0])));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn what_was_known_is_used_while_nobody_knows_better() {
        let test = async {
            // No name: nothing of it leaves the machine.
            let name = Name::new("not a name");
            let error = name.addresses().await.unwrap_err();
            assert!(error.to_string().starts_with("the name `not a name` leads nowhere: "), "{error}");
            let known: Rc<[IpAddr]> = Rc::new([IpAddr::from([192, 0, 2, 1])]);
            let old = Instant::now() - 2 * FRESH;
            *name.state.borrow_mut() = State { known: Some((known.clone(), old)), ..State::default() };
            for _ in 0..3 {
                assert!(Rc::ptr_eq(&name.addresses().await.unwrap(), &known));
                let answered = name.answered.notified();
                if name.state.borrow().is_asking {
                    answered.await;
                }
            }
            assert!(name.state.borrow().error.is_some());
            let too_old = Instant::now().checked_sub(USABLE);
            if let Some(too_old) = too_old {
                name.state.borrow_mut().known = Some((known, too_old));
                assert!(name.addresses().await.is_err());
            }
        };
        LocalSet::new().run_until(test).await;
    }
}
