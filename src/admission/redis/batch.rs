//! Many questions as one pipeline: a script per kind of question, each in its database. Pure but for the answers' channels.

use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::super::Answer;
use super::super::content::ContentKey;

/// What is asked about one push.
#[derive(Debug)]
pub(super) enum Question {
    /// Does the device's limit allow it?
    Allow {
        /// The counter's key, which begins with the device.
        counter: String,
        /// The device's length in it.
        device: usize,
        /// Most pushes of the minute.
        limit: u32,
        /// Of the message.
        identity: Uuid,
    },
    /// Is its content its own?
    Unique {
        /// The content.
        key: ContentKey,
        /// How long a claim lives.
        ttl: Duration,
        /// Of the message.
        identity: Uuid,
    },
    /// It was not delivered: its content is free again.
    Forget {
        /// The content.
        key: ContentKey,
        /// Of the message.
        identity: Uuid,
    },
}

/// A question and who waits for its answer, if anybody does.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) question: Question,
    pub(super) reply: Option<oneshot::Sender<Answer>>,
}

/// The kinds of questions, in the order of their scripts: a claim that is given up is free for who asks after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Allow,
    Forget,
    Unique,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Allow, Kind::Forget, Kind::Unique];

    fn source(self) -> &'static str {
        match self {
            Kind::Allow => include_str!("allow.lua"),
            Kind::Unique => include_str!("unique.lua"),
            Kind::Forget => include_str!("forget.lua"),
        }
    }

    /// Its database, as in the original.
    fn database(self) -> u8 {
        u8::from(self != Kind::Allow)
    }
}

impl Question {
    fn kind(&self) -> Kind {
        match self {
            Question::Allow { .. } => Kind::Allow,
            Question::Unique { .. } => Kind::Unique,
            Question::Forget { .. } => Kind::Forget,
        }
    }
}

/// The server's names of the scripts.
#[derive(Clone, Debug)]
pub(super) struct Scripts([String; Kind::ALL.len()]);

impl Scripts {
    /// Asks for the names.
    pub(super) fn load() -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(Kind::ALL.len());
        for kind in Kind::ALL {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(kind.source());
        }
        pipeline
    }

    /// The names, in order.
    pub(super) fn loaded(names: &[Vec<u8>]) -> Result<Self, String> {
        let names: Vec<String> = names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        names.try_into().map(Scripts).map_err(|_| "it gave other scripts' names than asked for".to_owned())
    }
}

/// A pipeline and who waits for what.
pub(super) struct Batch {
    pub(super) pipeline: Pipeline,
    /// By command; `None`: a change of the database.
    waiting: Vec<Option<Vec<Option<oneshot::Sender<Answer>>>>>,
}

impl Batch {
    /// Of these questions. `database` is the connection's, before and after.
    pub(super) fn new(asks: Vec<Ask>, scripts: &Scripts, database: &mut u8) -> Self {
        let mut sorted = Kind::ALL.map(|_| Vec::new());
        for ask in asks {
            sorted[ask.question.kind() as usize].push(ask);
        }
        let mut batch = Batch { pipeline: Pipeline::with_capacity(4), waiting: Vec::with_capacity(4) };
        for (kind, asks) in Kind::ALL.into_iter().zip(sorted).filter(|(_, asks)| !asks.is_empty()) {
            if *database != kind.database() {
                *database = kind.database();
                batch.pipeline.cmd("SELECT").arg(*database);
                batch.waiting.push(None);
            }
            batch.pipeline.add_command(call(kind, &scripts.0[kind as usize], &asks));
            batch.waiting.push(Some(asks.into_iter().map(|ask| ask.reply).collect()));
        }
        batch
    }

    /// Gives the answers out. An error is the word by which the server refuses a command.
    pub(super) fn answer(self, values: Vec<Value>) -> Result<(), String> {
        for (waiting, value) in self.waiting.into_iter().zip(values) {
            match (waiting, value) {
                (_, Value::ServerError(error)) => return Err(error.code().to_owned()),
                (Some(replies), Value::BulkString(said)) if said.len() == replies.len() => tell(replies, &said),
                (None, Value::Okay) => {}
                _ => return Err("an answer of another form".to_owned()),
            }
        }
        Ok(())
    }
}

fn tell(replies: Vec<Option<oneshot::Sender<Answer>>>, said: &[u8]) {
    for (reply, letter) in replies.into_iter().zip(said) {
        let answer = match letter {
            b'y' => Answer::Yes,
            b'n' => Answer::No,
            _ => Answer::Unknown,
        };
        // Who does not wait any more needs no answer.
        let _ = reply.map(|reply| reply.send(answer));
    }
}

/// One script over all questions of its kind.
fn call(kind: Kind, script: &str, asks: &[Ask]) -> Cmd {
    let keys = if kind == Kind::Allow { 2 * asks.len() } else { asks.len() };
    let mut cmd = Cmd::with_capacity(3 + 4 * asks.len(), 64 + 200 * asks.len());
    cmd.arg("EVALSHA").arg(script).arg(keys);
    for ask in asks {
        match &ask.question {
            Question::Allow { counter, device, .. } => {
                cmd.arg(counter).arg(format!("pusher:paid:{}", &counter[..*device]))
            }
            Question::Unique { key, .. } | Question::Forget { key, .. } => cmd.arg(format!("pusher:dedup:{key}")),
        };
    }
    for ask in asks {
        match &ask.question {
            Question::Allow { limit, identity, .. } => cmd.arg(*limit).arg(&identity.as_bytes()[8..]),
            Question::Unique { ttl, identity, .. } => cmd.arg(ttl.as_millis() as u64).arg(identity.to_string()),
            Question::Forget { identity, .. } => cmd.arg(identity.to_string()),
        };
    }
    cmd
}
