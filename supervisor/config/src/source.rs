//! The text a configuration is made from, and places in it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use watt_certificates::Certificates;

use crate::{
    Applied, dotenv, platformatic,
    report::{FileId, Files, Place, Problem, Problems, Report},
};

/// The largest file that is read. A thousand services take a few hundred kilobytes.
pub(crate) const FILE_BYTES_MAX: usize = 4 << 20;

/// Everything a plan depends on, as text. The daemon keeps it, so that a daemon that takes over after a crash sees the
/// configuration the application was started with, not what the files have become.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// The configuration file; absolute. Its ending says which language it is in.
    pub file: PathBuf,
    /// Its content.
    pub text: String,
    /// The `.env` file beside it, when there is one: its path and its content.
    pub dotenv: Option<(PathBuf, String)>,
    /// The environment. It wins over `.env`.
    pub env: BTreeMap<String, String>,
    /// What was applied of single services, by their names: it stands in the place of what the file says of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub applied: BTreeMap<String, Applied>,
    /// The files of certificates and keys that the plan names, as [`crate::Config::certificates`] has read them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates: Certificates,
    /// What else was looked at, where the file is one of Platformatic's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platformatic: Option<platformatic::Project>,
}

impl Sources {
    /// Reads a configuration file and the `.env` beside it. A missing `.env` is fine. Of a project of Platformatic's, all that its meaning
    /// depends on is read.
    ///
    /// # Errors
    /// A file that cannot be read, is larger than 4 MiB, or is not UTF-8.
    pub fn read(file: &Path, env: BTreeMap<String, String>) -> Result<Sources, Report> {
        let failed = |path: &Path, error: &io::Error| {
            let message = format!("cannot read {}: {}", path.display(), plain(error));
            let problem = Problem::new(Place::whole(FileId::Config), message);
            let hint = "make it a file that the user who runs watt can read";
            Report::one(Files::unread(path), problem.hint(hint))
        };
        let file = std::path::absolute(file).map_err(|error| failed(file, &error))?;
        let text =
            text_of(&file, read_capped(&file, FILE_BYTES_MAX).map_err(|error| failed(&file, &error))?)?;
        if platformatic::is_one(&file, &text) {
            let mut sources = Sources { file, text, env, ..Sources::default() };
            platformatic::read(&mut sources)?;
            return Ok(sources);
        }
        let path = DotEnv::path_beside(&file);
        let dotenv = match read_capped(&path, FILE_BYTES_MAX) {
            Ok(bytes) => {
                let text = text_of(&path, bytes)?;
                Some((path, text))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&path, &error)),
        };
        Ok(Sources { file, text, dotenv, env, ..Sources::default() })
    }

    /// The value of a variable: the environment's, else that of `.env`.
    pub fn variable(&self, name: &str) -> Option<String> {
        let dotenv = || {
            let (_, text) = self.dotenv.as_ref()?;
            dotenv::parse(text, &mut Problems::default()).remove(name).map(|variable| variable.value)
        };
        self.env.get(name).cloned().or_else(dotenv)
    }
}

/// Where the `.env` of a configuration is.
pub(crate) struct DotEnv;

impl DotEnv {
    /// `.env` in the folder of the configuration file.
    pub(crate) fn path_beside(file: &Path) -> PathBuf {
        file.with_file_name(".env")
    }
}

/// An error's text without the number in brackets, which nobody looking at a configuration file needs.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

/// Reads a regular file, one byte more than is allowed at most. Anything else (a pipe, a device) could block or never
/// end.
pub(crate) fn read_capped(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    // Looked at before opening, because opening a named pipe waits for a writer.
    let kind = std::fs::metadata(path)?;
    if !kind.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::other(match bytes_max {
            FILE_BYTES_MAX => too_large(),
            _ => format!("it is larger than {bytes_max} bytes"),
        }));
    }
    Ok(bytes)
}

/// The text for a file that is too large.
pub(crate) fn too_large() -> String {
    format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20)
}

fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String, Report> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(valid).copied().unwrap_or_default();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        // Everything before the first bad byte is the same in the lossy text, so the offset holds there too.
        let span = Span { start: valid, end: valid + char::REPLACEMENT_CHARACTER.len_utf8() };
        let files = Files::of(&Sources { file: path.to_path_buf(), text, ..Sources::default() });
        let message = format!("{} is not UTF-8: byte 0x{byte:02x} at offset {valid}", path.display());
        Report::one(files, Problem::new(span, message).hint("save the file as UTF-8"))
    })
}

/// A range of bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Span {
    /// The first byte.
    pub(crate) start: usize,
    /// The byte after the last one.
    pub(crate) end: usize,
}

impl Span {
    /// The same further on.
    pub(crate) fn moved(self, by: usize) -> Self {
        Span { start: self.start + by, end: self.end + by }
    }
}

/// A file's text with an index of its lines.
#[derive(Debug)]
pub(crate) struct SourceFile {
    pub(crate) path: PathBuf,
    text: String,
    line_starts: Vec<usize>,
    /// How many characters are before every [`CHECKPOINT_BYTES`]th byte. A minified file is one line of megabytes, and
    /// counting from its start for each of its values would take quadratic time.
    chars_before: Vec<usize>,
}

const CHECKPOINT_BYTES: usize = 1024;

impl SourceFile {
    pub(crate) fn new(path: PathBuf, text: String) -> Self {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(index, _)| index + 1)).collect();
        let mut chars = 0;
        let mut chars_before = Vec::with_capacity(text.len() / CHECKPOINT_BYTES + 1);
        for chunk in text.as_bytes().chunks(CHECKPOINT_BYTES) {
            chars_before.push(chars);
            chars += count_chars(chunk);
        }
        chars_before.push(chars);
        SourceFile { path, text, line_starts, chars_before }
    }

    /// Line and column of a byte, both from 1; columns count characters.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset.min(self.text.len()));
        let line = self.line_starts.partition_point(|start| *start <= offset);
        (line, self.chars_before(offset) - self.chars_before(self.line_starts[line - 1]) + 1)
    }

    fn chars_before(&self, offset: usize) -> usize {
        let checkpoint = offset / CHECKPOINT_BYTES;
        let rest = &self.text.as_bytes()[checkpoint * CHECKPOINT_BYTES..offset];
        self.chars_before[checkpoint] + count_chars(rest)
    }

    /// The bytes of a line (from 1) without its line break, and its text.
    pub(crate) fn line(&self, line: usize) -> (Range<usize>, &str) {
        let start = self.line_starts[line - 1];
        let end = self.line_starts.get(line).map_or(self.text.len(), |next| next - 1);
        let text = self.text[start..end].trim_end_matches('\r');
        (start..start + text.len(), text)
    }
}

/// Characters that start in these bytes of UTF-8: every byte but the continuation bytes.
fn count_chars(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}
