//! A real client of TLS, in a thread of its own, at the other end of a socket.

use std::{
    future::poll_fn,
    io::{Read, Write},
    net::SocketAddr,
    num::NonZeroUsize,
    rc::Rc,
    thread,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::LocalSet,
};
use watt_api::mesh::{self, Handshakes};

use super::*;
use crate::{
    http::{Body, Coding, Peer, Pump, Stock, Stream},
    thread::{Report, Thread},
};

#[test]
fn bytes_are_written_as_base64() {
    let vectors = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
    assert_eq!(vectors, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
}

#[test]
fn own_fields_are_known_in_any_case() {
    for own in ["Client-Cert", "CLIENT-CERT-CHAIN", "X-Client-Cert-Subject", "x-client-cert-x"] {
        assert!(is_own_field(own.as_bytes()), "{own}");
    }
    for other in ["client-certs", "x-client-cert", "x-client-cert-", "x-client-certain", "client-cert-chai"] {
        assert!(!is_own_field(other.as_bytes()), "{other}");
    }
}

#[test]
fn what_services_and_logs_are_told_of_a_certificate() {
    let told = |common: Option<&str>, uris: &[&str]| {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common {
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
        }
        params.subject_alt_names =
            uris.iter().map(|uri| rcgen::SanType::URI((*uri).try_into().unwrap())).collect();
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let shown = Shown::new(certificate.der());
        let fields: Vec<String> = shown.fields.lines().map(str::to_owned).collect();
        (shown.name.into_string(), fields)
    };
    let (name, fields) = told(Some("ada"), &["spiffe://shop/a", r#"x:1","dns:root\"#]);
    assert_eq!((&*name, &*fields[0]), ("CN=ada", "X-Client-Cert-Subject: CN=ada"));
    assert_eq!(fields[1], r#"X-Client-Cert-San: "uri:spiffe://shop/a", "uri:x:1\",\"dns:root\\""#);
    assert!(fields[2].starts_with("Client-Cert: :MII"));
    assert_eq!(told(None, &["spiffe://shop/a"]).0, "uri:spiffe://shop/a");
    // A list that is too long is none, since a part of it could be taken for all.
    let (name, fields) = told(None, &[&"x".repeat(2_100), "y"]);
    assert_eq!((name.len(), fields.len()), (2_104, 2));
}

/// Somebody who vouches for `shop.example` and for clients.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let pem = certificate.pem();
        Authority { certificate: certificate.der().clone(), issuer: rcgen::Issuer::new(params, key), pem }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = rcgen::KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn acceptor(&self, change: impl FnOnce(&mut mesh::Tls)) -> Acceptor {
        let (certificate, key) = self.sign("shop.example");
        let certificate =
            mesh::Certificate { chain: certificate.pem(), key: mesh::Secret(key.serialize_pem()) };
        let mut tls = mesh::Tls { certificates: vec![certificate], ..mesh::Tls::default() };
        change(&mut tls);
        Acceptor::new(&tls).unwrap()
    }

    /// A client that knows the authority, with a certificate of this name.
    fn client(&self, name: Option<&str>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(watt_certificates::provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let Some(name) = name else { return builder.with_no_client_auth() };
        let (certificate, key) = self.sign(name);
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
    }
}

/// A client, connected in a thread of its own.
fn client<T: Send + 'static>(
    at: SocketAddr,
    config: ClientConfig,
    act: impl FnOnce(StreamOwned<ClientConnection, std::net::TcpStream>) -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        let name = ServerName::try_from("shop.example").unwrap();
        let connection = ClientConnection::new(config.into(), name).unwrap();
        let socket = std::net::TcpStream::connect(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = sender.send(act(StreamOwned::new(connection, socket)));
    });
    receiver
}

struct Bed {
    thread: Rc<Thread>,
    listener: TcpListener,
}

impl Bed {
    async fn run<F: Future<Output = ()>>(test: impl FnOnce(Bed) -> F) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let thread = Thread::new(NonZeroUsize::MIN, |_: Report| {});
        LocalSet::new().run_until(test(Bed { thread, listener })).await;
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Takes the next connection.
    async fn accept(&self, acceptor: &Acceptor) -> Option<(TlsStream, Secure)> {
        let (socket, _) = self.listener.accept().await.unwrap();
        accept(&self.thread, acceptor, socket).await
    }

    fn counted(&self) -> Handshakes {
        self.thread.handshakes.read()
    }

    fn failed(&self) -> Vec<(String, u64)> {
        self.counted().failed.into_iter().collect()
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_a_slow_reader_costs_one_piece() {
    const SIZE: usize = 8 << 20;
    Bed::run(async |bed| {
        let authority = Authority::new();
        let (go_on, may_go_on) = std::sync::mpsc::channel();
        let received = client(bed.address(), authority.client(None), move |mut stream| {
            stream.write_all(b"hello").unwrap();
            may_go_on.recv().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all
        });
        let (stream, secure) = bed.accept(&authority.acceptor(|_| {})).await.unwrap();
        assert_eq!((secure, bed.counted().completed), (Secure::default(), 1));
        let mut stream = Stream::from(stream);
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello");
        let sent: Vec<u8> = (0..SIZE).map(|index| (index / 7) as u8).collect();
        // As much as goes without anybody who reads.
        let mut written = 0;
        let full = tokio::time::timeout(Duration::from_millis(300), async {
            while written < SIZE {
                written += stream.write(&sent[written..]).await.unwrap();
            }
        });
        assert!(full.await.is_err(), "{written} bytes were taken, by nobody");
        let before = written;
        let again = tokio::time::timeout(Duration::from_millis(100), stream.write(&sent[written..])).await;
        assert!(again.is_err(), "more is taken before what waits is sent: {before}");
        go_on.send(()).unwrap();
        stream.write_all(&sent[written..]).await.unwrap();
        stream.shutdown().await.unwrap();
        let received = received.await.unwrap();
        assert!(received == sent, "{} of {SIZE} bytes", received.len());
    })
    .await;
}

/// What TLS has taken and the socket has not is not sent, and goes on only as long as somebody asks for it.
#[tokio::test]
async fn a_body_is_done_when_its_end_is_sent() {
    Bed::run(async |bed| {
        let authority = Authority::new();
        let (go_on, may_go_on) = std::sync::mpsc::channel();
        let received = client(bed.address(), authority.client(None), move |mut stream| {
            stream.write_all(b"x").unwrap();
            may_go_on.recv().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all.len()
        });
        let (stream, _) = bed.accept(&authority.acceptor(|_| {})).await.unwrap();
        let mut stream = Stream::from(stream);
        stream.read_exact(&mut [0]).await.unwrap();
        let (nobody, _other) = tokio::net::UnixStream::pair().unwrap();
        let (mut from, stock) = (Peer::new(nobody.into()), Stock::default());
        let (mut pump, mut out) = (Pump::new(Body::Done, Coding::AsIs), vec![0; 8 << 20]);
        // As much as goes without anybody who reads. It ends there.
        let pumped = poll_fn(|cx| pump.poll(&mut from, &mut stream, &mut out, &stock, cx));
        assert!(tokio::time::timeout(Duration::from_millis(300), pumped).await.is_err());
        out.truncate(usize::try_from(pump.sent()).unwrap());
        assert!(!pump.is_done(&out), "of {} bytes the end is not sent", out.len());
        go_on.send(()).unwrap();
        poll_fn(|cx| pump.poll(&mut from, &mut stream, &mut out, &stock, cx)).await.unwrap();
        assert!(pump.is_done(&out));
        stream.shutdown().await.unwrap();
        assert_eq!(received.await.unwrap(), out.len());
    })
    .await;
}

#[tokio::test]
async fn a_client_sees_whether_the_end_is_one() {
    Bed::run(async |bed| {
        let authority = Authority::new();
        let acceptor = authority.acceptor(|_| {});
        for is_whole in [true, false] {
            let read = client(bed.address(), authority.client(None), |mut stream| {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).map(|_| all).map_err(|error| error.kind())
            });
            let (stream, _) = bed.accept(&acceptor).await.unwrap();
            let mut stream = Stream::from(stream);
            stream.write_all(b"all of it").await.unwrap();
            stream.flush().await.unwrap();
            if !is_whole {
                stream.breaks_off();
            }
            drop(stream);
            let expected =
                if is_whole { Ok(b"all of it".to_vec()) } else { Err(std::io::ErrorKind::UnexpectedEof) };
            assert_eq!(read.await.unwrap(), expected);
        }
        // And the other way.
        let gone = client(bed.address(), authority.client(None), |mut stream| {
            stream.write_all(b"x").unwrap();
            stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.sock.read_to_end(&mut Vec::new());
        });
        let (stream, _) = bed.accept(&acceptor).await.unwrap();
        let mut all = Vec::new();
        let mut stream = Stream::from(stream);
        let error = stream.read_to_end(&mut all).await.unwrap_err();
        drop(stream);
        gone.await.unwrap();
        assert_eq!((error.kind(), all), (std::io::ErrorKind::UnexpectedEof, b"x".to_vec()));
    })
    .await;
}

#[tokio::test]
async fn a_clients_certificate_is_one_of_the_authoritys() {
    Bed::run(async |bed| {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let required = authority.acceptor(|tls| {
            tls.client_ca = Some(authority.pem.clone());
            tls.client_required = true;
        });
        let optional = authority.acceptor(|tls| tls.client_ca = Some(authority.pem.clone()));
        let talk = |mut stream: StreamOwned<ClientConnection, std::net::TcpStream>| {
            let _ = stream.write_all(b"x");
            let _ = stream.read(&mut [0]);
        };
        let alice = || authority.client(Some("alice"));
        let of_stranger = || {
            let mut config = authority.client(None);
            let (certificate, key) = stranger.sign("alice");
            let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
            let chain = vec![certificate.der().clone()];
            let one = rustls::sign::CertifiedKey::from_der(chain, key, config.crypto_provider()).unwrap();
            config.client_auth_cert_resolver = std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(one));
            config
        };
        let cases = [
            (&required, alice(), Ok("CN=alice")),
            (&required, authority.client(None), Err("no_client_certificate")),
            (&required, of_stranger(), Err("bad_client_certificate")),
            (&optional, alice(), Ok("CN=alice")),
            (&optional, authority.client(None), Ok("")),
            (&optional, of_stranger(), Err("bad_client_certificate")),
        ];
        for (acceptor, config, expected) in cases {
            let before = bed.counted().failed;
            let _client = client(bed.address(), config, talk);
            let accepted = bed.accept(acceptor).await;
            match expected {
                Ok(name) => {
                    let (_, secure) = accepted.unwrap();
                    let begin = format!(
                        "X-Client-Cert-Subject: {name}\r\nX-Client-Cert-San: \"dns:alice\"\r\nClient-Cert: :"
                    );
                    let shown = secure.shown;
                    assert_eq!(shown.is_some(), !name.is_empty());
                    assert!(
                        shown.is_none_or(|shown| shown.fields.starts_with(&begin) && *shown.name == *name)
                    );
                }
                Err(reason) => {
                    assert!(accepted.is_none());
                    let count = |counted: &std::collections::BTreeMap<String, u64>| {
                        counted.get(reason).copied().unwrap_or(0)
                    };
                    assert_eq!(count(&bed.counted().failed), count(&before) + 1, "{reason}");
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_tls_is_told_apart() {
    Bed::run(async |bed| {
        let acceptor = Authority::new().acceptor(|_| {});
        let plain = async {
            let mut plain = TcpStream::connect(bed.address()).await.unwrap();
            // More than is read before it is answered.
            let request = format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {}\r\n\r\n", "x".repeat(20_000));
            plain.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            plain.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("use https://\n"), "{answer}");
        };
        let (accepted, ()) = tokio::join!(bed.accept(&acceptor), plain);
        assert!(accepted.is_none());
        let mut junk = TcpStream::connect(bed.address()).await.unwrap();
        junk.write_all(b"\x00\x01\x02").await.unwrap();
        assert!(bed.accept(&acceptor).await.is_none());
        let broken = async {
            let mut broken = TcpStream::connect(bed.address()).await.unwrap();
            let mut record = b"\x16\x03\x01\x00\x08\x01\x00\x00\x04\xff\xff\xff\xff".to_vec();
            record.resize(20_000, 0);
            broken.write_all(&record).await.unwrap();
            let mut alert = Vec::new();
            broken.read_to_end(&mut alert).await.unwrap();
            assert_eq!(alert.first(), Some(&21), "{alert:?}");
        };
        let (accepted, ()) = tokio::join!(bed.accept(&acceptor), broken);
        assert!(accepted.is_none());
        drop(TcpStream::connect(bed.address()).await.unwrap());
        assert!(bed.accept(&acceptor).await.is_none());
        let counted = bed.failed();
        let expected = ["gone", "not_tls", "plain_http", "protocol"].map(|reason| (reason.to_owned(), 1));
        assert_eq!(counted, expected);
    })
    .await;
}

/// A ticket would be good for as long as it is used now and then, whatever has become of the certificate.
#[tokio::test]
async fn who_has_to_have_a_certificate_shows_it_each_time() {
    Bed::run(async |bed| {
        let authority = Authority::new();
        let optional = authority.acceptor(|tls| tls.client_ca = Some(authority.pem.clone()));
        let nobody = authority.acceptor(|_| {});
        for (acceptor, name, resumed) in [(&optional, Some("alice"), false), (&nobody, None, true)] {
            let config = authority.client(name);
            for is_first in [true, false] {
                let said = client(bed.address(), config.clone(), |mut stream| {
                    stream.write_all(b"x").unwrap();
                    stream.read_to_end(&mut Vec::new()).unwrap();
                    stream.conn.handshake_kind()
                });
                let (stream, _) = bed.accept(acceptor).await.unwrap();
                let mut stream = Stream::from(stream);
                stream.read_exact(&mut [0]).await.unwrap();
                drop(stream);
                let expected =
                    if resumed && !is_first { HandshakeKind::Resumed } else { HandshakeKind::Full };
                assert_eq!(said.await.unwrap(), Some(expected), "{name:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_services_could_not_take_is_not_taken() {
    Bed::run(async |bed| {
        let authority = Authority::new();
        let acceptor = authority.acceptor(|tls| tls.client_ca = Some(authority.pem.clone()));
        for (len, is_taken) in [(1_000, true), (9_000, false)] {
            let _client = client(bed.address(), authority.client(Some(&"x".repeat(len))), |mut stream| {
                let _ = stream.write_all(b"x");
                let _ = stream.read(&mut [0]);
            });
            assert_eq!(bed.accept(&acceptor).await.is_some(), is_taken, "{len}");
        }
        assert_eq!(bed.failed(), [("bad_client_certificate".to_owned(), 1)]);
    })
    .await;
}

/// With the test's clock, which goes on when everything waits for it.
#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_not_all_has_its_time() {
    Bed::run(async |bed| {
        let acceptor = Authority::new().acceptor(|_| {});
        let start = tokio::time::Instant::now();
        let _silent = TcpStream::connect(bed.address()).await.unwrap();
        assert!(bed.accept(&acceptor).await.is_none());
        let mut slow = TcpStream::connect(bed.address()).await.unwrap();
        slow.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        assert!(bed.accept(&acceptor).await.is_none());
        assert_eq!(bed.failed(), [("timeout".to_owned(), 2)]);
        assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
        assert_eq!(bed.thread.connections(), 0);
    })
    .await;
}

/// Of which there is one at a time: who has had it lets every other task of the thread go on before the next one has it.
#[tokio::test(start_paused = true)]
async fn the_cryptography_of_a_handshake_waits_for_its_turn_and_not_for_ever() {
    Bed::run(async |bed| {
        let authority = Authority::new();
        let acceptor = authority.acceptor(|_| {});
        let connect = || {
            client(bed.address(), authority.client(None), |mut stream| {
                let _ = stream.write_all(b"x");
                let _ = stream.read(&mut [0]);
            })
        };
        let turn = bed.thread.handshakes.turn.acquire().await.unwrap();
        let _clients = [connect(), connect()];
        assert!(bed.accept(&acceptor).await.is_none());
        assert_eq!(bed.failed(), [("timeout".to_owned(), 1)]);
        drop(turn);
        // The other client is a real one, which needs the time that it needs.
        tokio::time::resume();
        assert!(bed.accept(&acceptor).await.is_some());
    })
    .await;
}

/// What a worker says that has one thing to say, over and over.
async fn worker(listener: tokio::net::UnixListener, said: Vec<u8>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    loop {
        let mut some = [0; 1024];
        let read = stream.read(&mut some).await.unwrap();
        if read == 0 {
            return;
        }
        request.extend_from_slice(&some[..read]);
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            stream.write_all(&said).await.unwrap();
        }
    }
}

/// The last piece of what was written waits in the session and not in the kernel, and nobody closes the connection.
#[tokio::test]
async fn the_end_of_an_answer_comes_to_a_client_that_reads_slowly() {
    const SIZE: usize = 200_000;
    let upgraded = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: PROTOCOL\r\n\r\n";
    let frame = b"\x82\x7f\0\0\0\0\0\x03\x0d\x40".to_vec();
    let kinds = [
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"), "none", Vec::new()),
        (upgraded.to_owned(), "other", Vec::new()),
        (upgraded.to_owned(), "websocket", frame),
    ];
    for (head, protocol, begin) in kinds {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.sock");
        Bed::run(async |bed| {
            let mut said = head.replace("PROTOCOL", protocol).into_bytes();
            said.extend_from_slice(&begin);
            let head_len = said.len();
            said.resize(head_len + SIZE, b'x');
            tokio::task::spawn_local(worker(tokio::net::UnixListener::bind(&path).unwrap(), said));
            let endpoint = Some(mesh::Endpoint::Unix { path: path.clone() });
            let state = mesh::WorkerState::Ready;
            let one =
                mesh::Worker { run: 1, index: 0, endpoint, state, drain_ms: None, cgroup: None, pid: None };
            let service = mesh::Service { workers: vec![one], ..mesh::Service::default() };
            let route = mesh::Route { path: "/".into(), service: "web".into(), ..mesh::Route::default() };
            let services = [("web".to_owned(), service)].into();
            bed.thread.apply(&mesh::Snapshot { services, routes: vec![route], ..mesh::Snapshot::default() });
            let authority = Authority::new();
            let received = client(bed.address(), authority.client(None), move |mut stream| {
                let request = format!(
                    "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"
                );
                stream.write_all(request.as_bytes()).unwrap();
                let mut all = Vec::new();
                let mut some = [0; 1000];
                while all
                    .windows(4)
                    .position(|end| end == b"\r\n\r\n")
                    .is_none_or(|end| all.len() < end + 4 + SIZE)
                {
                    let read = stream.read(&mut some).unwrap();
                    all.extend_from_slice(&some[..read]);
                }
                // Which ends no sooner than this is looked at.
                (all.len(), stream)
            });
            let (socket, _) = bed.listener.accept().await.unwrap();
            socket2::SockRef::from(&socket).set_send_buffer_size(4096).unwrap();
            let (stream, _) = accept(&bed.thread, &authority.acceptor(|_| {}), socket).await.unwrap();
            let side = crate::http::Side::Gateway;
            let client =
                crate::http::Client { side, peer: None, local: None, tls: None, terms: Default::default() };
            let served = async {
                crate::http::serve(&bed.thread, stream, client).await;
            };
            tokio::select! {
                received = received => assert!(received.unwrap().0 >= SIZE, "{protocol}"),
                () = served => panic!("{protocol}: it ended"),
            }
        })
        .await;
    }
}
