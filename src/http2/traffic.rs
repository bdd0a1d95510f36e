//! Counts what passes between `h2` and what is under it, which sees to it that it leaves.
//!
//! `h2` does not say whether a request's headers had left when the connection broke. Bytes written since the request was
//! queued do: none means that the peer cannot have seen it. Bytes read tell a living peer from a silent one, and the frames
//! show what is left of the peer's window, whether it has answered anything yet, and whether it has said GOAWAY.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Frames, PREFACE};
use super::places::FIRST_WINDOW;

/// Bytes of one connection so far, in both directions. Read and written on the connection's own thread.
#[derive(Debug)]
pub(super) struct Traffic {
    read: AtomicU64,
    written: AtomicU64,
    window: AtomicI64,
    answers: AtomicU64,
    goaway: AtomicBool,
}

impl Default for Traffic {
    fn default() -> Self {
        let window = AtomicI64::new(FIRST_WINDOW as i64);
        let [read, written, answers] = [0; 3].map(AtomicU64::new);
        Traffic { read, written, window, answers, goaway: AtomicBool::new(false) }
    }
}

impl Traffic {
    /// Bytes received.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes that `h2` let go of: they have left, or may still.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Body bytes that the peer takes now, on the whole connection.
    pub(super) fn window(&self) -> i64 {
        self.window.load(Ordering::Relaxed)
    }

    /// Whether the peer has answered a request, though its task may not have looked yet.
    pub(super) fn answered(&self) -> bool {
        self.answers() > 0
    }

    /// How often answers were read: more when there are new ones, and not how many.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Whether the peer has said GOAWAY.
    pub(super) fn said_goaway(&self) -> bool {
        self.goaway.load(Ordering::Relaxed)
    }
}

/// A byte stream whose traffic is counted.
#[derive(Debug)]
pub(super) struct Metered<T> {
    inner: T,
    traffic: Arc<Traffic>,
    ours: Frames,
    theirs: Frames,
}

impl<T> Metered<T> {
    pub(super) fn new(inner: T, traffic: Arc<Traffic>) -> Self {
        Metered { inner, traffic, ours: Frames::new(PREFACE), theirs: Frames::new(0) }
    }

    fn wrote(&mut self, bytes: &[u8]) {
        self.traffic.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let data = self.ours.follow(bytes).data;
        if data > 0 {
            self.traffic.window.fetch_sub(data as i64, Ordering::Relaxed);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        self.traffic.read.fetch_add(read.len() as u64, Ordering::Relaxed);
        let flow = self.theirs.follow(read);
        if flow.granted > 0 {
            self.traffic.window.fetch_add(flow.granted as i64, Ordering::Relaxed);
        }
        if flow.headers > 0 {
            self.traffic.answers.fetch_add(1, Ordering::Relaxed);
        }
        if flow.goaways > 0 {
            self.traffic.goaway.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.wrote(&buf[..bytes]);
        Poll::Ready(Ok(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
        let mut left = bytes;
        for buf in bufs {
            let part = &buf[..left.min(buf.len())];
            self.wrote(part);
            left -= part.len();
        }
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn both_directions_are_counted() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let traffic = Arc::new(Traffic::default());
        let mut ours = Metered::new(ours, traffic.clone());
        ours.write_all(b"12345").await.unwrap();
        theirs.write_all(b"123").await.unwrap();
        let mut buffer = [0; 3];
        ours.read_exact(&mut buffer).await.unwrap();
        assert_eq!((traffic.written(), traffic.read()), (5, 3));
    }
}
