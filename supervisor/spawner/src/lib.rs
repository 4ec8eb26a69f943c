//! The spawner process, and the daemon's handle to it.

pub mod protocol;
