//! One request's life on its place.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use tokio::time::Instant;

use super::failure::judge;
use super::link::Link;
use super::shared::Shared;
use super::state::Place;
use super::wire::{Ended, Received};
use super::{Answer, ConnectionRef, Failure, SendError};

/// A place for one stream on a living connection. Dropping it unused gives the place back; dropping the future of
/// [`Slot::send`] resets the stream.
pub struct Slot {
    shared: Arc<Shared>,
    id: u64,
    peer: SocketAddr,
    link: Arc<Link>,
    /// Bytes that this place counts for: a guess, then the body's size.
    bytes: usize,
    generation: u32,
    /// Of the stream, from its beginning to its end.
    key: Option<usize>,
    answered: Option<StatusCode>,
}

impl Slot {
    pub(super) fn new(shared: Arc<Shared>, place: Place) -> Self {
        let Place { id, peer, link, bytes, generation } = place;
        Slot { shared, id, peer, link, bytes, generation, key: None, answered: None }
    }

    /// Where the connection leads.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Of the credential that the connection is for; see [`Pool::renew`](super::Pool::renew).
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Sends one request at once; the future waits for the whole answer, within the request timeout. The request's URI must
    /// be absolute (`https://host/path`): scheme and authority become pseudo-headers.
    ///
    /// A value that is new in each request (`apns-id`) is best marked sensitive, so that it does not push useful
    /// entries out of the connection's header table.
    pub fn send(
        mut self,
        request: Request<()>,
        body: Bytes,
    ) -> impl Future<Output = Result<Answer, SendError>> + Send + use<> {
        let begun = Instant::now();
        let sent = self.begin(begun, request, body);
        async move {
            let end = match sent {
                Ok(key) => poll_fn(|cx| self.link.session().poll_end(key, cx)).await,
                Err(ended) => Err(ended),
            };
            self.key = None;
            match end {
                Ok(received) => Ok(self.answered(begun, received)),
                Err(ended) => Err(self.failed(&ended, begun)),
            }
        }
    }

    fn begin(&mut self, begun: Instant, request: Request<()>, body: Bytes) -> Result<usize, Ended> {
        let len = body.len();
        let key = self.link.session().begin(begun, request, body)?;
        self.key = Some(key);
        let mut state = self.shared.state.lock();
        state.learn(len);
        if let Some(member) = state.member(self.id) {
            member.places.weigh(self.bytes, len);
            self.bytes = len;
        }
        Ok(key)
    }

    fn answered(&mut self, begun: Instant, (status, headers, body): Received) -> Answer {
        self.answered = Some(status);
        Answer { status, headers, body, round_trip: begun.elapsed(), peer: self.peer, connection: self.connection() }
    }

    fn connection(&self) -> ConnectionRef {
        ConnectionRef::new(self.shared.clone(), self.id)
    }

    /// An end without an answer in words and in kind.
    fn failed(&self, ended: &Ended, begun: Instant) -> SendError {
        let (failure, fate) = judge(ended);
        let mut state = self.shared.state.lock();
        let end = state.member(self.id).and_then(|member| member.end.clone());
        state.totals.timeouts += u64::from(failure == Failure::Timeout);
        drop(state);
        let (host, peer) = (&self.shared.settings.host, self.peer);
        let detail = match ended {
            Ended::Unsendable(why) => format!("a request to {host} ({peer}) cannot be sent: {why}"),
            Ended::Crowded => format!("{host} ({peer}) allows fewer streams than it did"),
            Ended::GoAway(said) => format!("{host} ({peer}) says {said}"),
            Ended::Reset(code) => format!("{host} ({peer}) reset the stream: {code}"),
            Ended::Malformed(why) => format!("{host} ({peer}) sent an answer that is none: {why}"),
            Ended::Expired => {
                format!("no answer from {host} ({peer}) within {:?}", self.shared.settings.request_timeout)
            }
            Ended::Lost { why, .. } => {
                format!("connection to {host} ({peer}) lost: {}", end.as_deref().unwrap_or(why))
            }
        };
        SendError { failure, fate, detail, connection: self.connection(), after: begun.elapsed() }
    }
}

impl Drop for Slot {
    /// Gives the place back; this is also where an answer counts for its connection.
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.link.session().remove(key);
        }
        self.shared.with_state(|state| {
            let Some(member) = state.members.iter_mut().find(|member| member.id == self.id) else { return };
            if let Some(status) = self.answered {
                member.places.answered(self.bytes);
                if (self.shared.settings.proves)(status) {
                    member.places.prove();
                }
                // An answer that came with the connection's end was judged with that end.
                if !member.answered && !member.ended {
                    self.shared.works(&mut state.width);
                }
                member.answered = true;
            }
            member.places.give_back(self.bytes);
            if member.places.in_flight() == 0 {
                member.idle_since = Some(Instant::now());
                if member.places.is_draining() {
                    member.link.session().wake();
                }
                if member.ended {
                    state.sweep_members();
                }
            }
        });
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("id", &self.id).field("peer", &self.peer).finish_non_exhaustive()
    }
}
