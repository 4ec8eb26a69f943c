//! Everything the spawner has, as it hands it to the program that takes its place: a sealed memfd, with descriptors as the numbers that
//! they keep across execve(2).
//!
//! It begins with a few bytes that say what it is and of which form, so that a program of another version says that it cannot read it,
//! and does not guess.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    rc::Rc,
};

use serde::{Deserialize, Serialize};
use watt_exec::plan::Ended;
use watt_os::{
    inherited::{self, Unclaimed},
    memfd,
};

use crate::{
    format::{FORMAT, readable},
    launch::Said,
    protocol::{Address, Stage, WaitStatus},
};

/// What a table begins with, before its form as four little-endian bytes.
const MAGIC: &[u8; 8] = b"wattable";

/// The largest: all values and tags have far less.
const SIZE_MAX: usize = 1 << 30;

/// The number of a descriptor.
pub(crate) type Number = RawFd;

/// The table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) started_at_ms: u64,
    /// The limit of descriptors that programs get.
    pub(crate) nofile: (u64, u64),
    pub(crate) lock: Number,
    pub(crate) runs: Vec<RunRow>,
    pub(crate) listeners: Vec<ListenerRow>,
    pub(crate) kept: Vec<(String, Number)>,
    pub(crate) values: BTreeMap<String, Vec<u8>>,
    pub(crate) daemon: DaemonRow,
    pub(crate) manager: ManagerRow,
    pub(crate) notes: NotesRow,
    /// The program that this is for.
    pub(crate) program: Option<ProgramRow>,
    /// The one that goes on when that cannot.
    pub(crate) before: Option<ProgramRow>,
    /// How long that may have to show that all is well, in milliseconds; `None` when it need not.
    pub(crate) trial_ms: Option<u64>,
    /// Why the last upgrade came to nothing.
    pub(crate) went_back: Option<String>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunRow {
    pub(crate) run: u64,
    pub(crate) tag: Vec<u8>,
    pub(crate) pid: u32,
    pub(crate) pidfd: Number,
    pub(crate) stdout: Number,
    pub(crate) stderr: Number,
    pub(crate) stage: Stage,
    /// While it is in the exec stage.
    pub(crate) reports: Option<ReportsRow>,
    pub(crate) init: Option<ReportsRow>,
    pub(crate) kept: Vec<(String, Number)>,
    pub(crate) exit: Option<WaitStatus>,
}

/// What a process in the exec stage has said so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReportsRow {
    pub(crate) socket: Number,
    pub(crate) said: Said,
    pub(crate) descriptors: Vec<(String, Number)>,
    pub(crate) ended: Option<Ended>,
    pub(crate) lost_descriptors: bool,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ListenerRow {
    pub(crate) name: String,
    pub(crate) address: Address,
    pub(crate) socket: Number,
}

/// What the next daemon is to be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DaemonRow {
    pub(crate) restarts: u64,
    pub(crate) stop: bool,
    pub(crate) reload: bool,
}

/// What a service manager has, and what it was not told yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ManagerRow {
    pub(crate) stored: BTreeSet<String>,
    pub(crate) waiting: Vec<(String, Option<Number>)>,
}

/// Lines that were not written yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NotesRow {
    pub(crate) text: String,
    pub(crate) lines: u64,
    pub(crate) lost: u64,
    /// The process that writes others: its pid, their number, and where it says why it fails.
    pub(crate) writer: Option<(u32, u64, ReportsRow)>,
}

/// A program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProgramRow {
    pub(crate) number: u64,
    pub(crate) path: String,
    pub(crate) file: Number,
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It cannot be read at all.
    #[error("the spawner's table cannot be read")]
    Read(#[source] io::Error),
    /// It is something else.
    #[error("what was handed over is no table of a spawner")]
    Foreign,
    /// It is of another version.
    #[error("the spawner's table has form {found}; this version reads {} to {}", readable().start(), readable().end())]
    Format {
        /// Which.
        found: u32,
    },
    /// It says what it is and makes no sense.
    #[error("the spawner's table is damaged")]
    Damaged,
    /// A descriptor in it is not there.
    #[error("descriptor {number} of the spawner's table is not there")]
    Descriptor {
        /// Its number.
        number: RawFd,
        /// Why.
        source: io::Error,
    },
}

