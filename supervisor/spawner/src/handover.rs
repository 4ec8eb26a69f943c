//! From a spawner to its table, and back.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsFd,
    panic,
    rc::Rc,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use watt_os::{
    inherited::{self, Unclaimed},
    socket_file::FileId,
};

use crate::{
    Error, Settings,
    daemon::Daemon,
    launch::{Launcher, Reports},
    listeners::{Listener, file_of},
    lock::Lock,
    manager::Manager,
    notes,
    runs::Run,
    spawner::{Owner, Spawner},
    table::{Descriptors, ListenerRow, Number, ProgramRow, ReportsRow, RunRow, Table, TableError, number},
    upgrade::{Program, Resume, Upgrade, become_program, chain},
};

/// The value of a table that says which files are our sockets'. A value, and no row, so that versions that do not know it read the table.
const FILES: &str = "spawner/socket-files";

impl Spawner {
    /// Everything, for `next` to take over. `own` goes on when that cannot.
    pub(crate) fn table(
        &self,
        next: &Program,
        own: &Program,
        trial: Option<Duration>,
        went_back: Option<String>,
    ) -> Table {
        let holdings = &self.holdings;
        Table {
            started_at_ms: self.started_at_ms,
            nofile: self.launcher.nofile(),
            lock: number(&self.lock),
            runs: holdings.runs.iter().map(|(id, run)| self.run_row(*id, run)).collect(),
            listeners: holdings.listeners.iter().map(listener_row).collect(),
            kept: holdings.kept.iter().map(|(name, fd)| (name.clone(), number(fd))).collect(),
            values: self.values_with_files(),
            daemon: self.daemon.row(),
            manager: self.manager.row(),
            notes: notes::row(&self.writer),
            program: Some(next.row()),
            before: Some(own.row()),
            trial_ms: trial.map(|trial| u64::try_from(trial.as_millis()).unwrap_or(u64::MAX)),
            went_back,
        }
    }

    /// All values, and which files are our sockets'.
    fn values_with_files(&self) -> BTreeMap<String, Vec<u8>> {
        let listeners = self.holdings.listeners.iter();
        let files: BTreeMap<&String, FileId> =
            listeners.filter_map(|(name, listener)| Some((name, listener.file?))).collect();
        let mut values = self.holdings.values.clone();
        values.extend(postcard::to_allocvec(&files).ok().map(|files| (FILES.to_owned(), files)));
        values
    }

    fn run_row(&self, id: u64, run: &Run) -> RunRow {
        RunRow {
            run: id,
            tag: run.tag.clone(),
            pid: run.pid,
            pidfd: number(&run.pidfd),
            stdout: number(&run.stdout),
            stderr: number(&run.stderr),
            stage: run.stage.clone(),
            reports: run.reports.and_then(|token| self.reports(token)).map(Reports::row),
            init: run.init.as_deref().map(Reports::row),
            kept: run.kept.iter().map(|(name, fd)| (name.clone(), number(fd))).collect(),
            exit: run.exit,
        }
    }

    /// Puts back what the table has. On an error nothing of it was closed.
    fn fill(&mut self, mut table: Table, descriptors: &Descriptors) -> Result<(), TableError> {
        let files = table.values.remove(FILES).and_then(|files| postcard::from_bytes(&files).ok());
        let files: BTreeMap<String, FileId> = files.unwrap_or_default();
        for ListenerRow { name, address, socket } in table.listeners {
            let socket = descriptors.share(socket)?;
            let file = files.get(&name).copied().or_else(|| file_of(&address));
            self.holdings.listeners.insert(name, Listener { address, socket, file });
        }
        for (name, kept) in table.kept {
            self.holdings.kept.insert(name, descriptors.share(kept)?);
        }
        self.holdings.values_size = table.values.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.holdings.values = table.values;
        self.manager.fill(table.manager, descriptors)?;
        self.writer = notes::fill(table.notes, descriptors)?;
        for row in table.runs {
            self.fill_run(row, descriptors)?;
        }
        Ok(())
    }

