//! Pusher: consumes push messages from Kafka and sends them through the providers, losing none.

pub mod config;
pub mod handlers;
pub mod http2;
pub mod message;
pub mod outcome;
pub mod queue;
pub mod registry;
pub mod reporters;
