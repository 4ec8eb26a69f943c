//! The programs that run in the machines: other tests of this workspace, as they were just built, and `wattctl`.

use std::{
    collections::BTreeMap,
    fs,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use cargo_metadata::Message;
use watt_tests::{printed, repository, wattctl};

/// Test programs with their cases, by name.
pub(super) struct Programs(BTreeMap<String, Program>);

struct Program {
    path: PathBuf,
    cases: Vec<String>,
}

/// What a disk holds besides programs. Its size costs nothing where nothing is.
const DISK_SIZE: &str = "1G";

impl Programs {
    /// All that a suite names. Built as `cargo test --workspace` does, so that there is nothing to do when that was before.
    pub(super) fn build() -> Programs {
        let names = super::SUITE.iter().chain(&super::MORE).flat_map(|(_, names)| names.iter().copied());
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["test", "--workspace", "--locked", "--no-run", "--message-format=json", "--quiet"]);
        cargo.args(names.flat_map(|name| ["--test", name]));
        let mut cargo =
            cargo.current_dir(repository()).stdout(Stdio::piped()).spawn().expect("cargo can be run");
        let messages = BufReader::new(cargo.stdout.take().expect("it is piped"));
        let programs: BTreeMap<String, Program> = Message::parse_stream(messages)
            .filter_map(|message| match message.expect("cargo's output") {
                // What is no test is there for one, and has no list of cases.
                Message::CompilerArtifact(artifact) if artifact.target.is_test() => {
                    Some((artifact.target.name, Program::new(artifact.executable?.into())))
                }
                _ => None,
            })
            .collect();
        assert!(
            cargo.wait().expect("it was started").success(),
            "the tests for the machines cannot be built"
        );
        Programs(programs)
    }

    /// What a program says it can do.
    pub(super) fn cases(&self, program: &str) -> &[String] {
        let found = self.0.get(program);
        &found.unwrap_or_else(|| panic!("cargo has built no test {program}")).cases
    }

    /// Makes a disk with all that a machine needs.
    pub(super) fn disk(&self, folder: &Path) -> Result<PathBuf, String> {
        let (content, disk) = (folder.join("check"), folder.join("check.disk"));
        let cannot = |error: std::io::Error| format!("cannot write {}: {error}", folder.display());
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(content.join("tests")).map_err(cannot)?;
        let files = repository().join("tests/vm");
        for file in ["inside", "wattctl-in-scope"] {
            fs::copy(files.join(file), content.join(file)).map_err(cannot)?;
        }
        let copy = content.join("repository");
        fs::create_dir(&copy).map_err(cannot)?;
        run(Command::new("cp")
            .args(["-r", "--parents", "tests/cases", "docs/hostile.md"])
            .arg(&copy)
            .current_dir(repository()))?;
        strip(&wattctl(), &content.join("wattctl"))?;
        package(&content)?;
        for (name, program) in &self.0 {
            strip(&program.path, &content.join("tests").join(name))?;
        }
        // Ordinary users read it too, whatever the umask here.
        run(Command::new("chmod").args(["-R", "a+rX"]).arg(&content))?;
        let mut make = Command::new("mke2fs");
        make.args(["-q", "-t", "ext4", "-L", "check", "-d"]).arg(&content).arg(&disk).arg(DISK_SIZE);
        let path = std::env::var("PATH").unwrap_or_default();
        run(make.env("PATH", format!("{path}:/usr/sbin:/sbin")))?;
        fs::remove_dir_all(&content).map_err(cannot)?;
        Ok(disk)
    }
}

impl Program {
    fn new(path: PathBuf) -> Program {
        let output = Command::new(&path).args(["--list", "--format", "terse"]).output().expect("a test runs");
        assert!(output.status.success(), "{}", printed(&output));
        let list = String::from_utf8_lossy(&output.stdout).into_owned();
        let cases = list.lines().filter_map(|line| line.strip_suffix(": test"));
        Program { path, cases: cases.map(str::to_owned).collect() }
    }
}

/// The Debian package, around the program under test.
fn package(folder: &Path) -> Result<(), String> {
    let mut build = Command::new(repository().join("scripts/deb"));
    build
        .env("WATT_DEB_BINARY", wattctl())
        .env("WATT_DEB_FOLDER", folder)
        .env("WATT_DEB_COMPRESSION", "none");
    let output = build.output().map_err(|error| format!("{build:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("scripts/deb: {}", printed(&output)));
    }
    let package = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    fs::rename(&package, folder.join("watt.deb")).map_err(|error| format!("{}: {error}", package.display()))
}

fn strip(from: &Path, to: &Path) -> Result<(), String> {
    run(Command::new("strip").arg("-o").arg(to).arg(from))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", printed(&output))) }
}
