//! The byte layer between TLS and the `h2` crate, for what a server on `h2` cannot do: announce another stream limit on the
//! fly, send GOAWAY with debug data and an exact last-stream-id, PING, fall silent, and see acknowledgements and pings.
//!
//! Frames of ours are written only where a frame of `h2` has just ended. `h2` never learns of our SETTINGS: their
//! acknowledgements are taken out on the way in (it would call them a protocol error), those of our PINGs too. Its own first SETTINGS are completed
//! with the stream limit, which `h2` is left without, so that judging streams is ours alone.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{self, ACK, Borders, Head};

mod control;

pub use self::control::WireControl;

const READ_AT_ONCE: usize = 32 * 1024;

/// What is between the incoming bytes' last border and now.
#[derive(Debug)]
enum Incoming {
    /// This many bytes to pass on before the next header.
    Pass(usize),
    /// This many bytes to leave out before the next header.
    Skip(usize),
    /// A header comes next.
    Header,
}

/// A byte stream whose frames are seen and added to.
#[derive(Debug)]
pub struct Wire<S> {
    inner: S,
    control: WireControl,
    first_limit: u32,
    greeted: bool,
    out: Borders,
    buffer: BytesMut,
    incoming: Incoming,
    first_ack_seen: bool,
    closed_out: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Wraps a server's side before its first byte. `first_limit` is announced in the first SETTINGS.
    pub fn new(inner: S, control: WireControl, first_limit: u32) -> Self {
        Wire {
            inner,
            control,
            first_limit,
            greeted: false,
            out: Borders::default(),
            buffer: BytesMut::new(),
            incoming: Incoming::Pass(frames::PREFACE.len()),
            first_ack_seen: false,
            closed_out: false,
        }
    }

    /// Writes what is queued, if a border has been reached.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out.at_border() {
            let Some(mut frame) = self.control.0.lock().outgoing.pop_front() else { break };
            while frame.has_remaining() {
                match Pin::new(&mut self.inner).poll_write(cx, &frame) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => frame.advance(count),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        // The rest stays first in line; `out` knows of whole frames of h2 only, so the border holds.
                        self.control.0.lock().outgoing.push_front(frame);
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Completes h2's first SETTINGS with the stream limit. Returns how many of the bytes were taken.
    fn greet(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let head = Head::read(bytes).filter(|head| head.kind == frames::SETTINGS);
        let others = head.and_then(|head| bytes.get(frames::HEADER..frames::HEADER + head.length));
        let others = others.ok_or_else(|| io::Error::other("the first write is not a whole SETTINGS frame"))?;
        self.control.inject(frames::settings_with(others, self.first_limit));
        self.greeted = true;
        Ok(frames::HEADER + others.len())
    }

    /// Passes on what of the buffer is complete. Returns whether anything was.
    fn pass(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let before = into.filled().len();
        while !self.buffer.is_empty() && into.remaining() > 0 {
            match self.incoming {
                Incoming::Pass(0) | Incoming::Skip(0) => self.incoming = Incoming::Header,
                Incoming::Skip(left) => {
                    let step = left.min(self.buffer.len());
                    self.buffer.advance(step);
                    self.incoming = Incoming::Skip(left - step);
                }
                Incoming::Pass(left) => {
                    let step = left.min(self.buffer.len()).min(into.remaining());
                    into.put_slice(&self.buffer[..step]);
                    self.buffer.advance(step);
                    self.incoming = Incoming::Pass(left - step);
                }
                Incoming::Header => {
                    let Some(head) = Head::read(&self.buffer) else { break };
                    if self.note(head) {
                        self.incoming = Incoming::Pass(frames::HEADER + head.length);
                    } else {
                        self.incoming = Incoming::Skip(frames::HEADER + head.length);
                    }
                }
            }
        }
        into.filled().len() > before
    }

    /// Takes note of an incoming frame. Returns whether h2 shall see it.
    fn note(&mut self, head: Head) -> bool {
        let mut state = self.control.0.lock();
        match head.kind {
            frames::PING if head.flags & ACK == 0 => {
                state.pings += 1;
                state.pings_in_a_row += 1;
                state.most_pings_in_a_row = state.most_pings_in_a_row.max(state.pings_in_a_row);
            }
            frames::PING if state.unanswered_pings > 0 => {
                state.unanswered_pings -= 1;
                state.pings_answered += 1;
                return false; // h2 did not ask
            }
            frames::HEADERS => {
                state.pings_in_a_row = 0;
                state.highest_stream = state.highest_stream.max(head.stream);
            }
            _ => {}
        }
        if !head.is_settings_ack() || head.length != 0 {
            return true;
        }
        let Some(left) = state.unacknowledged.checked_sub(1) else { return true }; // h2 calls it the error that it is
        state.unacknowledged = left;
        let after = state.highest_stream;
        state.acknowledged_after.push_back(after);
        drop(state);
        !std::mem::replace(&mut self.first_ack_seen, true)
    }

    /// Reads and throws away until the peer closes.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 4096];
        loop {
            let mut waste = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut waste))?;
            if waste.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed_out {
            ready!(self.poll_outgoing(cx))?;
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
            self.closed_out = true;
        }
        self.poll_drain(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let (muted, finishing) = {
            let state = this.control.0.lock();
            (state.muted, state.finishing)
        };
        if muted {
            return this.poll_drain(cx);
        }
        if finishing {
            // h2 reads before it writes: its last answers must have left before TLS is closed.
            return if this.control.0.lock().flushed { this.poll_finish(cx) } else { Poll::Pending };
        }
        loop {
            if this.pass(into) {
                return Poll::Ready(Ok(()));
            }
            let have = this.buffer.len();
            this.buffer.resize(have + READ_AT_ONCE, 0);
            let mut fresh = ReadBuf::new(&mut this.buffer[have..]);
            let read = Pin::new(&mut this.inner).poll_read(cx, &mut fresh);
            let count = fresh.filled().len();
            this.buffer.truncate(have + count);
            ready!(read)?;
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let (muted, finishing) = {
            let mut state = this.control.0.lock();
            state.is_flushed = false;
            (state.muted, state.finishing)
        };
        if muted || (finishing && this.closed_out) {
            return Poll::Ready(Ok(bytes.len()));
        }
        if !this.greeted {
            return Poll::Ready(this.greet(bytes));
        }
        ready!(this.poll_outgoing(cx))?;
        let count = ready!(Pin::new(&mut this.inner).poll_write(cx, bytes))?;
        this.out.pass(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.control.0.lock().muted {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_outgoing(cx))?;
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        let mut state = self.control.0.lock();
        (state.flushes, state.is_flushed) = (state.flushes + 1, true);
        if state.finishing && !state.flushed {
            state.flushed = true;
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.control.0.lock().muted {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_outgoing(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
