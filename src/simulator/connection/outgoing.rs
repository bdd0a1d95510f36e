//! The way out of a [`Connection`]: replies become answers, resets, SETTINGS and GOAWAY.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::Response;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Connection;
use crate::simulator::frames;
use crate::simulator::service::{Action, GoAway, Reply, Service};

/// What becomes of a stream at its time.
pub(super) struct Due {
    pub(super) respond: SendResponse<Bytes>,
    action: Action,
    /// The serial that was entered as accepted.
    accepted: Option<u64>,
}

impl<S: Service, IO: AsyncRead + AsyncWrite + Unpin> Connection<S, IO> {
    pub(super) fn follow(&mut self, now: Instant, respond: SendResponse<Bytes>, reply: Reply) {
        if reply.refuse_others {
            for (_, mut due) in std::mem::take(&mut self.due) {
                self.refuse(&mut due.respond);
                // What is refused so was not processed (RFC 9113, 8.7), and its client may send it again.
                if let Some(serial) = due.accepted {
                    self.service.take_back(serial);
                }
            }
            for mut respond in std::mem::take(&mut self.silent) {
                self.refuse(&mut respond);
            }
        }
        if let Some(limit) = reply.limit.filter(|limit| *limit != self.limits.current()) {
            self.limits.announce(limit);
            self.wire.inject(frames::settings(limit));
        }
        if reply.after.is_zero() {
            self.act(respond, reply.action);
        } else {
            self.sequence += 1;
            let due = Due { respond, action: reply.action, accepted: reply.accepted };
            self.due.insert((now + reply.after, self.sequence), due);
        }
        if let Some(goaway) = reply.goaway {
            self.go_away(&goaway);
        }
    }

    pub(super) fn refuse(&mut self, respond: &mut SendResponse<Bytes>) {
        self.active -= 1;
        self.counters.refused_streams.fetch_add(1, Relaxed);
        respond.send_reset(Reason::REFUSED_STREAM);
    }

    pub(super) fn answer_due(&mut self) {
        if self.due.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            let Due { respond, action, .. } = entry.remove();
            self.act(respond, action);
        }
    }

    fn act(&mut self, mut respond: SendResponse<Bytes>, action: Action) {
        self.quiet_since = Instant::now();
        match action {
            Action::Answer(response, body, name) => {
                self.active -= 1;
                self.unwritten += 1;
                let status = response.status().as_u16();
                match send(&mut respond, response, body, self.levers.empty_last_frame) {
                    Ok(()) => self.counters.answer(status, name),
                    Err(_) => drop(self.counters.cancelled.fetch_add(1, Relaxed)),
                }
                if self.levers.ping_after_answer {
                    self.wire.inject(frames::ping(*b"are you?"));
                }
            }
            Action::Stall(response) => {
                self.counters.unanswered.fetch_add(1, Relaxed);
                self.active -= usize::from(self.going_away);
                self.stalled.extend(respond.send_response(response, false));
            }
            Action::Silence => {
                self.counters.unanswered.fetch_add(1, Relaxed);
                self.active -= usize::from(self.going_away);
                self.silent.push(respond);
            }
            Action::Reset(reason) => {
                self.active -= 1;
                self.counters.resets.fetch_add(1, Relaxed);
                respond.send_reset(reason);
            }
            Action::Break => self.break_off(),
            Action::Unprocessed(goaway) => {
                self.active -= 1;
                if !self.going_away {
                    // Never below what was judged already: a stream above the last one must be safe to send again.
                    let below = respond.stream_id().as_u32().saturating_sub(2);
                    let judged_above = self.judged > respond.stream_id().as_u32();
                    self.last_stream = if judged_above { self.judged } else { below };
                }
                self.ignored.push((None, respond));
                self.go_away(&goaway);
            }
        }
    }

    /// The connection breaks from this side. Of what waits for its answer every other push was processed: which ones, no client
    /// can know.
    pub(super) fn break_off(&mut self) {
        if std::mem::replace(&mut self.broken, true) {
            return; // what it was to take back is taken back
        }
        for serial in self.due.values().filter_map(|due| due.accepted).step_by(2) {
            self.service.take_back(serial);
        }
    }

    /// Says GOAWAY once; later streams are ignored, and silent ones hold the connection no longer.
    pub(super) fn go_away(&mut self, goaway: &GoAway) {
        if self.going_away {
            return;
        }
        self.going_away = true;
        self.active -= (self.silent.len() + self.stalled.len()).min(self.active);
        self.own.goaway.store(true, Relaxed);
        self.counters.goaways.fetch_add(1, Relaxed);
        self.wire.inject(frames::goaway(self.last_stream, goaway.code, &goaway.debug));
    }
}

fn send(
    respond: &mut SendResponse<Bytes>,
    response: Response<()>,
    body: Bytes,
    empty_last_frame: bool,
) -> Result<(), h2::Error> {
    if body.is_empty() {
        return respond.send_response(response, true).map(drop);
    }
    let mut stream = respond.send_response(response, false)?;
    stream.send_data(body, !empty_last_frame)?;
    if empty_last_frame { stream.send_data(Bytes::new(), true) } else { Ok(()) }
}
