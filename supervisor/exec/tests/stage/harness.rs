//! A small spawner for the tests: gives the exec stage a plan, a report socket and a pipe, and collects what comes out.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr},
    fs::{File, Permissions},
    io::{ErrorKind, Read},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::PermissionsExt},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::wait::{WaitStatus, waitpid},
    unistd::{Pid, geteuid, pipe2},
};
use watt_exec::plan::{Failure, LaunchPlan, Mount, Report, Task};
use watt_os::{
    fdpass, memfd, pidfd,
    process::{self, Isolation},
};

/// Nothing here takes longer, on the slowest machine.
const CAP: Duration = Duration::from_secs(30);

/// Who the stage runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// Whoever runs the tests.
    Caller,
    /// uid and gid 65534; for tests that are run by root.
    Nobody,
}

impl User {
    /// Root, and an ordinary user; or the ordinary user alone who runs the tests.
    pub(crate) fn all() -> Vec<User> {
        if geteuid().is_root() { vec![User::Caller, User::Nobody] } else { vec![User::Caller] }
    }

    pub(crate) fn is_root(self) -> bool {
        self == User::Caller && geteuid().is_root()
    }

    pub(crate) fn uid(self) -> u32 {
        match self {
            User::Caller => geteuid().as_raw(),
            User::Nobody => 65534,
        }
    }
}

/// A started stage, killed and waited for when dropped.
pub(crate) struct Running {
    pid: u32,
    pidfd: OwnedFd,
    report: OwnedFd,
    output: File,
    /// What was reported so far.
    pub(crate) reports: Vec<Report>,
    /// The descriptors reported so far, by name.
    pub(crate) descriptors: BTreeMap<String, Vec<OwnedFd>>,
    waited: bool,
}

/// What a stage and its program left.
pub(crate) struct Finished {
    /// Standard output.
    pub(crate) output: String,
    /// The exit status; `None` for a signal.
    pub(crate) status: Option<i32>,
    /// All reports.
    pub(crate) reports: Vec<Report>,
}

impl Finished {
    /// The failure that was reported.
    pub(crate) fn failure(&self) -> &Failure {
        match self.reports.as_slice() {
            [.., Report::Failed(failure)] => failure,
            other => panic!("no failure: {other:?}, output {:?}", self.output),
        }
    }
}

/// A plan that runs this in a shell.
pub(crate) fn shell(script: &str) -> LaunchPlan {
    program(&["/bin/sh", "-c", script])
}

/// A plan that runs this.
pub(crate) fn program(argv: &[&str]) -> LaunchPlan {
    LaunchPlan {
        argv: argv.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        env: vec![b"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin".to_vec()],
        cwd: "/".into(),
        umask: 0o022,
        ..LaunchPlan::default()
    }
}

