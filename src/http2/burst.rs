//! What many requests have to say leaves together.
//!
//! `h2` hands over each body by itself. Under it each of them would be a TLS record and a system call of its own, a tenth of all that a
//! push costs. Here the bytes of a burst wait until the connection's task has taken up everything that was queued; then they
//! leave as few records as hold them.
//!
//! What is held counts as written ([`super::traffic`]): it may leave still. So nobody can say of the burst in which a connection breaks that
//! it was not processed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is held at most, unless one write is longer: the most that one TLS record carries (RFC 8446, 5.1).
const MOST: usize = 16 * 1024;

/// The end that `h2` reads from and writes to.
#[derive(Debug)]
pub(super) struct Burst<T>(Arc<Mutex<Held<T>>>);

/// The end of whoever knows when a burst is over.
#[derive(Debug)]
pub(super) struct Exit<T>(Arc<Mutex<Held<T>>>);

#[derive(Debug)]
struct Held<T> {
    inner: T,
    bytes: Vec<u8>,
    /// How many of them have left.
    left: usize,
    /// Whether somebody sees to it that they leave. Until then they do at once.
    is_seen_to: bool,
    /// Why they could not. No byte is handed over twice: TLS may have taken them before it failed.
    broken: Option<io::ErrorKind>,
}

/// Both ends over a byte stream.
pub(super) fn burst<T>(inner: T) -> (Burst<T>, Exit<T>) {
    let held = Held { inner, bytes: Vec::new(), left: 0, is_seen_to: false, broken: None };
    let held = Arc::new(Mutex::new(held));
    (Burst(held.clone()), Exit(held))
}

impl<T: AsyncWrite + Unpin> Exit<T> {
    /// Sends what was held, after each poll of the connection: from the first call on, what is written waits for the next one.
    /// `true`: it broke, and `h2` must be polled to hear that.
    pub(super) fn leave(&self, cx: &mut Context<'_>) -> bool {
        let mut held = self.0.lock();
        held.is_seen_to = true;
        matches!(held.poll_leave(cx), Poll::Ready(Err(_)))
    }
}

impl<T: AsyncWrite + Unpin> Held<T> {
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(broken) = self.broken {
            return Poll::Ready(Err(broken.into()));
        }
        let sent = ready!(self.poll_send(cx));
        self.broken = sent.as_ref().err().map(io::Error::kind);
        Poll::Ready(sent)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.left < self.bytes.len() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &self.bytes[self.left..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                some => self.left += some,
            }
        }
        self.bytes.clear();
        self.left = 0;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Holds what was written, or sends what is held first when that would become too much.
    fn poll_hold(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if !self.bytes.is_empty() && self.bytes.len() + length > MOST {
            ready!(self.poll_leave(cx))?;
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        Poll::Ready(Ok(length))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Burst<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.lock();
        let read = Pin::new(&mut held.inner).poll_read(cx, buf);
        // What the peer said before it broke the connection comes first.
        match held.broken {
            Some(broken) if read.is_pending() => Poll::Ready(Err(broken.into())),
            _ => read,
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Burst<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut held = self.0.lock();
        if held.is_seen_to {
            return held.poll_hold(cx, parts);
        }
        Pin::new(&mut held.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Held bytes leave when the burst is over.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.lock();
        if held.is_seen_to {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut held.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.lock();
        ready!(held.poll_leave(cx))?;
        Pin::new(&mut held.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What is there to be read at once.
    async fn arrived(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        let mut bytes = vec![0; 3 * MOST];
        let mut buffer = ReadBuf::new(&mut bytes);
        let _ = poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_read(cx, &mut buffer))).await;
        buffer.filled().to_vec()
    }

    async fn leave<T: AsyncWrite + Unpin>(exit: &Exit<T>) -> bool {
        poll_fn(|cx| Poll::Ready(exit.leave(cx))).await
    }

    #[tokio::test]
    async fn a_burst_leaves_together_and_before_somebody_sees_to_that_nothing_waits() {
        let (ours, mut theirs) = tokio::io::duplex(4 * MOST);
        let (mut ours, exit) = burst(ours);
        ours.write_all(b"preface").await.unwrap();
        assert_eq!(arrived(&mut theirs).await, b"preface");
        assert!(!leave(&exit).await);
        for part in ["one", "two"] {
            ours.write_all(part.as_bytes()).await.unwrap();
            ours.flush().await.unwrap();
        }
        assert_eq!(arrived(&mut theirs).await, b"");
        assert!(!leave(&exit).await);
        assert_eq!(arrived(&mut theirs).await, b"onetwo");
        ours.write_all(b"farewell").await.unwrap();
        ours.shutdown().await.unwrap();
        assert_eq!(arrived(&mut theirs).await, b"farewell");
    }

    #[tokio::test]
    async fn no_more_is_held_than_a_record_carries_and_a_peer_that_takes_nothing_is_felt() {
        let (ours, mut theirs) = tokio::io::duplex(MOST);
        let (mut ours, exit) = burst(ours);
        leave(&exit).await;
        let half = vec![7; MOST / 2];
        for _ in 0..2 {
            ours.write_all(&half).await.unwrap();
        }
        assert_eq!(arrived(&mut theirs).await.len(), 0);
        ours.write_all(b"x").await.unwrap();
        assert!(!leave(&exit).await, "it waits");
        ours.write_all(&half).await.unwrap();
        let full = poll_fn(|cx| Poll::Ready(Pin::new(&mut ours).poll_write(cx, &half))).await;
        assert!(full.is_pending(), "neither it nor the peer has room");
        let mut whole = arrived(&mut theirs).await;
        assert_eq!(whole.len(), MOST);
        leave(&exit).await;
        whole.extend(arrived(&mut theirs).await);
        assert_eq!((whole.len(), whole[MOST]), (MOST + 1 + MOST / 2, b'x'));
    }

    #[tokio::test]
    async fn what_the_peer_said_comes_before_the_break() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (mut ours, exit) = burst(ours);
        leave(&exit).await;
        theirs.write_all(b"goaway").await.unwrap();
        ours.write_all(b"a push").await.unwrap();
        exit.0.lock().broken = Some(io::ErrorKind::BrokenPipe);
        let mut said = [0; 6];
        ours.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"goaway");
        assert_eq!(ours.read(&mut said).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(leave(&exit).await && arrived(&mut theirs).await.is_empty(), "broken for good");
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_told() {
        let (ours, theirs) = tokio::io::duplex(64);
        let (mut ours, exit) = burst(ours);
        leave(&exit).await;
        ours.write_all(b"a push").await.unwrap();
        drop(theirs);
        assert!(leave(&exit).await, "nobody is there");
        assert_eq!(exit.0.lock().broken, Some(io::ErrorKind::BrokenPipe));
    }
}