    fn fill_run(&mut self, row: RunRow, descriptors: &Descriptors) -> Result<(), TableError> {
        let kept = row.kept.into_iter().map(|(name, fd)| Ok((name, descriptors.share(fd)?)));
        let run = Run {
            tag: row.tag,
            pid: row.pid,
            pidfd: descriptors.share(row.pidfd)?,
            stdout: descriptors.share(row.stdout)?,
            stderr: descriptors.share(row.stderr)?,
            stage: row.stage,
            reports: None,
            init: row.init.map(|init| Reports::from_row(init, descriptors).map(Box::new)).transpose()?,
            kept: kept.collect::<Result<_, TableError>>()?,
            exit: row.exit,
        };
        let (id, has_init, is_alive) = (row.run, run.init.is_some(), run.exit.is_none());
        if has_init {
            // The init lives on for a while when its program has ended.
            self.pids.insert(run.pid, id);
        }
        self.holdings.runs.insert(id, Box::new(run));
        match (has_init, is_alive) {
            (true, _) => self.watch_init(id),
            (false, true) => self.watch_main(id),
            (false, false) => {}
        }
        if let Some(reports) = row.reports {
            let reports = Reports::from_row(reports, descriptors)?;
            self.follow(Owner::Run(row.run), reports);
        }
        Ok(())
    }
}

fn listener_row((name, listener): (&String, &Listener)) -> ListenerRow {
    ListenerRow { name: name.clone(), address: listener.address.clone(), socket: number(&listener.socket) }
}

impl Program {
    /// The one that runs here.
    pub(crate) fn own() -> io::Result<Self> {
        let path = std::fs::read_link("/proc/self/exe")?;
        let file = std::fs::File::open("/proc/self/exe")?;
        let path = path.to_string_lossy().into_owned();
        Ok(Self { number: 0, path, file: Rc::new(file.into()) })
    }

    fn row(&self) -> ProgramRow {
        ProgramRow { number: self.number, path: self.path.clone(), file: number(&self.file) }
    }

    fn from_row(row: &ProgramRow, descriptors: &Descriptors) -> Result<Self, TableError> {
        let ProgramRow { number, path, file } = row;
        Ok(Self { number: *number, path: path.clone(), file: descriptors.share(*file)? })
    }
}

impl Reports {
    fn row(&self) -> ReportsRow {
        ReportsRow {
            socket: number(self),
            said: self.said.clone(),
            descriptors: self.descriptors.iter().map(|(name, fd)| (name.clone(), number(fd))).collect(),
            ended: self.ended,
            lost_descriptors: self.lost_descriptors,
        }
    }

    pub(crate) fn from_row(row: ReportsRow, descriptors: &Descriptors) -> Result<Self, TableError> {
        let made = row.descriptors.into_iter().map(|(name, fd)| Ok((name, descriptors.own(fd)?)));
        let mut reports = Reports::new(descriptors.own(row.socket)?);
        reports.descriptors = made.collect::<Result<_, TableError>>()?;
        reports.said = row.said;
        reports.ended = row.ended;
        reports.lost_descriptors = row.lost_descriptors;
        Ok(reports)
    }
}

/// The row of the process that writes our lines.
pub(crate) fn writer_row(reports: &Reports) -> ReportsRow {
    reports.row()
}

/// The program before, which goes on when this one cannot use the table.
struct WayBack {
    program: Number,
    table: Number,
    /// What has to stay open for it, once that is known. Before, nothing was touched.
    numbers: OnceLock<BTreeSet<Number>>,
    command: Vec<std::ffi::OsString>,
}

impl WayBack {
    fn new(settings: &Settings, resume: &Resume) -> Option<Self> {
        let (program, table, command) = (resume.or_else?, resume.table, settings.command.clone());
        Some(Self { program, table, numbers: OnceLock::new(), command })
    }

