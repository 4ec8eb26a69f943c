//! The values of secrets, read for each start of a worker, so that a restart brings the new ones.
//!
//! They are read beside the loop: a file may be on a disk that does not answer, and a command takes its time. What was read goes
//! into one sealed memfd for the exec stage ([`watt_exec::plan::Credentials`]), or, where workers cannot have mounts of their
//! own, into files of the runtime folder. It is kept nowhere else.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt, chown, fchown},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::fcntl::OFlag;
use tokio::task::JoinHandle;
use watt_config::Sources;
use watt_core::{
    RunId,
    plan::{Plan, Secret, Service},
    worker::ExecFailure,
};
use watt_exec::plan::{CREDENTIALS_SIZE_MAX, Credentials};
use watt_os::{cgroup::Group, memfd};

use crate::{
    app::App,
    beside::{self, SECRETS},
    launch::Launch,
    perform::failed,
    places::make_dir,
    runs::Task,
    secret_command::{self, Answer},
};

/// How long reading all of a worker's secrets may take.
const TIME_MAX: Duration = Duration::from_secs(10);

/// A secret that a worker is to get.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The name of its file.
    pub(crate) file: String,
    /// Its own name.
    pub(crate) name: String,
    /// Where it comes from.
    pub(crate) source: Source,
}

/// Where a value comes from, with everything that reading it takes.
#[derive(Debug)]
pub(crate) enum Source {
    /// This file.
    File(PathBuf),
    /// A variable, as the application was started with it.
    Variable { name: String, value: Option<String> },
    /// A file of systemd's for our unit; `None` when it made no folder for that.
    Credential { name: String, folder: Option<PathBuf> },
    /// What a command says.
    Command { program: String, answer: Answer },
}

/// The folder of systemd's for our unit (systemd.exec(5)).
pub(crate) const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// A secret that cannot be had.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error("{0}")]
    Said(String),
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// The secrets of a service. `command` starts the program of one.
pub(crate) fn wanted(
    plan: &Plan,
    service: &Service,
    variables: &Sources,
    mut command: impl FnMut(&[String]) -> Answer,
) -> Vec<Wanted> {
    let wanted = service.secrets.iter().filter_map(|(file, name)| {
        // The configuration was checked for names that there are not.
        let source = match plan.secrets.get(name)? {
            Secret::File(path) => Source::File(path.clone()),
            Secret::Environment(name) => {
                Source::Variable { name: name.clone(), value: variables.variable(name) }
            }
            Secret::Credential(name) => Source::Credential {
                name: name.clone(),
                folder: variables.env.get(CREDENTIALS_DIRECTORY).map(PathBuf::from),
            },
            Secret::Command(argv) => {
                Source::Command { program: argv.first().cloned().unwrap_or_default(), answer: command(argv) }
            }
        };
        Some(Wanted { file: file.clone(), name: name.clone(), source })
    });
    wanted.collect()
}

/// Reads them all.
///
/// # Errors
/// The first that cannot be had, by its name and its source.
pub(crate) async fn read(wanted: Vec<Wanted>) -> Result<Credentials, ExecFailure> {
    let mut files = Vec::with_capacity(wanted.len());
    for Wanted { file, name, source } in wanted {
        let from = source.to_string();
        let read = tokio::time::timeout(TIME_MAX, source.read()).await;
        let value = read.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        files.push((file, value.map_err(|missing| failure(&name, &from, &missing))?));
    }
    Ok(Credentials { files })
}

fn failure(name: &str, from: &str, missing: &Missing) -> ExecFailure {
    let (object, errno) = match missing {
        Missing::Said(text) => (format!("{name}: {from}: {text}"), 0),
        Missing::Failed(error) => match error.raw_os_error() {
            Some(errno) => (format!("{name}: {from}"), errno),
            None => (format!("{name}: {from}: {error}"), 0),
        },
    };
    ExecFailure { step: "secrets".to_owned(), object, errno }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Variable { name, .. } => write!(f, "variable {name}"),
            Source::Credential { name, .. } => write!(f, "credential {name}"),
            Source::Command { program, .. } => write!(f, "command {program}"),
        }
    }
}

