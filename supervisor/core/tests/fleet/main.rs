//! The fleet: all workers of an application together.

mod adoption;
mod health;
mod plans;
mod random;
mod recycling;
mod renewals;
mod requests;
mod script;
mod verdicts;
mod world;
