//! What was counted, and whether all is well, for collectors and balancers that come over TCP: the proxy takes them in, and gets it here.
//!
//! No byte of theirs is read for what it means. Of a request the first line counts, which the proxy writes by its routes; the rest of the head is
//! looked through for its end, since who closes a connection with bytes unread takes the answer back.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{Mutex, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use watt_api::control::{Status, WorkerState};

use super::{Command, Control, metrics, problem::Failure, roles::Roles, server::ACCEPT_PAUSE};
use crate::metrics::Format;

/// How many are answered at a time. The others wait in the kernel's queue, and then at the proxy.
const AT_ONCE_MAX: usize = 8;

/// How long an answer is as good as a new one: the proxy adds up no more often.
const FRESH: Duration = Duration::from_secs(1);

/// How long one may take.
const TIME_MAX: Duration = Duration::from_secs(10);

/// The longest head: what clients may send the proxy, and what it adds.
const HEAD_SIZE_MAX: usize = 96 << 10;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Figures(Format),
    /// Whether requests can be taken.
    Ready,
    /// Whether anybody is here.
    Alive,
}

impl Asked {
    /// By the path that the proxy writes. A query may follow.
    fn of(target: &[u8]) -> Option<Asked> {
        match target.split(|byte| *byte == b'?').next()? {
            b"/openmetrics" => Some(Asked::Figures(Format::OpenMetrics)),
            b"/text" => Some(Asked::Figures(Format::Text)),
            b"/ready" => Some(Asked::Ready),
            b"/status" => Some(Asked::Alive),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: String,
}

impl Answer {
    /// In the words of Platformatic.
    fn of(is_well: bool) -> Answer {
        let (status, body) = if is_well { ("200 OK", "OK") } else { ("500 Internal Server Error", "ERR") };
        Answer { status, content_type: "text/plain; charset=utf-8", body: body.to_owned() }
    }

    async fn make(control: &Control, asked: Asked) -> Result<Answer, Failure> {
        match asked {
            Asked::Figures(format) => {
                let body = metrics::text(control, format).await?;
                Ok(Answer { status: "200 OK", content_type: format.content_type(), body })
            }
            Asked::Ready => {
                let status = control.ask(|reply| Command::Status { reply }).await?;
                Ok(Answer::of(is_ready(&status)))
            }
            Asked::Alive => Ok(Answer::of(true)),
        }
    }
}

/// Whether each service has a worker that takes requests. Those that have done what they were there for, sleep until they are asked, or were
/// stopped by somebody are not waited for.
fn is_ready(status: &Status) -> bool {
    use WorkerState::{Asleep, Completed, Down};
    let is_well = |state| matches!(state, Asleep | Completed | Down);
    status.services.iter().all(|service| service.ready > 0 || is_well(service.state))
}

/// An answer, for as long as it is fresh.
type Last = Mutex<Option<(Instant, Arc<Answer>)>>;

/// What was answered last, so that nobody keeps the loop busy by asking.
#[derive(Debug, Default)]
struct Answers {
    open_metrics: Last,
    text: Last,
    ready: Last,
    alive: Last,
}

impl Answers {
    async fn get(&self, control: &Control, asked: Asked) -> Result<Arc<Answer>, Failure> {
        let last = match asked {
            Asked::Figures(Format::OpenMetrics) => &self.open_metrics,
            Asked::Figures(Format::Text) => &self.text,
            Asked::Ready => &self.ready,
            Asked::Alive => &self.alive,
        };
        let mut last = last.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(answer));
        }
        let answer = Arc::new(Answer::make(control, asked).await?);
        *last = Some((Instant::now(), Arc::clone(&answer)));
        Ok(answer)
    }
}

/// Answers for ever.
pub(super) async fn serve(listener: UnixListener, control: Control, roles: watch::Receiver<Arc<Roles>>) {
    let answers = Arc::new(Answers::default());
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = under_way.join_next() => {}
            accepted = listener.accept(), if under_way.len() < AT_ONCE_MAX => match accepted {
                Ok((stream, _)) => {
                    let has_scrapes = roles.borrow().has_scrapes();
                    if !has_scrapes {
                        continue;
                    }
                    let (control, answers) = (control.clone(), Arc::clone(&answers));
                    under_way.spawn(async move {
                        let answered = timeout(TIME_MAX, answer(stream, &control, &answers)).await;
                        if let Ok(Err(error)) = answered {
                            tracing::debug!(%error, "a collector got nothing");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept at the socket for metrics");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn answer(mut stream: UnixStream, control: &Control, answers: &Answers) -> io::Result<()> {
    let head = head(&mut stream).await?;
    let mut words = head.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let asked = Asked::of(target).ok_or(io::ErrorKind::InvalidData)?;
    // Nothing is an answer as well: the proxy says that there is none. It is so when the application ends.
    let answer =
        answers.get(control, asked).await.map_err(|failure| io::Error::other(format!("{failure:?}")))?;
    let Answer { status, content_type, body } = &*answer;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if method != b"HEAD" {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

/// A request's head. It has no body.
async fn head(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_SIZE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}
