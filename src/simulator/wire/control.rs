//! What a [`super::Wire`] shares with the one who steers it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::simulator::frames::{self, Head};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) outgoing: VecDeque<Bytes>,
    /// Of each acknowledgement of SETTINGS: the highest stream opened before it.
    pub(super) acknowledged_after: VecDeque<u32>,
    pub(super) highest_stream: u32,
    /// SETTINGS sent and not acknowledged.
    pub(super) unacknowledged: u32,
    pub(super) pings: u64,
    /// PINGs since the last request, and the most of them that there ever were.
    pub(super) pings_in_a_row: u32,
    pub(super) most_pings_in_a_row: u32,
    /// PINGs of ours whose acknowledgement has not come, and how many acknowledgements came since the last look.
    pub(super) unanswered_pings: u32,
    pub(super) pings_answered: u64,
    pub(super) muted: bool,
    pub(super) finishing: bool,
    pub(super) flushed: bool,
    /// How often all that was to be written had been handed to the system, and whether that is so now.
    pub(super) flushes: u64,
    pub(super) is_flushed: bool,
}

/// The levers of one `Wire`. What they ask for happens when the connection is polled next.
#[derive(Clone, Debug, Default)]
pub struct WireControl(pub(super) Arc<Mutex<State>>);

impl WireControl {
    /// Writes a frame at the next border between frames.
    pub fn inject(&self, frame: Bytes) {
        let mut state = self.0.lock();
        let kind = Head::read(&frame).map(|head| head.kind);
        state.unacknowledged += u32::from(kind == Some(frames::SETTINGS));
        state.unanswered_pings += u32::from(kind == Some(frames::PING));
        state.outgoing.push_back(frame);
    }

    /// From now on nothing is written, and what comes is read and thrown away: a peer that is gone without a word. For good:
    /// the frames lost meanwhile cannot be made up.
    pub fn mute(&self) {
        self.0.lock().muted = true;
    }

    /// Ends the connection in order: what is queued is written, then TLS closes; what still comes is thrown away, so that
    /// the peer can read the last answers (closing over unread bytes would reset the connection).
    pub fn finish(&self) {
        self.0.lock().finishing = true;
    }

    /// Takes the oldest acknowledgement of SETTINGS, if it came before `stream` was opened. h2 hands streams out in
    /// batches: what matters is the order on the wire.
    pub fn take_acknowledgement(&self, stream: u32) -> bool {
        self.0.lock().acknowledged_after.pop_front_if(|after| *after < stream).is_some()
    }

    /// How often all that was to be written had been handed to the system.
    pub fn flushes(&self) -> u64 {
        self.0.lock().flushes
    }

    /// Whether that was so again since it was so many times, and still is.
    pub fn has_flushed_since(&self, flushes: u64) -> bool {
        let state = self.0.lock();
        state.is_flushed && state.flushes > flushes
    }

    /// PINGs received since the last call.
    pub fn take_pings(&self) -> u64 {
        std::mem::take(&mut self.0.lock().pings)
    }

    /// Acknowledgements of our PINGs received since the last call.
    pub fn take_pings_answered(&self) -> u64 {
        std::mem::take(&mut self.0.lock().pings_answered)
    }

    /// The most PINGs that came without a request between them.
    pub fn most_pings_in_a_row(&self) -> u32 {
        self.0.lock().most_pings_in_a_row
    }
}
