//! Files as what a route leads to: of a folder whose descriptor the daemon passes, since the proxy is nobody in particular and does not get there
//! by itself.
//!
//! What a path names is looked for beneath the root by the kernel (openat2(2), RESOLVE_BENEATH), so that neither dots nor links lead out of it,
//! whoever changes what is there meanwhile.

mod conditional;
mod find;
mod kinds;
mod path;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, os::fd::OwnedFd, sync::Arc};

use watt_api::mesh;

pub(crate) use self::{
    conditional::{Conditions, Part, is_known},
    find::{File, Found, Patience, Unfound, find, read},
    kinds::{Coding, accepted},
};

/// Folders that have roots, by what the daemon calls them.
pub(crate) type Folders = BTreeMap<String, Arc<OwnedFd>>;

/// A folder and how its files are served.
#[derive(Debug)]
pub(crate) struct Folder {
    /// The folder that has the root.
    pub(crate) parent: Arc<OwnedFd>,
    pub(crate) rules: mesh::RouteFiles,
}

/// What a request wants of it.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// What follows the route's path in that of the request.
    pub(crate) rest: Vec<u8>,
    pub(crate) conditions: Conditions,
    /// What the client takes besides the file as it is, the best first.
    pub(crate) codings: Vec<Coding>,
    pub(crate) is_head: bool,
}
