//! Pusher: consumes push messages from Kafka and sends them through the providers, losing none.

pub mod cli;
pub mod config;
pub mod generate;
pub mod handlers;
pub mod http2;
pub mod message;
pub mod outcome;
pub mod pusher;
pub mod queue;
pub mod registry;
pub mod reporters;
pub mod settings;
pub mod shutdown;
pub mod simulator;
pub mod telemetry;
