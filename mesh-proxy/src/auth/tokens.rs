//! Tokens that others have signed. A signature costs up to a tenth of a millisecond, and a client sends the same token with each request: one that
//! was taken is remembered until it expires.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    time::{Duration, SystemTime},
};

use ring::digest::{SHA256, digest};
use watt_api::mesh;
use watt_policies::jwt::{self, Algorithm, BadKeys, Claims, KeySet, Rejected, Rules};

use super::{
    Identity, Naming, Unidentified,
    recent::{Print, Recent},
    remote::{Remote, Why},
    wrong,
};
use crate::thread::Thread;

/// How many are remembered of each thread and each `auth`, and how long one may be.
const REMEMBERED_MAX: usize = 1_024;
const REMEMBERED_LEN_MAX: usize = 4 << 10;

/// What tokens are taken.
pub(super) struct Tokens {
    keys: KeySet,
    /// Others, that are published somewhere.
    pub(super) remote: Option<Rc<Remote>>,
    rules: Rules,
    naming: Naming,
    /// Those that were, with the time until which they hold.
    taken: RefCell<Recent<(Rc<Identity>, SystemTime)>>,
    /// Which set of the others those were taken with.
    version: Cell<u64>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("keys", &self.keys).field("rules", &self.rules).finish()
    }
}

impl Tokens {
    pub(super) fn new(jwt: &mesh::Jwt, fetched: impl Fn(&mesh::RemoteKeys) -> Option<Rc<Remote>>) -> Tokens {
        let mesh::Jwt {
            jwks,
            key_file,
            secret,
            remote,
            algorithms,
            issuer,
            audiences,
            skew_s,
            name_claim,
            roles_claim,
            claims,
        } = jwt;
        let listed = (jwks != NO_KEYS).then(|| KeySet::parse(jwks.as_bytes()));
        let in_file = key_file.as_ref().map(|text| KeySet::public(text.as_bytes()));
        let secret = secret.as_ref().map(|text| KeySet::secret(text.0.as_bytes()));
        let sets = [listed, in_file, secret].into_iter().flatten().map(usable);
        Tokens {
            keys: sets.fold(KeySet::default(), KeySet::and),
            rules: Rules {
                algorithms: algorithms.iter().filter_map(|name| Algorithm::named(name)).collect(),
                issuer: issuer.clone(),
                audiences: audiences.clone(),
                skew_s: *skew_s,
            },
            naming: Naming::new(name_claim, roles_claim, claims),
            taken: RefCell::new(Recent::new(REMEMBERED_MAX)),
            version: Cell::new(0),
            remote: remote
                .as_ref()
                .map(|remote| fetched(remote).unwrap_or_else(|| Rc::new(Remote::new(remote)))),
        }
    }

    /// `fetched`: keys were, for this request.
    pub(super) fn identify(
        &self,
        token: &[u8],
        fetched: bool,
        now: SystemTime,
        thread: &Rc<Thread>,
    ) -> Result<Rc<Identity>, Unidentified> {
        self.look_at_remote(thread);
        let print = (token.len() <= REMEMBERED_LEN_MAX).then(|| print(token));
        if let Some((identity, until)) = print.and_then(|print| self.taken.borrow().get(&print).cloned())
            && now < until
        {
            return Ok(identity);
        }
        let now_s = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let claims = self.verify(token, fetched, now_s)?;
        let until = claims.expiry().map(|expiry| expiry + self.rules.skew_s as f64);
        let identity =
            Rc::new(self.naming.identity(claims).ok_or(wrong("The token does not say who it is."))?);
        // Whole seconds, so that it is not taken for longer than it would be without this.
        let until = until.and_then(|until| Duration::try_from_secs_f64(until.floor()).ok());
        let until = until.and_then(|until| SystemTime::UNIX_EPOCH.checked_add(until));
        if let (Some(print), Some(until)) = (print, until) {
            self.taken.borrow_mut().insert(print, (Rc::clone(&identity), until));
        }
        Ok(identity)
    }

    /// Forgets what was taken with keys that there are no more, and has old ones fetched again.
    fn look_at_remote(&self, thread: &Rc<Thread>) {
        let Some(remote) = &self.remote else { return };
        let (_, version) = remote.keys();
        if self.version.replace(version) != version {
            self.taken.replace(Recent::new(REMEMBERED_MAX));
        }
        if remote.is_old() {
            remote.begin(thread, Why::Old);
        }
    }

    fn verify(&self, token: &[u8], fetched: bool, now_s: u64) -> Result<Claims, Unidentified> {
        let by = |keys: &KeySet| jwt::verify(token, keys, &self.rules, now_s);
        let refused = |rejected: Rejected| Err(wrong(rejected.message()).into());
        let remote = match (by(&self.keys), &self.remote) {
            (Ok(claims), _) => return Ok(claims),
            (Err(Rejected::UnknownKey), Some(remote)) => remote,
            (Err(rejected), _) => return refused(rejected),
        };
        match by(&remote.keys().0) {
            Ok(claims) => Ok(claims),
            Err(Rejected::UnknownKey) if !fetched && remote.may_fetch() => {
                Err(Unidentified::Unfetched(Rc::clone(remote)))
            }
            Err(_) if !remote.is_known() => Err(Unidentified::NoKeys),
            Err(rejected) => refused(rejected),
        }
    }
}

/// What is sent where none are listed.
const NO_KEYS: &str = r#"{"keys":[]}"#;

fn usable(set: Result<KeySet, BadKeys>) -> KeySet {
    set.unwrap_or_else(|error| {
        // The configuration's check refuses them. Without a key nobody gets in.
        tracing::error!(%error, "the keys of tokens are not understood");
        KeySet::default()
    })
}

fn print(token: &[u8]) -> Print {
    let mut print = Print::default();
    print.copy_from_slice(digest(&SHA256, token).as_ref());
    print
}