/// Shows a file or folder in place of another, if both are there.
pub(crate) fn bind_optional(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Mount {
    Mount::Bind { source: source.into(), target: target.into(), read_only: false, optional: true }
}

/// Shows a file or folder in place of another.
pub(crate) fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Mount {
    Mount::Bind { source: source.into(), target: target.into(), read_only: false, optional: false }
}

/// A folder that every user can read.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Launches and waits for the end.
pub(crate) fn launch(user: User, plan: LaunchPlan) -> Finished {
    start(user, &Task::Launch(Box::new(plan)), &[]).finish()
}

/// Launches in these namespaces, whatever the plan says.
pub(crate) fn launch_in(isolation: Isolation, user: User, plan: LaunchPlan) -> Finished {
    let task = postcard::to_stdvec(&Task::Launch(Box::new(plan))).unwrap();
    start_reporting_to(fdpass::seqpacket_pair().unwrap(), user, isolation, &task, &[]).finish()
}

/// Starts the stage with a task and descriptors from number 5 on.
pub(crate) fn start(user: User, task: &Task, passed: &[BorrowedFd<'_>]) -> Running {
    // As the spawner does it. What an ordinary user gets by it is tested there: here, the clone would be root's.
    let isolation = match task {
        Task::Launch(plan) if plan.namespaces.pid => {
            assert_eq!(user, User::Caller);
            if plan.user_namespace { Isolation::PidsAndUser } else { Isolation::Pids }
        }
        _ => Isolation::None,
    };
    let task = postcard::to_stdvec(task).unwrap();
    start_reporting_to(fdpass::seqpacket_pair().unwrap(), user, isolation, &task, passed)
}

/// As [`start`], with any bytes for the task.
pub(crate) fn start_encoded(user: User, task: &[u8], passed: &[BorrowedFd<'_>]) -> Running {
    start_reporting_to(fdpass::seqpacket_pair().unwrap(), user, Isolation::None, task, passed)
}

/// Starts the stage as a spawner would that dies at once, and sees how it ends.
pub(crate) fn abandon(task: &Task) -> (String, Option<i32>) {
    let (near, far) = fdpass::seqpacket_pair().unwrap();
    drop(near);
    let (elsewhere, _) = fdpass::seqpacket_pair().unwrap();
    let task = postcard::to_stdvec(task).unwrap();
    let mut running = start_reporting_to((elsewhere, far), User::Caller, Isolation::None, &task, &[]);
    let mut output = String::new();
    running.output.read_to_string(&mut output).unwrap();
    let status = running.wait();
    (output, status)
}

/// `report` is our end of the report socket and the stage's.
fn start_reporting_to(
    report: (OwnedFd, OwnedFd),
    user: User,
    isolation: Isolation,
    task: &[u8],
    passed: &[BorrowedFd<'_>],
) -> Running {
    let (report, far) = report;
    let task = memfd::sealed(c"task", task).unwrap();
    let (output, write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let stage = File::open(env!("CARGO_BIN_EXE_watt-exec")).unwrap();
    let mut descriptors = vec![output.as_fd(), write.as_fd(), write.as_fd(), task.as_fd(), far.as_fd()];
    descriptors.extend(passed);
    let child = match user {
        User::Caller => spawn(stage.as_fd(), &["watt-exec"], &descriptors, isolation),
        User::Nobody => {
            // The stage is executed by descriptor: nobody cannot enter every folder it may have been built in.
            descriptors.push(stage.as_fd());
            let path = format!("/proc/self/fd/{}", descriptors.len() - 1);
            let setpriv = File::open("/usr/bin/setpriv").unwrap();
            let argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", &path];
            spawn(setpriv.as_fd(), &argv, &descriptors, isolation)
        }
    };
    Running {
        pid: child.pid,
        pidfd: child.pidfd,
        report,
        output: output.into(),
        reports: Vec::new(),
        descriptors: BTreeMap::new(),
        waited: false,
    }
}

fn spawn(
    program: BorrowedFd<'_>,
    argv: &[&str],
    descriptors: &[BorrowedFd<'_>],
    isolation: Isolation,
) -> process::Child {
    let argv: Vec<CString> = argv.iter().map(|argument| CString::new(*argument).unwrap()).collect();
    process::spawn(&process::Launch {
        program,
        argv: &argv,
        env: &[],
        descriptors,
        cgroup: None,
        nofile: None,
        isolation,
    })
    .unwrap()
}

impl Running {
    /// The number of the program's process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Reads reports until the stage is through, and fails the test when a step failed.
    pub(crate) fn executed(mut self) -> Running {
        self.read_reports();
        assert!(matches!(self.reports.last(), Some(Report::Executing)), "{:?}", self.reports);
        self
    }

    /// Waits for the end of the stage and of its program.
    pub(crate) fn finish(mut self) -> Finished {
        self.read_reports();
        let mut output = String::new();
        self.output.read_to_string(&mut output).unwrap();
        let status = self.wait();
        Finished { output, status, reports: std::mem::take(&mut self.reports) }
    }

    /// Waits for the end of the process alone.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        wait_for(self.pidfd.as_fd(), PollFlags::POLLIN);
        self.waited = true;
        match waitpid(Pid::from_raw(self.pid.cast_signed()), None).unwrap() {
            WaitStatus::Exited(_, status) => Some(status),
            _ => None,
        }
    }

    /// The one descriptor of this name.
    pub(crate) fn take(&mut self, name: &str) -> OwnedFd {
        let found = self.descriptors.get_mut(name).unwrap_or_else(|| panic!("no {name}"));
        found.pop().unwrap_or_else(|| panic!("no {name} left"))
    }

    /// Reads reports up to the end of the socket.
    pub(crate) fn read_reports(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            wait_for(self.report.as_fd(), PollFlags::POLLIN);
            match fdpass::receive(self.report.as_fd(), &mut buffer) {
                Ok(received) if received.length == 0 => return,
                Ok(received) => self.note(&buffer[..received.length], received.descriptors),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn note(&mut self, bytes: &[u8], descriptors: Vec<OwnedFd>) {
        let report = postcard::from_bytes(bytes).unwrap();
        if let Report::Descriptors { names } = &report {
            assert_eq!(names.len(), descriptors.len());
            assert!(names.len() <= 250);
            for (name, fd) in names.iter().zip(descriptors) {
                self.descriptors.entry(name.clone()).or_default().push(fd);
            }
        }
        self.reports.push(report);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.waited {
            let _ = pidfd::send_signal(&self.pidfd, 9);
            let _ = waitpid(Pid::from_raw(self.pid.cast_signed()), None);
        }
    }
}

/// Waits until a descriptor is ready.
pub(crate) fn wait_for(fd: BorrowedFd<'_>, events: PollFlags) {
    let mut fds = [PollFd::new(fd, events)];
    let ready = poll(&mut fds, PollTimeout::try_from(CAP).unwrap()).unwrap();
    assert_eq!(ready, 1, "descriptor {} was not ready in {CAP:?}", fd.as_raw_fd());
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + CAP;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in {CAP:?}: {what}");
        poll(&mut [], PollTimeout::from(5u8)).unwrap();
    }
}

/// Bytes of a path, for a plan.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    OsStr::as_bytes(path.as_os_str()).to_vec()
}
