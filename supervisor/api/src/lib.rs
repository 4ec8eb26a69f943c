//! Wire types: the control API (`control`), and what the daemon tells the mesh proxy (`mesh`). With the feature
//! `client`, the one client of the control API.

#[cfg(feature = "client")]
pub mod client;
pub mod control;
pub mod mesh;
