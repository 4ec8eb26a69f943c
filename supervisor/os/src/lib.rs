//! A thin safe layer over the kernel. All `unsafe` of the workspace is here.

pub mod fdpass;
pub mod memfd;
pub mod process;
pub mod signalfd;
