//! Sockets and threads: accepts connections, does TLS, and runs each connection on one of a few threads of its own.
//!
//! The threads are the simulator's and not the caller's runtime, so that a test's paused clock does not stop the provider
//! and its CPU time can be told from the worker's.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::counters::Counters;
use super::delay::delayed;
use super::levers::Levers;
use super::service::{Command, Service};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before a port that another process has taken meanwhile is tried again.
const REBIND: Duration = Duration::from_millis(20);
/// Connections handed to a thread and not yet taken.
const HANDED: usize = 1024;
/// Orders kept for a connection that is slow to take them.
const ORDERS: usize = 16;

/// What the threads share.
#[derive(Debug)]
pub struct Shared<S> {
    service: Arc<S>,
    tls: Arc<rustls::ServerConfig>,
    /// What was seen.
    pub counters: Arc<Counters>,
    /// How connections behave.
    levers: watch::Sender<Levers>,
    orders: broadcast::Sender<Command>,
    stop: CancellationToken,
}

/// A connection that was accepted, bound from that moment on to what is ordered.
struct Accepted {
    stream: StdStream,
    levers: Levers,
    commands: broadcast::Receiver<Command>,
}

impl<S> Shared<S> {
    /// A connection that comes in now; `None` while connections are refused.
    ///
    /// It hears orders before the levers are looked at: who first refuses connections and then closes those that are open
    /// leaves none, however far one has come.
    fn take_in(&self, stream: StdStream) -> Option<Accepted> {
        let commands = self.orders.subscribe();
        let levers = *self.levers.borrow();
        (!levers.refuse_connections).then_some(Accepted { stream, levers, commands })
    }

    /// Changes how connections behave from now on.
    pub fn set_levers(&self, levers: Levers) {
        self.levers.send_replace(levers.clamped());
    }

    /// Gives an order to every open connection.
    pub fn order(&self, command: Command) {
        // An error means that there is no connection.
        let _ = self.orders.send(command);
    }
}

/// A running listener. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Listener<S> {
    address: SocketAddr,
    /// What the threads share.
    pub shared: Arc<Shared<S>>,
    threads: Vec<JoinHandle<()>>,
}

impl<S: Service> Listener<S> {
    /// Binds `address` (port 0: any free one) and serves on `threads` threads.
    pub fn start(
        address: SocketAddr,
        threads: usize,
        tls: Arc<rustls::ServerConfig>,
        service: Arc<S>,
        counters: Arc<Counters>,
        levers: Levers,
    ) -> io::Result<Self> {
        let listener = StdListener::bind(address)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            service,
            tls,
            counters,
            levers: watch::Sender::new(levers.clamped()),
            orders: broadcast::Sender::new(ORDERS),
            stop: CancellationToken::new(),
        });
        let mut joined = Vec::new();
        let mut hands = Vec::new();
        for index in 0..threads.max(1) {
            let (hand, handed) = mpsc::channel(HANDED);
            hands.push(hand);
            joined.push(thread(&format!("simulator-{index}"), &shared, move |shared| serve(shared, handed))?);
        }
        joined.push(thread("simulator-accept", &shared, move |shared| accept(shared, listener, address, hands))?);
        Ok(Listener { address, shared, threads: joined })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs something on a thread of its own until the listener stops; for the control endpoint.
    pub fn beside<F>(
        &mut self,
        name: &str,
        task: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = ()>,
    {
        self.threads.push(thread(name, &self.shared, move |shared| task(shared.stop.clone()))?);
        Ok(())
    }

    /// Ends all connections and waits for the threads.
    pub async fn stop(mut self) {
        self.shared.stop.cancel();
        let threads = std::mem::take(&mut self.threads);
        // Joining blocks for the moment that the threads need to end.
        let _ = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await;
    }
}

impl<S> Drop for Listener<S> {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// Starts a thread with a runtime of its own.
fn thread<S: Service, F: Future<Output = ()>>(
    name: &str,
    shared: &Arc<Shared<S>>,
    main: impl FnOnce(Arc<Shared<S>>) -> F + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shared = Arc::clone(shared);
    std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(main(shared)))
}

