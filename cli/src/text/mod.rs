//! How things are written for people: tables, colours, numbers, and output that may be hostile to a terminal.

pub mod lines;
pub mod live;
pub mod numbers;
pub mod out;
pub mod progress;
pub mod rolling;
pub mod safe;
pub mod style;
pub mod table;
