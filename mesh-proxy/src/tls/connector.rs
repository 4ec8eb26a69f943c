//! TLS with a server outside: who it has to be, and how a connection begins.
//!
//! Whom the host trusts is read from its files (`/etc/ssl/certs` as a rule; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others), which is done beside
//! the thread, since it may take long, with the first connection, and again from time to time. Requests wait for it as they wait for a connection.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{CertificateError, ClientConfig, ClientConnection, Error, RootCertStore, pki_types::ServerName};
use tokio::{net::TcpStream, sync::Mutex, task::JoinHandle, time::Instant};
use watt_api::mesh::{Protocol, UpstreamTls};

use super::{TlsStream, stream::Socket};

/// How long what was made of the host's files is used. They change with updates of the host.
const FRESH: Duration = Duration::from_secs(3600);

/// How connections to one server begin.
pub(crate) struct Connector {
    of: UpstreamTls,
    made: Mutex<Made>,
}

/// What was made of the host's files.
#[derive(Default)]
struct Made {
    /// When, and what.
    last: Option<(Instant, Arc<ClientConfig>)>,
    /// Reads them. It goes on when nobody waits for it any more, and whoever comes next waits for the same.
    reading: Option<Reading>,
}

type Reading = JoinHandle<Result<ClientConfig, String>>;

impl Connector {
    pub(crate) fn new(of: UpstreamTls) -> Connector {
        Connector { of, made: Mutex::default() }
    }

    /// What it was made from.
    pub(crate) fn of(&self) -> &UpstreamTls {
        &self.of
    }

    /// Begins one. An error is what went wrong, in words.
    pub(crate) async fn begin(&self, socket: TcpStream, protocol: Protocol) -> Result<TlsStream, String> {
        let name = ServerName::try_from(self.of.name.clone())
            .map_err(|_| format!("no certificate can be for `{}`", self.of.name))?;
        let mut config = ClientConfig::clone(&*self.config().await?);
        config.alpn_protocols = vec![alpn(protocol).to_vec()];
        let session = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
        let mut handshake = Handshake { socket, session };
        poll_fn(|cx| handshake.poll(cx)).await.map_err(|trouble| self.words(&trouble))?;
        let Handshake { socket, session } = handshake;
        match session.alpn_protocol() {
            // Who says nothing speaks HTTP/1.1.
            None if protocol == Protocol::Http1 => {}
            Some(spoken) if spoken == alpn(protocol) => {}
            _ => return Err("it does not speak HTTP/2".to_owned()),
        }
        Ok(TlsStream::new(socket, session))
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let mut made = self.made.lock().await;
        let Made { last, reading } = &mut *made;
        if let Some((at, config)) = last
            && (self.of.ca.is_some() || at.elapsed() < FRESH)
        {
            return Ok(config.clone());
        }
        let now_reading = reading.get_or_insert_with(|| self.read());
        // What is known does until it is read: a disk may hang.
        if let (Some((_, config)), false) = (&last, now_reading.is_finished()) {
            return Ok(config.clone());
        }
        let read = now_reading.await.map_err(|error| error.to_string()).flatten();
        *reading = None;
        let config = match (read, last.take()) {
            (Ok(config), _) => Arc::new(config),
            (Err(error), Some((_, before))) => {
                tracing::warn!(error, "whom the host trusts cannot be read again");
                before
            }
            (Err(error), None) => return Err(error),
        };
        *last = Some((Instant::now(), config.clone()));
        Ok(config)
    }

    fn read(&self) -> Reading {
        let ca = self.of.ca.clone();
        #[expect(clippy::disallowed_methods, reason = "there is one for each server at most")]
        tokio::task::spawn_blocking(move || config(ca.as_deref()))
    }

    fn words(&self, trouble: &Trouble) -> String {
        let name = &self.of.name;
        match trouble {
            Trouble::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "it ended the connection in the handshake".to_owned()
            }
            Trouble::Io(error) => error.to_string(),
            Trouble::Tls(Error::InvalidCertificate(error)) => match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "its certificate has expired".to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "its certificate does not hold yet".to_owned()
                }
                // The latter is of another authority with the same name.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => match self.of.ca {
                    Some(_) => "nobody in the file of `ca` vouches for its certificate".to_owned(),
                    None => "nobody whom this host trusts vouches for its certificate; `ca` names a file of others"
                        .to_owned(),
                },
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    format!("its certificate is not for `{name}`")
                }
                CertificateError::Revoked => "its certificate was revoked".to_owned(),
                error => format!("its certificate is not taken: {error}"),
            },
            Trouble::Tls(Error::AlertReceived(alert)) => format!("it turned us away ({alert:?})"),
            Trouble::Tls(Error::InvalidMessage(_)) => "it does not speak TLS".to_owned(),
            Trouble::Tls(error) => error.to_string(),
        }
    }
}

/// The names of RFC 7301's registry.
fn alpn(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Http1 => b"http/1.1",
        Protocol::H2c => b"h2",
    }
}

fn config(ca: Option<&str>) -> Result<ClientConfig, String> {
    let roots = match ca {
        Some(text) => watt_certificates::authorities(text)?,
        None => trusted_by_host()?,
    };
    let builder = ClientConfig::builder_with_provider(watt_certificates::provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn trusted_by_host() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Of many some may be of a kind that is not known here.
    roots.add_parsable_certificates(found.certs);
    match (roots.is_empty(), found.errors.first()) {
        (false, _) => Ok(roots),
        (true, Some(error)) => Err(format!("whom the host trusts cannot be read: {error}")),
        (true, None) => Err("the host trusts nobody: install `ca-certificates`, or write `ca`".to_owned()),
    }
}

/// Why a handshake came to nothing.
enum Trouble {
    Io(io::Error),
    Tls(Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Io(error)
    }
}

struct Handshake {
    socket: TcpStream,
    session: ClientConnection,
}

impl Handshake {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Trouble>> {
        let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        loop {
            while self.session.wants_write() {
                match self.session.write_tls(&mut Socket { socket: &mut self.socket, cx }) {
                    Ok(0) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
                    Ok(_) => {}
                    Err(error) if would_block(&error) => return Poll::Pending,
                    Err(error) => return Poll::Ready(Err(error.into())),
                }
            }
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            match self.session.read_tls(&mut Socket { socket: &mut self.socket, cx }) {
                Ok(0) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
                Ok(_) => {}
                Err(error) if would_block(&error) => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            if let Err(error) = self.session.process_new_packets() {
                // It is told why, as far as that goes at once.
                let _ = self.session.write_tls(&mut Socket { socket: &mut self.socket, cx });
                return Poll::Ready(Err(Trouble::Tls(error)));
            }
        }
    }
}
