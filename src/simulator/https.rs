//! An HTTPS server for what is no push endpoint, token endpoints above all: HTTP/1.1 and HTTP/2, whichever the client speaks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before accepting is tried again when it failed: another process has the port, or files have run out.
const AGAIN: Duration = Duration::from_millis(20);
/// Handshakes under way at once; more clients wait in the backlog.
const HANDSHAKES: usize = 256;

/// A connection that may come about.
type Handshake = BoxFuture<'static, Option<(TlsStream<TcpStream>, SocketAddr)>>;

/// A listening socket with TLS behind it.
struct Https {
    address: SocketAddr,
    listener: Option<TcpListener>,
    acceptor: TlsAcceptor,
    /// While true nobody listens.
    refuse: watch::Receiver<bool>,
    handshakes: FuturesUnordered<Handshake>,
}

/// Serves `routes` on a bound socket until stopped. While `refuse` holds, connecting is refused by the system.
pub async fn serve(
    listener: std::net::TcpListener,
    tls: &rustls::ServerConfig,
    routes: Router,
    refuse: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let Ok(address) = listener.local_addr() else { return };
    let https = Https {
        address,
        listener: TcpListener::from_std(listener).ok(),
        acceptor: TlsAcceptor::from(Arc::new(tls)),
        refuse,
        handshakes: FuturesUnordered::new(),
    };
    tokio::select! {
        () = stop.cancelled() => {}
        served = axum::serve(https, routes) => {
            if let Err(error) = served {
                tracing::warn!(%error, "simulator: an https endpoint ended");
            }
        }
    }
}

impl Https {
    async fn next_tcp(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            if *self.refuse.borrow_and_update() {
                self.listener = None;
                if self.refuse.changed().await.is_err() {
                    return std::future::pending().await; // nobody is left to allow connections again
                }
                continue;
            }
            if self.listener.is_none() {
                self.listener = Some(TcpListener::bind(self.address).await?);
            }
            let Some(listener) = &self.listener else { continue };
            tokio::select! {
                accepted = listener.accept() => return accepted,
                Ok(()) = self.refuse.changed() => {}
            }
        }
    }
}

impl axum::serve::Listener for Https {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    /// The next connection whose handshake is done; slow ones hold nobody up.
    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let mut handshakes = std::mem::take(&mut self.handshakes);
        let accepted = loop {
            tokio::select! {
                Some(done) = handshakes.next(), if !handshakes.is_empty() => {
                    if let Some(accepted) = done {
                        break accepted;
                    }
                }
                next = self.next_tcp(), if handshakes.len() < HANDSHAKES => match next {
                    Ok((stream, address)) => handshakes.push(handshake(self.acceptor.clone(), stream, address)),
                    Err(_) => tokio::time::sleep(AGAIN).await,
                },
            }
        };
        self.handshakes = handshakes;
        accepted
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

fn handshake(acceptor: TlsAcceptor, stream: TcpStream, address: SocketAddr) -> Handshake {
    Box::pin(async move {
        let _ = stream.set_nodelay(true);
        let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
        accepted.ok()?.ok().map(|stream| (stream, address))
    })
}
