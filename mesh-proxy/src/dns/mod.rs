//! Name questions of private workers: the mesh's names are answered, others are asked of the host's
//! resolvers, if the service's list of destinations has them. What they lead to is remembered for the
//! connections that follow.
//!
//! Every question is answered, with SERVFAIL when nothing better is known in time, because a client that hears
//! nothing waits for seconds.

mod answer;
mod forward;
mod message;
mod name;
mod names;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, recvfrom, sendto},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task,
    time::timeout,
};

use self::{
    forward::{Transport, forward, framed},
    message::{HEADER_SIZE, Malformed, Query, Rcode, truncate},
    names::Verdict,
};

use crate::{egress, view::View};

pub(crate) use name::Name;
pub(crate) use names::Names;

#[cfg(test)]
pub(crate) use answer::tests::reply;

/// Questions of one listener that may wait for a resolver at a time. More are answered SERVFAIL.
const WAITING_MAX: usize = 128;
/// How long a client may be silent on a connection (RFC 7766 §6.2.3 asks for seconds), or slow in taking an
/// answer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest question that is read over UDP. Names have 255 bytes at most, EDNS options of clients are short.
const QUESTION_SIZE_MAX: usize = 4096;

/// What the answers come from.
#[derive(Debug)]
pub(crate) struct Zone {
    /// Answered here.
    pub(crate) names: Names,
    /// Asked for everything else.
    pub(crate) resolvers: Vec<SocketAddr>,
}

/// Answers for one listener.
pub(crate) struct Answerer {
    caller: Rc<str>,
    view: Box<dyn Fn() -> Arc<View>>,
    waiting: Arc<Semaphore>,
}

impl Answerer {
    /// For questions of this service. `view` gives the present snapshot: it is asked again for each question,
    /// so that a new one counts at once.
    pub(crate) fn new(caller: Rc<str>, view: impl Fn() -> Arc<View> + 'static) -> Rc<Self> {
        Rc::new(Self { caller, view: Box::new(view), waiting: Arc::new(Semaphore::new(WAITING_MAX)) })
    }

