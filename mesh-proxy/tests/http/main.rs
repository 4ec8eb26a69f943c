//! The request path with real sockets and scripted peers on both sides.

mod balancing;
mod bed;
mod bodies;
mod connections;
mod fuzz;
mod guard;
mod heads;
mod holding;
mod retries;
mod upgrades;
mod websockets;
