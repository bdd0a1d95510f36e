//! Pusher: consumes push messages from Kafka and sends them through the providers, losing none.
//!
//! ```text
//! queue ─lends message + receipt→ dispatch → sender's task: delivery → handler → http2 → provider
//!   ↑                                            │ retry, hold: waiting room      │ outcome
//!   └── receipt resolved: the offset may move ←──┴── statistics, feedback, invalid tokens
//! ```
//!
//! # Layout, in the order of the flow
//! - [`message`], [`outcome`]: the nouns. What came in, what became of it. Plain data.
//! - [`queue`]: Kafka topics, rebalances, the ledger of offsets and its map, receipts, bounds.
//! - [`dispatch`]: the poll thread; [`spread`]: which sender thread gets a message; [`sender`]: a sender thread;
//!   [`mod@line`]: what waits there for its turn.
//! - [`delivery`]: one message's life. The file to read first. [`desk`]: what it has at hand. [`circuit`]: whether an app's
//!   messages may be attempted now: breaker, share of retries.
//! - [`gate`]: between an understood message and its stream: is it still ours, is it admitted. [`admission`]: rate limit and dedup.
//! - [`handlers`]: one folder per provider, and the policies of retries and of the breaker. [`http2`]: their transport, which knows no provider.
//! - [`reporters`]: statistics, feedback, invalid tokens, dead letters. [`tally`]: the process's own ledger, kept by the
//!   queue's receipts. [`observer`]: tells them what the queue saw. [`control`]: what outlives a process and is known to all,
//!   such as a closed valve.
//! - [`levers`]: what people on call order, kept there: paused lanes, stopped jobs. [`jobs`]: which message belongs to which job,
//!   and what became of those in sight.
//! - [`feedback_listener`]: the other way round, from feedback topics to the tables of tokens, on the same queue.
//! - [`proof`]: what can be proved about a neighbour before anything is consumed; [`kafka_acl`]: what Kafka's own word is on
//!   what we may do there. [`check`]: asks every room for its proofs.
//! - [`admin`]: health, readiness, metrics and the status page over HTTP. [`status`]: the same in a terminal. [`pulse`]: signs of life. [`histogram`]: durations in ranges.
//!   [`journal`]: the last changes of state, for the status page.
//! - [`config`], [`settings`], [`cli`], [`telemetry`], [`shutdown`], [`clock`], [`notify`], [`registry`], [`tls`]: what every program needs.
//!   [`mod@members`]: the members of a JSON object in place.
//!   [`reload`]: files that are taken into use anew when they change.
//! - [`worker`]: the wiring of all that; [`pusher`], [`simulate`], [`valve`], [`on_call`], [`redrive`], [`peek`]: what each command runs.
//! - [`simulator`], [`generate`], [`demo`]: the far ends, for staging, tests, the benchmark and newcomers.
//!
//! # Rules
//! `queue`, `handlers`, `reporters`, `admission` and `http2` never use each other, but for `handlers → http2, admission`; each
//! knows what can be proved about its own neighbours, and a start and a check ask it; only `delivery`,
//! `dispatch` and what they stand on join them, through traits; only [`worker`] knows concrete types. A crate of the outside
//! world is named in the one or two files whose job it is. A test reads the sources and holds them to this.
//!
//! Adding a provider is one folder and one line in [`handlers::providers`]; adding a reporter is one file and one line in its
//! kind's registry.

pub mod admin;
pub mod admission;
pub mod check;
pub mod circuit;
pub mod cli;
pub mod clock;
pub mod concurrency;
pub mod config;
pub mod control;
pub mod delivery;
pub mod demo;
pub mod desk;
pub mod dispatch;
pub mod feedback_listener;
pub mod gate;
pub mod generate;
pub mod handlers;
pub mod histogram;
pub mod http2;
pub mod jobs;
pub mod journal;
pub mod kafka_acl;
pub mod levers;
pub mod line;
pub mod members;
pub mod message;
pub mod notify;
pub mod observer;
pub mod on_call;
pub mod outcome;
pub mod peek;
pub mod proof;
pub mod pulse;
pub mod pusher;
pub mod queue;
pub mod redrive;
pub mod registry;
pub mod reload;
pub mod reporters;
pub mod rhythm;
pub mod sender;
pub mod settings;
pub mod shutdown;
pub mod simulate;
pub mod simulator;
pub mod spread;
pub mod status;
pub mod tally;
pub mod telemetry;
pub mod tls;
pub mod valve;
pub mod worker;
