//! Output as it is read by somebody outside: the past in pieces, oldest first, and then what comes, without a seam.
//!
//! The past is read in rounds. Each one goes up to the moment in which it began. Once all lines since the last one are
//! in memory, a reader takes over where they end. So a long history that is read slowly costs no memory, and what is
//! written meanwhile is in the files of the next round.

use tokio::sync::oneshot;

use super::{
    Answer, Entry, Logs, Message, Question, TAIL_MAX,
    history::{self, Wanted},
    replay::Replay,
};
use crate::beside::LOG_READS;

/// Lines in order.
#[derive(Debug)]
pub struct Output {
    logs: Logs,
    /// What is still wanted.
    question: Question,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The past has to be asked for.
    Ask,
    /// A round is being read.
    Past { replay: Box<Replay>, then: Next },
    /// What comes is given out as it comes.
    Live(Reader),
    /// Nothing follows.
    End,
}

/// What follows a round.
#[derive(Debug)]
enum Next {
    Ask,
    Live(Reader),
    End,
}

impl Output {
    pub(super) fn new(logs: Logs, question: Question) -> Output {
        Output { logs, question, stage: Stage::Ask }
    }

    /// The next lines; no line, once, when the past has been given out, so that from then on it [is live](Self::is_live) while
    /// one waits; `None` at the end. One that follows ends with the reading of output, or with the
    /// run it is about. Lines to come that were dropped from memory before they could be read are replaced by one with
    /// `skipped`. While it is live, a future that is dropped loses nothing.
    pub async fn next(&mut self) -> Option<Vec<Entry>> {
        loop {
            if let Stage::Live(reader) = &mut self.stage {
                let lines = reader.next().await?;
                self.question.after = lines.last().map_or(self.question.after, |line| line.seq);
                return Some(lines);
            }
            match std::mem::replace(&mut self.stage, Stage::End) {
                Stage::Ask => {
                    let lines = self.begin_round().await?;
                    if !lines.is_empty() {
                        return Some(lines);
                    }
                }
                Stage::Past { mut replay, then } => {
                    let (piece, replay) = LOG_READS.run(move || (replay.piece(), replay)).await?;
                    if !piece.is_empty() {
                        self.stage = Stage::Past { replay, then };
                        return Some(piece);
                    }
                    self.stage = match then {
                        Next::Ask => Stage::Ask,
                        Next::Live(reader) => {
                            self.stage = Stage::Live(reader);
                            return Some(Vec::new());
                        }
                        Next::End => Stage::End,
                    };
                }
                Stage::Live(_) | Stage::End => return None,
            }
        }
    }

    /// Whether the past has been given out, so that the next lines have not been written yet.
    pub fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live(_))
    }

    /// Makes the lines that are there now the last ones.
    pub fn end_here(&mut self) {
        self.question.follow = false;
        if self.is_live() {
            self.stage = Stage::Ask;
        }
    }

    /// Asks for the past. Gives back lines when only the newest are wanted, which are the whole first round; what comes
    /// after them is a question without such a limit.
    async fn begin_round(&mut self) -> Option<Vec<Entry>> {
        let tail = self.question.tail.take().map(|tail| tail.min(TAIL_MAX));
        let Question { run, follow, .. } = self.question;
        let question = Question { tail, follow: follow && tail.is_none(), ..self.question.clone() };
        let (reply, answer) = oneshot::channel();
        self.logs.send(Message::Ask { question, reply });
        let Answer { found, parts, after, until, reader } = answer.await.ok()?;
        let reader = reader.map(|number| Reader { logs: self.logs.clone(), number, pending: None });
        self.question.after = until.max(after);
        let run = run.map(|run| run.0);
        if let Some(count) = tail {
            self.stage = if follow { Stage::Ask } else { Stage::End };
            let wanted = Wanted { after, count, run };
            return LOG_READS.run(move || history::read(&parts, wanted, found)).await;
        }
        let then = match reader {
            // With parts still to be read, so much may come until then that memory does not hold it all.
            Some(reader) if parts.is_empty() => Next::Live(reader),
            Some(_) => Next::Ask,
            None => Next::End,
        };
        let replay = LOG_READS.run(move || Replay::open(parts, found, after, run)).await?;
        self.stage = Stage::Past { replay: Box::new(replay), then };
        Some(Vec::new())
    }
}

/// Follows output. The thread that reads it forgets a reader that has gone.
#[derive(Debug)]
struct Reader {
    logs: Logs,
    number: u64,
    /// An answer on its way, kept here so that a future which is dropped loses nothing.
    pending: Option<oneshot::Receiver<Vec<Entry>>>,
}

impl Reader {
    async fn next(&mut self) -> Option<Vec<Entry>> {
        let Reader { logs, number, pending } = self;
        let answer = pending.get_or_insert_with(|| {
            let (reply, answer) = oneshot::channel();
            logs.send(Message::Pull { reader: *number, reply });
            answer
        });
        let lines = answer.await.ok();
        *pending = None;
        lines
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.logs.send(Message::Close { reader: self.number });
    }
}
