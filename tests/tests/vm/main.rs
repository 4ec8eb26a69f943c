//! End-to-end tests once more, in virtual machines with systemd and pure cgroup v2, emulated by qemu: Debian 12 with systemd 252, and
//! Debian 13 with systemd 257. Each case there is a test here, with what it printed when it fails.
//!
//! `--ignored` has those that `scripts/test` leaves out: the other ways in which watt can be started. Whatever a filter leaves out is not
//! run; a machine for which nothing is left is not started. Where a machine cannot be had all are ignored, and what to install is said;
//! `WATT_VM=required` fails instead, and `WATT_VM=beside` leaves them to another process, as `scripts/test` does. Results, consoles and
//! plans of the last run are in `target/tmp/vm`.

mod harness;
mod machine;
mod programs;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::OnceLock,
};

use watt_tests::repository;

use harness::{Arguments, Test};
use machine::Machine;
use programs::Programs;

/// Releases of Debian, as their images are called.
const MACHINES: [&str; 2] = ["bookworm", "trixie"];

/// What is run each time, by the way in which it is (tests/vm/inside).
const SUITE: [(&str, &[&str]); 3] = [
    ("root", &["installed"]),
    ("root_unit", &["cgroups", "limits", "stop", "systemd"]),
    ("user_scope", &["cgroups", "limits", "stop", "systemd"]),
];

/// What is run with `--ignored`. The attacks alone take as long as half of the others.
const MORE: [(&str, &[&str]); 6] = [
    ("root", &["shares"]),
    ("root_unit", &["hostile", "pressure", "clock"]),
    ("user_scope", &["hostile"]),
    ("root", &["cgroups", "limits", "stop", "systemd"]),
    ("user_unit", &["cgroups", "limits", "stop", "systemd"]),
    ("user_shell", &["cgroups", "limits", "stop", "systemd"]),
];

/// What a machine needs, by the package that has it.
const NEEDED: [(&str, &str); 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("strip", "binutils"),
    ("dpkg-deb", "dpkg"),
    ("setpriv", "util-linux"),
    ("flock", "util-linux"),
];

/// One case of one program in one machine.
#[derive(Debug, Clone)]
struct Case {
    machine: &'static str,
    way: &'static str,
    program: String,
    case: String,
    is_extra: bool,
}

impl Case {
    /// As `tests/vm/inside` calls it.
    fn name(&self) -> String {
        format!("{}::{}::{}", self.way, self.program, self.case)
    }

    fn full_name(&self) -> String {
        format!("{}::{}", self.machine, self.name())
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::from_process() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let wish = std::env::var("WATT_VM").unwrap_or_default();
    if wish == "beside" {
        println!("\ntest result: ok. 0 passed; 0 failed; all ignored: they run beside the other tests\n");
        return ExitCode::SUCCESS;
    }
    let is_required = wish == "required";
    match missing() {
        Some(missing) if is_required => {
            eprintln!("error: there can be no virtual machine: {missing}");
            ExitCode::FAILURE
        }
        Some(missing) => {
            eprintln!("The virtual machines are left out: {missing}");
            println!("\ntest result: ok. 0 passed; 0 failed; all ignored: {missing}\n");
            ExitCode::SUCCESS
        }
        None => run(&arguments),
    }
}

fn run(arguments: &Arguments) -> ExitCode {
    let programs = Programs::build();
    let cases: Vec<Case> = MACHINES.into_iter().flat_map(|machine| cases(machine, &programs)).collect();
    let wanted = cases.iter().filter(|case| arguments.want(&case.full_name(), case.is_extra));
    let suite = Suite::new(programs, wanted.cloned().collect());
    let tests = cases.iter().map(|case| Test {
        name: case.full_name(),
        is_ignored: case.is_extra,
        run: Box::new(|| suite.outcome(case)),
    });
    arguments.run(&tests.collect::<Vec<_>>())
}

/// Why there can be no machine here, and what to do about it.
fn missing() -> Option<String> {
    if std::env::consts::ARCH != "x86_64" {
        return Some(format!("their images are for x86_64, and this is {}", std::env::consts::ARCH));
    }
    let is_here = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
            .any(|folder| folder.join(program).exists())
    };
    let missing: Vec<&str> =
        NEEDED.into_iter().filter(|(program, _)| !is_here(program)).map(|(_, package)| package).collect();
    (!missing.is_empty()).then(|| format!("apt-get install {}", missing.join(" ")))
}

fn cases(machine: &'static str, programs: &Programs) -> Vec<Case> {
    let suite = SUITE.into_iter().map(|(way, names)| (way, names, false));
    let more = MORE.into_iter().map(|(way, names)| (way, names, true));
    let all = suite.chain(more).flat_map(|(way, names, is_extra)| {
        let names = names.iter().copied();
        names.flat_map(move |program| {
            programs.cases(program).iter().map(move |case| (way, program, case, is_extra))
        })
    });
    all.map(|(way, program, case, is_extra)| Case {
        machine,
        way,
        program: program.to_owned(),
        case: case.clone(),
        is_extra,
    })
    .collect()
}

/// All machines, started when the first outcome is asked for.
struct Suite {
    folder: PathBuf,
    programs: Programs,
    wanted: Vec<Case>,
    machines: OnceLock<Result<Vec<Machine>, String>>,
}

impl Suite {
    fn new(programs: Programs, wanted: Vec<Case>) -> Suite {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm");
        Suite { folder, programs, wanted, machines: OnceLock::new() }
    }

    fn outcome(&self, case: &Case) -> Result<(), String> {
        let machines = self.machines.get_or_init(|| self.start()).as_ref().map_err(Clone::clone)?;
        let machine = machines.iter().find(|machine| machine.name == case.machine);
        machine.expect("each with a case is started").outcome(&case.name())
    }

    fn start(&self) -> Result<Vec<Machine>, String> {
        let images = images()?;
        let disk = self.programs.disk(&self.folder)?;
        let plan = |machine| self.wanted.iter().filter(|case| case.machine == machine).collect();
        let plans = MACHINES.into_iter().map(|machine| (machine, plan(machine)));
        let plans = plans.filter(|(_, cases): &(_, Vec<&Case>)| !cases.is_empty());
        let start = |(name, cases): (&'static str, Vec<&Case>)| {
            Machine::start(name, &images, &disk, &self.folder.join(name), &cases)
        };
        plans.map(start).collect()
    }
}

/// The folder of the images, which are made when they are not there.
fn images() -> Result<PathBuf, String> {
    let output = Command::new(repository().join("tests/vm/image"))
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("tests/vm/image: {error}"))?;
    if !output.status.success() {
        return Err("there are no images of the machines: tests/vm/image has said why".to_owned());
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}
