//! A request for a file, as a route takes it.

use std::sync::Arc;

use super::{Actions, Asked, pattern::Pattern};
use crate::{
    files::{Conditions, Folder, Wanted, accepted},
    http::FileAsked,
    respond::{Failure, Reason, Reply},
};

/// What is answered: a file, in time, or why there is none.
pub(super) fn reply(
    folder: Option<&Arc<Folder>>,
    actions: &Actions,
    pattern: &Pattern,
    asked: &Asked<'_>,
) -> Reply {
    let is_head = asked.method() == b"HEAD";
    if !is_head && asked.method() != b"GET" {
        let message = "Files are read with GET and HEAD, and nothing else is done with them.".to_owned();
        let failure = Failure::new(Reason::MethodNotAllowed, None, message);
        return Failure { allow: Some("GET, HEAD".into()), ..failure }.into();
    }
    let Some(folder) = folder else {
        let message = "The folder of these files could not be opened.".to_owned();
        return Failure::new(Reason::FilesUnavailable, None, message).retry_after(Some(1)).into();
    };
    let first = |name: &[u8]| asked.values(name).next().map(<[u8]>::to_vec);
    let joined = |name: &[u8]| {
        let lines: Vec<&[u8]> = asked.values(name).collect();
        (!lines.is_empty()).then(|| lines.join(&b','))
    };
    let wanted = Wanted {
        rest: asked.path[pattern.len_in(asked.path)..].to_vec(),
        conditions: Conditions {
            if_match: joined(b"if-match"),
            if_none_match: joined(b"if-none-match"),
            if_modified_since: first(b"if-modified-since"),
            if_unmodified_since: first(b"if-unmodified-since"),
            // For other methods than GET it has no meaning (RFC 9110 §14.2).
            range: if is_head { None } else { first(b"range") },
            if_range: first(b"if-range"),
        },
        codings: joined(b"accept-encoding").map(|value| accepted(&value)).unwrap_or_default(),
        is_head,
    };
    Reply::File(Box::new(FileAsked {
        folder: folder.clone(),
        wanted: Arc::new(wanted),
        target: asked.target.into(),
        headers: actions.response.clone(),
        lines: Vec::new(),
    }))
}
