//! How clients are met at a listener of the gateway.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::Route;

/// One of the gateway's listeners.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Listener {
    /// In TLS; `None` is in plain text.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Whose connections begin with a header of the PROXY protocol.
    #[serde(default)]
    pub proxies: Vec<Network>,
    /// What the configuration calls it, however often it is bound anew.
    #[serde(default)]
    pub name: String,
    /// Its routes; `None` is those of the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<Route>>,
    /// Requests that no route takes are sent to TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_https: Option<ToHttps>,
    /// How much time and room clients have.
    #[serde(default)]
    pub bounds: ClientBounds,
}

/// That clients are sent to TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToHttps {
    /// The port there.
    pub port: u16,
    /// That one for clients of proxies as well, which may have it under another number.
    #[serde(default)]
    pub for_all: bool,
}

/// How much time and room each client of a listener has. 0 is what a proxy has for it anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientBounds {
    /// For the head of a request, in milliseconds.
    pub head_timeout_ms: u64,
    /// Between requests, in milliseconds.
    pub idle_timeout_ms: u64,
    /// The longest head, in bytes.
    pub head_max: u64,
    /// The largest body, in bytes; `None` is any size.
    pub body_max: Option<u64>,
    /// Bytes a second that a body has to come with; `None` is what the snapshot says, 0 is any rate.
    pub body_rate_min: Option<u64>,
}

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// One of them.
    pub address: IpAddr,
    /// How many bits.
    pub bits: u8,
}

/// TLS at a listener. Texts are PEM, and were found right by whoever sends them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tls {
    /// What is shown to clients; the first to those that ask for no name that there is.
    pub certificates: Vec<Certificate>,
    /// The certificates of those who vouch for clients; `None` asks no client for one.
    #[serde(default)]
    pub client_ca: Option<String>,
    /// Whether clients have to have one.
    #[serde(default)]
    pub client_required: bool,
    /// Whether TLS 1.2 is not spoken.
    #[serde(default)]
    pub only_1_3: bool,
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Certificate {
    /// It, and behind it those that vouch for it.
    pub chain: String,
    /// Its key.
    pub key: Secret,
}

/// A text that is in no log.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// Beginnings of TLS connections at the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Handshakes {
    /// Those that succeeded.
    pub completed: u64,
    /// Those that did not, by the reason in one word.
    pub failed: BTreeMap<String, u64>,
}

impl Handshakes {
    /// Adds those of somebody else.
    pub fn add(&mut self, other: &Handshakes) {
        self.completed = self.completed.saturating_add(other.completed);
        for (reason, count) in &other.failed {
            let sum = self.failed.entry(reason.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_no_debug_output() {
        let key = Secret("-----BEGIN PRIVATE KEY-----".to_owned());
        let listener = Listener {
            tls: Some(Tls {
                certificates: vec![Certificate { chain: String::new(), key }],
                ..Tls::default()
            }),
            ..Listener::default()
        };
        assert!(!format!("{listener:?}").contains("PRIVATE"), "{listener:?}");
    }

    #[test]
    fn handshakes_are_added_up() {
        let one = |reason: &str| Handshakes { completed: 2, failed: [(reason.to_owned(), 1)].into() };
        let mut sum = one("timeout");
        sum.add(&one("timeout"));
        sum.add(&one("gone"));
        let failed = [("gone".to_owned(), 1), ("timeout".to_owned(), 2)].into();
        assert_eq!(sum, Handshakes { completed: 6, failed });
    }
}
