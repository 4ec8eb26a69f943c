//! HTTP/2, on the listeners and to workers that speak it.
//!
//! It is an edge, not a second engine. Each stream of a client's connection is a connection of HTTP/1.1 to the engine
//! ([`crate::http`]), over a pipe in place of a socket; and each request to a worker that speaks HTTP/2 leaves the engine as HTTP/1.1, over
//! such a pipe, and becomes a stream at its other end. So there is one guard, one way of routing, holding, balancing and
//! sending again, and none of them knows of frames. What is translated are heads ([`heads`]) and bodies ([`sending`],
//! [`receiving`]); what belongs to a connection as a whole is [`session`] towards clients and [`links`] towards workers.
//!
//! Frames, HPACK and flow control are the `h2` crate's.

mod allowance;
mod heads;
pub(crate) mod links;
mod receiving;
mod request;
mod response;
mod sending;
mod session;

pub(crate) use session::serve;

use crate::http::Break;

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much of a body may come before the receiver takes it. A connection's window is the largest there is: a stream that waits must not make
/// others wait, and each one is bounded by itself.
const STREAM_WINDOW: u32 = (64 << 10) - 1;
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// What pieces of bodies that are smaller than 256 bytes may take beyond them, of one client's connection, until somebody looks at them: memory
/// for some 16,000 pieces, which is what comes in a few turns ([`allowance`]). Without a limit of its own `h2` derives one from the window.
const SMALL_PIECES_MAX: usize = 4 << 20;

/// The same of a worker's connection, whose turns have no bound.
const SMALL_PIECES_OF_WORKER_MAX: usize = 32 << 20;

/// How much of a body may wait to be sent.
const SEND_BUFFER_MAX: usize = 16 << 10;

/// A head's fields, as RFC 9113 §6.5.2 counts them.
const HEADER_LIST_MAX: u32 = 64 << 10;

/// Whether a connection that begins like this is one of HTTP/2.
pub(crate) fn is_preface(input: &[u8]) -> bool {
    input.starts_with(PREFACE)
}

/// Whether it may become one when more of it is there.
pub(crate) fn begins_preface(input: &[u8]) -> bool {
    input.len() < PREFACE.len() && PREFACE.starts_with(input)
}

/// What an error says about the stream that it happened to.
fn broken(error: &h2::Error) -> Break {
    let reason = error.reason().unwrap_or(h2::Reason::INTERNAL_ERROR);
    // Streams that a GOAWAY ends are those after the last one that was looked at; others go on.
    let refused = error.is_go_away() || reason == h2::Reason::REFUSED_STREAM;
    let what = if error.is_library() {
        format!("what it sent is no HTTP/2 ({error})")
    } else {
        format!("HTTP/2: {error}")
    };
    let closed = error.is_io() || error.is_go_away();
    Break { reason, unprocessed: error.is_remote() && refused, closed, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preface_is_known_once_it_is_whole() {
        for len in 1..PREFACE.len() {
            assert!(begins_preface(&PREFACE[..len]) && !is_preface(&PREFACE[..len]), "{len}");
        }
        let more = [PREFACE, b"more"].concat();
        assert!(
            is_preface(PREFACE) && is_preface(&more) && !begins_preface(PREFACE) && !begins_preface(&more)
        );
        assert!(!begins_preface(b"PRI * HTTP/2.1"));
    }
}
