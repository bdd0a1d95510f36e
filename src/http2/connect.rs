//! From a name to a connection that speaks HTTP/2: resolve, connect, TLS, SETTINGS, all within one deadline.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::PoolSettings;
use super::channel::Channel;
use super::link::Link;

/// Head start of an address over the next one (RFC 8305, 5: 250 ms).
const HEAD_START: Duration = Duration::from_millis(250);
/// A connection's socket.
pub(super) type Tls = TlsStream<TcpStream>;

/// Why no connection was had.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot resolve {host}: {source}; check the name and the resolver")]
    Resolve { host: String, source: io::Error },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error("cannot connect to {host}: {tried}")]
    Refused { host: String, tried: String },
    #[error("{host} is not a host name or an IP address")]
    BadName { host: String },
    #[error(
        "the certificate of {host} ({peer}) is not trusted: {reason}; check the host's name, or give its CA in \
         SSL_CERT_FILE or in the provider's caFile setting"
    )]
    Untrusted { host: String, peer: SocketAddr, reason: String },
    #[error("TLS with {host} ({peer}) failed: {source}")]
    Tls { host: String, peer: SocketAddr, source: io::Error },
    #[error("{host} ({peer}) did not choose HTTP/2 (ALPN h2): is there a proxy in between that ends TLS?")]
    NoAlpn { host: String, peer: SocketAddr },
    #[error("{host} ({peer}) does not speak HTTP/2: {reason}")]
    Http2 { host: String, peer: SocketAddr, reason: String },
    #[error("no end of {stage} with {host} within {limit:?}")]
    Timeout { stage: &'static str, host: String, limit: Duration },
}

/// A fresh connection whose peer has said how many streams it allows.
pub(super) struct Opened {
    pub(super) link: Arc<Link>,
    pub(super) channel: Channel<Tls>,
    pub(super) peer: SocketAddr,
    /// The version of TLS, in words.
    pub(super) tls: &'static str,
}

/// The family of addresses to begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Family {
    /// As RFC 8305 has it.
    #[default]
    V6,
    /// After a failure that began with the other: its connections may be accepted and carry nothing, as behind a tunnel that
    /// drops large packets.
    V4,
}

impl Family {
    /// The one to begin with after a failure.
    pub(super) fn other(self) -> Family {
        match self {
            Family::V6 => Family::V4,
            Family::V4 => Family::V6,
        }
    }

    /// The families in turn, this one first.
    fn first(self, v6: Vec<SocketAddr>, v4: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
        let (first, second) = if self == Family::V6 { (v6, v4) } else { (v4, v6) };
        let (mut first, mut second) = (first.into_iter(), second.into_iter());
        let mut addresses = VecDeque::new();
        loop {
            let (one, other) = (first.next(), second.next());
            if one.is_none() && other.is_none() {
                return addresses;
            }
            addresses.extend(one.into_iter().chain(other));
        }
    }
}

/// Opens one connection.
pub(super) async fn open(
    settings: &PoolSettings,
    tls: &Arc<ClientConfig>,
    family: Family,
) -> Result<Opened, ConnectError> {
    let host = settings.host.trim_start_matches('[').trim_end_matches(']');
    let deadline = Instant::now() + settings.connect_timeout;
    let late = |stage| move |_| ConnectError::Timeout { stage, host: host.to_owned(), limit: settings.connect_timeout };
    let addresses =
        timeout_at(deadline, resolve(host, settings.port, family)).await.map_err(late("name resolution"))??;
    let tcp = timeout_at(deadline, connect_any(host, addresses)).await.map_err(late("TCP connect"))??;
    let (stream, peer) = tcp;
    let stream = timeout_at(deadline, secure(host, stream, peer, tls)).await.map_err(late("TLS handshake"))??;
    timeout_at(deadline, speak(host, stream, peer, settings.reads)).await.map_err(late("HTTP/2 handshake"))?
}

/// Asks the resolver anew, so that connections land on different servers (Apple: Establishing a connection to APNs).
async fn resolve(host: &str, port: u16, family: Family) -> Result<VecDeque<SocketAddr>, ConnectError> {
    let found = tokio::net::lookup_host((host, port)).await;
    let addresses = found.map_err(|source| ConnectError::Resolve { host: host.to_owned(), source })?;
    let (mut v6, mut v4): (Vec<_>, Vec<_>) = addresses.partition(SocketAddr::is_ipv6);
    fastrand::shuffle(&mut v6);
    fastrand::shuffle(&mut v4);
    let addresses = family.first(v6, v4);
    if addresses.is_empty() { Err(ConnectError::NoAddress { host: host.to_owned() }) } else { Ok(addresses) }
}

