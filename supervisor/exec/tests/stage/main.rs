//! The exec stage end to end: the real program, started with a plan as the spawner starts it, on the real kernel.

mod failures;
mod harness;
mod mounts;
mod namespaces;
mod network;
mod privileges;
mod probe;
mod steps;
