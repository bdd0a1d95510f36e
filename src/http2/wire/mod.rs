//! HTTP/2 as a client that sends many small requests needs it (RFC 9113): frames, HPACK, flow control, and what a peer may say at any
//! time. Pure: bytes go in and out, moments are arguments; sockets and tasks are the connection's (`channel`, `connection`).
//!
//! It is our own because sending is what this project is for: see
//! [decision 6](../../../docs/decisions/0006-http2-of-our-own.md). What holds here, and why:
//! - *A request is bytes at once.* Its fields and its body are written where they leave from, with no map, queue or task between; only what a
//!   window does not take waits.
//! - *A request's fate is known.* Where a request's first byte lies in what leaves is kept, and how far that was handed over.
//! - *No peer can make it grow.* Frames, headers, bodies and what is answered to frames have bounds.
//! - *It is a client.* There are no pushed streams, no priorities, no upgrades, and requests are given whole.

mod bodies;
mod control;
mod decoder;
mod encoder;
mod ends;
mod frame;
mod hpack;
mod huffman;
mod receive;
mod session;
mod streams;
#[cfg(test)]
mod tests;

pub use frame::{Broken, Code};
pub use session::{Ended, FIRST_WINDOW, Received, Session};
