//! The answer with a document that all threads have: it is sent from where it is, so that clients who read slowly cost no memory.

use std::{io::Write, rc::Rc, sync::Arc};

use super::connection::{After, Connection};
use crate::{
    access::CutOff,
    pages::Document,
    respond::{Manner, phrase},
    route::HeaderChange,
    timer::Ticks,
};

/// How much is sent at a time.
const PIECE: usize = 128 << 10;

/// How long a client may take for such a piece.
const PIECE_TIMEOUT: Ticks = Ticks::from_ms(60_000);

/// A request for a document.
#[derive(Debug, Clone)]
pub(crate) struct DocumentAsked {
    pub(crate) document: Arc<Document>,
    /// The client has it.
    pub(crate) is_known: bool,
    pub(crate) headers: Option<Rc<HeaderChange>>,
    /// More fields, each with its end.
    pub(crate) lines: Vec<u8>,
}

impl Connection {
    /// Answers it.
    pub(super) async fn send_document(&mut self, asked: &DocumentAsked, manner: Manner) -> After {
        let DocumentAsked { document, is_known, headers, lines: more } = asked;
        let status = if *is_known { 304 } else { 200 };
        let mut lines = document.lines().into_bytes();
        if let Some(headers) = headers {
            headers.apply(&mut lines);
        }
        lines.extend_from_slice(more);
        self.response_out.clear();
        write_head(status, &lines, document.body().len(), manner, &mut self.response_out);
        self.note(|outcome| outcome.status = status);
        let after = self.send_response_out(manner).await;
        if *is_known || manner.without_body || after == After::Close {
            return after;
        }
        for piece in document.body().chunks(PIECE) {
            self.alarm.set(PIECE_TIMEOUT);
            if self.write_to_client(piece).await.is_err() {
                self.note(|outcome| outcome.cut_off(CutOff::InResponse));
                self.peer.stream.breaks_off();
                return After::Close;
            }
            self.note(|outcome| outcome.sent += piece.len() as u64);
        }
        after
    }
}

/// A head. 304 says nothing of a length, since it would be that of the document.
fn write_head(status: u16, lines: &[u8], length: usize, manner: Manner, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let mut line = |text: std::fmt::Arguments<'_>| drop(out.write_fmt(text));
    line(format_args!("HTTP/1.1 {status} {}\r\n", phrase(status)));
    if status != 304 {
        line(format_args!("Content-Length: {length}\r\n"));
    }
    if manner.close {
        line(format_args!("Connection: close\r\n"));
    } else if manner.keep_alive {
        line(format_args!("Connection: keep-alive\r\n"));
    }
    out.extend_from_slice(lines);
    out.extend_from_slice(b"\r\n");
}