impl Source {
    async fn read(self) -> Result<Vec<u8>, Missing> {
        match self {
            Source::File(path) => read_file(path).await,
            Source::Variable { value, .. } => {
                value.map(String::into_bytes).ok_or_else(|| Missing::Said("it is not set".to_owned()))
            }
            Source::Credential { name, folder: Some(folder) } => read_file(folder.join(name)).await,
            Source::Credential { folder: None, .. } => Err(Missing::Said(
                "systemd gave watt none: it runs in no unit with LoadCredential=".to_owned(),
            )),
            Source::Command { answer, .. } => answer.read(CREDENTIALS_SIZE_MAX).await.map_err(Missing::Said),
        }
    }
}

async fn read_file(path: PathBuf) -> Result<Vec<u8>, Missing> {
    let read = SECRETS.run(move || read_capped(&path)).await;
    Ok(read.ok_or_else(|| io::Error::other("it was not read"))??)
}

/// Reads a regular file. Anything else could wait for ever, or never end.
fn read_capped(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe without this waits for somebody who writes.
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(about.size()).unwrap_or(0).min(CREDENTIALS_SIZE_MAX));
    file.take(CREDENTIALS_SIZE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What the program of a secret is started with.
pub(crate) struct Context<'a> {
    /// The supervisor's environment.
    pub(crate) env: &'a BTreeMap<String, String>,
    /// Where it runs.
    pub(crate) root: &'a Path,
    /// What its processes can be told by.
    pub(crate) mark: &'a str,
    /// Its cgroup.
    pub(crate) group: &'a Group,
}

/// The secrets of a run that is being started, with what waits for them.
#[derive(Debug)]
pub(crate) struct News {
    run: RunId,
    group: Group,
    launch: Launch,
    /// The memfd for the exec stage, where they are not files on the host.
    ready: Result<Option<OwnedFd>, ExecFailure>,
    /// A digest of them, when they could be read.
    digest: Option<u64>,
}

impl App {
    /// Reads the secrets of a worker's run into this folder's place, and starts it when they are there.
    pub(crate) fn read_secrets(
        &mut self,
        id: RunId,
        service: &Service,
        group: Group,
        launch: Launch,
        folder: PathBuf,
    ) {
        let over = self.runs.get(&id).map(|run| Arc::clone(&run.are_secrets_over)).unwrap_or_default();
        let reading = self.begin_reading(service, &self.life.of_run(id), &group, &launch, folder, over);
        let sender = self.senders.secrets.clone();
        let task = tokio::spawn(async move {
            let (ready, digest) = reading.await;
            // Fails when the loop has ended, and with it everything else.
            let _ = sender.send(Box::new(News { run: id, group, launch, ready, digest })).await;
        });
        if let Some(run) = self.runs.get_mut(&id) {
            run.tasks.push(Task(task));
        }
    }

    /// Begins to read the secrets for a process with this mark that will be started in this group, into this folder's place. What
    /// comes of it is the memfd for the exec stage, where they are not files on the host, and a digest of them. They are
    /// not put there any more once it is `over`.
    pub(crate) fn begin_reading(
        &mut self,
        service: &Service,
        mark: &str,
        group: &Group,
        launch: &Launch,
        folder: PathBuf,
        over: Arc<Mutex<bool>>,
    ) -> impl Future<Output = (Result<Option<OwnedFd>, ExecFailure>, Option<u64>)> + Send + use<> {
        let (plan, sources) = (Arc::clone(&self.plan), Arc::clone(&self.in_force.sources));
        let context = Context { env: &sources.env, root: &plan.root, mark, group };
        let wanted = wanted(&plan, service, &sources, |argv| self.begin_command(argv, &context));
        let (digests, name) = (self.reloads.digests(), service.id.to_string());
        let on_host = !launch.plan.has_credentials();
        let files = Files { folder, owner: launch.owner, on_host, over };
        async move {
            let read = read(wanted).await;
            let digest = read
                .as_ref()
                .ok()
                .map(|credentials| std::hash::BuildHasher::hash_one(&digests, &credentials.files));
            let ready = match read {
                Ok(credentials) => hand_over(files, credentials, name).await,
                Err(failure) => Err(failure),
            };
            (ready, digest)
        }
    }

