//! Each role of watt dies at each of its steps (`watt-fault`), while something is under way. What must hold after every death: the
//! application gets where it was meant to get, with no process too many or too few, with no end whose cause nobody knows, and without a
//! lost request unless the proxy itself died.

mod chaos;
mod frozen;
mod matrix;
mod shop;
mod soak;
