//! One machine: qemu, and what it tells.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::Case;

/// How long a machine may take, by the clock of the host. Four times what it takes on two processors that do nothing else.
const TIME_MAX: Duration = Duration::from_secs(2400);
/// Of a console, in a message.
const CONSOLE_LINES: usize = 40;
/// A disk's size is a multiple of it.
const SECTOR: usize = 512;

/// What a system starts and a test does not need.
const MASKED: [&str; 5] = [
    "getty@tty1.service",
    "e2scrub_reap.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "fstrim.timer",
];

/// A machine that was started.
pub(super) struct Machine {
    /// Its release of Debian.
    pub(super) name: &'static str,
    told: Arc<Told>,
}

/// What it has told so far.
#[derive(Default)]
struct Told {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    outcomes: HashMap<String, Result<(), String>>,
    /// What is running.
    current: Option<String>,
    /// It tells no more, because of this.
    end: Option<String>,
}

impl Machine {
    /// Starts one, which begins with the cases. What becomes of it is kept in `folder`.
    pub(super) fn start(
        name: &'static str,
        images: &Path,
        disk: &Path,
        folder: &Path,
        cases: &[&Case],
    ) -> Result<Machine, String> {
        let cannot = |error: std::io::Error| format!("cannot start {name}: {error}");
        fs::create_dir_all(folder).map_err(cannot)?;
        let lines = cases.iter().map(|case| format!("{} {} {}\n", case.way, case.program, case.case));
        let mut plan: Vec<u8> = lines.collect::<String>().into();
        plan.resize(plan.len().next_multiple_of(SECTOR), 0);
        fs::write(folder.join("plan"), plan).map_err(cannot)?;
        let results = File::create(folder.join("results")).map_err(cannot)?;
        let told = Arc::new(Told::default());
        let command = qemu(name, images, disk, folder);
        let (teller, console) = (told.clone(), folder.join("console"));
        // The machine dies with the thread that has started it, and with this process in any case.
        thread::spawn(move || teller.end(follow(command, &teller, results), &console));
        Ok(Machine { name, told })
    }

    /// Waits until it has told the outcome of a case, or until it will not any more.
    pub(super) fn outcome(&self, case: &str) -> Result<(), String> {
        let mut state = self.told.state();
        loop {
            if let Some(outcome) = state.outcomes.get(case) {
                return outcome.clone();
            }
            if let Some(end) = &state.end {
                return Err(format!("{} has not come to this case: {end}", self.name));
            }
            state = self.told.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The clock of a machine counts instructions (half a nanosecond each) while it computes, and real time while it waits. So it is as
/// fast as any for what runs in it, however slow it is for us, and no timeout passes because this host is busy.
fn qemu(name: &str, images: &Path, disk: &Path, folder: &Path) -> Command {
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", "tcg", "-icount", "shift=1"]);
    qemu.args([
        "-rtc",
        "clock=vm",
        "-cpu",
        "max",
        "-m",
        "1536",
        "-smp",
        "1",
        "-nic",
        "none",
        "-no-user-config",
    ]);
    qemu.args(["-display", "none", "-monitor", "none"]);
    qemu.arg("-serial").arg(format!("file:{}", folder.join("console").display()));
    // Not `stdio`, which is closed when there is no input.
    qemu.args(["-chardev", "file,id=results,path=/dev/stdout", "-device", "virtio-serial"]);
    qemu.args(["-device", "virtserialport,chardev=results,name=results"]);
    qemu.arg("-kernel").arg(images.join("kernel")).arg("-initrd").arg(images.join("initrd"));
    let masked = MASKED.map(|unit| format!("systemd.mask={unit}")).join(" ");
    // Debian's kernel counts stalls when it is asked to (`psi`).
    qemu.arg("-append")
        .arg(format!("root=/dev/vda rw console=ttyS0 panic=-1 psi=1 quiet loglevel=3 {masked}"));
    let mut drive = |file: PathBuf, more: &str| {
        qemu.arg("-drive").arg(format!("file={},format=raw,if=none,{more}", file.display()));
    };
    drive(images.join(name), "id=root,snapshot=on");
    drive(disk.to_owned(), "id=check,readonly=on");
    drive(folder.join("plan"), "id=plan,readonly=on");
    for device in ["drive=root", "drive=check", "drive=plan,serial=plan"] {
        qemu.arg("-device").arg(format!("virtio-blk-pci,{device}"));
    }
    // What a snapshot has is a file there.
    qemu.env("TMPDIR", folder).stdin(Stdio::null()).stdout(Stdio::piped());
    qemu
}

/// Runs it until it is off. Returns why there will be no more results.
fn follow(mut command: Command, told: &Told, results: File) -> String {
    let mut qemu = match command.spawn() {
        Ok(qemu) => qemu,
        Err(error) => return format!("qemu cannot be started: {error}"),
    };
    let output = qemu.stdout.take().expect("it is piped");
    thread::scope(|scope| {
        let (done, is_done) = std::sync::mpsc::channel();
        scope.spawn(move || done.send(read(output, told, results)));
        let end = match is_done.recv_timeout(TIME_MAX) {
            Ok(Ok(())) => "it is off".to_owned(),
            Ok(Err(error)) => format!("its results cannot be kept: {error}"),
            Err(_) => format!("it was given up after {} minutes", TIME_MAX.as_secs() / 60),
        };
        finish(&mut qemu);
        end
    })
}

fn finish(qemu: &mut Child) {
    // Off, it ends by itself; the kill is for the others.
    let _ = qemu.kill();
    let _ = qemu.wait();
}

/// Reads results until there are no more.
fn read(output: ChildStdout, told: &Told, mut results: File) -> std::io::Result<()> {
    let mut printed = String::new();
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(results, "{line}")?;
        match line.split_once(' ') {
            Some(("begin", name)) => {
                printed.clear();
                told.state().current = Some(name.to_owned());
            }
            Some(("|", text)) => printed += &format!("{text}\n"),
            Some(("end", rest)) => {
                let (name, code) = rest.rsplit_once(' ').unwrap_or((rest, "?"));
                let outcome = if code == "0" { Ok(()) } else { Err(format!("exit code {code}\n{printed}")) };
                let mut state = told.state();
                state.current = None;
                state.outcomes.insert(name.to_owned(), outcome);
                told.changed.notify_all();
            }
            _ => {}
        }
    }
    Ok(())
}

impl Told {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, why: String, console: &Path) {
        let text = fs::read(console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n");
        let mut state = self.state();
        let current = state.current.take().map(|case| format!(" during {case}")).unwrap_or_default();
        state.end = Some(format!("{why}{current}; its console:\n{last}"));
        self.changed.notify_all();
    }
}