    /// Starts the program of a secret, in the cgroup and with the mark of the run that waits for it, so that it ends with that.
    pub(crate) fn begin_command(&mut self, argv: &[String], context: &Context<'_>) -> Answer {
        let Context { env, root, mark, group } = context;
        let (number, answer) = self.secret_commands.begin();
        let mark = format!("{}={mark}", crate::life::VARIABLE).into_bytes();
        let launch = secret_command::launch(argv, env, mark, root, group.legacy_tasks());
        let asked = self.ask_to_spawn(number, Vec::new(), group, launch, Vec::new(), Vec::new());
        if let Err(failure) = asked {
            self.secret_commands.not_started(number, failure);
        }
        answer
    }

    /// The secrets of a run were read. It is started with them, or counts as failed.
    pub(crate) fn secrets_read(&mut self, News { run: id, group, launch, ready, digest }: News) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.secrets = digest;
        let worker = run.worker.clone();
        let started = ready.and_then(|memfd| self.request_spawn(id, &group, launch, memfd));
        if let Err(failure) = started {
            self.exec_failed(&worker, id, failure);
        }
    }

    /// Has the folder on the host removed, once, beside the loop: before the run is over, so that the next one's is not
    /// taken for it.
    pub(crate) fn remove_secrets(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let service = self.plan.services.get(&run.worker.service);
        // The plan may give it none any more.
        let has_some = run.secrets.is_some() || service.is_some_and(|service| !service.secrets.is_empty());
        if !has_some || std::mem::replace(&mut run.are_secrets_removed, true) {
            return;
        }
        let folder = self.places.worker_credentials(&run.worker);
        run.acts.push(end(folder, Arc::clone(&run.are_secrets_over)));
    }
}

/// Removes the folder on the host, beside the loop. Nothing is put there any more.
pub(crate) fn end(folder: PathBuf, over: Arc<Mutex<bool>>) -> JoinHandle<()> {
    beside::now(move || {
        let mut over = over.lock().unwrap_or_else(PoisonError::into_inner);
        *over = true;
        if let Err(error) = remove_folder(&folder) {
            tracing::warn!("{} cannot be removed: {error}", folder.display());
        }
    })
}

/// Where a worker finds its secrets.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    owner: Option<(u32, u32)>,
    /// Whether they are files of the host, because workers cannot have mounts of their own.
    on_host: bool,
    /// Whether the run has ended meanwhile, and they are not to be there any more.
    over: Arc<Mutex<bool>>,
}

/// Puts them where the worker finds them: into a memfd for the exec stage, or into files.
async fn hand_over(
    files: Files,
    credentials: Credentials,
    service: String,
) -> Result<Option<OwnedFd>, ExecFailure> {
    let put = SECRETS.run(move || {
        let Files { folder, owner, on_host, over } = files;
        let over = over.lock().unwrap_or_else(PoisonError::into_inner);
        if *over {
            return Err(failed("secrets", service, &io::Error::other("the run is over")));
        }
        make_folder(&folder).map_err(|error| failed("folder", folder.display().to_string(), &error))?;
        let put = match on_host {
            true => write_files(&folder, &credentials, owner).map(|()| None),
            false => sealed(&credentials).map(Some),
        };
        put.map_err(|error| failed("secrets", service, &error))
    });
    put.await.unwrap_or_else(|| Err(failed("secrets", String::new(), &io::ErrorKind::Other.into())))
}

/// The memfd for the exec stage.
///
/// # Errors
/// EFBIG when all of them together are more than 1 MiB.
pub(crate) fn sealed(credentials: &Credentials) -> io::Result<OwnedFd> {
    let encoded = postcard::to_stdvec(credentials).map_err(io::Error::other)?;
    if encoded.len() > CREDENTIALS_SIZE_MAX {
        return Err(nix::errno::Errno::EFBIG.into());
    }
    memfd::sealed(c"watt-credentials", &encoded)
}

/// Makes the folder anew, empty: where the exec stage mounts the real one, or with the files themselves.
fn make_folder(folder: &Path) -> io::Result<()> {
    remove_folder(folder)?;
    let service = folder.parent().unwrap_or(folder);
    for outer in [service.parent().unwrap_or(service), service] {
        make_dir(outer, 0o711)?;
    }
    make_dir(folder, 0o700)
}