impl Table {
    /// As a memfd that nobody can change.
    pub(crate) fn seal(&self) -> io::Result<OwnedFd> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        let bytes = postcard::to_extend(self, bytes).map_err(io::Error::other)?;
        memfd::sealed(c"watt-table", &bytes)
    }

    /// Reads one. Of its descriptors nothing is looked at.
    pub(crate) fn read(file: BorrowedFd<'_>) -> Result<Table, TableError> {
        Self::decode(&memfd::read_sealed(file, SIZE_MAX).map_err(TableError::Read)?)
    }

    fn decode(bytes: &[u8]) -> Result<Table, TableError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(TableError::Foreign)?;
        let (format, rest) = rest.split_first_chunk().ok_or(TableError::Foreign)?;
        let found = u32::from_le_bytes(*format);
        if !readable().contains(&found) {
            return Err(TableError::Format { found });
        }
        match postcard::take_from_bytes(rest) {
            Ok((table, [])) => Ok(table),
            Ok(_) | Err(_) => Err(TableError::Damaged),
        }
    }

    /// The numbers of all descriptors in it.
    pub(crate) fn numbers(&self) -> BTreeSet<Number> {
        let of_reports = |reports: &ReportsRow| -> Vec<Number> {
            let made = reports.descriptors.iter().map(|(_, number)| *number);
            made.chain([reports.socket]).collect()
        };
        let of_run = |run: &RunRow| -> Vec<Number> {
            let said = [&run.reports, &run.init].into_iter().flatten().flat_map(of_reports);
            let kept = run.kept.iter().map(|(_, number)| *number);
            said.chain(kept).chain([run.pidfd, run.stdout, run.stderr]).collect()
        };
        let programs = [&self.program, &self.before].into_iter().flatten().map(|program| program.file);
        self.runs
            .iter()
            .flat_map(of_run)
            .chain(self.listeners.iter().map(|listener| listener.socket))
            .chain(self.kept.iter().map(|(_, number)| *number))
            .chain(self.manager.waiting.iter().filter_map(|(_, number)| *number))
            .chain(self.notes.writer.iter().flat_map(|(_, _, reports)| of_reports(reports)))
            .chain(programs)
            .chain([self.lock])
            .collect()
    }
}

/// The number that a descriptor has.
pub(crate) fn number(fd: &impl AsFd) -> Number {
    fd.as_fd().as_raw_fd()
}

/// The descriptors of a table, which came through execve(2).
#[derive(Debug)]
pub(crate) struct Descriptors(BTreeMap<Number, Rc<OwnedFd>>);

impl Descriptors {
    /// Takes all of them, after each was found to be there: none is closed when one is missing.
    pub(crate) fn take(table: &Table) -> Result<Self, TableError> {
        let failed = |number| move |source| TableError::Descriptor { number, source };
        let find = |number| Unclaimed::find(number).map_err(failed(number));
        let found: Vec<Unclaimed> = table.numbers().into_iter().map(find).collect::<Result<_, _>>()?;
        let mut taken = BTreeMap::new();
        for unclaimed in found {
            let number = unclaimed.number();
            taken.insert(number, Rc::new(unclaimed.take().map_err(failed(number))?));
        }
        Ok(Self(taken))
    }

    /// One that several may have.
    pub(crate) fn share(&self, number: Number) -> Result<Rc<OwnedFd>, TableError> {
        self.0.get(&number).cloned().ok_or(TableError::Damaged)
    }

    /// One for an owner alone: a copy, so that the number stays open until nothing can fail any more.
    pub(crate) fn own(&self, number: Number) -> Result<OwnedFd, TableError> {
        let copied = self.share(number)?.try_clone();
        copied.map_err(|source| TableError::Descriptor { number, source })
    }
}

