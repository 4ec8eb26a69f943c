//! What is wrong with a configuration: all of it, with places, printed the way compilers do.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};

use crate::{
    Sources,
    scalar::quote,
    source::{DotEnv, SourceFile, Span},
};

/// How many problems are kept. A file of nonsense has millions; nobody reads more than the first few.
const PROBLEMS_MAX: usize = 100;

/// How many characters of a source line are shown around the offending text.
const EXCERPT_CHARS_MAX: usize = 100;

/// A place in one of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    file: FileId,
    span: Option<Span>,
}

/// Which of the files. What was applied of single services counts on from the configuration's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileId {
    Config,
    DotEnv,
}

impl Place {
    /// This text in the `.env` file.
    pub(crate) fn dotenv(span: Span) -> Self {
        Place { file: FileId::DotEnv, span: Some(span) }
    }

    /// A file as a whole, when it could not even be read.
    pub(crate) fn whole(file: FileId) -> Self {
        Place { file, span: None }
    }

    /// The same further on in the configuration.
    fn moved(self, by: usize) -> Self {
        match self {
            Place { file: FileId::Config, span: Some(span) } => span.moved(by).into(),
            Place { file: FileId::Config | FileId::DotEnv, .. } => self,
        }
    }
}

/// A span alone is a place in the configuration file.
impl From<Span> for Place {
    fn from(span: Span) -> Self {
        Place { file: FileId::Config, span: Some(span) }
    }
}

/// One error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    place: Place,
    message: String,
    hint: Option<String>,
    /// Another place that has to do with it: where a duplicate was written first.
    related: Option<Box<(Place, String)>>,
}

impl Problem {
    /// A problem at a place.
    pub(crate) fn new(place: impl Into<Place>, message: impl Into<String>) -> Self {
        Problem { place: place.into(), message: message.into(), hint: None, related: None }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what to do about it, when there is something to say.
    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// Adds a second place and what is there.
    pub(crate) fn related(mut self, place: impl Into<Place>, what: impl Into<String>) -> Self {
        self.related = Some(Box::new((place.into(), what.into())));
        self
    }

    /// What is wrong and what to do about it, without the place.
    pub(crate) fn in_words(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{} ({hint})", self.message),
            None => self.message.clone(),
        }
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Problems found so far, bounded.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    kept: Vec<Problem>,
    omitted: usize,
}

impl Problems {
    /// Notes a problem. The same problem at the same place is noted once: an alias or a merge key leads the decoder
    /// to one text many times.
    pub(crate) fn push(&mut self, problem: Problem) {
        if self.kept.contains(&problem) {
            return;
        }
        if self.kept.len() < PROBLEMS_MAX {
            self.kept.push(problem);
        } else {
            self.omitted += 1;
        }
    }

    /// Takes those that were found in a text that begins here.
    pub(crate) fn append_at(&mut self, base: usize, others: Problems) {
        for mut problem in others.kept {
            problem.place = problem.place.moved(base);
            if let Some(related) = &mut problem.related {
                related.0 = related.0.moved(base);
            }
            self.push(problem);
        }
        self.omitted += others.omitted;
    }

    /// Takes those of a file with variables that begins here, which is not the `.env` of the configuration.
    pub(crate) fn append_text_at(&mut self, base: usize, others: Problems) {
        let of_config = |place: Place| match place.span {
            Some(span) => span.moved(base).into(),
            None => place,
        };
        for mut problem in others.kept {
            problem.place = of_config(problem.place);
            if let Some(related) = &mut problem.related {
                related.0 = of_config(related.0);
            }
            self.push(problem);
        }
        self.omitted += others.omitted;
    }

    /// Each on a line, with its place, in their order.
    pub(crate) fn in_lines(mut self, files: &Files) -> Vec<String> {
        self.kept.sort_by_key(|problem| problem.place);
        let mut lines: Vec<String> = self
            .kept
            .iter()
            .map(|problem| format!("{}: {}", files.short(problem.place), problem.in_words()))
            .collect();
        if self.omitted > 0 {
            lines.push(format!("and at least {} more", self.omitted));
        }
        lines
    }