    /// Returns only when that fails.
    fn go(&self, why: &str) -> io::Error {
        let stay_open = self.numbers.get().into_iter().flatten().chain([&self.table]);
        for number in stay_open {
            // What is not there any more is told by the program that misses it.
            let _ = inherited::hand_down_number(*number);
        }
        let resume = Resume { table: self.table, or_else: None, because: Some(why.to_owned()) };
        match resume.command(&self.command) {
            Ok(command) => become_program(self.program, &command),
            Err(error) => error,
        }
    }
}

/// Takes over from another program that was this process before. What fails, or panics, is the end of this program and not of the
/// process: the one before goes on.
pub(crate) fn resume(settings: &Settings, resume: &Resume) -> Result<Spawner, Error> {
    let way_back = WayBack::new(settings, resume).map(Arc::new);
    if let Some(way_back) = way_back.clone() {
        panic::set_hook(Box::new(move |panic| drop(way_back.go(&format!("it has a bug: {panic}")))));
    }
    // Outside, so that nothing of it is closed when something fails.
    let mut descriptors = None;
    let resumed = try_resume(settings, resume, way_back.as_deref(), &mut descriptors);
    drop(panic::take_hook());
    resumed.inspect_err(|error| {
        if let Some(way_back) = way_back {
            way_back.go(&chain(error));
        }
    })
}

fn try_resume(
    settings: &Settings,
    resume: &Resume,
    way_back: Option<&WayBack>,
    descriptors: &mut Option<Descriptors>,
) -> Result<Spawner, Error> {
    let handed = Unclaimed::find(resume.table).map_err(TableError::Read).map_err(Error::Resume)?;
    let table = Table::read(handed.as_fd()).map_err(Error::Resume)?;
    if let Some(way_back) = way_back {
        let _ = way_back.numbers.set(table.numbers());
    }
    let descriptors = descriptors.insert(Descriptors::take(&table).map_err(Error::Resume)?);
    let take_over = |descriptors: &Descriptors| -> Result<_, TableError> {
        let program = |row: &Option<ProgramRow>| {
            row.as_ref().map(|row| Program::from_row(row, descriptors)).transpose()
        };
        Ok((Lock::held(descriptors.own(table.lock)?), program(&table.program)?, program(&table.before)?))
    };
    let (lock, next, before) = take_over(descriptors).map_err(Error::Resume)?;
    let is_back = resume.because.is_some();
    let program = if is_back { before.clone().or(next) } else { next };
    let manager = if settings.managed { Manager::again() } else { Manager::default() };
    let setup = |what| move |source| Error::Setup { what, source };
    let launcher = Launcher::new(Some(table.nofile)).map_err(setup("unpack the exec stage"))?;
    let daemon =
        Daemon::resumed(settings, program.as_ref(), &table.daemon).map_err(setup("plan the daemon"))?;
    let mut spawner = Spawner::assemble(settings, manager, lock, launcher, daemon, program)?;
    spawner.started_at_ms = table.started_at_ms;
    spawner.went_back = resume.because.clone().or_else(|| table.went_back.clone());
    if let (Some(trial), Some(before), false) = (table.trial_ms, before, is_back) {
        let within = Duration::from_millis(trial);
        spawner.upgrade = Upgrade::Trial { before, within, until: Instant::now() + within, deaths: 0 };
    }
    spawner.fill(table, descriptors).map_err(Error::Resume)?;
    spawner.keep_program();
    // Whoever ended meanwhile has waited to be reaped.
    spawner.reap();
    // From here on nothing fails, and the table is of no use any more.
    drop(handed.take());
    Ok(spawner)
}

/// What a program that would take over does to show that it can: everything up to the first look at a descriptor of the table.
///
/// # Errors
/// See [`TableError`]; and when the exec stage cannot be unpacked.
pub fn rehearse(number: Number) -> Result<(), Error> {
    let handed = Unclaimed::find(number).map_err(TableError::Read).map_err(Error::Resume)?;
    Table::read(handed.as_fd()).map_err(Error::Resume)?;
    let setup = |source| Error::Setup { what: "unpack the exec stage", source };
    crate::exec_stage().map(drop).map_err(setup)
}
