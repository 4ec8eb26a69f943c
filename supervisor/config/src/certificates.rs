//! What is in the files of TLS and of credentials: they are read, and looked at as they will be used.
//!
//! Apart from [`crate::parse`], which is pure, as [`crate::check_host`] is.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use watt_certificates::{Certificates, Fault, Identity};
use watt_core::plan::{Auth, CertificateFiles, Tls};
use watt_policies::{
    jwt::{BadKeys, KeySet},
    passwords::{self, BadLine},
    sealed::Sealer,
};

use crate::{
    Config,
    report::{Place, Problem, Problems, Report},
    source::plain,
};

/// All texts together. They are kept for successors with what is in force and what was before, and the proxy gets them.
const TEXTS_SIZE_MAX: usize = 1 << 20;

impl Config {
    /// Reads every certificate and key of the plan, and what those are known by who ask.
    ///
    /// # Errors
    /// The report has every file that cannot be read, and everything that cannot be used.
    pub fn certificates(&self) -> Result<Certificates, Report> {
        let mut problems = Problems::default();
        let mut read = Certificates::new();
        for path in self.plan.text_files() {
            match watt_certificates::read(path) {
                Ok(pem) => drop(read.insert(path.clone(), pem)),
                Err(error) => {
                    let message = format!("cannot read {}: {}", path.display(), plain(&error));
                    let hint = "make it a file that the user who runs watt can read";
                    problems.push(Problem::new(self.place_of(path), message).hint(hint));
                }
            }
        }
        self.look_at_all(&read, &mut problems);
        let size: usize = read.values().map(|pem| pem.text().len()).sum();
        let largest = read.iter().max_by_key(|(_, pem)| pem.text().len());
        if let (true, Some((path, _))) = (size > TEXTS_SIZE_MAX, largest) {
            let message = format!("{size} bytes of certificates and keys; all files together may have 1 MiB");
            problems.push(Problem::new(self.place_of(path), message));
        }
        match problems.is_empty() {
            true => Ok(read),
            false => Err(Report::new(self.files.clone(), problems)),
        }
    }

    /// Whether texts that were read at another time can be used.
    pub fn accepts(&self, read: &Certificates) -> bool {
        let mut problems = Problems::default();
        self.look_at_all(read, &mut problems);
        problems.is_empty() && self.plan.text_files().into_iter().all(|path| read.contains_key(path))
    }

    fn look_at_all(&self, read: &Certificates, problems: &mut Problems) {
        self.plan.tls().for_each(|tls| self.look_at(tls, read, problems));
        let of_upstreams: BTreeSet<&PathBuf> = self.plan.upstream_authorities().collect();
        of_upstreams.into_iter().for_each(|path| self.look_at_authorities(path, read, problems));
        let mut seen: Vec<&Auth> = Vec::new();
        for auth in self.plan.auths() {
            // Routes that say nothing else have the gateway's.
            if !seen.contains(&auth) {
                seen.push(auth);
                self.look_at_auth(auth, read, problems);
            }
        }
    }

    /// Looks at what those are known by who ask.
    fn look_at_auth(&self, auth: &Auth, read: &Certificates, problems: &mut Problems) {
        let text = |file: &Option<PathBuf>| {
            let path = file.as_ref()?;
            Some((path.clone(), read.get(path)?.text()))
        };
        let mut wrong = |path: &Path, BadLine { line, message, hint }: BadLine| {
            let message = format!("{}, line {line}: {message}", path.display());
            problems.push(Problem::new(self.place_of(path), message).hint(hint));
        };
        let twice =
            |line, hint| BadLine { line, message: "this name is in the configuration as well".into(), hint };
        if let Some((path, text)) = text(&auth.key_file) {
            match passwords::keys(text) {
                Err(bad) => wrong(&path, bad),
                Ok(keys) if keys.iter().any(|(name, ..)| auth.keys.iter().any(|key| key.name == *name)) => {
                    wrong(&path, twice(1, "remove it from `api_keys`, or from the file"));
                }
                Ok(_) => {}
            }
        }
        let basic = auth.basic.as_ref();
        if let Some((basic, (path, text))) = basic.and_then(|basic| Some((basic, text(&basic.file)?))) {
            match passwords::users(text) {
                Err(bad) => wrong(&path, bad),
                Ok(users)
                    if users.iter().any(|(name, ..)| basic.users.iter().any(|user| user.name == *name)) =>
                {
                    wrong(&path, twice(1, "remove it from `users`, or from the file"));
                }
                Ok(_) => {}
            }
        }
        let keys = auth.oidc.as_ref().map(|oidc| &oidc.cookie_keys_file);
        if let Some((path, text)) = keys.and_then(|path| Some((path, read.get(path)?.text())))
            && let Err(error) = Sealer::parse(text)
        {
            let problem = Problem::new(self.place_of(path), format!("{}: {error}", path.display()));
            problems.push(problem.hint("for example `openssl rand -hex 32 >FILE`"));
        }
        let Some(jwt) = &auth.jwt else { return };
        for (found, parse, hint) in [
            (
                text(&jwt.key_file),
                KeySet::public as fn(&[u8]) -> Result<KeySet, BadKeys>,
                "a JWK Set of public keys of RSA, P-256 or Ed25519: `{\"keys\": […]}`",
            ),
            (text(&jwt.secret_file), KeySet::secret, "for example `openssl rand -hex 32 >FILE`"),
        ] {
            if let Some((path, text)) = found
                && let Err(error) = parse(text.as_bytes())
            {
                let message = format!("{}: {error}", path.display());
                problems.push(Problem::new(self.place_of(&path), message).hint(hint));
            }
        }
    }

    /// Looks at those that could be read.
    fn look_at(&self, tls: &Tls, read: &Certificates, problems: &mut Problems) {
        for files in &tls.certificates {
            let Some(Err(fault)) = identity(files, read) else { continue };
            let (path, hint) = match &fault {
                Fault::Certificate(_) => {
                    (&files.certificate, "it has to be a file of PEM, as `certbot` and `openssl` write it")
                }
                Fault::Key(_) if files.key == files.certificate => {
                    (&files.key, "write `key` with the file that the key is in")
                }
                Fault::Key(_) => (
                    &files.key,
                    "`openssl x509 -pubkey -noout` and `openssl pkey -pubout` show whether the two belong together",
                ),
            };
            problems
                .push(Problem::new(self.place_of(path), format!("{} {fault}", path.display())).hint(hint));
        }
        tls.clients.iter().for_each(|clients| self.look_at_authorities(&clients.file, read, problems));
    }

    fn look_at_authorities(&self, path: &Path, read: &Certificates, problems: &mut Problems) {
        if let Some(pem) = read.get(path)
            && let Err(what) = watt_certificates::authorities(pem.text())
        {
            problems.push(Problem::new(self.place_of(path), format!("{} {what}", path.display())));
        }
    }

    /// Where a file is named first.
    fn place_of(&self, path: &Path) -> Place {
        let value = path.to_string_lossy().into();
        let others = self.plan.other_listeners().into_keys();
        let further = others.map(|name| vec!["gateway", "listeners", name, "tls"]);
        let mut tables = std::iter::once(vec!["server", "tls"]).chain(further).chain([vec!["gateway"]]);
        tables.find_map(|keys| self.shown.get(&keys)?.find(&value)).unwrap_or_default().into()
    }
}

/// A pair of files, when both were read.
fn identity(files: &CertificateFiles, read: &Certificates) -> Option<Result<Identity, Fault>> {
    let (certificate, key) = (read.get(&files.certificate)?, read.get(&files.key)?);
    Some(Identity::read(certificate.text(), key.text()))
}
