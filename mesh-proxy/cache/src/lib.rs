//! What a cache of HTTP decides, and what it keeps (RFC 9111, RFC 9213, RFC 9211).
//!
//! Decisions are pure: heads and times go in. A request is read once ([`Asked`]); a response is judged once, when it comes
//! ([`judge()`]), and what is kept of that are a few numbers ([`Facts`]), so that a later request compares numbers alone. [`Store`] keeps
//! responses in bounded memory, for all threads of a proxy; it reads no clock either.

mod answer;
mod conditions;
mod control;
mod date;
mod entry;
mod facts;
mod fields;
mod invalidate;
mod judge;
mod key;
mod request;
mod sieve;
mod store;
mod vary;

pub use answer::{Told, write_head};
pub use conditions::{Conditions, Part};
pub use entry::{Entry, Making, Naming};
pub use facts::{Facts, Moment, Use};
pub use fields::Fields;
pub use invalidate::{invalidated, is_unsafe};
pub use judge::{Cookies, Settings, Unstorable, judge};
pub use key::uri;
pub use request::{Asked, Directives};
pub use store::{Looked, Place, Purge, Reserved, Side, Status, Store};
