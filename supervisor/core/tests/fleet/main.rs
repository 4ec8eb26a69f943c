//! The fleet: all workers of an application together.

mod adoption;
mod dependencies;
mod groups;
mod health;
mod numbers;
mod plans;
mod proofs;
mod random;
mod recycling;
mod renewals;
mod requests;
mod rolls;
mod scaling;
mod script;
mod verdicts;
mod world;
