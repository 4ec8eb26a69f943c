//! Descriptions of APIs, by OpenAPI 3.0 to 3.2: those of single services are read, and one is made of them that says what clients of the
//! gateway can ask for.
//!
//! Everything here is a function of its arguments: no clock, no I/O. Descriptions come from services, and are whatever a service sends:
//! what is read is bounded by [`TEXT_MAX`], by its depth and by its number of values, what is made of it by [`ROOM`], and the work in
//! between by [`WORK_MAX`]. References are written anew and never followed into each other, so that those that go round in circles are
//! like any other.
//!
//! A description says what a service takes. What of that clients get to, and by which path, the routes say ([`Way`]): a path that no
//! route leads to is left out, and one that a route rewrites is there as clients write it.

mod compose;
mod names;
mod problems;
mod read;
mod walk;
mod way;

pub use self::{
    compose::{About, Composed, Ignored, OfService, ROOM, Rules, Source, compose},
    problems::Problem,
    read::{DEPTH_MAX, TEXT_MAX, Unreadable, VALUES_MAX, check},
    way::{WORK_MAX, Way},
};
