//! Asks the host's resolvers what the proxy does not know by itself.
//!
//! Each question goes out from a socket of its own, so that port and id are fresh random numbers (RFC 5452 §9),
//! and only an answer from the asked address with both and the same question is taken. A resolver that stays
//! silent or cannot answer is followed by the next one; then all get a second chance.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::message::{Outcome, Query};

/// How long one resolver may take before the next one is asked.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long a question may take in all. Clients wait 5 s by default (resolv.conf(5)) and then ask again.
const TIMEOUT: Duration = Duration::from_millis(4500);
/// How often the list of resolvers is gone through.
const ROUNDS: usize = 2;

/// How a question came in, and so how it goes out: a client that uses TCP has seen that UDP is too small, and one
/// that uses UDP gets the same cut answer that it would have got from the resolver itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// The answer of the first resolver that knows, else the last answer of one that did not; `None` when nobody
/// answered in time.
pub(crate) async fn forward(
    query: &Query<'_>,
    resolvers: &[SocketAddr],
    transport: Transport,
) -> Option<Vec<u8>> {
    let mut refusal = None;
    // On a timeout the refusal that was received before is still worth more than nothing.
    let known = timeout(TIMEOUT, ask_all(query, resolvers, transport, &mut refusal)).await.ok().flatten();
    let mut reply = known.or(refusal)?;
    query.restore_id(&mut reply);
    Some(reply)
}

async fn ask_all(
    query: &Query<'_>,
    resolvers: &[SocketAddr],
    transport: Transport,
    refusal: &mut Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    for resolver in resolvers.iter().cycle().take(resolvers.len() * ROUNDS) {
        let attempt = async {
            match transport {
                Transport::Udp => ask_udp(query, *resolver).await,
                Transport::Tcp => ask_tcp(query, *resolver).await,
            }
        };
        match timeout(ATTEMPT_TIMEOUT, attempt).await {
            Ok(Ok(reply)) if Outcome::of(&reply) == Outcome::Known => return Some(reply),
            Ok(Ok(reply)) => *refusal = Some(reply),
            Ok(Err(error)) => tracing::debug!(%resolver, %error, "a resolver cannot be asked"),
            Err(_) => tracing::debug!(%resolver, "a resolver does not answer"),
        }
    }
    None
}

async fn ask_udp(query: &Query<'_>, resolver: SocketAddr) -> io::Result<Vec<u8>> {
    let any = if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(resolver).await?;
    let id = random_id()?;
    socket.send(&query.with_id(id)).await?;
    // One byte more than fits, to notice an answer that was cut by the kernel.
    let mut reply = vec![0; query.udp_size() + 1];
    loop {
        let size = socket.recv(&mut reply).await?;
        if size < reply.len() && query.is_answered_by(&reply[..size], id) {
            reply.truncate(size);
            return Ok(reply);
        }
    }
}

async fn ask_tcp(query: &Query<'_>, resolver: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let id = random_id()?;
    stream.write_all(&framed(&query.with_id(id))?).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    if !query.is_answered_by(&reply, id) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is to another question"));
    }
    Ok(reply)
}

/// A message with its length in front (RFC 1035 §4.2.2), in one piece (RFC 7766 §8).
pub(crate) fn framed(message: &[u8]) -> io::Result<Vec<u8>> {
    let size = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok([&size.to_be_bytes(), message].concat())
}

/// From the kernel: ids of the thread's own generator could be guessed from a few that were seen.
fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    (filled == bytes.len())
        .then(|| u16::from_ne_bytes(bytes))
        .ok_or_else(|| io::ErrorKind::Interrupted.into())
}

#[cfg(test)]
mod tests {
    use super::{
        super::message::{Rcode, kind, tests::question},
        *,
    };

    /// A resolver that answers each question with what `answer` makes of it.
    async fn resolver(answer: impl Fn(Vec<u8>) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            while let Ok((size, from)) = socket.recv_from(&mut bytes).await {
                for reply in answer(bytes[..size].to_vec()) {
                    let _ = socket.send_to(&reply, from).await;
                }
            }
        });
        address
    }

    fn with_rcode(mut message: Vec<u8>, rcode: Rcode) -> Vec<u8> {
        message[2] |= 0x80;
        message[3] = rcode as u8;
        message
    }

    async fn ask(resolvers: &[SocketAddr]) -> Option<Vec<u8>> {
        let bytes = question("example.com", kind::A);
        let query = Query::parse(&bytes).unwrap();
        forward(&query, resolvers, Transport::Udp).await
    }

    #[tokio::test]
    async fn the_clients_id_is_kept_inside_and_given_back() {
        let (seen, mut ids) = tokio::sync::mpsc::unbounded_channel();
        let known = resolver(move |message| {
            seen.send([message[0], message[1]]).unwrap();
            vec![with_rcode(message, Rcode::NoError)]
        })
        .await;
        for _ in 0..4 {
            assert_eq!(ask(&[known]).await.unwrap()[..2], [0xab, 0xcd]);
        }
        let ids: Vec<_> = std::iter::from_fn(|| ids.try_recv().ok()).collect();
        assert!(ids.iter().any(|id| *id != ids[0]), "the same id each time: {ids:?}");
    }

    #[tokio::test]
    async fn a_silent_resolver_is_followed_by_the_next() {
        tokio::time::pause();
        let silent = resolver(|_| vec![]).await;
        let known = resolver(|message| vec![with_rcode(message, Rcode::NoSuchName)]).await;
        assert_eq!(ask(&[silent, known]).await.unwrap()[3], Rcode::NoSuchName as u8);
    }

    #[tokio::test]
    async fn an_unable_resolver_is_followed_by_the_next() {
        let unable = resolver(|message| vec![with_rcode(message, Rcode::ServerFailure)]).await;
        let known = resolver(|message| vec![with_rcode(message, Rcode::NoError)]).await;
        assert_eq!(ask(&[unable, known]).await.unwrap()[3], Rcode::NoError as u8);
        assert_eq!(ask(&[unable]).await.unwrap()[3], Rcode::ServerFailure as u8);
    }

    #[tokio::test]
    async fn an_answer_that_does_not_match_is_not_taken() {
        let liar = resolver(|message| {
            let mut other_id = with_rcode(message.clone(), Rcode::Refused);
            other_id[0] ^= 1;
            let mut other_name = with_rcode(message.clone(), Rcode::Refused);
            other_name[14] = b'z';
            vec![other_id, other_name, b"x".to_vec(), with_rcode(message, Rcode::NoError)]
        })
        .await;
        assert_eq!(ask(&[liar]).await.unwrap()[3], Rcode::NoError as u8);
    }

    #[tokio::test]
    async fn without_an_answer_it_ends() {
        tokio::time::pause();
        let silent = resolver(|_| vec![]).await;
        assert_eq!(ask(&[silent, silent, silent]).await, None);
        assert_eq!(ask(&[]).await, None);
    }
}
