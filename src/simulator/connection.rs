//! One HTTP/2 connection: streams come in, a [`Service`] says what becomes of each, answers go out when they are due.
//!
//! One task per connection and one timer; requests that arrive together are judged together and answered in one write.
//! Stream limits are judged here and not in `h2`, which knows none (see [`super::wire`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;

use super::counters::{Connection as OwnCounters, Counters};
use super::levers::Levers;
use super::limits::{Judgement, Limits};
use super::service::{Command, Farewell, Service};
use super::wire::{Wire, WireControl};

/// Requests judged in one go.
const BATCH: usize = 512;
/// How long a connection that was ended waits for the peer to close its side.
const LINGER: Duration = Duration::from_secs(2);

mod ending;
mod incoming;
mod outgoing;

use self::incoming::Arrival;
use self::outgoing::Due;

/// A connection being served.
pub struct Connection<S: Service, IO> {
    h2: h2::server::Connection<Wire<IO>, Bytes>,
    wire: WireControl,
    service: Arc<S>,
    session: S::Session,
    counters: Arc<Counters>,
    own: Arc<OwnCounters>,
    limits: Limits,
    levers: Levers,
    /// When it began, and when it last had a stream.
    opened: Instant,
    quiet_since: Instant,
    /// Streams opened and not ended.
    active: usize,
    /// Answers that h2 has not written yet.
    unwritten: usize,
    arrived: Vec<Arrival>,
    bodies: FuturesUnordered<BoxFuture<'static, Arrival>>,
    due: BTreeMap<(Instant, u64), Due>,
    sequence: u64,
    silent: Vec<SendResponse<Bytes>>,
    /// Answers that have begun and will not end.
    stalled: Vec<SendStream<Bytes>>,
    /// Streams above the last one processed: kept, so that nothing is said about them (h2 resets what is dropped).
    ignored: Vec<(Option<RecvStream>, SendResponse<Bytes>)>,
    /// Highest stream taken in; what GOAWAY says.
    last_stream: u32,
    /// Highest stream that the service has judged.
    judged: u32,
    going_away: bool,
    broken: bool,
    end_by: Option<Instant>,
}

impl<S: Service, IO: AsyncRead + AsyncWrite + Unpin> Connection<S, IO> {
    /// Does the HTTP/2 handshake.
    pub async fn open(
        io: IO,
        levers: Levers,
        service: Arc<S>,
        counters: Arc<Counters>,
        own: Arc<OwnCounters>,
    ) -> Result<Self, h2::Error> {
        let wire = WireControl::default();
        if levers.mute {
            wire.mute();
        }
        // SETTINGS as seen from APNs (jchambers/pushy issue 476); MAX_CONCURRENT_STREAMS is added by the wire.
        let h2 = h2::server::Builder::new()
            .header_table_size(4096)
            .initial_window_size(levers.stream_window)
            .initial_connection_window_size(levers.connection_window)
            .max_frame_size(16_384)
            .max_header_list_size(8_000)
            .max_concurrent_reset_streams(10_000)
            .max_pending_accept_reset_streams(10_000)
            .handshake(Wire::new(io, wire.clone(), levers.initial_streams))
            .await?;
        let session = service.open(own.number);
        Ok(Connection {
            h2,
            wire,
            session,
            service,
            counters,
            own,
            limits: Limits::new(levers.initial_streams),
            levers,
            opened: Instant::now(),
            quiet_since: Instant::now(),
            active: 0,
            unwritten: 0,
            arrived: Vec::new(),
            bodies: FuturesUnordered::new(),
            due: BTreeMap::new(),
            sequence: 0,
            silent: Vec::new(),
            stalled: Vec::new(),
            ignored: Vec::new(),
            last_stream: 0,
            judged: 0,
            going_away: false,
            broken: false,
            end_by: None,
        })
    }

    /// Serves until either side ends the connection.
    pub async fn run(mut self, mut commands: broadcast::Receiver<Command>) {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        loop {
            let due = self.due.first_key_value().map(|((at, _), _)| *at);
            let wake_at = [due, self.end_by, self.farewell_at().map(|(at, _)| at)].into_iter().flatten().min();
            if let Some(at) = wake_at.filter(|at| *at != timer.deadline()) {
                timer.as_mut().reset(at);
            }
            tokio::select! {
                biased;
                command = commands.recv() => self.obey(command),
                open = std::future::poll_fn(|cx| self.poll_arrived(cx)) => if !open { return },
                () = timer.as_mut(), if wake_at.is_some() => {}
            }
            if self.broken {
                return;
            }
            self.serve_arrived();
            self.answer_due();
            self.part_if_due();
            self.own.streams.store(self.active as u64, Relaxed);
            if self.broken || self.end_by.is_some_and(|at| at <= Instant::now()) {
                return;
            }
            if self.going_away && self.active == 0 && self.end_by.is_none() {
                self.end_by = Some(Instant::now() + LINGER);
                self.wire.finish();
            }
        }
    }

