//! Wire types: the control API (`control`), and what the daemon tells the mesh proxy (`mesh`).

pub mod control;
pub mod mesh;