/// Has these stay open across execve(2), and no others but the standard streams.
pub(crate) fn hand_down(numbers: &BTreeSet<Number>, table: &OwnedFd) -> io::Result<()> {
    inherited::close_on_exec_from(3)?;
    inherited::hand_down(table)?;
    numbers.iter().try_for_each(|number| inherited::hand_down_number(*number))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// With something in every place.
    fn sample() -> Table {
        let reports = |socket| ReportsRow {
            socket,
            said: Said::Executing,
            descriptors: vec![("diag".to_owned(), socket + 1)],
            ended: Some(Ended { code: 9, signaled: true, core_dumped: false }),
            lost_descriptors: false,
        };
        let exit = WaitStatus {
            code: 3,
            signaled: false,
            core_dumped: false,
            at_ms: 1_700_000_000_000,
            cpu_us: 12,
            rss_max: 4096,
        };
        let failed = Stage::Failed { step: "cwd".to_owned(), object: "/srv".to_owned(), errno: 2 };
        Table {
            started_at_ms: 1_700_000_000_000,
            nofile: (1024, 4096),
            lock: 10,
            runs: vec![RunRow {
                run: 1 << 62,
                tag: b"{}".to_vec(),
                pid: 77,
                pidfd: 11,
                stdout: 12,
                stderr: 13,
                stage: failed,
                reports: Some(reports(14)),
                init: Some(reports(16)),
                kept: vec![("netns".to_owned(), 18)],
                exit: Some(exit),
            }],
            listeners: vec![ListenerRow {
                name: "gateway/0/0".to_owned(),
                address: Address::Tcp { address: "127.0.0.1:3042".parse().unwrap(), reuse_port: true },
                socket: 19,
            }],
            kept: vec![("plan".to_owned(), 20)],
            values: [("key".to_owned(), b"value".to_vec())].into(),
            daemon: DaemonRow { restarts: 2, stop: false, reload: true },
            manager: ManagerRow {
                stored: ["gateway/0/0".to_owned()].into(),
                waiting: vec![("FDSTORE=1".to_owned(), Some(19)), ("STATUS=x".to_owned(), None)],
            },
            notes: NotesRow {
                text: "watt spawner: x\n".to_owned(),
                lines: 1,
                lost: 4,
                writer: Some((78, 2, reports(21))),
            },
            program: Some(ProgramRow { number: 2, path: "/usr/bin/wattctl".to_owned(), file: 23 }),
            before: Some(ProgramRow { number: 1, path: "/opt/wattctl".to_owned(), file: 24 }),
            trial_ms: Some(60_000),
            went_back: Some("why".to_owned()),
        }
    }

    fn sealed(table: &Table) -> Vec<u8> {
        memfd::read_sealed(table.seal().unwrap().as_fd(), SIZE_MAX).unwrap()
    }

    /// That what another version wrote is read, and that no type changes without another number. See [`crate::format`].
    #[test]
    fn tables_of_this_form_and_the_one_before_are_read() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let own = fixtures.join(format!("table-{FORMAT}.bin"));
        if std::env::var_os("WATT_BLESS").is_some() {
            fs::write(&own, sealed(&sample())).unwrap();
        }
        for form in readable() {
            let fixture = fs::read(fixtures.join(format!("table-{form}.bin"))).unwrap();
            assert_eq!(Table::decode(&fixture).unwrap(), sample(), "form {form}");
        }
        assert!(
            fs::read(own).unwrap() == sealed(&sample()),
            "a type of the table has changed: it takes another form"
        );
    }

    #[test]
    fn what_is_no_table_of_a_known_form_is_refused() {
        let bytes = sealed(&sample());
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = bytes.clone();
            change(&mut bytes);
            Table::decode(&bytes).unwrap_err().to_string()
        };
        let foreign = "what was handed over is no table of a spawner";
        assert_eq!(refused(&|bytes| bytes.truncate(11)), foreign);
        assert_eq!(refused(&|bytes| bytes[0] = b'W'), foreign);
        let later = "the spawner's table has form 2; this version reads 1 to 1";
        assert_eq!(refused(&|bytes| bytes[8] = 2), later);
        let damaged = "the spawner's table is damaged";
        assert_eq!(refused(&|bytes| bytes.truncate(bytes.len() - 1)), damaged);
        assert_eq!(refused(&|bytes| bytes.push(0)), damaged);
    }

    #[test]
    fn every_descriptor_is_handed_down() {
        let expected: BTreeSet<Number> = (10..=24).collect();
        assert_eq!(sample().numbers(), expected);
    }
}