/// The first address that accepts, each with a head start over the next (a simple "happy eyeballs", RFC 8305).
async fn connect_any(host: &str, mut addresses: VecDeque<SocketAddr>) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut attempts = FuturesUnordered::new();
    let mut tried = Vec::new();
    loop {
        if let Some(address) = addresses.pop_front() {
            attempts.push(async move { (address, TcpStream::connect(address).await) });
        }
        let head_start = sleep(HEAD_START);
        tokio::select! {
            biased;
            Some((address, outcome)) = attempts.next() => match outcome {
                Ok(stream) => {
                    // Without this a small request may wait for the answer to the one before it.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(peer = %address, %error, "cannot set TCP_NODELAY");
                    }
                    return Ok((stream, address));
                }
                Err(error) => tried.push(format!("{address}: {error}")),
            },
            () = head_start, if !addresses.is_empty() => {}
        }
        if attempts.is_empty() && addresses.is_empty() {
            return Err(ConnectError::Refused { host: host.to_owned(), tried: tried.join(", ") });
        }
    }
}

async fn secure(host: &str, stream: TcpStream, peer: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Tls, ConnectError> {
    let name = match host.parse::<IpAddr>() {
        Ok(address) => ServerName::from(address),
        Err(_) => ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::BadName { host: host.to_owned() })?,
    };
    let connecting = TlsConnector::from(tls.clone()).connect(name, stream);
    let stream = connecting.await.map_err(|error| refused_by_tls(host, peer, error))?;
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Ok(stream),
        _ => Err(ConnectError::NoAlpn { host: host.to_owned(), peer }),
    }
}

fn refused_by_tls(host: &str, peer: SocketAddr, error: io::Error) -> ConnectError {
    let host = host.to_owned();
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(reason)) = cause {
        return ConnectError::Untrusted { host, peer, reason: reason.to_string() };
    }
    ConnectError::Tls { host, peer, source: error }
}

/// Says the preface and waits until the peer's SETTINGS allow a stream: before that nobody knows how many, and one that allows none is no
/// connection yet.
async fn speak(host: &str, stream: Tls, peer: SocketAddr, reads: &[&'static str]) -> Result<Opened, ConnectError> {
    let tls = match stream.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS 1.3",
    };
    let link = Arc::new(Link::new(reads));
    let mut channel = Channel::new(link.clone(), stream);
    std::future::poll_fn(|cx| match channel.poll(cx) {
        Poll::Ready(end) => Poll::Ready(Err(end.told(link.session().goaway().as_deref()))),
        Poll::Pending if link.session().is_open() && !channel.is_broken() => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await
    .map_err(|reason| ConnectError::Http2 { host: host.to_owned(), peer, reason })?;
    Ok(Opened { link, channel, peer, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let v6: Vec<SocketAddr> = vec!["[::1]:1".parse().unwrap()];
        let v4: Vec<SocketAddr> = vec!["127.0.0.1:1".parse().unwrap(), "127.0.0.2:1".parse().unwrap()];
        let order = |family: Family| -> Vec<String> {
            family.first(v6.clone(), v4.clone()).iter().map(ToString::to_string).collect()
        };
        assert_eq!(order(Family::default()), ["[::1]:1", "127.0.0.1:1", "127.0.0.2:1"]);
        assert_eq!(order(Family::V6.other()), ["127.0.0.1:1", "[::1]:1", "127.0.0.2:1"]);
        assert_eq!(Family::V4.other(), Family::V6);
    }

    #[tokio::test]
    async fn a_refusing_address_gives_way_to_the_next_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (good, bad) = (listener.local_addr().unwrap(), gone.local_addr().unwrap());
        drop(gone);
        let (_, peer) = connect_any("test", VecDeque::from([bad, good])).await.unwrap();
        assert_eq!(peer, good);
        let error = connect_any("test", VecDeque::from([bad])).await.unwrap_err().to_string();
        assert!(error.contains(&bad.to_string()), "{error}");
    }
}
