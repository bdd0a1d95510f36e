//! The server's connections. They share descriptors with those that push, so that there are not too many at a time, and none is kept
//! for a peer that is gone, says nothing or takes nothing.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// At a time; more wait in the kernel's queue.
const MOST: usize = 256;
/// Longest time in which no byte is read or written. Above what probes and scrapers let pass between two questions, and what an
/// order's answer takes.
const LONGEST_SILENCE: Duration = Duration::from_secs(75);

/// A listener whose connections are bounded in number and in silence.
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    longest_silence: Duration,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Self {
        Bounded::with(listener, MOST, LONGEST_SILENCE)
    }

    fn with(listener: TcpListener, most: usize, longest_silence: Duration) -> Self {
        Bounded { listener, places: Arc::new(Semaphore::new(most)), longest_silence }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // Nobody closes it.
        let place = self.places.clone().acquire_owned().await.ok();
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let silence = Box::pin(sleep(self.longest_silence));
        (Connection { stream, silence, longest: self.longest_silence, _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Peer(*stream.remote_addr())
    }
}

/// A connection that ends when it has been silent for too long.
pub(super) struct Connection {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    longest: Duration,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// What the socket says, unless it has said nothing for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, said: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if said.is_ready() {
            self.silence.as_mut().reset(Instant::now() + self.longest);
            return said;
        }
        ready!(self.silence.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let said = pin!(&mut self.stream).poll_read(cx, into);
        self.watch(cx, said)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let said = pin!(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, said)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let said = pin!(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, said)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";

    /// A server with so many places, at its address.
    async fn serve(most: usize, longest_silence: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "well"));
        tokio::spawn(async move { axum::serve(Bounded::with(listener, most, longest_silence), router).await });
        address
    }

    async fn answer(stream: &mut TcpStream) -> String {
        let mut bytes = [0; 1024];
        let len = stream.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    #[tokio::test]
    async fn who_says_nothing_makes_room_for_who_does() {
        let address = serve(2, Duration::from_millis(200)).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HT").await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(ASK).await.unwrap();
        assert!(answer(&mut third).await.ends_with("well"));
        for ended in [&mut silent, &mut slow] {
            let read = ended.read_to_end(&mut Vec::new()).await;
            assert!(read.is_ok() || read.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
        }
    }

    #[tokio::test]
    async fn who_goes_on_asking_stays() {
        let address = serve(1, Duration::from_millis(400)).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        for _ in 0..6 {
            stream.write_all(ASK).await.unwrap();
            assert!(answer(&mut stream).await.ends_with("well"));
            sleep(Duration::from_millis(100)).await;
        }
    }

    #[tokio::test]
    async fn who_takes_nothing_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut bounded = Bounded::with(listener, 1, Duration::from_millis(200));
        let reader = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = bounded.accept().await;
        let written = async {
            loop {
                connection.write_all(&[0; 4096]).await?;
            }
        };
        let written: io::Result<()> = tokio::time::timeout(Duration::from_secs(20), written).await.unwrap();
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(reader);
    }
}
