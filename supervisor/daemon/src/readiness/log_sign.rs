//! Readiness by a line of output.
//!
//! The reader of a run's output shows each line to a [`LogSign`] itself, in place of sending all lines to somebody who
//! looks: a queue would have to be bounded, and the one line that matters could be the one that does not fit.

use regex::bytes::Regex;
use tokio::sync::oneshot;

/// Looks for the sign among lines.
#[derive(Debug)]
pub struct LogSign {
    pattern: Regex,
    seen: Option<oneshot::Sender<()>>,
}

impl LogSign {
    /// Waits for a match of this regular expression. The receiver is for `readiness::Sign::Log`.
    ///
    /// # Errors
    /// When the pattern is none, which the configuration has checked.
    pub fn new(pattern: &str) -> Result<(LogSign, oneshot::Receiver<()>), regex::Error> {
        let pattern = Regex::new(pattern)?;
        let (seen, receiver) = oneshot::channel();
        Ok((LogSign { pattern, seen: Some(seen) }, receiver))
    }

    /// Looks at a line, without its line end. Returns whether there is anything left to look for.
    pub fn look(&mut self, line: &[u8]) -> bool {
        if let Some(seen) = self.seen.take_if(|_| self.pattern.is_match(line)) {
            // Nobody waits for it any more: fine as well.
            let _ = seen.send(());
        }
        self.seen.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_matching_line_is_the_sign() {
        let (mut sign, mut seen) = LogSign::new("listening on .*:[0-9]+").unwrap();
        assert!(sign.look(b"starting \xff"));
        assert!(seen.try_recv().is_err());
        assert!(!sign.look(b"INFO listening on 127.0.0.1:80 \xff"));
        assert!(!sign.look(b"anything"));
        assert_eq!(seen.try_recv(), Ok(()));
    }

    #[test]
    fn it_may_be_looked_for_in_vain() {
        let (mut sign, seen) = LogSign::new("ready").unwrap();
        drop(seen);
        assert!(!sign.look(b"ready"));
        assert!(LogSign::new("(").is_err());
    }
}
