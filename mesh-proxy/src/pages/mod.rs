//! Pages of the proxy's own, and documents that the daemon gives it to serve: the APIs that routes lead to.
//!
//! A document is one for all threads, and is sent from where it is. It takes the place of the one before with the next snapshot.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hasher},
    sync::{Arc, LazyLock},
};

/// A document.
#[derive(Debug)]
pub struct Document {
    kind: &'static str,
    etag: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Given(Box<[u8]>),
    Own(&'static [u8]),
}

/// Those that the daemon has given, by what it calls them.
pub(crate) type Documents = BTreeMap<String, Arc<Document>>;

/// What lies below the path of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Below {
    /// The page itself, without the slash that others are found by.
    Bare,
    Page,
    Style,
    Script,
    /// The document.
    Document,
}

static PAGE: LazyLock<Arc<Document>> =
    LazyLock::new(|| Document::own("text/html; charset=utf-8", include_bytes!("assets/index.html")));
static STYLE: LazyLock<Arc<Document>> =
    LazyLock::new(|| Document::own("text/css; charset=utf-8", include_bytes!("assets/page.css")));
static SCRIPT: LazyLock<Arc<Document>> =
    LazyLock::new(|| Document::own("text/javascript; charset=utf-8", include_bytes!("assets/page.js")));

impl Document {
    /// One of JSON.
    pub fn json(body: String) -> Document {
        let body = body.into_bytes();
        Document { kind: "application/json", etag: etag(&body), content: Content::Given(body.into()) }
    }

    fn own(kind: &'static str, body: &'static [u8]) -> Arc<Document> {
        Arc::new(Document { kind, etag: etag(body), content: Content::Own(body) })
    }

    pub(crate) fn body(&self) -> &[u8] {
        match &self.content {
            Content::Given(body) => body,
            Content::Own(body) => body,
        }
    }

    pub(crate) fn etag(&self) -> &str {
        &self.etag
    }

    /// What an answer says of it besides. A page has no script but its own, and sends nothing anywhere, whatever a description says.
    pub(crate) fn lines(&self) -> String {
        let Document { kind, etag, .. } = self;
        format!(
            "Content-Type: {kind}\r\nETag: {etag}\r\nCache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n\
             Referrer-Policy: no-referrer\r\nContent-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'\r\n"
        )
    }
}

impl Below {
    /// What a path below the page's is.
    pub(crate) fn of(rest: &[u8]) -> Option<Below> {
        match rest {
            b"" => Some(Below::Bare),
            b"/" => Some(Below::Page),
            b"/page.css" => Some(Below::Style),
            b"/page.js" => Some(Below::Script),
            // The second is where Platformatic has it.
            b"/openapi.json" | b"/json" => Some(Below::Document),
            _ => None,
        }
    }

    /// One that is always the same.
    pub(crate) fn own(self) -> Option<&'static Arc<Document>> {
        match self {
            Below::Page => Some(&PAGE),
            Below::Style => Some(&STYLE),
            Below::Script => Some(&SCRIPT),
            Below::Bare | Below::Document => None,
        }
    }
}

/// Two that differ have different ones. The same in every process.
fn etag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    format!("\"{:x}-{:016x}\"", body.len(), hasher.finish())
}
