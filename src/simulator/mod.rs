//! Stand-ins for the providers, for the demo, the tests, the benchmark and staging: they speak the real protocol over real
//! TLS, check what the provider checks, and misbehave on request.
//!
//! # Layout
//! Provider-blind, beside the providers' folders: [`tls`] (a CA and a leaf made at start), [`listener`] (threads, accept,
//! handshake), [`levers`] (what can be switched about them), [`delay`] (round trip time at the byte layer), [`wire`] and [`frames`] (HTTP/2 frames that the `h2` crate
//! does not let a server write), [`service`] (the seam to a provider), [`connection`] (one HTTP/2 connection: streams in, answers out), [`limits`] (stream limit),
//! [`counters`] and [`ledger`] (what was seen), [`steering`] and [`attempts`] (targets whose text asks for an answer), [`jwt`] (bearer tokens), [`https`] (HTTP/1.1 and HTTP/2 for token endpoints), [`handle`] and [`control`] (its levers,
//! for a program and over HTTP). Each provider is a folder: [`apns`], [`fcm`].
//!
//! A provider is a [`service::Service`]: a function from a request to a [`service::Reply`], with a session per
//! connection. It knows no socket and no clock, so that its rules are tested without either.
//!
//! # Invariants
//! Nothing here is used by the worker itself. A simulator runs on threads of its own: a test may pause its clock, and the CPU
//! it costs can be told from the worker's. Every answer is counted; every list kept for queries has a bound.

pub mod apns;
pub mod attempts;
pub mod connection;
pub mod control;
pub mod counters;
pub mod delay;
pub mod fcm;
pub mod frames;
pub mod handle;
pub mod https;
pub mod jwt;
pub mod ledger;
pub mod levers;
pub mod limits;
pub mod listener;
pub mod service;
pub mod steering;
pub mod tls;
pub mod wire;
