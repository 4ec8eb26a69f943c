//! Getting a description: over the mesh, or from a file.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use nix::libc::O_NONBLOCK;
use tokio::net::UnixStream;
use watt_core::{ServiceId, plan::DescribedBy};
use watt_openapi::TEXT_MAX;

use crate::{beside, words};

/// How long a service may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest etag that is kept.
const ETAG_MAX: usize = 200;

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is the one that the etag is of.
    Same,
    Text {
        text: Arc<[u8]>,
        etag: Option<String>,
    },
}

/// Gets it. What is wrong is told in words.
pub(super) async fn ask(
    socket: &Path,
    service: &ServiceId,
    from: &DescribedBy,
    etag: Option<String>,
) -> Result<Answer, String> {
    match from {
        DescribedBy::Path(path) => {
            let answer = tokio::time::timeout(TIMEOUT, over_mesh(socket, service, path, etag)).await;
            let answer =
                answer.unwrap_or_else(|_| Err(format!("no answer after {}", words::duration(TIMEOUT))));
            let answer = match answer {
                Ok(Answer::Text { text, etag }) => {
                    let checked = beside::APIS.run(move || usable(text, etag)).await;
                    checked.unwrap_or_else(|| Err("the thread for it panicked".to_owned()))
                }
                other => other,
            };
            answer.map_err(|why| format!("GET {path}: {why}"))
        }
        DescribedBy::File(path) => {
            let (file, shown) = (path.clone(), path.display().to_string());
            let read = move || {
                let text = read(file).map_err(|error| format!("it cannot be read: {error}"))?;
                usable(text, None)
            };
            let read = beside::APIS.run(read).await;
            let read = read.unwrap_or_else(|| Err("the thread for it panicked".to_owned()));
            read.map_err(|why| format!("{shown}: {why}"))
        }
    }
}

async fn over_mesh(
    socket: &Path,
    service: &ServiceId,
    path: &str,
    etag: Option<String>,
) -> Result<Answer, String> {
    let lost = |error: &dyn std::error::Error| format!("no answer: {error}");
    let stream = UnixStream::connect(socket).await.map_err(|error| lost(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
    // Ends when the sender and the body have gone.
    tokio::spawn(connection);
    let mut request = Request::builder()
        .uri(path)
        .header(header::HOST, format!("{service}.plt.local"))
        .header(header::USER_AGENT, "watt")
        .header(header::ACCEPT, "application/json, application/vnd.oai.openapi+json");
    if let Some(etag) = etag {
        request = request.header(header::IF_NONE_MATCH, etag);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| lost(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| lost(&error))?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED => return Ok(Answer::Same),
        other => return Err(format!("status {}", other.as_u16())),
    }
    let etag = answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
    let etag = etag.filter(|etag| etag.len() <= ETAG_MAX).map(str::to_owned);
    let body = Limited::new(answer.into_body(), TEXT_MAX).collect().await;
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => format!("more than {} MB", TEXT_MAX >> 20),
        false => format!("it breaks off: {error}"),
    })?;
    Ok(Answer::Text { text: body.to_bytes().to_vec().into(), etag })
}

/// One that cannot be used is none: what there was before stays.
fn usable(text: Arc<[u8]>, etag: Option<String>) -> Result<Answer, String> {
    watt_openapi::check(&text).map_err(|why| why.to_string())?;
    Ok(Answer::Text { text, etag })
}

fn read(path: PathBuf) -> io::Result<Arc<[u8]>> {
    // Whatever it is, it is not waited for.
    let file = File::options().read(true).custom_flags(O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    file.take(TEXT_MAX as u64 + 1).read_to_end(&mut text)?;
    Ok(text.into())
}
