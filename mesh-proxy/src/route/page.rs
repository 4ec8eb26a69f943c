//! A request for a page of the proxy's own, as a route takes it.

use std::{rc::Rc, sync::Arc};

use super::{Actions, Asked, pattern::Pattern};
use crate::{
    files::is_known,
    http::DocumentAsked,
    pages::{Below, Document},
    respond::{Failure, OwnAnswer, Reason, Reply},
};

/// What is answered. `document` is what the daemon has made, once it has.
pub(super) fn reply(
    document: Option<&Arc<Document>>,
    actions: &Actions,
    pattern: &Pattern,
    asked: &Asked<'_>,
) -> Reply {
    let method = asked.method();
    if method != b"GET" && method != b"HEAD" {
        let message = "The page is read with GET and HEAD, and nothing else is done with it.".to_owned();
        let failure = Failure::new(Reason::MethodNotAllowed, None, message);
        return Failure { allow: Some("GET, HEAD".into()), ..failure }.into();
    }
    let document = match Below::of(&asked.path[pattern.len_in(asked.path)..]) {
        // What the page asks for is below its path.
        Some(Below::Bare) => return with_slash(asked, actions),
        Some(below) => below.own().or(document),
        None => {
            let path = String::from_utf8_lossy(asked.path);
            return Failure::new(Reason::NoFile, None, format!("There is no `{path}` below the page."))
                .into();
        }
    };
    let Some(document) = document else {
        let message = "The description of the APIs is being made.".to_owned();
        return Failure::new(Reason::NoDocument, None, message).retry_after(Some(1)).into();
    };
    let mut tags = asked.values(b"if-none-match");
    Reply::Document(Box::new(DocumentAsked {
        is_known: tags.any(|tags| is_known(tags, document.etag())),
        document: document.clone(),
        headers: actions.response.clone(),
        lines: Vec::new(),
    }))
}

fn with_slash(asked: &Asked<'_>, actions: &Actions) -> Reply {
    let target = asked.target;
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    let location = [&target[..end], b"/", &target[end..]].concat();
    let mut lines = [b"Location: ", &location[..], b"\r\n"].concat();
    if let Some(headers) = &actions.response {
        headers.apply(&mut lines);
    }
    Reply::Own(OwnAnswer { status: 301, lines, body: Rc::new([]) })
}
