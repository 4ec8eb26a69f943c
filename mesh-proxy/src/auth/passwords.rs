//! Passwords: who has one, and the check of one, which takes long on purpose.
//!
//! A check takes tens of milliseconds of a processor and megabytes of memory, so it is made on another thread, a few at a time, and what came of
//! it is remembered by a keyed hash: a browser sends the password with each request. The request that waits is looked at anew afterwards.

use std::{cell::RefCell, collections::HashMap, fmt, rc::Rc, time::Duration};

use ring::{hmac, rand::SystemRandom};
use watt_api::mesh;
use watt_policies::passwords::{self, PASSWORD_MAX, Password, basic};

use super::{
    Identity, Unidentified, is_of_header,
    recent::{Print, Recent},
    wrong,
};
use crate::thread::Thread;

/// How many that were right, and that were wrong, are remembered of each thread and each `auth`.
const RIGHT_MAX: usize = 1_024;
const WRONG_MAX: usize = 256;

/// How many requests of a thread wait for a check.
const WAITING_MAX: usize = 64;

/// How long one waits.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// What is said of a wrong name as well, so that nobody learns which names there are.
const WRONG: &str = "The name or the password is wrong.";

/// Who has a password.
pub(super) struct Passwords {
    users: HashMap<Box<str>, (Password, Rc<Identity>)>,
    key: hmac::Key,
    right: RefCell<Recent<()>>,
    wrong: RefCell<Recent<()>>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.users.keys()).finish()
    }
}

impl Passwords {
    pub(super) fn new(basic: &mesh::Basic) -> Passwords {
        let mesh::Basic { realm: _, users, file } = basic;
        let user = |user: &mesh::User| {
            let password = Password::parse(&user.password.0).ok()?;
            let identity = Rc::new(Identity::new(&user.name, &user.roles));
            Some((user.name.as_str().into(), (password, identity)))
        };
        // The configuration's check refuses what is not understood.
        let in_file = file.as_ref().and_then(|file| passwords::users(&file.0).ok()).unwrap_or_default();
        let in_file = in_file.into_iter().map(|(name, password, roles)| {
            let identity = Rc::new(Identity::new(&name, &roles));
            (name.into(), (password, identity))
        });
        let mut secret = [0; 32];
        // Without randomness prints can be foreseen, and are still those of secrets.
        let _ = ring::rand::SecureRandom::fill(&SystemRandom::new(), &mut secret);
        Passwords {
            users: users.iter().filter_map(user).chain(in_file).collect(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            right: RefCell::new(Recent::new(RIGHT_MAX)),
            wrong: RefCell::new(Recent::new(WRONG_MAX)),
        }
    }

    pub(super) fn identify(
        &self,
        credentials: &[u8],
        found: Option<&Found>,
    ) -> Result<Rc<Identity>, Unidentified> {
        let (name, password) = basic(credentials).ok_or(wrong("The credentials are malformed."))?;
        if password.len() > PASSWORD_MAX || !is_of_header(&name) {
            return Err(wrong(WRONG).into());
        }
        // One that nobody has takes as long: by the time that an answer takes nobody learns which names there are.
        let known = self.users.get(&*name);
        let Some((hash, _)) = known.or_else(|| self.users.values().next()) else {
            return Err(wrong(WRONG).into());
        };
        let print = self.print(&name, &password, hash);
        let right = |known: Option<&(Password, Rc<Identity>)>| -> Result<_, Unidentified> {
            Ok(Rc::clone(&known.ok_or(wrong(WRONG))?.1))
        };
        if self.right.borrow().get(&print).is_some() {
            return right(known);
        }
        if self.wrong.borrow().get(&print).is_some() {
            return Err(wrong(WRONG).into());
        }
        match found.filter(|found| found.print == print).map(|found| found.verdict) {
            Some(Verdict::Right) if known.is_some() => {
                self.right.borrow_mut().insert(print, ());
                right(known)
            }
            Some(Verdict::Right | Verdict::Wrong) => {
                self.wrong.borrow_mut().insert(print, ());
                Err(wrong(WRONG).into())
            }
            Some(Verdict::Busy) => Err(Unidentified::Busy),
            None => Err(Unidentified::Unchecked(Box::new(Check { print, hash: hash.clone(), password }))),
        }
    }

    fn print(&self, name: &str, password: &[u8], hash: &Password) -> Print {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [name.as_bytes(), password, hash.reveal().as_bytes()] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut print = Print::default();
        print.copy_from_slice(context.sign().as_ref());
        print
    }
}

/// A password that has to be checked.
pub(crate) struct Check {
    print: Print,
    hash: Password,
    password: Vec<u8>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check(hidden)")
    }
}

/// What came of a check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    print: Print,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
    /// It could not be checked in time.
    Busy,
}

impl Check {
    /// Makes the check on another thread, when it is its turn.
    pub(crate) async fn make(self, thread: &Rc<Thread>) -> Found {
        let Check { print, hash, password } = self;
        let busy = Found { print, verdict: Verdict::Busy };
        let Some(_waiting) = Waiting::enter(thread) else { return busy };
        thread.checks.made.set(thread.checks.made.get() + 1);
        let turns = thread.checks.turns.clone();
        let check = async move {
            // Nobody closes it.
            let turn = turns.acquire_owned().await.ok();
            let check = move || {
                let is_right = hash.is(&password);
                // Kept for as long as the thread is taken, whoever still waits for it.
                drop(turn);
                is_right
            };
            tokio::task::spawn_blocking(check).await
        };
        match tokio::time::timeout(WAIT_MAX, check).await {
            Ok(Ok(true)) => Found { print, verdict: Verdict::Right },
            Ok(Ok(false)) => Found { print, verdict: Verdict::Wrong },
            Ok(Err(_)) | Err(_) => busy,
        }
    }
}

/// A place among those of a thread that wait for a check.
struct Waiting(Rc<Thread>);

impl Waiting {
    fn enter(thread: &Rc<Thread>) -> Option<Waiting> {
        let waiting = thread.checks.waiting.get();
        (waiting < WAITING_MAX).then(|| {
            thread.checks.waiting.set(waiting + 1);
            Waiting(Rc::clone(thread))
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let waiting = &self.0.checks.waiting;
        waiting.set(waiting.get() - 1);
    }
}
