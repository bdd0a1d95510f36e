//! A sender thread's connection to one server: gathers questions, sends them together, and shuts its door while the server
//! is away, so that nobody waits for it.
//!
//! connecting → open: questions leave at once while nothing is on its way, and else after a moment, so that they gather
//!     ↑          │ lost: connect again at once
//!     └─ pause ──┘ silent, refusing, or not to be reached: the door shuts; what waits is answered `Unknown`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use super::batch::{Ask, Batch, Question};
use super::connect::{self, Connection};
use super::health::Pauses;
use super::{Answer, Server};

/// Most questions of one batch: Redis serves nobody else for the millisecond or two that it takes.
const FULL: usize = 256;
/// How long a question waits for company when another batch is on its way.
const COMPANY: Duration = Duration::from_millis(1);
/// Most questions that wait, as many as messages can be in flight.
const MOST_WAITING: usize = 1_000_000;

/// Where questions are put.
#[derive(Debug)]
pub(super) struct Link {
    asks: mpsc::Sender<Ask>,
    is_open: Arc<AtomicBool>,
}

impl Link {
    /// Starts its task on the present runtime.
    pub(super) fn start(server: &Arc<Server>, tasks: &TaskTracker) -> Link {
        let (asks, questions) = mpsc::channel(MOST_WAITING);
        let is_open = Arc::new(AtomicBool::new(true));
        let task = Task {
            server: server.clone(),
            questions,
            waiting: Vec::new(),
            is_open: is_open.clone(),
            is_away: false,
            pauses: Pauses::default(),
        };
        // Ends with its runtime, or when the last asker is gone.
        tasks.spawn(task.run());
        Link { asks, is_open }
    }

    /// Whether it is worth asking.
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    /// The server's answer, in time or not at all.
    pub(super) async fn ask(&self, question: Question) -> Answer {
        let (reply, answer) = oneshot::channel();
        match self.asks.try_send(Ask { question, reply: Some(reply) }) {
            Ok(()) => answer.await.unwrap_or(Answer::Unknown),
            Err(_) => Answer::Unknown,
        }
    }

    /// Tells the server, without waiting.
    pub(super) fn tell(&self, question: Question) {
        // Full or over: what is told may be lost.
        let _ = self.asks.try_send(Ask { question, reply: None });
    }
}

/// How a connection ended.
enum End {
    /// Nobody is there to ask.
    Over,
    /// It was closed: a new one may do.
    Lost(String),
    /// The server is too slow, or refuses.
    Unfit(String),
}

struct Task {
    server: Arc<Server>,
    questions: mpsc::Receiver<Ask>,
    /// Asked while there was no connection.
    waiting: Vec<Ask>,
    is_open: Arc<AtomicBool>,
    /// Whether that was said.
    is_away: bool,
    pauses: Pauses,
}

impl Task {
    async fn run(mut self) {
        while !self.questions.is_closed() || !self.questions.is_empty() {
            let why = match self.connect().await {
                Err(why) => why,
                Ok(connection) => {
                    self.found();
                    let (end, has_served) = self.serve(connection).await;
                    if has_served {
                        self.pauses.reset();
                    }
                    match end {
                        End::Over => return,
                        End::Lost(_) if has_served => continue,
                        End::Lost(why) | End::Unfit(why) => why,
                    }
                }
            };
            self.lost(&why);
            self.pause().await;
        }
    }

    /// Connects. Questions wait as long as they would for an answer; then the door shuts until there is a connection.
    async fn connect(&mut self) -> Result<Connection, String> {
        let server = self.server.clone();
        let patience = sleep(server.settings.timeout);
        let connecting = connect::open(&server.settings);
        tokio::pin!(patience, connecting);
        loop {
            tokio::select! {
                biased;
                connection = &mut connecting => return connection,
                () = &mut patience, if !patience.is_elapsed() => self.shut(),
                Some(ask) = self.questions.recv() => {
                    if self.is_open.load(Relaxed) {
                        self.waiting.push(ask);
                    }
                }
            }
        }
    }

    /// Serves until something is wrong; whether anything was right.
    async fn serve(&mut self, connection: Connection) -> (End, bool) {
        let Connection { handle, mut driver, scripts } = connection;
        let (mut on_way, mut database, mut has_served, mut was_full) = (FuturesUnordered::new(), 0, false, false);
        let mut asks = std::mem::take(&mut self.waiting);
        let limit = self.server.settings.timeout;
        let company = sleep_until(Instant::now());
        tokio::pin!(company);
        loop {
            if !asks.is_empty() {
                was_full = asks.len() >= FULL;
                company.as_mut().reset(Instant::now() + COMPANY);
                let batch = Batch::new(std::mem::take(&mut asks), &scripts, &mut database);
                on_way.push(exchange(handle.clone(), batch, limit));
            }
            let may_send = on_way.is_empty() || was_full || company.is_elapsed();
            tokio::select! {
                biased;
                // First, so that an answer that has come is seen before its time is found to be over.
                () = &mut driver => return (End::Lost("the connection was closed".to_owned()), has_served),
                Some(done) = on_way.next(), if !on_way.is_empty() => match done {
                    Ok(()) => has_served = true,
                    Err(end) => return (end, has_served),
                },
                count = self.questions.recv_many(&mut asks, FULL), if may_send => if count == 0 {
                    return (End::Over, has_served);
                },
                () = &mut company, if !may_send => {}
            }
        }
    }

    /// Answers nobody until the pause is over.
    async fn pause(&mut self) {
        let pause = sleep(self.pauses.next());
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                // Dropped, which is an answer: it passed the door before that shut.
                Some(_) = self.questions.recv() => {}
            }
        }
    }

    fn lost(&mut self, why: &str) {
        self.shut();
        if !self.is_away {
            self.is_away = true;
            self.server.health.lost(why);
        }
    }

    fn found(&mut self) {
        self.is_open.store(true, Relaxed);
        if self.is_away {
            self.is_away = false;
            self.server.health.found();
        }
    }

    /// Who waits goes on without an answer.
    fn shut(&mut self) {
        self.is_open.store(false, Relaxed);
        self.waiting.clear();
    }
}

/// Sends a batch and gives its answers out, or drops who waits for them.
async fn exchange(mut handle: MultiplexedConnection, batch: Batch, limit: Duration) -> Result<(), End> {
    let call = handle.send_packed_commands(&batch.pipeline, 0, batch.pipeline.len());
    let values = match timeout(limit, call).await {
        Ok(Ok(values)) => values,
        Ok(Err(error)) => return Err(End::Lost(connect::describe(&error))),
        Err(_) => return Err(End::Unfit(format!("no answer within {limit:?}"))),
    };
    batch.answer(values).map_err(|word| End::Unfit(format!("it refuses: {word}")))
}