/// Removes it with what is in it.
fn remove_folder(folder: &Path) -> io::Result<()> {
    match watt_os::remove::tree(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Writes the files into the folder on the host, for the worker's user alone.
fn write_files(folder: &Path, credentials: &Credentials, owner: Option<(u32, u32)>) -> io::Result<()> {
    let (uid, gid) = owner.unzip();
    for (name, content) in &credentials.files {
        let mut file = File::options().write(true).create_new(true).mode(0o400).open(folder.join(name))?;
        file.write_all(content)?;
        fchown(&file, uid, gid)?;
    }
    chown(folder, uid, gid)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use std::fs;

    use super::*;

    fn file(path: &Path) -> Vec<Wanted> {
        vec![Wanted { file: "key".into(), name: "db".into(), source: Source::File(path.into()) }]
    }

    #[track_caller]
    fn check(failure: Result<Credentials, ExecFailure>, object: &str, errno: i32) {
        let failure = failure.expect_err("no secret");
        assert_eq!(
            (failure.step.as_str(), failure.object.as_str(), failure.errno),
            ("secrets", object, errno)
        );
    }

    #[tokio::test]
    async fn what_is_missing_is_named_with_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let text = format!("db: file {}", path.display());
        check(read(file(&path)).await, &text, 2);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        check(read(file(&path)).await, &format!("{text}: it is not a regular file"), 0);
        let variable = Source::Variable { name: "DB".into(), value: None };
        let wanted = vec![Wanted { file: "key".into(), name: "db".into(), source: variable }];
        check(read(wanted).await, "db: variable DB: it is not set", 0);
    }

    #[tokio::test]
    async fn a_file_is_read_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, b"a\0\xff\n").unwrap();
        assert_eq!(read(file(&path)).await.unwrap().files, [("key".to_owned(), b"a\0\xff\n".to_vec())]);
    }

    #[test]
    fn all_together_have_a_bound() {
        let of_size = |size| Credentials { files: vec![("key".into(), vec![0; size])] };
        assert!(sealed(&of_size(CREDENTIALS_SIZE_MAX - 100)).is_ok());
        let error = sealed(&of_size(CREDENTIALS_SIZE_MAX)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EFBIG as i32));
    }

    /// Where a worker cannot have mounts of its own.
    #[tokio::test]
    async fn without_mounts_they_are_files_on_the_host_and_told_as_such() {
        let mut plan = crate::testing::plan(&["api"]);
        let service = plan.services.values_mut().next().unwrap();
        service.secrets.insert("key".into(), "db".into());
        let missing = |bind_files| {
            let host = crate::launch::Host { bind_files, ..crate::testing::HOST };
            crate::launch::missing(service, &host, None).join("\n")
        };
        assert!(missing(false).contains("secrets: files in the runtime folder"), "{}", missing(false));
        assert!(!missing(true).contains("secrets"), "{}", missing(true));

        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("credentials/api/0");
        let put = async |on_host, is_over| {
            let credentials = Credentials { files: vec![("key".into(), b"value".to_vec())] };
            let over = Arc::new(Mutex::new(is_over));
            let files = Files { folder: folder.clone(), owner: None, on_host, over };
            hand_over(files, credentials, "api".into()).await
        };
        assert!(put(false, false).await.unwrap().is_some());
        assert!(!folder.join("key").exists());
        assert!(put(true, true).await.is_err());
        assert!(!folder.join("key").exists(), "for a run that is over");
        assert!(put(true, false).await.unwrap().is_none());
        assert_eq!(fs::read(folder.join("key")).unwrap(), b"value");
    }

    #[test]
    fn a_folder_is_made_anew_with_the_files() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("credentials/api/0");
        for content in [b"first", b"later"] {
            make_folder(&folder).unwrap();
            let credentials = Credentials { files: vec![("key".into(), content.to_vec())] };
            write_files(&folder, &credentials, None).unwrap();
            assert_eq!(fs::read(folder.join("key")).unwrap(), content);
        }
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(folder.join("key")).unwrap().permissions().mode() & 0o777, 0o400);
        remove_folder(&folder).unwrap();
        remove_folder(&folder).unwrap();
    }
}
