//! One request's life on its place.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{Request, StatusCode};
use tokio::time::Instant;

use super::failure::{Left, is_end_of_answer, judge};
use super::shared::Shared;
use super::state::Place;
use super::streams::Open;
use super::traffic::Traffic;
use super::{Answer, ConnectionRef, Failure, MAX_ANSWER_BODY, SendError};

/// A place for one stream on a living connection. Dropping it unused gives the place back; dropping the future of
/// [`Slot::send`] resets the stream.
pub struct Slot {
    shared: Arc<Shared>,
    id: u64,
    peer: SocketAddr,
    send: SendRequest<Bytes>,
    traffic: Arc<Traffic>,
    /// Bytes that the connection had written when the request was queued; `None` before that.
    written: Option<u64>,
    /// Bytes that this place counts for: a guess, then the body's size.
    bytes: usize,
    generation: u32,
    key: Option<usize>,
    answered: Option<StatusCode>,
}

impl Slot {
    pub(super) fn new(shared: Arc<Shared>, place: Place) -> Self {
        let Place { id, peer, send, traffic, bytes, generation } = place;
        Slot { shared, id, peer, send, traffic, written: None, bytes, generation, key: None, answered: None }
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
    /// A value that is new in each request (`apns-id`) is best marked sensitive, so that `h2` does not push useful
    /// entries out of the header table with it.
    pub fn send(
        mut self,
        request: Request<()>,
        body: Bytes,
    ) -> impl Future<Output = Result<Answer, SendError>> + Send + use<> {
        let begun = Instant::now();
        let mut sent = self.begin(begun, request, body);
        async move {
            // Borrowed: what an async block moves has a place in it before and one after.
            let answer = match &mut sent {
                Ok(response) => receive(response).await,
                Err(error) => return Err(self.failed(error, begun)),
            };
            match answer {
                Ok((head, body)) => Ok(self.answered(begun, head, body)),
                Err(error) => Err(self.failed(&error, begun)),
            }
        }
    }

    fn begin(&mut self, begun: Instant, request: Request<()>, body: Bytes) -> Result<ResponseFuture, h2::Error> {
        let (written, answers, len) = (self.traffic.written(), self.traffic.answers(), body.len());
        let (response, mut stream) = self.send.send_request(request, len == 0)?;
        self.written = Some(written);
        if len > 0 {
            // A peer may answer before it has read the body; then this is refused and the answer is what counts.
            let _ = stream.send_data(body, true);
        }
        self.open(Open::new(begun, Some(stream), answers), len);
        Ok(response)
    }

    fn answered(&mut self, begun: Instant, head: http::response::Parts, body: Bytes) -> Answer {
        self.answered = Some(head.status);
        Answer {
            status: head.status,
            headers: head.headers,
            body,
            round_trip: begun.elapsed(),
            peer: self.peer,
            connection: self.connection(),
        }
    }

    /// Enters the request among those that the connection watches.
    fn open(&mut self, open: Open, len: usize) {
        let mut state = self.shared.state.lock();
        state.learn(len);
        let Some(member) = state.member(self.id) else { return };
        member.places.weigh(self.bytes, len);
        self.key = Some(member.streams.insert(open));
        self.bytes = len;
    }

    fn connection(&self) -> ConnectionRef {
        ConnectionRef::new(self.shared.clone(), self.id)
    }

    /// An error in words and in kind.
    fn failed(&self, error: &h2::Error, begun: Instant) -> SendError {
        let left = match self.written {
            None => Left::NotBegun,
            Some(before) if self.traffic.written() > before => Left::Sent,
            Some(_) => Left::Held,
        };
        let (failure, fate) = judge(error, left);
        let mut state = self.shared.state.lock();
        let end = state.member(self.id).and_then(|member| member.end.clone());
        state.totals.timeouts += u64::from(failure == Failure::Timeout);
        drop(state);
        let host = &self.shared.settings.host;
        let detail = match (failure, end) {
            (Failure::Timeout, _) => {
                format!("no answer from {host} ({}) within {:?}", self.peer, self.shared.settings.request_timeout)
            }
            (Failure::ConnectionLost, Some(end)) => format!("connection to {host} ({}) lost: {end}", self.peer),
            _ => format!("{host} ({}): {error}", self.peer),
        };
        SendError { failure, fate, detail, connection: self.connection(), after: begun.elapsed() }
    }
}

impl Drop for Slot {
    /// Gives the place back; this is also where an answer counts for its connection.
    fn drop(&mut self) {
        let removed = self.shared.with_state(|state| {
            let member = state.members.iter_mut().find(|member| member.id == self.id)?;
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
            let removed = self.key.and_then(|key| member.streams.remove(key));
            if member.places.in_flight() == 0 {
                member.idle_since = Some(Instant::now());
                if member.ended {
                    state.sweep_members();
                }
            }
            removed
        });
        drop(removed); // outside the lock: it may reset the stream
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("id", &self.id).field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// An answer's head and body.
type Received = Result<(http::response::Parts, Bytes), h2::Error>;

async fn receive(response: &mut ResponseFuture) -> Received {
    let rest = match at_hand(response.await?) {
        Ok(whole) => return whole,
        Err(rest) => rest,
    };
    rest.await
}

/// An answer that has come as a whole, as providers' answers do. One that has not is not to make every request's future larger.
fn at_hand(answer: http::Response<RecvStream>) -> Result<Received, Pin<Box<impl Future<Output = Received>>>> {
    let (head, mut stream) = answer.into_parts();
    let mut body = Body::default();
    if let Poll::Ready(part) = stream.poll_data(&mut Context::from_waker(Waker::noop()))
        && let Some(whole) = body.take(&mut stream, part).transpose()
    {
        return Ok(whole.map(|body| (head, body)));
    }
    Err(Box::pin(async move {
        loop {
            let part = poll_fn(|cx| stream.poll_data(cx)).await;
            if let Some(whole) = body.take(&mut stream, part)? {
                return Ok((head, whole));
            }
        }
    }))
}

/// The body of an answer as it comes, at most [`MAX_ANSWER_BODY`] of it; the stream is reset when there is more.
#[derive(Default)]
struct Body(BytesMut);

impl Body {
    /// One more part; the whole when that was the last one.
    fn take(
        &mut self,
        stream: &mut RecvStream,
        part: Option<Result<Bytes, h2::Error>>,
    ) -> Result<Option<Bytes>, h2::Error> {
        let part = match part {
            None => return Ok(Some(self.0.split().freeze())),
            Some(Err(error)) if is_end_of_answer(&error) => return Ok(Some(self.0.split().freeze())),
            Some(part) => part?,
        };
        let _ = stream.flow_control().release_capacity(part.len()); // fails on an ended stream alone
        if self.0.is_empty() && stream.is_end_stream() && part.len() <= MAX_ANSWER_BODY {
            return Ok(Some(part));
        }
        let room = MAX_ANSWER_BODY - self.0.len();
        self.0.extend_from_slice(&part[..part.len().min(room)]);
        Ok((self.0.len() == MAX_ANSWER_BODY).then(|| self.0.split().freeze()))
    }
}
