//! What services write, as entries of the journal.
//!
//! The journal is shared by all, and what one service floods it with would push out what the others said. So each service has a
//! number of lines in a time, as the journal itself gives to a whole unit; the rest of its lines are in its file alone, and both ends of
//! such a gap are told.

use std::{
    io,
    time::{Duration, Instant},
};

use watt_api::control::Stream;
use watt_core::RunId;
use watt_os::systemd::journal::{Entry, Journal};

use super::{Priority, Target};
use crate::logs::Source;

/// How many lines of one service go to the journal in [`WINDOW`]: journald.conf(5), RateLimitBurst=.
const LINES_MAX: u64 = 10_000;
/// RateLimitIntervalSec= of journald.conf(5).
const WINDOW: Duration = Duration::from_secs(30);
/// How long the thread that reads all services' output may wait for the journal in [`WAIT_WINDOW`]: a burst gets through, and a
/// journal that hangs costs a fifth of that thread's time.
const WAIT_MAX: Duration = Duration::from_millis(200);
/// See there.
const WAIT_WINDOW: Duration = Duration::from_secs(1);
/// How often lost lines are told at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The way of lines to the journal.
#[derive(Debug)]
pub(crate) struct Lines {
    journal: Journal,
    app: String,
    /// Lines that the journal did not take, since that was told.
    lost: u64,
    told_at: Option<Instant>,
    /// How long it was waited for, since then.
    waited: Duration,
    waited_since: Instant,
}

/// What the entries of one stream have in common, and how many there were.
#[derive(Debug)]
pub(crate) struct Fields {
    entry: Entry,
    common: usize,
    is_own: bool,
}

/// How many lines one service has sent.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    since: Option<Instant>,
    lines: u64,
}

/// Lines that did not get into the journal.
#[derive(Debug)]
pub(crate) struct Lost {
    /// How many, since the last time.
    pub(crate) count: u64,
    /// Why the last one did not.
    pub(crate) error: io::Error,
}

/// What is to be done with a line.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Send,
    /// Send it, after the word that so many were not.
    SendAfter {
        missing: u64,
    },
    /// Do not, and say so.
    BeginGap,
    LeaveOut,
}

impl Lines {
    pub(crate) fn open(target: &Target) -> io::Result<Lines> {
        let journal = Journal::open(&target.socket)?;
        Ok(Lines {
            journal,
            app: target.app.clone(),
            lost: 0,
            told_at: None,
            waited: Duration::ZERO,
            waited_since: Instant::now(),
        })
    }

    /// What a stream's entries have in common.
    pub(crate) fn fields(&self, source: &Source, run: RunId, stream: Stream) -> Fields {
        let mut entry = Entry::default();
        entry.field("WATT_APP", &self.app);
        match source {
            Source::Worker(worker) => entry
                .field("SYSLOG_IDENTIFIER", worker.service.as_str())
                .field("WATT_SERVICE", worker.service.as_str())
                .field("WATT_WORKER", worker.index.to_string())
                .field("WATT_RUN", run.to_string())
                .field("WATT_STREAM", stream_name(stream)),
            Source::Task { service, name, run: _ } => entry
                .field("SYSLOG_IDENTIFIER", service.as_str())
                .field("WATT_SERVICE", service.as_str())
                .field("WATT_TASK", name)
                .field("WATT_RUN", run.to_string())
                .field("WATT_STREAM", stream_name(stream)),
            Source::Proxy => entry.field("SYSLOG_IDENTIFIER", "watt").field("WATT_ROLE", "mesh-proxy"),
        };
        Fields { common: entry.len(), entry, is_own: *source == Source::Proxy }
    }

    /// Sends a line. Says when it is time to tell that some were lost.
    pub(crate) fn line(
        &mut self,
        fields: &mut Fields,
        allowance: &mut Allowance,
        text: &[u8],
        is_partial: bool,
        now: Instant,
    ) -> Option<Lost> {
        let gap = format!(
            "more than {LINES_MAX} lines in {} s: the next ones are in the log file alone",
            WINDOW.as_secs()
        );
        match allowance.take(now) {
            Verdict::Send => {}
            Verdict::LeaveOut => return None,
            Verdict::BeginGap => return self.send(fields, Priority::Warning, gap.as_bytes(), false, now),
            Verdict::SendAfter { missing } => {
                let words = format!("{missing} lines are in the log file alone");
                self.send(fields, Priority::Warning, words.as_bytes(), false, now);
            }
        }
        let own = fields.is_own.then(|| own_message(text)).flatten();
        let (priority, message) = match &own {
            Some((priority, message)) => (*priority, message.as_bytes()),
            None => prefixed(text),
        };
        self.send(fields, priority, message, is_partial, now)
    }