    /// Whether more problems would only be counted. Loops over what the file has any number of end then, because working
    /// out a suggestion for each of half a million mistakes would take minutes.
    pub(crate) fn is_full(&self) -> bool {
        self.omitted > 0
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

/// The files that places point into; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Files(Arc<Texts>);

#[derive(Debug)]
struct Texts {
    config: SourceFile,
    dotenv: SourceFile,
    /// The other files of a project of Platformatic's and what was applied of single services, each with the place of its first byte.
    applied: Vec<(usize, SourceFile)>,
}

impl Files {
    /// The files of a configuration.
    pub(crate) fn of(sources: &Sources) -> Self {
        let dotenv = match &sources.dotenv {
            Some((path, text)) => SourceFile::new(path.clone(), text.clone()),
            None => SourceFile::new(DotEnv::path_beside(&sources.file), String::new()),
        };
        let config = SourceFile::new(sources.file.clone(), sources.text.clone());
        let attached = sources
            .attached()
            .map(|(base, path, text)| (base, SourceFile::new(path.to_path_buf(), text.to_owned())));
        let documents = sources
            .documents()
            .map(|(base, _, document)| (base, SourceFile::new(document.file.clone(), document.text.clone())));
        let applied = attached.chain(documents);
        Files(Arc::new(Texts { config, dotenv, applied: applied.collect() }))
    }

    /// A configuration file that could not be read as text, with its `.env`.
    pub(crate) fn unread(file: &Path) -> Self {
        Files::of(&Sources { file: file.to_path_buf(), ..Sources::default() })
    }

    /// The file that a place is in, and where in it.
    fn find(&self, place: Place) -> (&SourceFile, Option<Span>) {
        let Texts { config, dotenv, applied } = &*self.0;
        match (place.file, place.span) {
            (FileId::DotEnv, span) => (dotenv, span),
            (FileId::Config, None) => (config, None),
            (FileId::Config, Some(span)) => {
                let after = applied.partition_point(|(base, _)| *base <= span.start);
                match after.checked_sub(1).map(|index| &applied[index]) {
                    Some((base, file)) => {
                        (file, Some(Span { start: span.start - base, end: span.end.max(*base) - base }))
                    }
                    None => (config, Some(span)),
                }
            }
        }
    }

    /// `watt.yaml:12:5`: the file's name, from the configuration's folder, line and column.
    pub(crate) fn short(&self, place: impl Into<Place>) -> String {
        let (file, span) = self.find(place.into());
        let below = self.0.config.path.parent().and_then(|folder| file.path.strip_prefix(folder).ok());
        let name = match below {
            Some(below) => below.to_string_lossy(),
            None => file.path.file_name().unwrap_or_default().to_string_lossy(),
        };
        match span {
            Some(span) => {
                let (line, column) = file.position(span.start);
                format!("{name}:{line}:{column}")
            }
            None => name.into_owned(),
        }
    }
}

/// Every error of a configuration, in the order of their places. `Display` prints them for people, [`Report::to_json`]
/// is for programs.
#[derive(Debug, Clone)]
pub struct Report {
    files: Files,
    problems: Vec<Problem>,
    omitted: usize,
    shown_from: Option<PathBuf>,
}

impl Report {
    /// A report of these problems.
    pub(crate) fn new(files: Files, mut problems: Problems) -> Self {
        problems.kept.sort_by_key(|problem| problem.place);
        Report { files, problems: problems.kept, omitted: problems.omitted, shown_from: None }
    }

    /// A report of one problem.
    pub(crate) fn one(files: Files, problem: Problem) -> Self {
        Report { files, problems: vec![problem], omitted: 0, shown_from: None }
    }

    /// Shows paths below this folder relative to it, as seen from there.
    #[must_use]
    pub fn seen_from(mut self, folder: &Path) -> Self {
        self.shown_from = Some(folder.to_path_buf());
        self
    }

    /// How many errors there are.
    pub fn len(&self) -> usize {
        self.problems.len() + self.omitted
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The errors that were kept; the first hundred.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// `omitted` counts the errors beyond the first hundred that were seen before reading was given up.
    /// `{"errors": [{"file", "line", "column", "end_line", "end_column", "message", "hint", "related"}], "omitted": 0}`.
    /// Lines and columns count from 1, columns in characters; they are `null` when a whole file is meant.
    pub fn to_json(&self) -> Value {
        let errors: Vec<Value> = self
            .problems
            .iter()
            .map(|problem| {
                let mut error = self.place_json(problem.place);
                error["message"] = json!(problem.message);
                error["hint"] = json!(problem.hint);
                error["related"] = match problem.related.as_deref() {
                    Some((place, what)) => {
                        let mut related = self.place_json(*place);
                        related["message"] = json!(what);
                        related
                    }
                    None => Value::Null,
                };
                error
            })
            .collect();
        json!({ "errors": errors, "omitted": self.omitted })
    }

    fn place_json(&self, place: Place) -> Value {
        let (file, span) = self.files.find(place);
        let start = span.map(|span| file.position(span.start));
        let end = span.map(|span| file.position(span.end));
        json!({
            "file": file.path.to_string_lossy(),
            "line": start.map(|(line, _)| line),
            "column": start.map(|(_, column)| column),
            "end_line": end.map(|(line, _)| line),
            "end_column": end.map(|(_, column)| column),
        })
    }

    fn shown_path<'a>(&self, path: &'a Path) -> &'a Path {
        self.shown_from.as_ref().and_then(|folder| path.strip_prefix(folder).ok()).unwrap_or(path)
    }

    /// The place line and the source line with the offending text underlined.
    fn excerpt(&self, f: &mut fmt::Formatter<'_>, place: Place, gutter: usize) -> fmt::Result {
        let (file, span) = self.files.find(place);
        let path = self.shown_path(&file.path).display();
        let Some(span) = span else {
            return writeln!(f, "{:gutter$}--> {path}", "");
        };
        let (line, column) = file.position(span.start);
        writeln!(f, "{:gutter$}--> {path}:{line}:{column}", "")?;
        let (text, underline) = window(file, line, span);
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{}", format!("{line:>gutter$} | {text}").trim_end())?;
        writeln!(f, "{:gutter$} | {underline}", "")
    }

    fn gutter(&self, problem: &Problem) -> usize {
        let line = |place: Place| {
            let (file, span) = self.files.find(place);
            span.map_or(0, |span| file.position(span.start).0)
        };
        let last = problem.related.as_deref().map_or(0, |(place, _)| line(*place)).max(line(problem.place));
        last.to_string().len()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let gutter = self.gutter(problem);
            writeln!(f, "error: {}", problem.message)?;
            self.excerpt(f, problem.place, gutter)?;
            if let Some((place, what)) = problem.related.as_deref() {
                writeln!(f, "{:gutter$} = note: {what}", "")?;
                self.excerpt(f, *place, gutter)?;
            }
            if let Some(hint) = &problem.hint {
                writeln!(f, "{:gutter$} = hint: {hint}", "")?;
            }
        }
        if self.omitted > 0 {
            writeln!(f, "\nerror: and at least {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// The part of a line around a span, safe for a terminal, and the carets below it. Control characters become spaces
/// (tabs) or `·`, so a hostile file cannot move the cursor.
fn window(file: &SourceFile, line: usize, span: Span) -> (String, String) {
    let (range, source) = file.line(line);
    let at = |offset: usize| {
        let offset = offset.clamp(range.start, range.end) - range.start;
        source[..source.floor_char_boundary(offset)].chars().count()
    };
    let (start, end) = (at(span.start), at(span.end));
    let length = source.chars().count();
    let first = if length <= EXCERPT_CHARS_MAX { 0 } else { start.saturating_sub(EXCERPT_CHARS_MAX / 3) };
    let last = length.min(first + EXCERPT_CHARS_MAX);

    let mut text = String::new();
    let mut indent = 0;
    if first > 0 {
        text.push('…');
        indent = 1;
    }
    text.extend(source.chars().skip(first).take(last - first).map(printable));
    if last < length {
        text.push('…');
    }
    let carets = end.min(last).saturating_sub(start).max(1);
    let underline = format!("{}{}", " ".repeat(indent + start - first), "^".repeat(carets));
    (text.trim_end().to_owned(), underline)
}

fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() || is_invisible(c) => '·',
        c => c,
    }
}

/// Characters that reorder or hide text on a terminal (Unicode's bidirectional controls and zero-width characters).
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `did you mean …`, with the nearest of `known` to `written`, when one is near enough to be meant.
pub(crate) fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(written, known).map(|name| format!("did you mean {}?", quote(name)))
}

/// The nearest of `known` to `written`, when one is near enough to be meant.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Suggestions for something this long are never right, and the distance takes quadratic time.
    const CHARS_MAX: usize = 64;
    let length = |text: &str| text.chars().count();
    if length(written) > CHARS_MAX {
        return None;
    }
    let lower = written.to_lowercase();
    known
        .into_iter()
        // A distance is at least the difference in length, so most candidates need no computation.
        .filter(|name| length(name).abs_diff(length(&lower)) <= allowed(&lower, name))
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= allowed(&lower, name))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many typing errors may be between two words: one in three characters, and one in the shortest.
fn allowed(written: &str, name: &str) -> usize {
    (name.chars().count().max(written.chars().count()) / 3).max(1)
}
