//! The control API's program; see ARCHITECTURE.md.
fn main() {}
