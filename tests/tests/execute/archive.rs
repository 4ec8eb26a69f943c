//! systemd's own units for testing, from the source package of the distribution. They are fetched once and kept below `target`, and no
//! part of them is in this repository.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use watt_tests::printed;

use crate::unit::Unit;

/// The version, which is Debian 13's.
pub(crate) const VERSION: &str = "257.13";

/// Where the source package is. The first has it as long as Debian 13 has no newer one, the second by its SHA-1 for good.
const SOURCES: [&str; 2] = [
    "http://deb.debian.org/debian/pool/main/s/systemd/systemd_257.13.orig.tar.gz",
    "https://snapshot.debian.org/file/a30ac2421a76ec05eeb4627e19d94f653279dff0",
];

/// Its SHA-256, as the signed list of Debian's sources has it.
const CHECKSUM: &str = "1eb7d5f9ff8a426ff880a3cded9ce819613ba8003ac5ddde9eca162f14ddabe7";

/// A folder of systemd's sources that is there already, for where there is no way to the archive.
const FOLDER: &str = "WATT_TEST_EXECUTE";

/// The units and what is expected of them.
pub(crate) struct Suite {
    pub(crate) units: Vec<Unit>,
    /// The program that runs them for systemd.
    program: String,
}

/// How a unit's main process is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Exit(i32),
    Signal(i32),
}

impl Suite {
    /// What was fetched, before or now.
    pub(crate) fn get() -> Result<Suite, String> {
        let folder = match std::env::var_os(FOLDER) {
            Some(folder) => PathBuf::from(folder),
            None => kept()?,
        };
        let broken = |error| format!("{}: {error}", folder.display());
        let mut units = Vec::new();
        for entry in fs::read_dir(folder.join("test/test-execute")).map_err(broken)?.flatten() {
            let path = entry.path();
            if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".service")) {
                units.push(Unit::parse(name, &fs::read_to_string(&path).map_err(broken)?));
            }
        }
        units.sort_by(|one, other| one.name.cmp(&other.name));
        let program = fs::read_to_string(folder.join("src/test/test-execute.c")).map_err(broken)?;
        Ok(Suite { units, program })
    }

    /// How each unit is to end, where systemd's program says so. It runs some twice, and means the first time here.
    pub(crate) fn endings(&self) -> BTreeMap<String, Ending> {
        let mut endings = BTreeMap::new();
        for call in self.program.split("test(m, \"").skip(1) {
            let Some((name, rest)) = call.split_once(".service\", ") else { continue };
            // Put together from several texts.
            if name.contains('"') {
                continue;
            }
            let Some((expected, rest)) = rest.split_once(", CLD_") else { continue };
            if let Some(code) = code(expected) {
                let ending =
                    if rest.starts_with("KILLED") { Ending::Signal(code) } else { Ending::Exit(code) };
                endings.entry(name.to_owned()).or_insert(ending);
            }
        }
        endings
    }
}

/// What an expression of the program is where it runs as root and may make namespaces.
fn code(expression: &str) -> Option<i32> {
    let chosen = match expression.split_once('?') {
        Some((_, choices)) => choices.split(':').next()?.trim(),
        None => expression.trim(),
    };
    match chosen {
        "status" | "EXIT_SUCCESS" => Some(0),
        "SIGPIPE" => Some(13),
        "SIGSYS" => Some(31),
        "errno_from_name(\"EACCES\")" => Some(13),
        "errno_from_name(\"EILSEQ\")" => Some(84),
        number => number.parse().ok(),
    }
}

/// The folder below `target`, fetched when it is not there.
fn kept() -> Result<PathBuf, String> {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("test-execute-{VERSION}"));
    if kept.is_dir() {
        return Ok(kept);
    }
    let making = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    let archive = making.path().join("archive");
    let failures: Vec<String> = SOURCES.iter().map_while(|source| fetch(source, &archive).err()).collect();
    if failures.len() == SOURCES.len() {
        return Err(failures.join("; "));
    }
    let made = making.path().join("made");
    fs::create_dir(&made).map_err(|error| error.to_string())?;
    run(Command::new("tar")
        .args(["--extract", "--gzip", "--strip-components=1"])
        .arg("--directory")
        .arg(&made)
        .arg("--file")
        .arg(&archive)
        .args(["--wildcards", "*/test/test-execute/*.service", "*/src/test/test-execute.c"]))?;
    // Another test may have been faster.
    match fs::rename(&made, &kept) {
        Err(error) if !kept.is_dir() => Err(error.to_string()),
        Ok(()) | Err(_) => Ok(kept),
    }
}

fn fetch(source: &str, archive: &Path) -> Result<(), String> {
    run(Command::new("curl")
        .args(["--fail", "--silent", "--show-error", "--location", "--max-time", "120", "--output"])
        .arg(archive)
        .arg(source))?;
    let sum = run(Command::new("sha256sum").arg(archive))?;
    match sum.starts_with(CHECKSUM) {
        true => Ok(()),
        false => Err(format!("{source} is not what it was: {sum}")),
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(printed(&output)),
    }
}

#[test]
fn expectations_are_read() {
    let program = r#"
        test(m, "a.service", can_unshare ? 0 : EXIT_NAMESPACE, CLD_EXITED);
        test(m, "b.service", errno_from_name("EILSEQ"), CLD_EXITED);
        test(m, "c.service", SIGSYS, CLD_KILLED);
        test(m, "d-" NAME ".service", 0, CLD_EXITED);
        test(m, "a.service", EXIT_EXEC, CLD_EXITED);"#;
    let endings = Suite { units: Vec::new(), program: program.to_owned() }.endings();
    let expected = [("a", Ending::Exit(0)), ("b", Ending::Exit(84)), ("c", Ending::Signal(31))];
    assert_eq!(endings, expected.map(|(name, ending)| (name.to_owned(), ending)).into());
}
