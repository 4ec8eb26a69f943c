//! Files that routes lead to.

use std::path::PathBuf;

/// The files of a folder, and how they are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The folder.
    pub root: PathBuf,
    /// The name of a folder's own page.
    pub index: String,
    /// The page that stands for those that there are no files for.
    pub spa: Option<String>,
    /// What `Cache-Control` says.
    pub cache_control: String,
    /// Whether files in another coding, `x.br` beside `x`, are sent to clients that take it.
    pub precompressed: bool,
    /// Whether names that begin with a dot are served.
    pub hidden: bool,
}
