//! A thin safe layer over the kernel. All `unsafe` of the workspace is here.
