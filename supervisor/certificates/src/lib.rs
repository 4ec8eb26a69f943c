//! Certificates and their keys, as files have them: read, checked and said in words.
//!
//! What is here reads what the operator wrote, and of a client's certificate the names, once it was verified. No connection is made here.

mod der;
mod files;
mod identity;
mod names;
mod subject;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use files::{Certificates, Pem, SIZE_MAX, read};
pub use identity::{Fault, Identity, authorities};
pub use names::{Names, names};
pub use subject::subject;

/// The cryptography of everything that speaks TLS here.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
