//! Services that were applied one by one while the application runs, in place of what its file says of them.
//!
//! Each has a document of its own: one entry of `services`. It is decoded together with the file, as if it stood there, so
//! that all that is checked of services together is checked with it. Places in documents are told from places in the file
//! by counting on: a document's bytes come after the file's and after those of the documents before it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
};

use serde::{Deserialize, Serialize};
use watt_core::ServiceId;

use crate::{
    Sources,
    decode::Field,
    platformatic::Project,
    report::Problems,
    source::Span,
    tree::{self, Node},
};

/// What was applied of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// What it is; `None` where it was taken out of the application.
    pub document: Option<Document>,
    /// When: milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// By whom, in words.
    pub by: String,
}

/// One entry of `services`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Where it came from, for messages. Its ending says which language it is in.
    pub file: PathBuf,
    /// What it says.
    pub text: String,
}

/// What is between the text of one and the next, so that the end of one is no place in the other.
const GAP: usize = 1;

impl Sources {
    /// These with something applied.
    #[must_use]
    pub fn with(&self, service: &ServiceId, applied: Applied) -> Sources {
        let mut sources = self.clone();
        sources.applied.insert(service.to_string(), applied);
        sources
    }

    /// These with what their file says of a service.
    #[must_use]
    pub fn without(&self, service: &ServiceId) -> Sources {
        let mut sources = self.clone();
        sources.applied.remove(service.as_str());
        sources
    }

    /// What the file says, and nothing else.
    #[must_use]
    pub fn of_file(&self) -> Sources {
        Sources { applied: BTreeMap::new(), ..self.clone() }
    }

    /// The other files of a project of Platformatic's, each with the place of its first byte.
    pub(crate) fn attached(&self) -> impl Iterator<Item = (usize, &Path, &str)> {
        let texts = self.platformatic.iter().flat_map(Project::texts);
        texts.scan(self.text.len() + GAP, |next, (path, text)| {
            let base = *next;
            *next += text.len() + GAP;
            Some((base, path, text))
        })
    }

    /// The documents, each with the place of its first byte.
    pub(crate) fn documents(&self) -> impl Iterator<Item = (usize, &str, &Document)> {
        let documents = self.applied.iter().filter_map(|(name, one)| Some((name, one.document.as_ref()?)));
        let attached: usize = self.attached().map(|(_, _, text)| text.len() + GAP).sum();
        documents.scan(self.text.len() + GAP + attached, |next, (name, document)| {
            let base = *next;
            *next += document.text.len() + GAP;
            Some((base, name.as_str(), document))
        })
    }

    /// Everything that places are in.
    pub(crate) fn all_text(&self) -> Cow<'_, str> {
        let mut text = Cow::Borrowed(self.text.as_str());
        let documents = self.documents().map(|(_, _, document)| document.text.as_str());
        for part in self.attached().map(|(_, _, text)| text).chain(documents) {
            let text = text.to_mut();
            text.push('\n');
            text.push_str(part);
        }
        text
    }
}

/// What was applied, as trees.
pub(crate) struct Trees(BTreeMap<ServiceId, Option<(Span, Rc<Node>)>>);

impl Trees {
    /// Reads every document. `None` when nothing can be said about one.
    pub(crate) fn read(sources: &Sources, problems: &mut Problems) -> Option<Trees> {
        let mut trees = BTreeMap::new();
        // Names were checked when they were applied.
        let named = sources.applied.keys().filter_map(|name| ServiceId::new(name).ok());
        trees.extend(named.map(|id| (id, None)));
        for (base, name, document) in sources.documents() {
            let node = tree::read_at(base, &document.file, &document.text, problems)?;
            if let Ok(id) = ServiceId::new(name) {
                trees.insert(id, Some((Span { start: base, end: base }, node)));
            }
        }
        Some(Trees(trees))
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The services that were taken out of the application.
    pub(crate) fn removed(&self) -> impl Iterator<Item = &ServiceId> {
        self.0.iter().filter(|(_, tree)| tree.is_none()).map(|(id, _)| id)
    }

    /// Puts what was applied in the place of what the file says.
    pub(crate) fn apply<'n>(&'n self, named: &mut Vec<(ServiceId, Field<'n>)>) {
        named.retain(|(id, _)| !self.0.contains_key(id));
        let applied = self.0.iter().filter_map(|(id, tree)| Some((id.clone(), tree.as_ref()?)));
        named.extend(applied.map(|(id, (at, node))| (id, Field { key_span: *at, node })));
    }
}
