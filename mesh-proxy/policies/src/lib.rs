//! What a request has to pass before it goes to a service, as far as that can be decided without waiting: which addresses may come
//! ([`address`]), which pages of other origins ([`cors`]), how often anybody may ([`rate`], with what is kept for that in
//! [`ledger`]), and who it is ([`keys`], [`passwords`], [`jwt`], and what browsers keep of that, [`sealed`]), and who may do what ([`access`]). And which fields of requests are nobody's but the proxy's ([`fields`]).
//!
//! Nothing here reads a clock or a socket: time is an argument, and so is whatever is known of a request. The proxy asks, and acts. See
//! docs/policies.md.

pub mod access;
pub mod address;
pub mod cors;
pub mod fields;
pub mod jwt;
pub mod keys;
pub mod ledger;
pub mod passwords;
pub mod rate;
pub mod sealed;
