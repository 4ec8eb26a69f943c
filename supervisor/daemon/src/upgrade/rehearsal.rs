//! A program shows that it could take over: the spawner starts it in the role of the spawner, with a copy of the table.

use std::{
    io,
    os::fd::{OwnedFd, RawFd},
    time::Duration,
};

use watt_exec::plan::{LaunchPlan, Task};
use watt_os::{memfd, rlimit::Resource};
use watt_spawner::protocol::Request;

use super::{
    NEXT_PROGRAM, News, TABLE,
    check::{Found, Offer},
};
use crate::{
    app::App,
    in_force::{InForce, PLAN},
    runs::SIGKILL,
};

/// How long one may take. It takes some milliseconds.
const REHEARSAL_MAX: Duration = Duration::from_secs(30);
/// The most it says, in bytes.
const OFFER_SIZE_MAX: usize = 64 << 10;

impl App {
    /// Starts it. What it says is news.
    pub(super) fn begin_rehearsal(&mut self, found: &Found, table: OwnedFd) -> io::Result<()> {
        let program = found.file.try_clone()?;
        let plan = self.rehearsal();
        let task = postcard::to_stdvec(&Task::Launch(Box::new(plan))).map_err(io::Error::other)?;
        let task = memfd::sealed(c"watt-launch", &task)?;
        for (name, descriptor) in [(TABLE, table), (NEXT_PROGRAM, program)] {
            self.link.request(Request::Keep { name: name.to_owned() }, vec![descriptor]);
        }
        let (run, said) = self.secret_commands.begin();
        let request = Request::Spawn {
            run,
            tag: Vec::new(),
            cgroup: false,
            handed: 0,
            pid_namespace: false,
            user_namespace: false,
            pass: [TABLE, PLAN, NEXT_PROGRAM].map(str::to_owned).into(),
        };
        self.link.request(request, vec![task]);
        let sender = self.senders.upgrade.clone();
        tokio::spawn(async move {
            // When it takes too long it is killed, because nobody waits for it any more.
            let said = tokio::time::timeout(REHEARSAL_MAX, said.read(OFFER_SIZE_MAX)).await;
            let said =
                said.unwrap_or_else(|_| Err(format!("it took longer than {} s", REHEARSAL_MAX.as_secs())));
            let _ = sender.send(News::Rehearsed(said)).await;
        });
        Ok(())
    }

    /// How the program is started to show that it can take over: in the role and with the words of the real thing.
    fn rehearsal(&self) -> LaunchPlan {
        let app = self.places.runtime.file_name().unwrap_or_default().as_encoded_bytes().to_vec();
        let lock = self.places.lock().into_os_string().into_encoded_bytes();
        let word = |word: &str| word.as_bytes().to_vec();
        let words = ["wattctl", "spawner", "--resume", "3", "--rehearse", "4", "--app"].map(word);
        let rest = [app, word("--lock"), lock, word("--"), word("wattctl"), word("daemon")];
        let environment = self.in_force.sources.env.iter();
        LaunchPlan {
            argv: words.into_iter().chain(rest).collect(),
            program: Some("/proc/self/fd/5".into()),
            env: environment.map(|(name, value)| format!("{name}={value}").into_bytes()).collect(),
            cwd: "/".into(),
            listeners: 3,
            rlimits: vec![(Resource::Core.number(), 0, 0)],
            umask: 0o077,
            parent_death_signal: Some(SIGKILL),
            ..LaunchPlan::default()
        }
    }
}

/// Whether the configuration in force, as this descriptor has it, can be read by this version. For a rehearsal.
pub(crate) fn rehearse(plan: RawFd, app: &str) -> Result<Offer, String> {
    let plan = watt_os::inherited::take(plan).map_err(|error| error.to_string())?;
    let app = watt_core::AppName::new(app).map_err(|error| error.to_string())?;
    let in_force = InForce::read(&plan);
    let in_force = in_force.ok_or("it cannot read the configuration in force")?;
    in_force.plan(&app).map_err(|report| format!("it does not take the configuration in force: {report}"))?;
    Ok(Offer::own())
}