/// Accepts, and hands connections to the serving threads in turn.
async fn accept<S: Service>(
    shared: Arc<Shared<S>>,
    listener: StdListener,
    address: SocketAddr,
    hands: Vec<mpsc::Sender<Accepted>>,
) {
    let mut listener = TcpListener::from_std(listener).ok();
    let mut levers = shared.levers.subscribe();
    let mut turn = hands.iter().cycle();
    loop {
        let refuse = levers.borrow_and_update().refuse_connections;
        if refuse {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        let next = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None if refuse => std::future::pending().await,
                None => {
                    tokio::time::sleep(REBIND).await;
                    Err(io::ErrorKind::AddrInUse.into())
                }
            }
        };
        let stream = tokio::select! {
            () = shared.stop.cancelled() => return,
            _ = levers.changed() => continue,
            accepted = next => accepted.and_then(|(stream, _)| stream.into_std()),
        };
        let accepted = stream.ok().and_then(|stream| shared.take_in(stream));
        if let (Some(accepted), Some(hand)) = (accepted, turn.next()) {
            // A thread whose queue is full is overrun: the connection is dropped, as a full backlog would do.
            let _ = hand.try_send(accepted);
        }
    }
}

/// Serves the connections that are handed over, each in a task.
async fn serve<S: Service>(shared: Arc<Shared<S>>, mut handed: mpsc::Receiver<Accepted>) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = handed.recv() => accepted,
        };
        let Some(accepted) = accepted else { return };
        connections.spawn(connection(Arc::clone(&shared), accepted));
    }
}

async fn connection<S: Service>(shared: Arc<Shared<S>>, accepted: Accepted) {
    let Accepted { stream, levers, commands } = accepted;
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let _ = stream.set_nodelay(true);
    if levers.fail_tls {
        shared.counters.connect().closed.store(true, Relaxed);
        shared.counters.tls_failures.fetch_add(1, Relaxed);
        refuse_tls(stream).await;
    } else if levers.rtt_ms == 0 {
        serve_one(&shared, levers, commands, stream).await;
    } else {
        let (near, pump) = delayed(stream, Duration::from_millis(levers.rtt_ms));
        tokio::select! {
            () = serve_one(&shared, levers, commands, near) => {}
            () = pump => {}
        }
    }
}

async fn serve_one<S: Service>(
    shared: &Arc<Shared<S>>,
    levers: Levers,
    commands: broadcast::Receiver<Command>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
) {
    let own = shared.counters.connect();
    let acceptor = TlsAcceptor::from(Arc::clone(&shared.tls));
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let greeted = |stream: &TlsStream<_>| !S::NEEDS_ALPN || stream.get_ref().1.alpn_protocol().is_some();
    let Some(stream) = handshake.ok().and_then(Result::ok).filter(greeted) else {
        shared.counters.tls_failures.fetch_add(1, Relaxed);
        own.closed.store(true, Relaxed);
        return;
    };
    shared.counters.tls_handshakes.fetch_add(1, Relaxed);
    let opened =
        Connection::open(stream, levers, Arc::clone(&shared.service), Arc::clone(&shared.counters), Arc::clone(&own));
    match opened.await {
        Ok(connection) => connection.run(commands).await,
        Err(error) => {
            own.closed.store(true, Relaxed);
            if !error.is_io() {
                shared.counters.protocol_errors.fetch_add(1, Relaxed);
            }
        }
    }
}

/// Answers a handshake with a fatal alert, `handshake_failure` (RFC 8446, 6).
async fn refuse_tls(mut stream: TcpStream) {
    // What the client says first is read: closing over unread bytes would reset the connection and lose the alert.
    let hello = stream.readable();
    if tokio::time::timeout(HANDSHAKE_TIMEOUT, hello).await.is_ok() {
        let _ = stream.try_read(&mut [0; 16 * 1024]);
        let _ = stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]).await;
        let _ = stream.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nobody;

    fn shared() -> Shared<Nobody> {
        Shared {
            service: Arc::new(Nobody),
            tls: crate::simulator::tls::identity(&["localhost".to_owned()], None).expect("an identity").server,
            counters: Arc::default(),
            levers: watch::Sender::new(Levers::default()),
            orders: broadcast::Sender::new(ORDERS),
            stop: CancellationToken::new(),
        }
    }

    /// A connection in the middle of its handshake must not outlive "refuse, then close": a provider that cannot be reached
    /// would be reached through it.
    #[test]
    fn what_was_accepted_before_connections_are_refused_hears_that_it_is_to_close() {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let connect = || StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let shared = shared();
        let mut early = shared.take_in(connect()).expect("nothing is refused yet");
        shared.set_levers(Levers { refuse_connections: true, ..Levers::default() });
        shared.order(Command::Close);
        assert!(matches!(early.commands.try_recv(), Ok(Command::Close)));
        assert!(shared.take_in(connect()).is_none());
    }
}
