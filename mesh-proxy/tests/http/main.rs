//! The request path with real sockets and scripted peers on both sides.

mod actions;
mod again;
mod auth;
mod balancing;
mod bed;
mod bodies;
mod connections;
mod files;
mod fuzz;
mod guard;
mod guards;
mod h2_bed;
mod h2_clients;
mod h2_limits;
mod h2_workers;
mod heads;
mod holding;
mod limits;
mod mirrors;
mod retries;
mod routing;
mod times;
mod upgrades;
mod upstreams;
mod websockets;