    fn send(
        &mut self,
        fields: &mut Fields,
        priority: Priority,
        message: &[u8],
        is_partial: bool,
        now: Instant,
    ) -> Option<Lost> {
        fields.entry.truncate(fields.common);
        fields.entry.field("PRIORITY", priority.digit()).field("MESSAGE", message);
        if is_partial {
            fields.entry.field("WATT_PARTIAL", "1");
        }
        let Err(error) = self.offer(&fields.entry, now) else { return None };
        self.lost += 1;
        if self.told_at.is_some_and(|at| now.saturating_duration_since(at) < TELL_EVERY) {
            return None;
        }
        self.told_at = Some(now);
        Some(Lost { count: std::mem::take(&mut self.lost), error })
    }

    /// Sends an entry, and waits a little for a journal that is behind.
    fn offer(&mut self, entry: &Entry, now: Instant) -> io::Result<()> {
        let sent = self.journal.send(entry);
        if !sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return sent;
        }
        if now.saturating_duration_since(self.waited_since) >= WAIT_WINDOW {
            (self.waited, self.waited_since) = (Duration::ZERO, now);
        }
        if self.waited >= WAIT_MAX {
            return sent;
        }
        let begin = Instant::now();
        let sent = self.journal.send_patiently(entry);
        self.waited += begin.elapsed();
        sent
    }
}

impl Allowance {
    fn take(&mut self, now: Instant) -> Verdict {
        let is_over = self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW);
        if is_over {
            let missing = self.lines.saturating_sub(LINES_MAX);
            *self = Allowance { since: Some(now), lines: 1 };
            return if missing == 0 { Verdict::Send } else { Verdict::SendAfter { missing } };
        }
        self.lines += 1;
        match self.lines - 1 {
            sent if sent < LINES_MAX => Verdict::Send,
            LINES_MAX => Verdict::BeginGap,
            _ => Verdict::LeaveOut,
        }
    }
}

fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// The priority that a program puts before its line, `<3>` for an error (sd-daemon(3)), and the rest.
fn prefixed(text: &[u8]) -> (Priority, &[u8]) {
    match text {
        [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => (Priority::Told(*digit), rest),
        text => (Priority::Info, text),
    }
}

/// The message in a line of our own log, as [`tracing_subscriber`] writes it.
fn own_message(text: &[u8]) -> Option<(Priority, String)> {
    let line: serde_json::Value = serde_json::from_slice(text).ok()?;
    let priority = match line["level"].as_str()? {
        "ERROR" => Priority::Error,
        "WARN" => Priority::Warning,
        "INFO" => Priority::Info,
        _ => Priority::Debug,
    };
    Some((priority, line["fields"]["message"].as_str()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_before_a_line_is_taken_from_it() {
        assert_eq!(prefixed(b"<3>broken"), (Priority::Told(b'3'), &b"broken"[..]));
        assert_eq!(prefixed(b"<8>x"), (Priority::Info, &b"<8>x"[..]));
        assert_eq!(prefixed(b"<3"), (Priority::Info, &b"<3"[..]));
        assert_eq!(prefixed(b""), (Priority::Info, &b""[..]));
    }

    #[test]
    fn a_flood_is_cut_and_both_ends_of_the_gap_are_told() {
        let (mut allowance, begin) = (Allowance::default(), Instant::now());
        for line in 0..LINES_MAX {
            assert_eq!(allowance.take(begin), Verdict::Send, "{line}");
        }
        assert_eq!(allowance.take(begin), Verdict::BeginGap);
        for _ in 0..9 {
            assert_eq!(allowance.take(begin), Verdict::LeaveOut);
        }
        assert_eq!(allowance.take(begin + WINDOW), Verdict::SendAfter { missing: 10 });
        assert_eq!(allowance.take(begin + WINDOW), Verdict::Send);
        assert_eq!(allowance.take(begin + 2 * WINDOW), Verdict::Send, "nothing was missing in that one");
    }

    #[test]
    fn the_proxys_own_lines_are_read() {
        let line = br#"{"timestamp":"x","level":"WARN","fields":{"message":"slow"},"target":"t"}"#;
        assert_eq!(own_message(line), Some((Priority::Warning, "slow".to_owned())));
        assert_eq!(own_message(b"panicked at"), None);
        assert_eq!(own_message(b"{}"), None);
    }
}