    /// Answers what has come to a UDP socket, until nothing is left there. What resolvers are asked is answered later.
    ///
    /// # Errors
    /// What the kernel says of the socket.
    pub(crate) async fn answer_udp(self: &Rc<Self>, socket: &Rc<OwnedFd>) -> io::Result<()> {
        loop {
            // Clients that ask without a pause must not keep the thread to themselves.
            task::consume_budget().await;
            let mut bytes = [0; QUESTION_SIZE_MAX];
            let (size, client) = match recvfrom(socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((size, _, client)) => (size, client.and_then(|client| SocketAddr::try_from(client).ok())),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            // The kernel names the client of every question (udp(7)).
            let Some(client) = client else { continue };
            match self.decide(&bytes[..size]) {
                Step::Drop => {}
                Step::Answer(reply) => send(socket, &reply, client),
                Step::Ask(permit) => {
                    let (answerer, socket, question) =
                        (Rc::clone(self), Rc::clone(socket), bytes[..size].to_vec());
                    task::spawn_local(async move {
                        if let Some(reply) = answerer.ask(&question, Transport::Udp).await {
                            send(&socket, &reply, client);
                        }
                        drop(permit);
                    });
                }
            }
        }
    }

    /// Answers on one TCP connection, one question after the other, until the client ends it or is too slow.
    pub(crate) async fn serve_tcp(&self, mut stream: TcpStream) {
        // A connection that ends badly is the client's affair.
        while let Ok(Some(question)) = read_question(&mut stream).await {
            let reply = match self.decide(&question) {
                Step::Drop => return,
                Step::Answer(reply) => Some(reply),
                Step::Ask(_permit) => self.ask(&question, Transport::Tcp).await,
            };
            let Some(Ok(reply)) = reply.map(|reply| framed(&reply)) else { return };
            if !matches!(timeout(IDLE_TIMEOUT, stream.write_all(&reply)).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    fn decide(&self, question: &[u8]) -> Step {
        let query = match Query::parse(question) {
            Ok(query) => query,
            Err(Malformed::Silent) => return Step::Drop,
            Err(Malformed::Reply(reply)) => return Step::Answer(reply),
        };
        let view = (self.view)();
        match view.zone.names.answer(&query, view.rules(&self.caller)) {
            Verdict::Answer(reply) => Step::Answer(reply),
            Verdict::Forbidden => {
                egress::refuse_name(&view, &self.caller, &query.name);
                // Clients believe this one at once; after "refused" they would ask again. Without a zone that
                // says for how long it holds, nobody keeps it (RFC 2308 §5).
                Step::Answer(query.reply_error(Rcode::NoSuchName))
            }
            Verdict::Outside => match Arc::clone(&self.waiting).try_acquire_owned() {
                Ok(permit) => Step::Ask(permit),
                Err(_) => Step::Answer(query.reply_error(Rcode::ServerFailure)),
            },
        }
    }

    /// The answer to a question that was parsed before.
    async fn ask(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let query = Query::parse(question).ok()?;
        let view = (self.view)();
        let reply = forward(&query, &view.zone.resolvers, transport).await;
        let reply = reply.unwrap_or_else(|| query.reply_error(Rcode::ServerFailure));
        // Before the service hears of them.
        view.outside.learn(&self.caller, &query.name, &answer::addresses(&reply));
        let fits = transport == Transport::Tcp || reply.len() <= query.udp_size();
        Some(if fits { reply } else { truncate(&query, &reply) })
    }
}

/// What is to be done with a message.
enum Step {
    Drop,
    Answer(Vec<u8>),
    /// Ask the resolvers, holding this.
    Ask(OwnedSemaphorePermit),
}

/// The addresses of a name, with the seconds they may be kept; none when nobody answers.
pub(crate) async fn look_up(name: &Name, resolvers: &[SocketAddr]) -> Vec<(Ipv4Addr, u32)> {
    let question = answer::question(name);
    let Ok(query) = Query::parse(&question) else { return Vec::new() };
    let reply = forward(&query, resolvers, Transport::Udp).await;
    reply.map(|reply| answer::addresses(&reply)).unwrap_or_default()
}

/// Sends what fits into the socket's buffer; UDP promises no more.
fn send(socket: &OwnedFd, reply: &[u8], client: SocketAddr) {
    if let Err(error) = sendto(socket, reply, SendFlags::DONTWAIT, &client) {
        tracing::debug!(%client, %error, "an answer to a name question was not sent");
    }
}

/// `None` at the end of the connection.
async fn read_question(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let read = async {
        let size = match stream.read_u16().await {
            Ok(size) => usize::from(size),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        if !(HEADER_SIZE..=QUESTION_SIZE_MAX).contains(&size) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut question = vec![0; size];
        stream.read_exact(&mut question).await?;
        Ok(Some(question))
    };
    timeout(IDLE_TIMEOUT, read).await?
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, UdpSocket};
    use watt_api::mesh::{Destination, EgressRule, Service, Snapshot};

    use super::{
        message::{kind, tests::*},
        *,
    };
    use crate::{bells::Bells, testing::local};

    fn answerer(resolvers: Vec<SocketAddr>) -> Rc<Answerer> {
        listed(resolvers, None).0
    }

    fn egress_to(name: Option<&str>) -> Service {
        let rule = |name: &str| EgressRule { to: Destination::Name { name: name.to_owned() }, port: None };
        Service { egress: name.map(|name| vec![rule(name)]), ..Service::default() }
    }

    /// For a service whose list is this name, if it has one.
    fn listed(resolvers: Vec<SocketAddr>, allow: Option<&str>) -> (Rc<Answerer>, Arc<View>) {
        let address = Some(Ipv4Addr::new(127, 77, 1, 0));
        let api = Service { address, ..Service::default() };
        let services = [("api".to_owned(), api), ("web".to_owned(), egress_to(allow))].into();
        let view = View::new(Snapshot { services, resolvers, ..Snapshot::default() }, None, Arc::default());
        let view = Arc::new(view);
        let present = Arc::clone(&view);
        (Answerer::new("web".into(), move || Arc::clone(&present)), view)
    }

    async fn udp_pair(answerer: Rc<Answerer>) -> UdpSocket {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(server.local_addr().unwrap()).await.unwrap();
        let (server, bells) = (Rc::new(OwnedFd::from(server)), Bells::new().unwrap());
        bells.hang(0, &server).unwrap();
        task::spawn_local(async move {
            loop {
                bells.rung().await.unwrap();
                answerer.answer_udp(&server).await.unwrap();
                bells.wind_up(0, &server).unwrap();
            }
        });
        client
    }

    async fn tcp_pair(answerer: Rc<Answerer>) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        task::spawn_local(async move { answerer.serve_tcp(server).await });
        client
    }

    async fn exchange(client: &UdpSocket, question: &[u8]) -> Vec<u8> {
        client.send(question).await.unwrap();
        let mut reply = vec![0; 4096];
        let size =
            timeout(Duration::from_secs(20), client.recv(&mut reply)).await.expect("an answer").unwrap();
        reply.truncate(size);
        reply
    }

    #[test]
    fn both_ways_know_the_services() {
        local(async {
            let client = udp_pair(answerer(vec![])).await;
            assert!(exchange(&client, &question("api.plt.local", kind::A)).await.ends_with(&[127, 77, 1, 0]));

            let mut client = tcp_pair(answerer(vec![])).await;
            for _ in 0..2 {
                client.write_all(&framed(&question("api.plt.local", kind::A)).unwrap()).await.unwrap();
                let mut reply = vec![0; usize::from(client.read_u16().await.unwrap())];
                client.read_exact(&mut reply).await.unwrap();
                assert!(reply.ends_with(&[127, 77, 1, 0]));
            }
        });
    }

    #[test]
    fn nonsense_does_not_end_the_listener() {
        local(async {
            let client = udp_pair(answerer(vec![])).await;
            for nonsense in [&b""[..], b"x", &[0xff; 600]] {
                client.send(nonsense).await.unwrap();
            }
            assert_eq!(exchange(&client, &[1; 12]).await[..2], [1, 1]);
            assert!(exchange(&client, &question("api.plt.local", kind::A)).await.ends_with(&[127, 77, 1, 0]));
        });
    }

    #[test]
    fn nobody_to_ask_is_a_server_failure_at_once() {
        local(async {
            let client = udp_pair(answerer(vec![])).await;
            let reply = exchange(&client, &question("example.com", kind::A)).await;
            assert_eq!(reply[3] & 0x0f, Rcode::ServerFailure as u8);
        });
    }

    #[test]
    fn only_names_of_the_list_are_asked_and_what_they_lead_to_is_remembered() {
        local(async {
            let resolver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let resolvers = vec![resolver.local_addr().unwrap()];
            let (answerer, view) = listed(resolvers, Some("*.example.org"));
            let client = udp_pair(answerer).await;
            // Nobody answers at the resolver yet: this one is not asked.
            let refused = exchange(&client, &question("evil.net", kind::A)).await;
            assert_eq!((refused[3] & 0x0f, refused[8..10].to_vec()), (Rcode::NoSuchName as u8, vec![0, 0]));

            let asked = task::spawn_local(async move {
                let mut bytes = [0; 512];
                let (size, client) = resolver.recv_from(&mut bytes).await.unwrap();
                resolver.send_to(&reply(&bytes[..size], &[[192, 0, 2, 1]], 60), client).await.unwrap();
            });
            let found = exchange(&client, &question("DB.example.org", kind::A)).await;
            assert!(found.ends_with(&[192, 0, 2, 1]));
            asked.await.unwrap();
            let names = view.outside.names_of("web", Ipv4Addr::new(192, 0, 2, 1));
            assert_eq!(names, [Arc::new(Name::new("db.example.org").unwrap())]);
            assert_eq!(view.outside.refusals().len(), 1);
        });
    }

    #[test]
    fn a_flood_of_outside_questions_is_bounded() {
        local(async {
            let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let answerer = answerer(vec![silent.local_addr().unwrap()]);
            let _waiting: Vec<_> = (0..WAITING_MAX)
                .map(|_| Arc::clone(&answerer.waiting).try_acquire_owned().unwrap())
                .collect();
            let client = udp_pair(answerer).await;
            let reply = exchange(&client, &question("example.com", kind::A)).await;
            assert_eq!(reply[3] & 0x0f, Rcode::ServerFailure as u8);
            assert!(exchange(&client, &question("api.plt.local", kind::A)).await.ends_with(&[127, 77, 1, 0]));
        });
    }

    #[test]
    fn what_is_cut_over_udp_is_whole_over_tcp() {
        local(async {
            // A resolver that cuts over UDP, and has 600 bytes to say over TCP on the same port.
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = tcp.local_addr().unwrap();
            let udp = UdpSocket::bind(address).await.unwrap();
            task::spawn_local(async move {
                let mut bytes = [0; 512];
                let (size, from) = udp.recv_from(&mut bytes).await.unwrap();
                bytes[2] |= 0x82;
                udp.send_to(&bytes[..size], from).await.unwrap();
            });
            task::spawn_local(async move {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let mut message = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut message).await.unwrap();
                message[2] |= 0x80;
                message.resize(600, 7);
                stream.write_all(&framed(&message).unwrap()).await.unwrap();
            });

            let answerer = answerer(vec![address]);
            let cut = exchange(&udp_pair(Rc::clone(&answerer)).await, &question("example.com", 16)).await;
            assert_eq!(cut[2] & 0x02, 0x02);
            let mut client = tcp_pair(answerer).await;
            client.write_all(&framed(&question("example.com", 16)).unwrap()).await.unwrap();
            assert_eq!(client.read_u16().await.unwrap(), 600);
            let mut whole = [0; 600];
            client.read_exact(&mut whole).await.unwrap();
            assert_eq!((whole[..2].to_vec(), whole[599]), (vec![0xab, 0xcd], 7));
        });
    }
}