    fn obey(&mut self, command: Result<Command, RecvError>) {
        match command {
            Ok(Command::GoAway(goaway)) => self.go_away(&goaway),
            Ok(Command::Close) | Err(RecvError::Closed) => self.break_off(),
            Ok(Command::Mute) => self.wire.mute(),
            Err(RecvError::Lagged(_)) => {}
        }
    }

    /// Takes in what has arrived. Ready with `false` when the connection has ended.
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let (mut ended, mut parted) = (false, false);
        while self.arrived.len() < BATCH {
            let flushes = self.wire.flushes();
            let polled = self.h2.poll_accept(cx);
            // Not where the socket, or tokio's budget for one turn, was in the way.
            if self.wire.has_flushed_since(flushes) {
                self.unwritten = 0;
            }
            parted |= self.note_pings();
            match polled {
                Poll::Ready(Some(Ok((request, respond)))) => self.admit(cx, request, respond),
                Poll::Ready(Some(Err(error))) => {
                    if !error.is_io() && !self.going_away {
                        self.counters.protocol_errors.fetch_add(1, Relaxed);
                        tracing::debug!(connection = self.own.number, %error, "simulator: the client broke the protocol");
                    }
                    ended = true;
                    break;
                }
                Poll::Ready(None) => {
                    ended = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        while let Poll::Ready(Some(arrival)) = self.bodies.poll_next_unpin(cx) {
            self.arrived.push(arrival);
        }
        match (ended, self.arrived.is_empty()) {
            (true, true) => Poll::Ready(false),
            (false, true) if !parted => Poll::Pending,
            _ => Poll::Ready(true),
        }
    }

    /// Judges a new stream by the limit and reads its body.
    fn admit(&mut self, cx: &mut Context<'_>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (request, body) = request.into_parts();
        if self.going_away {
            self.ignored.push((Some(body), respond));
            return;
        }
        while self.wire.take_acknowledgement(respond.stream_id().as_u32()) {
            self.limits.acknowledge();
        }
        if self.active >= self.limits.current() as usize {
            self.forget_cancelled();
        }
        match self.limits.judge(self.active + 1) {
            Judgement::Serve => {}
            Judgement::Violation if self.levers.strict_streams => {
                self.go_away(&self.service.farewell(Farewell::TooManyStreams));
                self.ignored.push((Some(body), respond));
                return;
            }
            Judgement::Refuse | Judgement::Violation => {
                self.counters.refused_streams.fetch_add(1, Relaxed);
                respond.send_reset(Reason::REFUSED_STREAM);
                return;
            }
        }
        self.active += 1;
        self.quiet_since = Instant::now();
        self.last_stream = self.last_stream.max(respond.stream_id().as_u32());
        self.counters.max_streams.fetch_max(self.active as u64, Relaxed);
        self.own.max_streams.fetch_max(self.active as u64, Relaxed);
        match incoming::read(cx, request, body, respond, S::BODY_READ) {
            Ok(arrival) => self.arrived.push(arrival),
            Err(later) => self.bodies.push(later),
        }
    }

    /// Gives back the places of streams that the client has reset while they waited.
    fn forget_cancelled(&mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let before = self.due.len() + self.silent.len() + self.stalled.len();
        self.due.retain(|_, due| due.respond.poll_reset(&mut cx).is_pending());
        self.silent.retain_mut(|respond| respond.poll_reset(&mut cx).is_pending());
        self.stalled.retain_mut(|stream| stream.poll_reset(&mut cx).is_pending());
        let gone = before - self.due.len() - self.silent.len() - self.stalled.len();
        self.active -= gone;
        self.counters.cancelled.fetch_add(gone as u64, Relaxed);
    }

    fn serve_arrived(&mut self) {
        if self.arrived.is_empty() {
            return;
        }
        let now_ms = now_ms();
        let now = Instant::now();
        let mut refuse_rest = false;
        for arrival in std::mem::take(&mut self.arrived) {
            let Arrival { request, body, mut respond } = arrival;
            let Ok(body) = body else {
                self.active -= 1;
                self.counters.cancelled.fetch_add(1, Relaxed);
                continue;
            };
            if refuse_rest {
                self.refuse(&mut respond);
                continue;
            }
            if respond.stream_id().as_u32() > self.last_stream {
                self.active -= 1;
                self.ignored.push((None, respond));
                continue;
            }
            self.judged = self.judged.max(respond.stream_id().as_u32());
            self.counters.requests.fetch_add(1, Relaxed);
            self.own.requests.fetch_add(1, Relaxed);
            let reply = self.service.serve(&mut self.session, &request, &body, now_ms);
            refuse_rest = reply.refuse_others;
            self.follow(now, respond, reply);
        }
    }
}

impl<S: Service, IO> Drop for Connection<S, IO> {
    fn drop(&mut self) {
        self.counters.cut_off.fetch_add((self.active + self.unwritten) as u64, Relaxed);
        self.own.closed.store(true, Relaxed);
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
